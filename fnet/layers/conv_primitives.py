"""Convolution primitives whose derivatives remain fast inside a compiled loop.

z = conv(x, w) is linear in x and in w, so that <g, conv(x, w)> is linear in each of three arrays, and every derivative
is one of its three gradients:

    conv(x, w)       = d<g, z>/dg    the forward pass
    input_of(g, w)   = d<g, z>/dx    which is also the forward pass of the transposed convolution
    kernel_of(x, g)  = d<g, z>/dw

Each is a primitive that is linear in both arguments, and its transpose with respect to either argument is another of
the three. Forward mode, reverse mode and higher orders follow. On a CPU, XLA runs only matrix products and convolutions
in plain forward layout at full speed inside a loop, so all three are written as such: `input_of` convolves the dilated
cotangent with the flipped kernel, and `kernel_of` uses the cotangent as the kernel where that is fastest. On other
platforms the three are XLA's own convolutions.

On a mesh with Explicit axes, where every primitive has to derive the sharding of its result, the plain
`lax.conv_general_dilated` and JAX's derivatives of it are used instead.

Shapes: x (batch, height, width, in), w (height, width, in / groups, out), z and g (batch, height, width, out).
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fnet.layers.sharding import is_explicit, vary_over_same_axes

LAYOUT = ("NHWC", "HWIO", "NHWC")

COLUMNS = 3 << 20
"""Size in bytes of the columns of pixels to process at a time, which must fit into the L2 cache of a core."""


class Window(NamedTuple):
    """Geometry of a convolution, as pairs for height and width; the padding is a pair of (before, after) pairs.

    The sizes of input and kernel are included, because with strides the output size does not determine them.
    """

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    input_size: tuple[int, int]
    kernel_size: tuple[int, int]

    def reach(self, axis: int) -> int:
        """Return the extent of the dilated kernel in pixels: (k - 1) d + 1."""
        return (self.kernel_size[axis] - 1) * self.dilation[axis] + 1

    def output_size(self) -> tuple[int, int]:
        """Return floor((n + padding - reach) / stride) + 1 for height and width."""
        padded = [n + sum(p) for n, p in zip(self.input_size, self.padding, strict=True)]
        return tuple((padded[axis] - self.reach(axis)) // self.stride[axis] + 1 for axis in (0, 1))  # pyright: ignore


def convolve(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """Return the convolution z[b,i,j,o] = sum_uvc x[b, s i + d u, s j + d v, c] w[u,v,c,o] of the padded x.

    The kernel is not flipped: in signal processing this is called a cross-correlation.
    """
    x, w = _promoted(x, w)
    if is_explicit(x, w):
        return _conv_xla(x, w, window=window)
    return _conv.bind(*vary_over_same_axes(x, w), window=window)


def convolve_transposed(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """Apply the transpose of `convolve` with respect to its input, which maps the output shape to the input shape."""
    x, w = _promoted(x, w)
    if is_explicit(x, w):
        return _input_of_xla(x, w, window=window)
    return _input_of.bind(*vary_over_same_axes(x, w), window=window)


def _promoted(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(x, w)
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def _conv_xla(x, w, *, window: Window):
    return lax.conv_general_dilated(
        x,
        w,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=window.groups,
    )


def _input_of_xla(g, w, *, window: Window):
    # The values do not matter, only the type, which includes the sharding of the batch.
    x = jnp.broadcast_to(g[:, :1, :1, :1], (g.shape[0], *window.input_size, w.shape[2] * window.groups))
    return jax.linear_transpose(lambda x: _conv_xla(x, w, window=window), x)(g)[0]


def _kernel_of_xla(x, g, *, window: Window):
    w = lax.full_like(x, 0, shape=(*window.kernel_size, x.shape[3] // window.groups, g.shape[3]))
    return jax.linear_transpose(lambda w: _conv_xla(x, w, window=window), w)(g)[0]


def _input_of_cpu(g, w, *, window: Window):
    """Compute sum_uvo g w as a plain convolution of the dilated g with the flipped w, its channels swapped.

    The padding is reach - 1, plus the trailing pixels that no window covers, minus the padding of the forward pass; if
    it is negative, the result is cropped.
    """
    padding, crop = [], []
    for axis, n in enumerate(g.shape[1:3]):
        low, high = window.padding[axis]
        covered = (n - 1) * window.stride[axis] + window.reach(axis)
        uncovered = window.input_size[axis] + low + high - covered
        before, after = window.reach(axis) - 1 - low, window.reach(axis) - 1 + uncovered - high
        padding.append((max(before, 0), max(after, 0)))
        crop.append(max(-before, 0))
    if window.stride != (1, 1):
        g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *((0, 0, s - 1) for s in window.stride), (0, 0, 0)])
    plain = window._replace(stride=(1, 1), padding=tuple(padding))
    x = _conv_cpu(g, _flip_and_swap(w, window.groups), window=plain._replace(input_size=g.shape[1:3]))
    rows, columns = window.input_size
    return x[:, crop[0] : crop[0] + rows, crop[1] : crop[1] + columns]


def _flip_and_swap(w, groups: int):
    """Return the flipped kernel, with the input and output channels of every group swapped."""
    rows, columns, channels, filters = w.shape
    w = w[::-1, ::-1].reshape(rows, columns, channels, groups, filters // groups)
    return w.transpose(0, 1, 4, 3, 2).reshape(rows, columns, filters // groups, groups * channels)


def _conv_cpu(x, w, *, window: Window):
    """Compute a convolution with extra padding, which makes output rows longer than input rows, and crop the result.

    XLA delegates convolutions to a library that is two to five times slower than its own code, unless the output is
    larger than the input. Strided convolutions gain little, and XLA does not delegate those with few channels.
    """
    before, after = window.padding[1]
    extra = window.reach(1) - before - after
    if window.stride[1] > 1 or extra <= 0 or max(w.shape[2] * window.groups, w.shape[3]) <= 16:
        return _conv_xla(x, w, window=window)
    padding = window.padding[0], (before, after + extra)
    return _conv_xla(x, w, window=window._replace(padding=padding))[:, :, : window.output_size()[1]]


def _kernel_of_cpu(x, g, *, window: Window):
    """Sum the gradient of the kernel over chunks of images, by the fastest method that applies.

    The methods are a convolution with the cotangent as its kernel; the matrix product of the columns of pixels with the
    cotangent; and, with groups, one product per offset of the kernel over the whole batch.
    """
    if window.groups > 1 or x.shape[0] == 0:
        return _kernel_by_offset(x, g, window)
    plain = window.stride == window.dilation == (1, 1) and min(window.kernel_size) > 1
    chunk, kernel_of = _divisor(x.shape[0], 16), _kernel_by_convolution
    if not plain or chunk < 8 or x.shape[3] < 8:
        chunk, kernel_of = _divisor(x.shape[0], COLUMNS // (_column_bytes(x, window) + 1)), _kernel_by_columns

    def add(total, pair):
        images, cotangent = pair
        return total + kernel_of(images, cotangent, window), None

    chunks = x.reshape(-1, chunk, *x.shape[1:]), g.reshape(-1, chunk, *g.shape[1:])
    zeros = lax.full_like(x, 0, shape=(*window.kernel_size, x.shape[3], g.shape[3]))
    total, _ = lax.scan(add, zeros, chunks)
    return total


def _kernel_by_convolution(x, g, window: Window):
    """Return the convolution of x with g as its kernel, the axes of images and channels swapped.

    Both are padded so that output rows are longer than input rows, for the reason stated in `_conv_cpu`.
    """
    x = jnp.pad(x, [(0, 0), *window.padding, (0, 0)]).transpose(3, 1, 2, 0)
    extra = window.kernel_size[1]
    g = jnp.pad(g.transpose(1, 2, 0, 3), [(0, 0), (0, extra), (0, 0), (0, 0)])
    w = lax.conv_general_dilated(x, g, (1, 1), ((0, 0), (0, extra)), dimension_numbers=LAYOUT)
    return w.transpose(1, 2, 0, 3)


def _kernel_by_columns(x, g, window: Window):
    """Return the matrix product of the transposed columns of pixels with the cotangent."""
    w = _columns(x, window).T @ g.reshape(-1, g.shape[3])
    return w.reshape(*window.kernel_size, x.shape[3], g.shape[3])


def _kernel_by_offset(x, g, window: Window):
    """Return for every offset (u, v) of the kernel the product of the pixels that it meets with the cotangent."""
    groups, channels, filters = window.groups, x.shape[3] // window.groups, g.shape[3]
    g = g.reshape(-1, groups, filters // groups)

    def product(pixels):
        per_group = lax.dot_general(pixels.reshape(-1, groups, channels), g, (((0,), (0,)), ((1,), (1,))))
        return per_group.transpose(1, 0, 2).reshape(channels, filters)

    w = jnp.stack([product(pixels) for pixels in _pixels_by_offset(x, window)])
    return w.reshape(*window.kernel_size, channels, filters)


def _divisor(batch: int, limit: int) -> int:
    """Return the largest divisor of the batch size up to a limit, or 1: the number of images to process at a time."""
    return max(n for n in range(1, max(1, min(limit, batch)) + 1) if batch % n == 0)


def _column_bytes(x, window: Window) -> int:
    """Return the size of the columns of one image in bytes."""
    return math.prod((*window.output_size(), *window.kernel_size, x.shape[3], x.dtype.itemsize))


def _columns(x, window: Window):
    """Return the pixels of every window as a row: (batch * rows * columns, kernel_h * kernel_w * channels)."""
    columns = jnp.concatenate(list(_pixels_by_offset(x, window)), axis=-1)
    return columns.reshape(-1, columns.shape[-1])


def _pixels_by_offset(x, window: Window):
    """Yield the pixels (batch, rows, columns, channels) that each offset of the kernel meets, in row-major order."""
    x = jnp.pad(x, [(0, 0), *window.padding, (0, 0)])
    rows, columns = window.output_size()
    for u, v in itertools.product(*map(range, window.kernel_size)):
        top, left = u * window.dilation[0], v * window.dilation[1]
        bottom, right = top + (rows - 1) * window.stride[0] + 1, left + (columns - 1) * window.stride[1] + 1
        yield lax.slice(x, (0, top, left, 0), (x.shape[0], bottom, right, x.shape[3]), (1, *window.stride, 1))


def _shape_of_conv(x, w, *, window: Window):
    return x.update(shape=(x.shape[0], *window.output_size(), w.shape[3]))


def _shape_of_input(g, w, *, window: Window):
    return g.update(shape=(g.shape[0], *window.input_size, w.shape[2] * window.groups))


def _shape_of_kernel(x, g, *, window: Window):
    return x.update(shape=(*window.kernel_size, x.shape[3] // window.groups, g.shape[3]))


def _primitive(name: str, shape: Any, xla: Any, cpu: Any) -> Primitive:
    primitive = Primitive(f"fnet_{name}")
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(lambda a, b, *, window: primitive.bind(a, b, window=window), static_argnames="window"))
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    return primitive


_conv = _primitive("conv", _shape_of_conv, _conv_xla, _conv_cpu)
_input_of = _primitive("conv_input", _shape_of_input, _input_of_xla, _input_of_cpu)
_kernel_of = _primitive("conv_kernel", _shape_of_kernel, _kernel_of_xla, _kernel_of_cpu)

ad.defbilinear(
    _conv,
    lambda g, x, w, *, window: _input_of.bind(g, w, window=window),
    lambda g, x, w, *, window: _kernel_of.bind(x, g, window=window),
)
ad.defbilinear(
    _input_of,
    lambda x, g, w, *, window: _conv.bind(x, w, window=window),
    lambda x, g, w, *, window: _kernel_of.bind(x, g, window=window),
)
ad.defbilinear(
    _kernel_of,
    lambda w, x, g, *, window: _input_of.bind(g, w, window=window),
    lambda w, x, g, *, window: _conv.bind(x, w, window=window),
)


def _batched(primitive: Primitive, can_merge: bool, arguments, axes, *, window: Window):
    """Apply a primitive under vmap: members that share the kernel are merged into one batch, others run in a loop.

    On a CPU a loop over the members is faster than a grouped convolution with different kernels.
    """
    a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arguments, axes, strict=True))
    if can_merge and axes[1] is None:
        z = primitive.bind(a.reshape(-1, *a.shape[2:]), b, window=window)
        return z.reshape(*a.shape[:2], *z.shape[1:]), 0
    mapped = tuple(x if axis is not None else None for x, axis in zip((a, b), axes, strict=True))

    def apply_to_member(slices):
        operands = (shared if part is None else part for part, shared in zip(slices, (a, b), strict=True))
        return primitive.bind(*operands, window=window)

    return lax.map(apply_to_member, mapped), 0


batching.primitive_batchers[_conv] = functools.partial(_batched, _conv, True)
batching.primitive_batchers[_input_of] = functools.partial(_batched, _input_of, True)
batching.primitive_batchers[_kernel_of] = functools.partial(_batched, _kernel_of, False)


def resolve_padding(
    padding: str | int | tuple[Any, ...],
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Return the number of zeros before and after each axis: `valid` has none, `same` gives ceil(n / stride) outputs.

    If the number of zeros for `same` is odd, the extra one is at the end, as in TensorFlow and JAX. A number pads every
    side; a tuple contains a number or a (before, after) pair for each axis.
    """
    if padding == "valid":
        return tuple((0, 0) for _ in input_size)
    if padding == "same":
        pads = []
        for n, k, s, d in zip(input_size, kernel_size, stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)
    sides = (padding,) * len(input_size) if isinstance(padding, int) else padding
    return tuple((side, side) if isinstance(side, int) else tuple(side) for side in sides)  # pyright: ignore
