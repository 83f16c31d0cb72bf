"""Recurrent layers: a cell is applied to every step of a sequence (batch, time, features), from a state of zeros."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Layer, Name, ShapeError
from fnet.core.traversal import key_number
from fnet.layers.combine import parallel
from fnet.layers.dense import product
from fnet.layers.initializer import Initializer, initializer
from fnet.layers.masking import step_mask
from fnet.layers.recurrent_scan import GATED, MEMORY, PLAIN, Cell, recur

__all__ = ["bidirectional", "gru", "lstm", "rnn"]

Units = Annotated[int, Ge(1)]


@constructor
def rnn(
    units: Units,
    *,
    activation: Literal["tanh", "sigmoid", "relu"] = "tanh",
    sequence: bool = True,
    reverse: bool = False,
    init: Initializer = "glorot_uniform",
    recurrent_init: Initializer = "orthogonal",
    name: Name = None,
) -> Parts:
    """Simple recurrent layer: h_t = phi(x_t w + h_(t-1) u + b), with h_0 = 0.

    In the lectures this is NN2, which takes the previous state and the current input. The first cell takes a dummy
    state of zeros, and NN3 is a `dense` readout of h.

    Shapes: (batch, time, in) -> (batch, time, units), or (batch, units) without `sequence`. Parameters: `w`
    (in, units), `u` (units, units), `b` (units,), initialized to zero.

    Masked steps of a (batch, time) mask leave the state unchanged, so that the last state is the state after the last
    real step. It is 0 for a sequence without real steps.

    Args:
        units: number of features of the state h.
        activation: phi: tanh, sigmoid or relu.
        sequence: whether to return the states of all steps, or only the last state.
        reverse: whether to process the steps from last to first; the outputs keep the order of the inputs.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        recurrent_init: initializer of u, likewise.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, in), or the mask does not match.

    Source: Elman, "Finding structure in time" (1990). The derivative of relu at 0 is 0. An orthogonal u preserves
    the norm of gradients that pass through it (Saxe, McClelland and Ganguli 2013).

    >>> import jax.numpy as jnp, fnet
    >>> params = {"w": jnp.ones((1, 1)), "u": jnp.full((1, 1), 2.0), "b": jnp.zeros(1)}
    >>> h, _ = fnet.rnn(1, activation="relu").apply(params, {}, jnp.array([[[1.0], [1.0], [0.0]]]), train=False)
    >>> h[0, :, 0].tolist()
    [1.0, 3.0, 6.0]
    """
    return _layer(PLAIN[activation], units, sequence, reverse, init, recurrent_init)


@constructor
def gru(
    units: Units,
    *,
    sequence: bool = True,
    reverse: bool = False,
    init: Initializer = "glorot_uniform",
    recurrent_init: Initializer = "orthogonal",
    name: Name = None,
) -> Parts:
    """Gated recurrent unit (GRU): h_t = s_t h_(t-1) + (1 - s_t) n_t, with h_0 = 0.

    With the columns of w, u and b in three blocks r, s, n and sigma(z) = 1 / (1 + e^-z):

        r_t = sigma(x_t w_r + h_(t-1) u_r + b_r)            the reset gate
        s_t = sigma(x_t w_s + h_(t-1) u_s + b_s)            the update gate: how much of the state is kept
        n_t = tanh(x_t w_n + (r_t h_(t-1)) u_n + b_n)       the candidate

    Shapes: (batch, time, in) -> (batch, time, units), or (batch, units) without `sequence`. Parameters: `w`
    (in, 3 units), `u` (units, 3 units), `b` (3 units,), initialized to zero. Every block is initialized separately.

    Masked steps leave the state unchanged, as in `rnn`.

    Args:
        units: number of features of the state h.
        sequence: whether to return the states of all steps, or only the last state.
        reverse: whether to process the steps from last to first; the outputs keep the order of the inputs.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        recurrent_init: initializer of u, likewise.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, in), or the mask does not match.

    Conventions: the reset gate multiplies the state, as in the paper. PyTorch, cuDNN and Keras (by default) multiply
    the product with u_n, to which they add a separate bias. The paper writes z for s; some texts exchange s and 1 - s.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation"
    (2014).

    >>> import fnet
    >>> fnet.gru(8).shape((5, 3)), fnet.gru(8, sequence=False).shape((5, 3))
    ((5, 8), (8,))
    """
    return _layer(GATED, units, sequence, reverse, init, recurrent_init)


@constructor
def lstm(
    units: Units,
    *,
    sequence: bool = True,
    reverse: bool = False,
    forget_bias: float = 1.0,
    init: Initializer = "glorot_uniform",
    recurrent_init: Initializer = "orthogonal",
    name: Name = None,
) -> Parts:
    """Long short-term memory (LSTM): c_t = f_t c_(t-1) + i_t g_t and h_t = o_t tanh(c_t), with h_0 = c_0 = 0.

    With the columns of w, u and b in four blocks i, f, g, o and sigma(z) = 1 / (1 + e^-z):

        i_t = sigma(x_t w_i + h_(t-1) u_i + b_i)            the input gate
        f_t = sigma(x_t w_f + h_(t-1) u_f + b_f)            the forget gate: how much of the cell is kept
        g_t = tanh(x_t w_g + h_(t-1) u_g + b_g)             the candidate
        o_t = sigma(x_t w_o + h_(t-1) u_o + b_o)            the output gate

    Shapes: (batch, time, in) -> (batch, time, units), or (batch, units) without `sequence`; the outputs are the h_t.
    Parameters: `w` (in, 4 units), `u` (units, 4 units), `b` (4 units,), initialized to zero except for b_f. Every
    block is initialized separately.

    Masked steps leave h and c unchanged, as in `rnn`.

    Args:
        units: number of features of the output h and of the cell c.
        sequence: whether to return the outputs of all steps, or only the last one.
        reverse: whether to process the steps from last to first; the outputs keep the order of the inputs.
        forget_bias: initial value of b_f; with 1 the cell initially keeps most of its content, and gradients reach
            early steps.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        recurrent_init: initializer of u, likewise.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, in), or the mask does not match.

    Conventions: the order of the gates is that of PyTorch and Keras. PyTorch has a second bias, which is added to b,
    and initializes the bias of the forget gate like the others.

    Source: Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and
    Cummins (2000). Jozefowicz, Zaremba and Sutskever (2015) recommend a forget bias of 1.

    >>> import jax, fnet
    >>> params, _ = fnet.lstm(2).init(jax.random.key(0), (5, 3))
    >>> params["u"].shape, params["b"].tolist()
    ((2, 8), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    """
    parts = _layer(MEMORY, units, sequence, reverse, init, recurrent_init)

    def init_(key, in_shape):
        params, state = parts.init(key, in_shape)
        return {**params, "b": params["b"].at[units : 2 * units].set(forget_bias)}, state

    return parts._replace(init=init_)


@constructor
def bidirectional(
    *layers: Layer, combine: Literal["concatenate", "add", "multiply"] = "concatenate", name: Name = None
) -> Layer:
    """A recurrent layer, combined with a second one with the same settings that reads the sequence in reverse.

    It is a `parallel` of the two, named `forward` and `backward`. Without `sequence` it combines the state of the
    forward layer after the last step with the state of the backward layer after the first step.

    Args:
        layers: one rnn, gru or lstm.
        combine: how the two outputs are combined: concatenate (along the last axis), add or multiply.
        name: replaces the automatic name (kind and number).

    Raises:
        ValueError: for anything other than one recurrent layer that is not reversed.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks" (1997).

    >>> import fnet
    >>> fnet.bidirectional(fnet.gru(8)).shape((5, 3))
    (5, 16)
    """
    kinds = {"rnn": rnn, "gru": gru, "lstm": lstm}
    if len(layers) != 1 or layers[0].kind not in kinds or layers[0].settings["reverse"]:
        received = ", ".join(f"a reversed {x.kind}" if x.settings.get("reverse") else x.kind for x in layers) or "none"
        raise ValueError(
            f"bidirectional: expected one recurrent layer that is not reversed ({', '.join(kinds)}), got {received}; "
            "it makes the reversed layer itself"
        )
    construct, settings = kinds[layers[0].kind], layers[0].settings
    return parallel(
        construct(**settings, name="forward"),
        construct(**{**settings, "reverse": True}, name="backward"),
        combine=combine,
    )


def _layer(
    cell: Cell, units: int, sequence: bool, reverse: bool, init: Initializer, recurrent_init: Initializer
) -> Parts:
    """Return the parts of a recurrent layer with a given cell; its bias is initialized to zero."""

    def shape(in_shape):
        if len(in_shape) != 2:
            raise ShapeError(
                f"expects examples (time, features), got {in_shape}; put a reshape before it, such as "
                f"reshape: {[*in_shape, 1][:2] if len(in_shape) < 2 else [in_shape[0], -1]}"
            )
        return (in_shape[0], units) if sequence else (units,)

    def init_(key, in_shape):
        shape(in_shape)
        return {
            "w": _blocks(jax.random.fold_in(key, key_number("w")), init, (in_shape[1], units), cell.gates),
            "u": _blocks(jax.random.fold_in(key, key_number("u")), recurrent_init, (units, units), cell.gates),
            "b": jnp.zeros(cell.gates * units),
        }, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        x, w = jnp.asarray(x), params["w"]
        shape(x.shape[1:])
        if x.shape[-1] != w.shape[0]:
            raise ShapeError(
                f"expects (batch, time, {w.shape[0]}), for its w {w.shape}, got {x.shape}; initialize it for this shape"
            )
        real = step_mask(mask, x)
        order = slice(None, None, -1 if reverse else 1)
        x, real = jnp.swapaxes(x, 0, 1)[order], None if real is None else real.T[order]
        h = recur(cell, product(x, w) + params["b"], params["u"], real)
        if not sequence:
            return h[-1], {}
        return jnp.swapaxes(h[::-1] if reverse else h, 0, 1), {}

    return Parts(shape, init_, apply)


def _blocks(key: jax.Array, init: Initializer, shape: tuple[int, int], number: int) -> jax.Array:
    """Return `number` matrices side by side, each initialized separately."""
    draw = initializer(init)
    return jnp.concatenate([draw(jax.random.fold_in(key, block), shape) for block in range(number)], axis=1)
