"""Layers that take indices: whole numbers that stand for characters, words or other classes."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Layer, Name, ShapeError
from fnet.layers.combine import serial
from fnet.layers.dense import product

__all__ = ["embedding", "one_hot", "tied"]

Size = Annotated[int, Ge(1)]
Deviation = Annotated[float, Gt(0)]


@constructor
def embedding(size: Size, width: Annotated[int, Ge(1)], *, std: Deviation = 0.02, name: Name = None) -> Parts:
    """A learned vector for every index: y = w[x], which is one_hot(x) w without the product.

    Shapes: (batch, ...) -> (batch, ..., width), of indices 0 ... size - 1. Parameters: `w` (size, width), drawn from a
    normal distribution.

    An index outside is found before training, where `fit` is given the examples. A compiled program cannot raise: there
    its vector is NaN, never that of another index, and no row of w gets a gradient from it.

    Args:
        size: how many different indices there are.
        width: the number of entries of a vector.
        std: standard deviation of the initial entries of w.
        name: replaces the counted name.

    Raises:
        TypeError: for inputs that are not whole numbers.

    Source: Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model" (2003); the initial standard
    deviation is that of GPT (Radford et al. 2018), where PyTorch takes 1.

    >>> import jax.numpy as jnp, fnet
    >>> layer = fnet.embedding(3, 2)
    >>> y, _ = layer.apply({"w": jnp.arange(6.0).reshape(3, 2)}, {}, jnp.array([[2, 0]]), train=False)
    >>> y.tolist()
    [[[4.0, 5.0], [0.0, 1.0]]]
    """

    def init(key, in_shape):
        return {"w": std * jax.random.normal(key, (size, width), jnp.float32)}, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        # A negative index would count from the end.
        indices = jnp.where((x := _indices("embedding", x)) < 0, size, x)
        return jnp.take(params["w"], indices, axis=0, mode="fill", fill_value=jnp.nan), {}

    return Parts(lambda in_shape: (*in_shape, width), init, apply, indices=size)


@constructor
def one_hot(size: Size, *, name: Name = None) -> Parts:
    """The unit vector of every index: y_k = 1 where k = x, else 0, for k = 0 ... size - 1.

    Shapes: (batch, ...) -> (batch, ..., size), of indices 0 ... size - 1. It is what the lectures give a recurrent
    network for a word. An index outside is found before training, as for `embedding`; a compiled program gives NaN.

    Args:
        size: how many different indices there are.
        name: replaces the counted name.

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
def tied(*layers: Layer, name: Name = None) -> Parts:
    """Layers in series from an embedding to a read-out with the same weights: y = f(w[x]) w^T, f the other layers.

    The score of an index is the product of its vector with what f gives. The gradient of w is the sum of those of its
    two uses. In YAML:

        tied: [{embedding: {size: 65, width: 128}}, {positions: 64}, {lstm: 128}]

    Shapes: (batch, ...) -> (batch, ..., size), logits of the embedding's indices.

    Args:
        layers: an embedding, then f, whose last axis is again of the embedding's width.
        name: replaces the counted name.

    Raises:
        ShapeError: when f gives another width.
        ValueError: when the first layer is no embedding.

    Source: Press and Wolf, "Using the output embedding to improve language models" (2017).

    >>> import fnet
    >>> fnet.tied(fnet.embedding(65, 16), fnet.gru(16)).shape((10,))
    (10, 65)
    """
    if not layers or layers[0].kind != "embedding":
        given = layers[0].kind if layers else "no layer"
        raise ValueError(f"tied: expected an embedding first, whose weights the read-out shares, got {given}")
    inner = serial(*layers)
    first, embed = inner.children[0]
    size, width = embed.settings["size"], embed.settings["width"]

    def shape(in_shape):
        out_shape = inner.shape(in_shape)
        if out_shape[-1:] != (width,):
            raise ShapeError(
                f"its layers give {out_shape}, but its read-out shares the weights of {first}, which takes "
                f"(..., {width}); append dense: {width}"
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
            f"{kind}: expects whole numbers (an integer type), each an index, got {x.dtype}; "
            "convert what are indices with x.astype(int), and put real numbers into a dense layer"
        )
    return x
