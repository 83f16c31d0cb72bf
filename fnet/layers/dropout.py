"""Dropout layers: in training, random entries are set to 0 and the others are scaled up."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Lt

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Name, Shape, ShapeError
from fnet.core.settings import is_zero

__all__ = ["dropout", "spatial_dropout"]

Rate = Annotated[float, Ge(0), Lt(1)]


@constructor
def dropout(rate: Rate, *, name: Name = None) -> Parts:
    """Dropout: y = x * m / (1 - rate) in training, where m is 0 with probability rate, else 1; otherwise y = x.

    The division (inverted scaling) makes the expected value of y equal to x, so that nothing is rescaled in evaluation.
    The mask m is independent for every entry.

    Shapes: (batch, ...) -> the same. In training it needs a key, unless the rate is 0.

    Args:
        rate: the probability that an entry is dropped.
        name: replaces the automatic name (kind and number).

    Raises:
        ValueError: in training without a key.

    Conventions: rate is the probability of dropping, as in Keras, Flax and PyTorch; in stax and in the paper (p) it is
    the probability of keeping.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to prevent neural
    networks from overfitting" (2014).

    >>> import jax, jax.numpy as jnp, fnet
    >>> y, _ = fnet.dropout(0.5).apply({}, {}, jnp.ones((1, 8)), train=True, key=jax.random.key(0))
    >>> sorted(set(y[0].tolist()))
    [0.0, 2.0]
    """

    def draw(key, shape):
        return keep_mask(key, shape, rate)

    return Parts(lambda in_shape: in_shape, no_parameters, _apply("dropout", rate, draw), draw=draw)


@constructor
def spatial_dropout(rate: Rate, *, name: Name = None) -> Parts:
    """Dropout of whole channels: y = x * m / (1 - rate) in training, with one m per example and channel.

    Neighboring pixels or steps are strongly correlated, so that dropping single entries removes little information.

    Shapes: (batch, ..., channels) -> the same; m is (batch, 1, ..., 1, channels). In training it needs a key, unless
    the rate is 0.

    Args:
        rate: the probability that a channel of an example is dropped.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, without an axis of channels.
        ValueError: in training without a key.

    Conventions: rate is the probability of dropping, as in dropout.

    Source: Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional networks"
    (2015).

    >>> import jax, jax.numpy as jnp, fnet
    >>> y, _ = fnet.spatial_dropout(0.5).apply({}, {}, jnp.ones((1, 3, 8)), train=True, key=jax.random.key(0))
    >>> bool((y == y[:, :1]).all())
    True
    """

    def shape(in_shape):
        if not in_shape:
            raise ShapeError(
                "expects examples with at least one axis, (..., channels), got scalars; put a reshape before it"
            )
        return in_shape

    def draw(key, x_shape):
        shape(x_shape[1:])
        return keep_mask(key, (x_shape[0], *[1] * (len(x_shape) - 2), x_shape[-1]), rate)

    return Parts(shape, no_parameters, _apply("spatial_dropout", rate, draw), draw=draw)


def keep_mask(key: jax.Array, shape: Shape, rate: float) -> jax.Array:
    """Return a Boolean mask that is True (keep) with probability 1 - rate.

    The probability is always a float32 number, so that a check in float64 draws the same mask.
    """
    return jax.random.bernoulli(key, jnp.asarray(1 - rate, jnp.float32), shape)


def dropped(x: jax.Array, keep: jax.Array, rate: float) -> jax.Array:
    """Return x / (1 - rate) where `keep` is True, else 0, in the dtype of x."""
    return jnp.where(keep, x / jnp.asarray(1 - rate, jnp.result_type(x, 0.0)), 0)


def needs_key(kind: str, key: jax.Array | None) -> jax.Array:
    """Return the key.

    Raises:
        ValueError: if it is None.
    """
    if key is None:
        raise ValueError(f"{kind}: training needs a key: net.apply(..., train=True, key=key)")
    return key


def _apply(kind, rate, draw):
    def apply(params, state, x, *, train, key=None, mask=None):
        if not train or is_zero(rate):
            return x, {}
        return dropped(x, draw(needs_key(kind, key), x.shape), rate), {}

    return apply
