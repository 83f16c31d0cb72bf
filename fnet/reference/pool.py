"""Pooling by hand: max routes the gradient to one entry, and mean distributes it over all entries."""

import itertools

import numpy as np

from fnet.reference.masking import real_steps
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


def _step_mask(scope, x):
    """Return m, the mask as numbers (batch, *spatial, 1): 1 for the entries of a real step, else 0.

    Pooling by windows takes a (batch, time) mask for examples (time, channels) only.
    """
    return np.ones((*x.shape[:-1], 1)) * real_steps(scope, x)


def _window_mask(scope, x):
    return _step_mask(scope if x.ndim == 3 else scope._replace(mask=None), x)


def _max_forward(layer, scope, x):
    """y = max over the real entries of the window, or 0 if there are none.

    Backward needs the index of the maximum, the first of equal entries in row-major order, and where there is one.
    """
    size, channels, m = x.shape[1:-1], x.shape[-1], _window_mask(scope, x)
    y = np.empty((len(x), *_out_size(layer, size), channels))
    maxima = {}
    for index, region in _windows(layer, size):
        entries = x[(slice(None), *region)].reshape(len(x), -1, channels)
        real = m[(slice(None), *region)].reshape(len(x), -1, 1) > 0
        maximum, exists = np.argmax(np.where(real, entries, -np.inf), axis=1), real.any(axis=1)
        maxima[index] = maximum, exists
        y[(slice(None), *index)] = exists * np.take_along_axis(entries, maximum[:, None], axis=1)[:, 0]
    return y, (x.shape, maxima)


def _max_backward(layer, scope, cache, g):
    """dx = g at the maximum, 0 elsewhere; the gradients of all windows with the same maximum add up."""
    in_shape, maxima = cache
    dx = np.zeros(in_shape)
    for index, region in _windows(layer, in_shape[1:-1]):
        part = dx[(slice(None), *region)]
        routed = np.zeros_like(part).reshape(len(part), -1, in_shape[-1])
        maximum, exists = maxima[index]
        np.put_along_axis(routed, maximum[:, None], (exists * g[(slice(None), *index)])[:, None], axis=1)
        part += routed.reshape(part.shape)
    return dx, {}


max_pool = Rule(_max_forward, _max_backward)


def _avg_forward(layer, scope, x):
    """y = sum m x / n over the entries of the window inside the input, n = sum m; 0 if n = 0."""
    size, m = x.shape[1:-1], _window_mask(scope, x)
    axes = tuple(range(1, x.ndim - 1))
    y = np.empty((len(x), *_out_size(layer, size), x.shape[-1]))
    for index, region in _windows(layer, size):
        entries, real = x[(slice(None), *region)], m[(slice(None), *region)]
        y[(slice(None), *index)] = (real * entries).sum(axis=axes) / np.maximum(real.sum(axis=axes), 1)
    return y, m


def _avg_backward(layer, scope, m, g):
    """dx = g m / n for every entry of a window, summed over the windows that contain it."""
    dx = np.zeros((*m.shape[:-1], g.shape[-1]))
    for index, region in _windows(layer, m.shape[1:-1]):
        real = m[(slice(None), *region)]
        axes = tuple(range(1, real.ndim - 1))
        shares = real / np.maximum(real.sum(axis=axes, keepdims=True), 1)
        dx[(slice(None), *region)] += shares * np.expand_dims(g[(slice(None), *index)], axes)
    return dx, {}


avg_pool = Rule(_avg_forward, _avg_backward)


def _flat(scope, x):
    """Return the entries of every channel (batch, n, channels) and m (batch, n, 1)."""
    return x.reshape(len(x), -1, x.shape[-1]), _step_mask(scope, x).reshape(len(x), -1, 1)


def _global_max_forward(layer, scope, x):
    """y_c = max of channel c over the real entries, or 0 if there are none; backward needs the index of the maximum."""
    entries, m = _flat(scope, x)
    maximum, exists = np.argmax(np.where(m > 0, entries, -np.inf), axis=1)[:, None], m.max(axis=1)
    return exists * np.take_along_axis(entries, maximum, axis=1)[:, 0], (x.shape, maximum, exists)


def _global_max_backward(layer, scope, cache, g):
    """dx = g at the maximum, 0 elsewhere."""
    in_shape, maximum, exists = cache
    dx = np.zeros((in_shape[0], int(np.prod(in_shape[1:-1])), in_shape[-1]))
    np.put_along_axis(dx, maximum, (exists * g)[:, None], axis=1)
    return dx.reshape(in_shape), {}


global_max_pool = Rule(_global_max_forward, _global_max_backward)


def _global_avg_forward(layer, scope, x):
    """y_c = sum m x_c / n over the entries, n = sum m; 0 if n = 0."""
    entries, m = _flat(scope, x)
    shares = m / np.maximum(m.sum(axis=1, keepdims=True), 1)
    return (shares * entries).sum(axis=1), (x.shape, shares)


def _global_avg_backward(layer, scope, cache, g):
    """dx_c = g_c m / n."""
    in_shape, shares = cache
    return (shares * g[:, None]).reshape(in_shape), {}


global_avg_pool = Rule(_global_avg_forward, _global_avg_backward)
