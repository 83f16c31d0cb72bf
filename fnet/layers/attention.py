"""Self-attention over sequences (batch, time, width), positional encodings, and a transformer block."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Layer, Name, Shape, ShapeError
from fnet.core.traversal import key_number
from fnet.layers.activation import gelu
from fnet.layers.combine import residual, serial
from fnet.layers.dense import dense, product
from fnet.layers.dropout import dropout
from fnet.layers.initializer import Initializer, initializer
from fnet.layers.masking import step_mask
from fnet.layers.norm import layer_norm

__all__ = ["attention", "positions", "sinusoidal_positions", "transformer"]

Positive = Annotated[int, Ge(1)]

PROJECTIONS = ("query", "key", "value", "out")


@constructor
def attention(
    heads: Positive,
    *,
    causal: bool = False,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """Multi-head self-attention: each step receives a mean of the values of all steps, weighted by query and key.

    Let q = x w_query + b_query, and k and v likewise. Their columns are divided into `heads` blocks of width
    d = width / heads. For each head:

        p_ts = softmax over s of (q_t . k_s / sqrt(d)),      a_t = sum_s p_ts v_s

    and y = a w_out + b_out, where a concatenates the a of all heads.

    Shapes: (batch, time, width) -> the same. Parameters: `query`, `key`, `value` and `out`, each with `w`
    (width, width) and `b` (width,), initialized to zero.

    A mask (batch, time) excludes masked steps as sources s: their weight p_ts is exactly 0, and the other weights sum
    to 1. The outputs of masked steps are computed as well. A step without any visible step has a_t = 0.

    Args:
        heads: number of heads; it must divide the width, and each head has width / heads columns.
        causal: whether step t attends only to steps s <= t, as required to predict the next token.
        bias: whether b is added in the projections.
        init: initializer of every w, one of jax.nn.initializers by name or a dotted path.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, width), heads do not divide the width, or the mask does not match.

    Conventions: the b of `key` adds q_t . b to every score of step t, which cancels in the softmax: it has no effect,
    and its gradient is 0. It is included because GPT-2 and PyTorch's layer have it.

    Source: Vaswani et al., "Attention is all you need" (2017).

    >>> import jax, fnet
    >>> layer = fnet.attention(2, causal=True)
    >>> layer.shape((5, 4))
    (5, 4)
    >>> params, _ = layer.init(jax.random.key(0), (5, 4))
    >>> {name: leaves["w"].shape for name, leaves in params.items()}
    {'query': (4, 4), 'key': (4, 4), 'value': (4, 4), 'out': (4, 4)}
    """

    def shape(in_shape):
        _check_rank(in_shape)
        width = in_shape[1]
        if width % heads:
            divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
            raise ShapeError(f"its heads must divide the width, but {heads} does not divide {width}; use {divisors}")
        return in_shape

    def init_(key, in_shape):
        shape(in_shape)
        width = in_shape[1]
        params = {}
        for name in PROJECTIONS:
            params[name] = {"w": initializer(init)(jax.random.fold_in(key, key_number(name)), (width, width))}
            if bias:
                params[name]["b"] = jnp.zeros(width)
        return params, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        shape(x.shape[1:])
        _check_width(x, params["query"]["w"].shape)
        batch, time, width = x.shape

        def projected(name, x):
            z = product(x, params[name]["w"])
            return z + params[name]["b"] if bias else z

        q, k, v = (projected(name, x).reshape(batch, time, heads, width // heads) for name in PROJECTIONS[:3])
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(width // heads)
        p = _weights(scores, _visible(step_mask(mask, x), time, causal)).astype(scores.dtype)
        a = jnp.einsum("bhts,bshd->bthd", p, v).reshape(batch, time, width)
        return projected("out", a), {}

    return Parts(shape, init_, apply)


def _visible(real: jax.Array | None, time: int, causal: bool) -> jax.Array | None:
    """Return which steps s are visible to a step t, (batch or 1, 1, time or 1, time); None if all are."""
    causal_mask = np.tril(np.ones((time, time), bool))[None, None] if causal else None
    if real is None:
        return causal_mask if causal_mask is None else jnp.asarray(causal_mask)
    return real[:, None, None, :] if causal_mask is None else real[:, None, None, :] & causal_mask


def _weights(scores: jax.Array, visible: jax.Array | None) -> jax.Array:
    """Return the softmax over the visible steps, in float32 at least, and 0 for all other steps."""
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if visible is None:
        return jax.nn.softmax(scores)
    # A finite minimum, because the softmax of a row of -inf is NaN. The last line sets the weights of such a row to 0.
    p = jax.nn.softmax(jnp.where(visible, scores, jnp.finfo(scores.dtype).min))
    return jnp.where(visible, p, 0)


@constructor
def positions(length: Positive, *, std: Annotated[float, Gt(0)] = 0.02, name: Name = None) -> Parts:
    """Learned positional encoding: y_t = x_t + w[t], which lets attention depend on the order of steps.

    Shapes: (batch, time, width) -> the same, for any time up to `length`. Parameters: `w` (length, width), drawn from a
    normal distribution.

    Args:
        length: number of positions, the length of the longest sequence.
        std: standard deviation of the initial w.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, width), or have more steps than positions.

    Source: Gehring et al., "Convolutional sequence to sequence learning" (2017); std as in GPT (Radford et al. 2018).

    >>> import fnet
    >>> fnet.positions(64).shape((10, 16))
    (10, 16)
    """

    def shape(in_shape):
        _check_rank(in_shape)
        if in_shape[0] > length:
            raise ShapeError(
                f"expects at most {length} steps, its number of positions, got {in_shape[0]}; use "
                f"positions: {in_shape[0]}, or shorter sequences"
            )
        return in_shape

    def init(key, in_shape):
        shape(in_shape)
        return {"w": std * jax.random.normal(key, (length, in_shape[1]), jnp.float32)}, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        _check_width(x, params["w"].shape)
        return x + params["w"][: x.shape[1]], {}

    return Parts(shape, init, apply)


@constructor
def sinusoidal_positions(base: Annotated[float, Gt(1)] = 10000.0, *, name: Name = None) -> Parts:
    """Sinusoidal positional encoding: y_tk = x_tk + sin or cos of t / base^(2i / width), for t = 0, 1, ...

    Entry k = 2i gets the sine and k = 2i + 1 the cosine, so that a shift of t rotates every pair by a fixed angle.
    It has no parameters and works for sequences of any length.

    Shapes: (batch, time, width) -> the same.

    Args:
        base: determines the periods of the waves, which range from 2 pi to about 2 pi base steps.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, width).

    Source: Vaswani et al., "Attention is all you need" (2017).

    >>> import jax.numpy as jnp, fnet
    >>> y, _ = fnet.sinusoidal_positions().apply({}, {}, jnp.zeros((1, 2, 2)), train=False)
    >>> y[0].round(3).tolist()
    [[0.0, 1.0], [0.8..., 0.5...]]
    """

    def shape(in_shape):
        _check_rank(in_shape)
        return in_shape

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        time, width = shape(x.shape[1:])
        k = np.arange(width)
        angles = np.arange(time)[:, None] / base ** (2 * (k // 2) / width)
        waves = np.where(k % 2, np.cos(angles), np.sin(angles))
        return x + jnp.asarray(waves, jnp.result_type(x, 0.0)), {}

    return Parts(shape, no_parameters, apply)


@constructor
def transformer(
    width: Positive,
    heads: Positive,
    *,
    hidden: Positive | None = None,
    causal: bool = False,
    rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
    name: Name = None,
) -> Layer:
    """A pre-norm transformer block: z = x + attention(norm(x)) and y = z + dense(gelu(dense(norm(z)))).

    It is a `serial` of two `residual` layers. A stack of such blocks is followed by another `layer_norm`.

    Args:
        width: number of features per step, of inputs and outputs.
        heads: number of attention heads; it must divide the width.
        hidden: units of the first dense layer; by default 4 times the width.
        causal: whether step t attends only to steps s <= t.
        rate: probability that dropout drops an entry, at the end of each residual branch.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, width), or heads do not divide the width.

    Source: Vaswani et al. (2017); normalization before, not after, attention and the dense layers, as in GPT-2 (Radford
    et al. 2019; Xiong et al., "On layer normalization in the transformer architecture", 2020).

    >>> import fnet
    >>> print(fnet.transformer(16, 2))
    network              transformer  width=16 heads=2
    residual_1           residual
      layer_norm_1       layer_norm
      attention_1        attention  heads=2
    residual_2           residual
      layer_norm_1       layer_norm
      dense_1            dense  units=64
      gelu_1             gelu
      dense_2            dense  units=16
    """
    dropouts = [dropout(rate)] if rate else []
    return serial(
        residual(layer_norm(), attention(heads, causal=causal), *dropouts),
        residual(layer_norm(), dense(hidden or 4 * width), gelu(), dense(width), *dropouts),
    )


def _check_rank(in_shape: Shape) -> None:
    if len(in_shape) != 2:
        raise ShapeError(f"expects examples (time, width), got {in_shape}; put a reshape or an embedding before it")


def _check_width(x: jax.Array, w_shape: Shape) -> None:
    if x.shape[2] != w_shape[1]:
        raise ShapeError(
            f"expects (batch, time, {w_shape[1]}), for its w {w_shape}, got {x.shape}; initialize it for this shape"
        )
