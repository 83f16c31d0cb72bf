"""Convolutional layers with the channels last; as is usual, the kernel is not flipped (cross-correlation)."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Name, Shape, ShapeError
from fnet.layers.conv_primitives import Window, convolve, convolve_transposed, resolve_padding
from fnet.layers.initializer import Initializer, initializer
from fnet.layers.masking import zero_masked

__all__ = ["conv", "conv_1d", "conv_transpose"]

Positive = Annotated[int, Ge(1)]
NonNegative = Annotated[int, Ge(0)]
Pair = Positive | tuple[Positive, Positive]
Side = NonNegative | tuple[NonNegative, NonNegative]


@constructor
def conv(
    filters: Positive,
    kernel_size: Pair = 3,
    *,
    stride: Pair = 1,
    padding: Literal["same", "valid"] | NonNegative | tuple[Side, Side] = "same",
    dilation: Pair = 1,
    groups: Positive = 1,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """2-D convolution: z[i,j,o] = sum_uvc x[s i + d u, s j + d v, c] w[u,v,c,o] + b[o], over the padded x.

    Shapes: (batch, height, width, in) -> (batch, height', width', filters), where an axis of n pixels has
    floor((n + padding - (k-1) d - 1) / s) + 1 outputs; with stride 1 and without padding n - k + 1.
    Parameters: `w` (kernel_h, kernel_w, in / groups, filters), `b` (filters,). A mask has no effect.

    Args:
        filters: number of output channels.
        kernel_size: k, size of the receptive field; one number or (height, width), as for stride and dilation.
        stride: s, distance between neighboring windows in pixels.
        padding: same (ceil(n / s) outputs; if the number of zeros is odd, the extra one is at the end), valid (none),
            or the number of zeros on every side; or for height and width each a number or (before, after).
        dilation: d, distance between neighboring weights of the kernel in pixels.
        groups: number of groups of channels, which are convolved independently; with one group per channel it is a
            depthwise convolution.
        bias: whether b is added; it is initialized to zero.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples that are not (height, width, channels), a number of channels that groups does not
            divide, or a kernel that is larger than the padded input.
        ValueError: if groups does not divide filters.

    >>> import fnet
    >>> fnet.conv(32, 3, stride=2).shape((28, 28, 1))
    (14, 14, 32)
    """
    _check_filters(filters, groups)

    def window(in_shape: Shape) -> Window:
        _check_rank(in_shape, "(height, width, channels)")
        return _window(in_shape, _pair(kernel_size), _pair(stride), padding, _pair(dilation), groups)

    def shape(in_shape):
        return (*window(in_shape).output_size(), filters)

    def init_(key, in_shape):
        shape(in_shape)
        w_shape = (*_pair(kernel_size), in_shape[-1] // groups, filters)
        return _parameters(key, w_shape, init, bias), {}

    def apply(params, state, x, *, train, key=None, mask=None):
        w = params["w"]
        _check_input(x, 4, w.shape[2] * groups, "(batch, height, width, {})")
        z = convolve(x, w, window(x.shape[1:]))
        return z + params["b"] if bias else z, {}

    return Parts(shape, init_, apply)


@constructor
def conv_1d(
    filters: Positive,
    kernel_size: Positive = 3,
    *,
    stride: Positive = 1,
    padding: Literal["same", "valid"] | Side = "same",
    dilation: Positive = 1,
    groups: Positive = 1,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """1-D convolution: z[t,o] = sum_uc x[s t + d u, c] w[u,c,o] + b[o], over the padded x.

    Shapes: (batch, time, in) -> (batch, time', filters), time' as for `conv`.
    Parameters: `w` (kernel, in / groups, filters), `b` (filters,).

    The masked steps of a (batch, time) mask count as zeros, like the padding.

    Args:
        filters: number of output channels.
        kernel_size: k, size of the receptive field.
        stride: s, distance between neighboring windows in steps.
        padding: same (ceil(n / s) outputs; if the number of zeros is odd, the extra one is at the end), valid (none),
            or the number of zeros on both sides, as a number or (before, after).
        dilation: d, distance between neighboring weights of the kernel in steps.
        groups: number of groups of channels, which are convolved independently.
        bias: whether b is added; it is initialized to zero.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples that are not (time, channels), a number of channels that groups does not divide, a
            kernel that is larger than the padded input, or a mask that does not match.
        ValueError: if groups does not divide filters.

    >>> import fnet
    >>> fnet.conv_1d(8, 5, padding="valid").shape((100, 3))
    (96, 8)
    """
    _check_filters(filters, groups)
    sides = padding if isinstance(padding, str) else (0, padding)

    def window(in_shape: Shape) -> Window:
        _check_rank(in_shape, "(time, channels)")
        return _window((1, *in_shape), (1, kernel_size), (1, stride), sides, (1, dilation), groups)

    def shape(in_shape):
        return (window(in_shape).output_size()[1], filters)

    def init_(key, in_shape):
        shape(in_shape)
        return _parameters(key, (kernel_size, in_shape[-1] // groups, filters), init, bias), {}

    def apply(params, state, x, *, train, key=None, mask=None):
        w = params["w"]
        _check_input(x, 3, w.shape[1] * groups, "(batch, time, {})")
        z = convolve(zero_masked(mask, x)[:, None], w[None], window(x.shape[1:]))[:, 0]
        return z + params["b"] if bias else z, {}

    return Parts(shape, init_, apply)


@constructor
def conv_transpose(
    filters: Positive,
    kernel_size: Pair = 3,
    *,
    stride: Pair = 1,
    padding: Literal["same", "valid"] | NonNegative | tuple[Side, Side] = "same",
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """Transposed 2-D convolution: every pixel adds its kernel, z[s i + u, s j + v, o] += x[i,j,c] w[u,v,c,o]; then + b.

    It is the transpose of a `conv` with the same stride and padding, and maps its output size back to its input size:
    an axis of n pixels has (n-1) s + k outputs minus the padding, which is n s for `same`.

    Shapes: (batch, height, width, in) -> (batch, height', width', filters).
    Parameters: `w` (kernel_h, kernel_w, in, filters), `b` (filters,). A mask has no effect.

    Args:
        filters: number of output channels.
        kernel_size: k; one number or (height, width), as for stride.
        stride: s, factor by which the image grows.
        padding: same (n s outputs), valid ((n-1) s + k outputs), or the number of pixels to crop from every side of the
            `valid` output; or for height and width each a number or (before, after).
        bias: whether b is added; it is initialized to zero.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: for examples that are not (height, width, channels), or padding that crops the whole output.

    >>> import fnet
    >>> fnet.conv_transpose(8, 4, stride=2).shape((7, 7, 16))
    (14, 14, 8)
    """
    kernel, strides = _pair(kernel_size), _pair(stride)

    def window(in_shape: Shape) -> Window:
        _check_rank(in_shape, "(height, width, channels)")
        full = tuple((n - 1) * s + k for n, s, k in zip(in_shape, strides, kernel, strict=False))
        if padding == "same":
            cut = [max(0, k - s) for s, k in zip(strides, kernel, strict=True)]
            pads = tuple((c // 2, c - c // 2) for c in cut)
            size = tuple(n * s for n, s in zip(in_shape, strides, strict=False))
        else:
            pads = resolve_padding(padding, full, kernel, strides, (1, 1))
            size = tuple(n - sum(p) for n, p in zip(full, pads, strict=True))
        if min(size) < 1:
            raise ShapeError(f"padding {padding} crops the whole output {full}; use less padding")
        return Window(strides, pads, (1, 1), 1, size, kernel)  # pyright: ignore[reportArgumentType]

    def shape(in_shape):
        return (*window(in_shape).input_size, filters)

    def init_(key, in_shape):
        shape(in_shape)
        return _parameters(key, (*kernel, in_shape[-1], filters), init, bias), {}

    def apply(params, state, x, *, train, key=None, mask=None):
        w = params["w"]
        _check_input(x, 4, w.shape[2], "(batch, height, width, {})")
        z = convolve_transposed(x, w.swapaxes(2, 3), window(x.shape[1:]))
        return z + params["b"] if bias else z, {}

    return Parts(shape, init_, apply)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _window(in_shape, kernel_size, stride, padding, dilation, groups) -> Window:
    *size, channels = in_shape
    if channels % groups:
        raise ShapeError(
            f"its groups must divide the {channels} channels of its input, got {groups} groups; choose a divisor"
        )
    pads = resolve_padding(padding, tuple(size), kernel_size, stride, dilation)
    window = Window(stride, pads, dilation, groups, tuple(size), kernel_size)  # pyright: ignore[reportArgumentType]
    if min(window.output_size()) < 1:
        padded = tuple(n + sum(p) for n, p in zip(size, pads, strict=True))
        reach = (window.reach(0), window.reach(1))
        raise ShapeError(f"its kernel covers {reach} pixels, more than the padded input {padded}; use padding: same")
    return window


def _parameters(key: jax.Array, shape: Shape, init: Initializer, bias: bool) -> dict[str, jax.Array]:
    params = {"w": initializer(init)(key, shape)}
    return params | {"b": jnp.zeros(shape[-1])} if bias else params


def _check_filters(filters: int, groups: int) -> None:
    if filters % groups:
        raise ValueError(
            f"conv: groups must divide filters, got {groups} groups and {filters} filters; make filters a multiple"
        )


def _check_rank(in_shape: Shape, expected: str) -> None:
    if len(in_shape) != expected.count(",") + 1:
        raise ShapeError(f"expects examples {expected}, got {in_shape}; put a reshape before it")


def _check_input(x: jax.Array, rank: int, channels: int, expected: str) -> None:
    if x.ndim != rank or x.shape[-1] != channels:
        raise ShapeError(
            f"expects {expected.format(channels)}, got {x.shape}; reshape the input, or initialize for this shape"
        )
