"""Pooling by hand: max routes the gradient to one entry, and mean distributes it over all entries."""

import itertools

import numpy as np

from fnet.reference.rule import Rule


def _windows(layer, size):
    """Yield for every window its index in the output and the region of the input that it covers."""
    s, axes = layer.settings, len(size)
    sizes = (s["window"],) * axes if isinstance(s["window"], int) else s["window"]
    strides = s["stride"] or sizes
    strides = (strides,) * axes if isinstance(strides, int) else strides
    starts = []
    for n, k, a in zip(size, sizes, strides, strict=True):
        if s["padding"] == "same":
            count = -(-n // a)
            before = max(0, (count - 1) * a + k - n) // 2
        else:
            count, before = (n - k) // a + 1, 0
        starts.append([i * a - before for i in range(count)])
    for index in itertools.product(*(range(len(axis)) for axis in starts)):
        corner = [axis[i] for axis, i in zip(starts, index, strict=True)]
        region = tuple(slice(max(0, c), min(n, c + k)) for c, k, n in zip(corner, sizes, size, strict=True))
        yield index, region


def _out_size(layer, size):
    return tuple(1 + max(axis) for axis in zip(*(index for index, _ in _windows(layer, size)), strict=True))


def _max_forward(layer, scope, x):
    """y = max of the window; backward needs the index of the maximum, the first of equal entries in row-major order."""
    size, channels = x.shape[1:-1], x.shape[-1]
    y = np.empty((len(x), *_out_size(layer, size), channels))
    maxima = {}
    for index, region in _windows(layer, size):
        entries = x[(slice(None), *region)].reshape(len(x), -1, channels)
        maxima[index] = np.argmax(entries, axis=1)
        y[(slice(None), *index)] = np.take_along_axis(entries, maxima[index][:, None], axis=1)[:, 0]
    return y, (x.shape, maxima)


def _max_backward(layer, scope, cache, g):
    """dx = g at the maximum, 0 elsewhere; the gradients of all windows with the same maximum add up."""
    in_shape, maxima = cache
    dx = np.zeros(in_shape)
    for index, region in _windows(layer, in_shape[1:-1]):
        part = dx[(slice(None), *region)]
        routed = np.zeros_like(part).reshape(len(part), -1, in_shape[-1])
        np.put_along_axis(routed, maxima[index][:, None], g[(slice(None), *index)][:, None], axis=1)
        part += routed.reshape(part.shape)
    return dx, {}


max_pool = Rule(_max_forward, _max_backward)


def _avg_forward(layer, scope, x):
    """y = the mean of the n entries of the window that lie inside the input."""
    size = x.shape[1:-1]
    axes = tuple(range(1, x.ndim - 1))
    y = np.empty((len(x), *_out_size(layer, size), x.shape[-1]))
    for index, region in _windows(layer, size):
        y[(slice(None), *index)] = x[(slice(None), *region)].mean(axis=axes)
    return y, x.shape


def _avg_backward(layer, scope, in_shape, g):
    """dx = g / n for every entry of a window, summed over the windows that contain it."""
    dx = np.zeros(in_shape)
    for index, region in _windows(layer, in_shape[1:-1]):
        part = dx[(slice(None), *region)]
        n = np.prod(part.shape[1:-1])
        part += np.expand_dims(g[(slice(None), *index)], tuple(range(1, part.ndim - 1))) / n
    return dx, {}


avg_pool = Rule(_avg_forward, _avg_backward)


def _steps(scope, x):
    """Return the entries of every channel (batch, n, channels) and a mask of the real ones (batch, n, 1)."""
    entries = x.reshape(len(x), -1, x.shape[-1])
    if scope.mask is None or scope.mask.ndim == 1:
        return entries, np.ones((len(x), entries.shape[1], 1), bool)
    return entries, scope.mask[:, :, None]


def _global_max_forward(layer, scope, x):
    """y_c = max of channel c over the real entries; backward needs the index of the first maximum."""
    entries, real = _steps(scope, x)
    maximum = np.argmax(np.where(real, entries, -np.inf), axis=1)[:, None]
    return np.take_along_axis(entries, maximum, axis=1)[:, 0], (x.shape, maximum)


def _global_max_backward(layer, scope, cache, g):
    """dx = g at the maximum, 0 elsewhere."""
    in_shape, maximum = cache
    dx = np.zeros((in_shape[0], int(np.prod(in_shape[1:-1])), in_shape[-1]))
    np.put_along_axis(dx, maximum, g[:, None], axis=1)
    return dx.reshape(in_shape), {}


global_max_pool = Rule(_global_max_forward, _global_max_backward)


def _global_avg_forward(layer, scope, x):
    """y_c = sum m x_c / sum m over the entries, m = 1 for real ones."""
    entries, real = _steps(scope, x)
    return (real * entries).sum(axis=1) / real.sum(axis=1), x.shape


def _global_avg_backward(layer, scope, in_shape, g):
    """dx_c = g_c m / sum m."""
    _, real = _steps(scope, np.empty(in_shape))
    shares = real / real.sum(axis=1, keepdims=True)
    return (shares * g[:, None]).reshape(in_shape), {}


global_avg_pool = Rule(_global_avg_forward, _global_avg_backward)
