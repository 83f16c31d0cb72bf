"""Attention over sequences (batch, time, width), and a transformer block."""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Layer, Name, Shape, ShapeError
from fnet.core.settings import is_zero
from fnet.core.traversal import key_number
from fnet.layers.activation import gelu
from fnet.layers.combine import residual, serial
from fnet.layers.dense import dense, product
from fnet.layers.dropout import Rate, dropout, dropped, keep_mask, needs_key
from fnet.layers.initializer import Initializer, initializer
from fnet.layers.masking import step_mask
from fnet.layers.norm import layer_norm

__all__ = ["attention", "cross_attention", "transformer"]

Positive = Annotated[int, Ge(1)]

PROJECTIONS = ("query", "key", "value", "out")


@constructor
def attention(
    heads: Positive,
    *,
    causal: bool = False,
    rate: Rate = 0.0,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """Multi-head self-attention: each step receives a mean of the values of all steps, weighted by query and key.

    Let q = x w_query + b_query, and k and v likewise. Their columns are divided into `heads` blocks of width
    d = width / heads. For each head:

        p_ts = softmax over s of (q_t . k_s / sqrt(d)),      a_t = sum_s p_ts v_s

    and y = a w_out + b_out, where a concatenates the a of all heads. In training with a rate, dropout is applied to the
    weights: a_t = sum_s p_ts m_ts v_s / (1 - rate), where m_ts is 0 with probability rate, else 1.

    Shapes: (batch, time, width) -> the same. Parameters: `query`, `key`, `value` and `out`, each with `w`
    (width, width) and `b` (width,), initialized to zero.

    A mask (batch, time) excludes masked steps as sources s: their weight p_ts is exactly 0, and the other weights sum
    to 1. The outputs of masked steps are computed as well. A step without any visible step has a_t = 0.

    Args:
        heads: number of heads; it must divide the width, and each head has width / heads columns.
        causal: whether step t attends only to steps s <= t, as required to predict the next token.
        rate: the probability that a weight p_ts is dropped in training.
        bias: whether b is added in the projections.
        init: initializer of every w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are not (time, width), heads do not divide the width, or the mask does not match.
        ValueError: in training with a rate but without a key.

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
        check_rank(in_shape)
        _check_heads(heads, in_shape[1])
        return in_shape

    def init_(key, in_shape):
        _, width = shape(in_shape)
        return _init_projections(key, init, bias, width, width), {}

    def draw(key, x_shape):
        batch, time, _ = x_shape
        return keep_mask(key, (batch, heads, time, time), rate)

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        shape(x.shape[1:])
        check_width(x, params["query"]["w"].shape)
        visible = _visible(step_mask(mask, x), x.shape[1], causal)
        keep = draw(needs_key("attention", key), x.shape) if train and not is_zero(rate) else None
        return _attend(params, heads, x, x, visible, keep, rate), {}

    return Parts(shape, init_, apply, draw=None if is_zero(rate) else draw)


@constructor
def cross_attention(
    heads: Positive,
    *,
    rate: Rate = 0.0,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """Multi-head attention from one sequence to another: each step of x receives a mean of the values of a memory.

    As `attention`, but keys and values are computed from the memory: q = x w_query + b_query,
    k = memory w_key + b_key and v = memory w_value + b_value.

    It takes several values, the tuple (x, memory) or (x, memory, memory_mask), which a node of a `graph` lists. In
    YAML:

        graph: {layers: [{cross_attention: 4}], inputs: [x, memory], nodes: {y: [cross_attention_1, x, memory]}}

    Shapes: x (batch, time, width), memory (batch, time', width') and memory_mask (batch, time') ->
    (batch, time, width). Parameters: `query` and `out` with `w` (width, width), `key` and `value` with `w`
    (width', width), and each with `b` (width,), initialized to zero.

    memory_mask is True for the real steps of the memory; the weight of other steps is exactly 0. A mask of the steps of
    x has no effect, because the output of a step does not depend on other steps of x.

    Args:
        heads: number of heads; it must divide the width, and each head has width / heads columns.
        rate: the probability that a weight p_ts is dropped in training.
        bias: whether b is added in the projections.
        init: initializer of every w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when the input is not such a tuple, or heads do not divide the width of x.
        TypeError: for a memory_mask that is not Boolean.
        ValueError: in training with a rate but without a key.

    Source: Vaswani et al., "Attention is all you need" (2017), where the memory is the output of the encoder.

    >>> import jax, fnet
    >>> layer = fnet.cross_attention(2)
    >>> layer.shape(((5, 4), (7, 3)))
    (5, 4)
    >>> params, _ = layer.init(jax.random.key(0), ((5, 4), (7, 3)))
    >>> {name: leaves["w"].shape for name, leaves in params.items()}
    {'query': (4, 4), 'key': (3, 4), 'value': (3, 4), 'out': (4, 4)}
    """

    def shape(in_shape):
        x_shape, memory_shape, *mask_shape = _several(in_shape)
        check_rank(x_shape)
        check_rank(memory_shape)
        _check_heads(heads, x_shape[1])
        if any(one != memory_shape[:1] for one in mask_shape):
            raise ShapeError(
                f"expects a memory_mask (batch, time) that matches its memory {memory_shape}, got {mask_shape[0]}; "
                "make the mask as long as the memory"
            )
        return x_shape

    def init_(key, in_shape):
        _, width = shape(in_shape)
        return _init_projections(key, init, bias, width, in_shape[1][1]), {}

    def draw(key, shapes):
        (batch, time, _), (_, memory_time, _), *_ = shapes
        return keep_mask(key, (batch, heads, time, memory_time), rate)

    def apply(params, state, x, *, train, key=None, mask=None):
        shapes = jax.tree.map(jnp.shape, x)
        shape(tuple(one[1:] for one in _several(shapes)))
        x, memory, *memory_mask = map(jnp.asarray, x)
        check_width(x, params["query"]["w"].shape)
        check_width(memory, params["key"]["w"].shape, axis=0)
        if x.shape[0] != memory.shape[0]:
            raise ShapeError(
                f"expects as many sequences as memories, got {x.shape[0]} and {memory.shape[0]}; pass one memory for "
                "each example"
            )
        if any(real.dtype != bool for real in memory_mask):
            raise TypeError(
                f"cross_attention: expects a Boolean memory_mask, got {memory_mask[0].dtype}; use "
                "memory_mask.astype(bool)"
            )
        visible = memory_mask[0][:, None, None, :] if memory_mask else None
        keep = draw(needs_key("cross_attention", key), shapes) if train and not is_zero(rate) else None
        return _attend(params, heads, x, memory, visible, keep, rate), {}

    return Parts(shape, init_, apply, draw=None if is_zero(rate) else draw, several_inputs=True)


def _init_projections(key: jax.Array, init: Initializer, bias: bool, width: int, memory_width: int) -> dict[str, Any]:
    """Return the parameters of the four projections; keys and values are computed from the memory."""
    params = {}
    for name in PROJECTIONS:
        rows = memory_width if name in ("key", "value") else width
        params[name] = {"w": initializer(init)(jax.random.fold_in(key, key_number(name)), (rows, width))}
        if bias:
            params[name]["b"] = jnp.zeros(width)
    return params


def _attend(
    params: Any,
    heads: int,
    x: jax.Array,
    memory: jax.Array,
    visible: jax.Array | None,
    keep: jax.Array | None,
    rate: float,
) -> jax.Array:
    """Return the output of attention from x to the memory, with dropout of the weights that `keep` does not keep."""
    batch, time, width = x.shape

    def projected(name, x):
        z = product(x, params[name]["w"])
        return z + params[name]["b"] if "b" in params[name] else z

    def blocks(name, x):
        return projected(name, x).reshape(*x.shape[:2], heads, width // heads)

    q, k, v = blocks("query", x), blocks("key", memory), blocks("value", memory)
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(width // heads)
    p = _weights(scores, visible).astype(scores.dtype)
    p = p if keep is None else dropped(p, keep, rate)
    return projected("out", jnp.einsum("bhts,bshd->bthd", p, v).reshape(batch, time, width))


def _visible(real: jax.Array | None, time: int, causal: bool) -> jax.Array | None:
    """Return which steps s are visible to a step t, (batch or 1, 1, time or 1, time); None if all are."""
    steps = jnp.arange(time)
    earlier = (steps <= steps[:, None])[None, None] if causal else None
    if real is None:
        return earlier
    return real[:, None, None, :] if earlier is None else real[:, None, None, :] & earlier


def _weights(scores: jax.Array, visible: jax.Array | None) -> jax.Array:
    """Return the softmax over the visible steps, in float32 at least, and 0 for all other steps."""
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if visible is None:
        return jax.nn.softmax(scores)
    # A finite minimum, because the softmax of a row of -inf is NaN. The last line sets the weights of such a row to 0.
    p = jax.nn.softmax(jnp.where(visible, scores, jnp.finfo(scores.dtype).min))
    return jnp.where(visible, p, 0)


@constructor
def transformer(
    width: Positive,
    heads: Positive,
    *,
    hidden: Positive | None = None,
    causal: bool = False,
    rate: Rate = 0.0,
    name: Name = None,
) -> Layer:
    """A pre-norm transformer block: z = x + attention(norm(x)) and y = z + dense(gelu(dense(norm(z)))).

    It is a `serial` of two `residual` layers. A stack of such blocks is followed by another `layer_norm`.

    Args:
        width: number of features per step, of inputs and outputs.
        heads: number of attention heads; it must divide the width.
        hidden: units of the first dense layer; by default 4 times the width.
        causal: whether step t attends only to steps s <= t.
        rate: probability that dropout drops an entry, at the end of each residual branch; the attention weights are
            not dropped.
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
    dropouts = [] if is_zero(rate) else [dropout(rate)]
    return serial(
        residual(layer_norm(), attention(heads, causal=causal), *dropouts),
        residual(layer_norm(), dense(hidden or 4 * width), gelu(), dense(width), *dropouts),
    )


def check_rank(in_shape: Shape) -> None:
    """Raise a ShapeError for examples that are not (time, width)."""
    if len(in_shape) != 2:
        raise ShapeError(f"expects examples (time, width), got {in_shape}; put a reshape or an embedding before it")


def _check_heads(heads: int, width: int) -> None:
    if width % heads:
        divisors = ", ".join(str(n) for n in range(1, min(width, 256) + 1) if width % n == 0)
        raise ShapeError(f"its heads must divide the width, but {heads} does not divide {width}; use {divisors}")


def check_width(x: jax.Array, w_shape: Shape, axis: int = 1) -> None:
    """Raise a ShapeError if the width of x (batch, time, width) is not the size of an axis of its w."""
    if x.shape[2] != w_shape[axis]:
        raise ShapeError(
            f"expects (batch, time, {w_shape[axis]}), for its w {w_shape}, got {x.shape}; initialize it for this shape"
        )


def _several(shapes: Any) -> tuple[Shape, ...]:
    """Return the shapes of x, memory and memory_mask, checking that they are a tuple of two or three shapes."""
    if not isinstance(shapes, tuple) or len(shapes) not in (2, 3) or not all(isinstance(one, tuple) for one in shapes):
        raise ShapeError(
            f"expects several values, (x, memory) or (x, memory, memory_mask), got {shapes}; list them in a node of a "
            "graph, or pass a tuple"
        )
    return shapes
