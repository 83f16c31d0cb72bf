"""Pooling layers: the maximum or mean of every window of each channel, over one or more spatial axes."""

import functools
import itertools
import math
import operator
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge
from jax import lax

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.layer import Name, Shape, ShapeError
from fnet.layers.conv_primitives import resolve_padding
from fnet.layers.masking import step_mask

__all__ = ["avg_pool", "global_avg_pool", "global_max_pool", "max_pool"]

Positive = Annotated[int, Ge(1)]
Sizes = Positive | tuple[Positive, ...]


@constructor
def max_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Literal["same", "valid"] = "valid",
    name: Name = None,
) -> Parts:
    """Max pooling: the maximum of every window; the gradient goes to its first occurrence in row-major order.

    Shapes: (batch, *spatial, channels) -> (batch, *spatial', channels), for one, two or more spatial axes.

    For examples (time, channels), the masked steps of a (batch, time) mask are never the maximum; the maximum of a
    window without real steps is 0. With more spatial axes a mask has no effect.

    Args:
        window: size of the windows; one number, or one per spatial axis, as for stride.
        stride: distance between neighboring windows in pixels; by default the size of the window.
        padding: valid (only windows inside the input) or same (ceil(n / stride) windows; the padding is never the
            maximum).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples without spatial axes, a different number of sizes, a window larger than the input, or
            a mask of steps that does not match.

    >>> import fnet
    >>> fnet.max_pool(2).shape((28, 28, 8))
    (14, 14, 8)
    """

    def pool(x, real, windows):
        lowest = jnp.asarray(-jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min, x.dtype)
        first, *others = windows(x if real is None else jnp.where(real, x, lowest), lowest)
        for other in others:
            first = jnp.where((other > first) | jnp.isnan(other), other, first)
        if real is None:
            return first
        return jnp.where(functools.reduce(operator.or_, windows(real, jnp.array(False))), first, 0)

    return _pooling(pool, window, stride, padding)


@constructor
def avg_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Literal["same", "valid"] = "valid",
    name: Name = None,
) -> Parts:
    """Average pooling: the mean of every window over its entries inside the input, without the padding.

    Shapes: (batch, *spatial, channels) -> (batch, *spatial', channels), for one, two or more spatial axes.

    For examples (time, channels), the masked steps of a (batch, time) mask are excluded from the mean; the mean of a
    window without real steps is 0. With more spatial axes a mask has no effect.

    Args:
        window: size of the windows; one number, or one per spatial axis, as for stride.
        stride: distance between neighboring windows in pixels; by default the size of the window.
        padding: valid (only windows inside the input) or same (ceil(n / stride) windows).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples without spatial axes, a different number of sizes, a window larger than the input, or
            a mask of steps that does not match.

    >>> import jax.numpy as jnp, fnet
    >>> x = jnp.arange(4.0).reshape(1, 4, 1)
    >>> fnet.avg_pool(2).apply({}, {}, x, train=False)[0].ravel().tolist()
    [0.5, 2.5]
    """

    def pool(x, real, windows):
        zero = jnp.zeros((), x.dtype)
        entries = list(windows(x if real is None else jnp.where(real, x, zero), zero))
        if real is None and padding == "valid":
            return sum(entries) / len(entries)
        counted = jnp.ones((1, *x.shape[1:-1], 1), x.dtype) if real is None else real.astype(x.dtype)
        return sum(entries) / jnp.maximum(sum(windows(counted, zero)), 1)

    return _pooling(pool, window, stride, padding)


@constructor
def global_max_pool(*, name: Name = None) -> Parts:
    """Global max pooling: the maximum of every channel; the gradient goes to its first occurrence in row-major order.

    Shapes: (batch, *spatial, channels) -> (batch, channels). The masked steps of a (batch, time) mask are ignored; an
    example without real steps gives 0.

    Args:
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples without spatial axes, or a mask that does not match.
    """

    def pool(x, real):
        candidates = x if real is None else jnp.where(real, x, -jnp.inf)
        y = jnp.take_along_axis(x, jnp.argmax(candidates, axis=1, keepdims=True), axis=1)[:, 0]
        return y if real is None else jnp.where(real.any(axis=1), y, 0)

    return _global(pool)


@constructor
def global_avg_pool(*, name: Name = None) -> Parts:
    """Global average pooling: y_c = sum m x_c / sum m, where m is 1 for real entries and 0 for masked ones.

    Shapes: (batch, *spatial, channels) -> (batch, channels). The masked steps of a (batch, time) mask are ignored; an
    example without real steps gives 0.

    Args:
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples without spatial axes, or a mask that does not match.
    """

    def pool(x, real):
        if real is None:
            return x.mean(axis=1)
        return jnp.sum(jnp.where(real, x, 0), axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1).astype(x.dtype)

    return _global(pool)


def _pooling(pool, window: Sizes, stride: Sizes | None, padding: str) -> Parts:
    def shape(in_shape: Shape) -> Shape:
        sizes, strides, pads = _resolve(in_shape, window, stride, padding)
        spatial = tuple(
            (n + sum(p) - k) // s + 1 for n, k, s, p in zip(in_shape[:-1], sizes, strides, pads, strict=True)
        )
        if min(spatial) < 1:
            raise ShapeError(f"its window {sizes} is larger than its input {in_shape[:-1]}; use a smaller window")
        return (*spatial, in_shape[-1])

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        shape(x.shape[1:])
        real = step_mask(mask, x) if x.ndim == 3 else None
        windows = functools.partial(_windows, window, stride, padding)
        return pool(x, None if real is None else real[:, :, None], windows), {}

    return Parts(shape, no_parameters, apply)


def _windows(window: Sizes, stride: Sizes | None, padding: str, x: jax.Array, padding_value: jax.Array):
    """Yield the entries of the padded x at each offset of the window."""
    sizes, strides, pads = _resolve(x.shape[1:], window, stride, padding)
    padded = lax.pad(x, padding_value, [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)]) if any(map(any, pads)) else x
    counts = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:-1], sizes, strides, strict=True)]
    for offset in itertools.product(*map(range, sizes)):
        stop = [o + (n - 1) * s + 1 for o, n, s in zip(offset, counts, strides, strict=True)]
        yield lax.slice(padded, (0, *offset, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1))


def _resolve(in_shape: Shape, window: Sizes, stride: Sizes | None, padding: str):
    axes = len(in_shape) - 1
    if axes < 1:
        raise ShapeError(f"expects examples (*spatial, channels), got {in_shape}; put a reshape before it")
    sizes = (window,) * axes if isinstance(window, int) else window
    strides = sizes if stride is None else (stride,) * axes if isinstance(stride, int) else stride
    if len(sizes) != axes or len(strides) != axes:
        raise ShapeError(
            f"expects examples with {len(sizes)} spatial axes, one per size, got {in_shape}; use one number for all"
        )
    return sizes, strides, resolve_padding(padding, in_shape[:-1], sizes, strides, (1,) * axes)


def _global(pool) -> Parts:
    def shape(in_shape: Shape) -> Shape:
        if len(in_shape) < 2:
            raise ShapeError(f"expects examples (*spatial, channels), got {in_shape}; put a reshape before it")
        return (in_shape[-1],)

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        flat = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
        real = step_mask(mask, x)
        if real is not None:
            real = jnp.repeat(real, math.prod(x.shape[2:-1]), axis=1)[:, :, None]
        return pool(flat, real), {}

    return Parts(shape, no_parameters, apply)
