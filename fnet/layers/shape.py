"""Layers that rearrange, pad or repeat the entries of an example."""

import math
from typing import Annotated, Any

import jax.numpy as jnp
from annotated_types import Ge
from pydantic import AfterValidator, ValidationError, WrapValidator

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Name, Shape, ShapeError
from fnet.layers.sharding import sharded_like_batch

__all__ = ["flatten", "permute", "reshape", "upsample", "zero_pad"]


@constructor
def flatten(*, name: Name = None) -> Parts:
    """Flatten every example to one axis, in row-major order: (batch, ...) -> (batch, number of entries).

    Args:
        name: replaces the automatic name (kind and number).

    >>> import fnet
    >>> fnet.flatten().shape((28, 28, 1))
    (784,)
    """

    def shape(in_shape):
        return (math.prod(in_shape),)

    def apply(params, state, x, *, train, key=None, mask=None):
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), {}

    return Parts(shape, no_parameters, apply, rearranges=True)


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(size < 1 and size != -1 for size in shape) or shape.count(-1) > 1:
        raise ValueError(f"expected sizes of at least 1, one of which may be -1 to be inferred, got {shape}")
    return shape


@constructor
def reshape(shape: Annotated[tuple[int, ...], AfterValidator(_sizes)], *, name: Name = None) -> Parts:
    """Reshape every example, in row-major order: (batch, ...) -> (batch, *shape).

    Args:
        shape: the new shape of an example, without the batch; one size may be -1, to be inferred from the others.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when the shape does not have as many entries as an example.

    >>> import fnet
    >>> fnet.reshape((28, -1, 1)).shape((784,))
    (28, 28, 1)
    """
    known = math.prod(size for size in shape if size != -1)

    def shape_(in_shape):
        entries = math.prod(in_shape)
        if entries % known if -1 in shape else entries != known:
            number = f"a multiple of {known}" if -1 in shape else known
            raise ShapeError(
                f"expects examples with {number} entries for the shape {shape}, got {in_shape} with {entries}; "
                "change its shape or the layer before it"
            )
        return tuple(entries // known if size == -1 else size for size in shape)

    def apply(params, state, x, *, train, key=None, mask=None):
        new = (x.shape[0], *shape_(x.shape[1:]))
        return jnp.reshape(x, new, out_sharding=sharded_like_batch(x, len(new))), {}

    return Parts(shape_, no_parameters, apply, rearranges=True)


def _permutation(axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes or sorted(axes) != list(range(1, len(axes) + 1)):
        raise ValueError(
            f"expected each axis of an example once, counted from 1 without the batch, such as (2, 1), got {axes}"
        )
    return axes


@constructor
def permute(axes: Annotated[tuple[int, ...], AfterValidator(_permutation)], *, name: Name = None) -> Parts:
    """Permute the axes of every example: axis k of the output is axis axes[k] of the input.

    Args:
        axes: a permutation of 1 ... n for the n axes of an example, as in Keras; the batch axis stays first.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples have a different number of axes.

    >>> import fnet
    >>> fnet.permute((3, 1, 2)).shape((28, 20, 3))
    (3, 28, 20)
    """

    def shape(in_shape):
        if len(in_shape) != len(axes):
            raise ShapeError(
                f"expects examples with {len(axes)} axes for the permutation {axes}, got {in_shape}; "
                f"list each of its axes 1 ... {len(in_shape)} once"
            )
        return tuple(in_shape[axis - 1] for axis in axes)

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        return jnp.transpose(x, (0, *axes)), {}

    return Parts(shape, no_parameters, apply, rearranges=True)


def _expecting(expected: str) -> WrapValidator:
    """Return a validator with a single message for a union, for which pydantic has one message per member."""

    def validate(value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"expected {expected}, got {value!r}") from None

    return WrapValidator(validate)


Side = Annotated[int, Ge(0)]
Padding = Annotated[
    Side | tuple[tuple[Side, Side], ...],
    _expecting("a whole number of at least 0, or a pair of them for every spatial axis, such as ((1, 1), (2, 0))"),
]


@constructor
def zero_pad(padding: Padding, *, name: Name = None) -> Parts:
    """Zero padding of spatial axes: (batch, n_1, ..., channels) -> (batch, before_1 + n_1 + after_1, ..., channels).

    Args:
        padding: number of zeros on every side, or (before, after) for every spatial axis; for images
            ((top, bottom), (left, right)).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples do not have a spatial axis, or the number of spatial axes is not the number of pairs.

    >>> import fnet
    >>> fnet.zero_pad(1).shape((28, 28, 3)), fnet.zero_pad(((0, 1), (2, 0))).shape((28, 28, 3))
    ((30, 30, 3), (29, 30, 3))
    """

    def pairs(in_shape: Shape) -> list[tuple[int, int]]:
        return [(side, side) if isinstance(side, int) else side for side in _per_spatial_axis(padding, in_shape)]

    def shape(in_shape):
        sides = zip(pairs(in_shape), in_shape[:-1], strict=True)
        return (*(before + size + after for (before, after), size in sides), in_shape[-1])

    def apply(params, state, x, *, train, key=None, mask=None):
        return jnp.pad(x, ((0, 0), *pairs(x.shape[1:]), (0, 0))), {}

    return Parts(shape, no_parameters, apply, rearranges=True)


Repeats = Annotated[int, Ge(1)]
Factor = Annotated[
    Repeats | tuple[Repeats, ...],
    _expecting("a whole number of at least 1, or one for every spatial axis, such as (2, 3)"),
]


@constructor
def upsample(factor: Factor = 2, *, name: Name = None) -> Parts:
    """Nearest-neighbor upsampling: (batch, n, ..., channels) -> (batch, f n, ...).

    Args:
        factor: number of times that an entry is repeated along every spatial axis, or one number per spatial axis.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples do not have a spatial axis, or the number of spatial axes is not that of factors.

    >>> import jax.numpy as jnp, fnet
    >>> y, _ = fnet.upsample(2).apply({}, {}, jnp.array([[[1.0], [5.0]]]), train=False)
    >>> y[0, :, 0].tolist()
    [1.0, 1.0, 5.0, 5.0]
    """

    def shape(in_shape):
        factors = _per_spatial_axis(factor, in_shape)
        return (*(f * size for f, size in zip(factors, in_shape[:-1], strict=True)), in_shape[-1])

    def apply(params, state, x, *, train, key=None, mask=None):
        for axis, f in enumerate(_per_spatial_axis(factor, x.shape[1:]), start=1):
            x = jnp.repeat(x, f, axis)
        return x, {}

    return Parts(shape, no_parameters, apply, rearranges=True)


def _per_spatial_axis(setting: Any, in_shape: Shape) -> tuple[Any, ...]:
    """Expand a setting, one number or one entry per spatial axis (all but the last axis), to one entry per axis.

    Raises:
        ShapeError: when examples do not have a spatial axis, or the number of spatial axes is not that of entries.
    """
    axes = len(in_shape) - 1
    if axes < 1:
        raise ShapeError(
            "expects examples with at least one spatial axis and the channels last, (..., channels), "
            f"got {in_shape}; put a reshape before it"
        )
    if isinstance(setting, int):
        return (setting,) * axes
    if len(setting) != axes:
        raise ShapeError(
            f"expects examples with {len(setting)} spatial axes, one per entry of {setting}, and the channels last, "
            f"got {in_shape}; use one entry per spatial axis, or one number for all"
        )
    return setting
