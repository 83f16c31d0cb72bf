"""Embeddings of indices, whole numbers that represent words or other categories, and of the positions of steps."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Layer, Name, ShapeError
from fnet.layers.attention import check_rank, check_width
from fnet.layers.combine import serial
from fnet.layers.dense import product
from fnet.layers.initializer import default_float
from fnet.layers.sharding import sharded_like_batch

__all__ = ["embedding", "one_hot", "positions", "sinusoidal_positions", "tied"]

Size = Annotated[int, Interval(ge=1, le=2**31 - 1)]
StandardDeviation = Annotated[float, Gt(0)]


@constructor
def embedding(size: Size, width: Annotated[int, Ge(1)], *, std: StandardDeviation = 0.02, name: Name = None) -> Parts:
    """A learned vector for every index: y = w[x], equal to one_hot(x) w.

    Shapes: (batch, ...) -> (batch, ..., width), for indices 0 ... size - 1. Parameters: `w` (size, width), drawn from a
    normal distribution.

    `fit` checks before training that all indices are in range. A compiled program cannot raise an error: there the
    vector of an index out of range is NaN, and it adds no gradient to any row of w.

    Args:
        size: number of different indices.
        width: length of the vectors.
        std: standard deviation of the initial w.
        name: replaces the automatic name (kind and number).

    Raises:
        TypeError: for inputs that are not whole numbers.

    Source: Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model" (2003); the initial standard
    deviation is that of GPT (Radford et al. 2018); PyTorch uses 1.

    >>> import jax.numpy as jnp, fnet
    >>> layer = fnet.embedding(3, 2)
    >>> y, _ = layer.apply({"w": jnp.arange(6.0).reshape(3, 2)}, {}, jnp.array([[2, 0]]), train=False)
    >>> y.tolist()
    [[[4.0, 5.0], [0.0, 1.0]]]
    """

    def init(key, in_shape):
        return {"w": default_float(std * jax.random.normal(key, (size, width), jnp.float32))}, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        # A negative index would otherwise count from the end.
        indices = jnp.where((x := _indices("embedding", x)) < 0, size, x)
        rows = jnp.asarray(params["w"]).at[indices]
        return rows.get(mode="fill", fill_value=jnp.nan, out_sharding=sharded_like_batch(x, x.ndim + 1)), {}

    return Parts(lambda in_shape: (*in_shape, width), init, apply, indices=size)


@constructor
def one_hot(size: Size, *, name: Name = None) -> Parts:
    """One-hot encoding of every index: y_k = 1 if k = x, else 0, for k = 0 ... size - 1.

    Shapes: (batch, ...) -> (batch, ..., size), for indices 0 ... size - 1. The lectures encode the words of a recurrent
    network like this. An index out of range is handled as in `embedding`.

    Args:
        size: number of different indices.
        name: replaces the automatic name (kind and number).

    Raises:
        TypeError: for inputs that are not whole numbers.

    >>> import jax.numpy as jnp, fnet
    >>> fnet.one_hot(3).apply({}, {}, jnp.array([[2, 0]]), train=False)[0].tolist()
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    """

    def apply(params, state, x, *, train, key=None, mask=None):
        x = _indices("one_hot", x)
        inside = (x >= 0) & (x < size)
        return jnp.where(inside[..., None], jax.nn.one_hot(x, size), jnp.nan), {}

    return Parts(lambda in_shape: (*in_shape, size), no_parameters, apply, indices=size)


@constructor
def positions(length: Size, *, std: StandardDeviation = 0.02, name: Name = None) -> Parts:
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
        check_rank(in_shape)
        if in_shape[0] > length:
            raise ShapeError(
                f"expects at most {length} steps, its number of positions, got {in_shape[0]}; use "
                f"positions: {in_shape[0]}, or shorter sequences"
            )
        return in_shape

    def init(key, in_shape):
        shape(in_shape)
        return {"w": default_float(std * jax.random.normal(key, (length, in_shape[1]), jnp.float32))}, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        check_width(x, params["w"].shape)
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
        check_rank(in_shape)
        return in_shape

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        time, width = shape(x.shape[1:])
        # NumPy computes the waves in float64, but cannot use a traced base or a symbolic number of steps.
        xp = np if isinstance(base, float) and isinstance(time, int) else jnp
        k = np.arange(width)
        angles = xp.arange(time)[:, None] / base ** (2 * (k // 2) / width)
        waves = xp.where(k % 2, xp.cos(angles), xp.sin(angles))
        return x + jnp.asarray(waves, jnp.result_type(x, 0.0)), {}

    return Parts(shape, no_parameters, apply)


@constructor
def tied(*layers: Layer, name: Name = None) -> Parts:
    """An embedding, layers f in series, and a readout that shares the embedding's weights: y = f(w[x]) w^T.

    The logit of an index is the inner product of its vector and the output of f. The gradient of w is the sum of the
    gradients of its two uses. In YAML:

        tied: [{embedding: {size: 65, width: 128}}, {positions: 64}, {lstm: 128}]

    Shapes: (batch, ...) -> (batch, ..., size), the logits of the embedding's indices.

    Args:
        layers: an embedding, then f, whose outputs must have the embedding's width.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when the outputs of f have a different width.
        ValueError: when the first layer is not an embedding.

    Source: Press and Wolf, "Using the output embedding to improve language models" (2017).

    >>> import fnet
    >>> fnet.tied(fnet.embedding(65, 16), fnet.gru(16)).shape((10,))
    (10, 65)
    """
    if not layers or layers[0].kind != "embedding":
        received = layers[0].kind if layers else "no layer"
        raise ValueError(f"tied: expected an embedding first, whose weights the readout shares, got {received}")
    inner = serial(*layers)
    first, embed = inner.children[0]
    size, width = embed.settings["size"], embed.settings["width"]

    def shape(in_shape):
        out_shape = inner.shape(in_shape)
        if out_shape[-1:] != (width,):
            raise ShapeError(
                f"the output of its layers has shape {out_shape}, but its readout shares the weights of {first} and "
                f"expects (..., {width}); append dense: {width}"
            )
        return (*out_shape[:-1], size)

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        y, state = inner.apply(params, state, x, train=train, key=key, mask=mask)
        return product(y, params[first]["w"].T), state

    return Parts(shape, inner.init, apply, inner.children)


def _indices(kind: str, x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(
            f"{kind}: expects indices (whole numbers of an integer type), got {x.dtype}; "
            "convert indices with x.astype(int), or use a dense layer for real numbers"
        )
    return x
