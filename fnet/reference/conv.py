"""Convolutions by hand: one matrix product for every offset of the kernel, forward and backward.

The offset (u, v) of the kernel meets the pixels p_uv[i,j] = x[s i + d u, s j + d v] of the padded input. The
convolution is a sum of linear maps of them, z = sum_uv p_uv w_uv + b, and its gradients are those of dense layers,
summed over offsets (for x) or over pixels and examples (for w_uv and b):

    dw_uv = sum_bij p_uv^T g,   db = sum_bij g,   dp_uv = g w_uv^T,

where dx is the sum of dp_uv over all offsets that meet a pixel.
"""

import numpy as np

from fnet.reference.masking import real_steps
from fnet.reference.rule import Rule


def _offsets(padded, kernel, stride, dilation, out):
    """Yield every offset of the kernel with the index of the pixels that it meets."""
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            rows = slice(u * dilation[0], u * dilation[0] + (out[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(v * dilation[1], v * dilation[1] + (out[1] - 1) * stride[1] + 1, stride[1])
            yield (u, v), (slice(None), rows, columns)


def _pads(padding, size, kernel, stride, dilation):
    """Return the number of zeros (before, after) for height and width."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        totals = [
            max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        return [(t // 2, t - t // 2) for t in totals]
    sides = (padding, padding) if isinstance(padding, int) else padding
    return [(side, side) if isinstance(side, int) else side for side in sides]


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _convolve(x, w, stride, padding, dilation, groups):
    """z = sum_uv p_uv w_uv, group by group; also return the cache for backward."""
    kernel = w.shape[:2]
    pads = _pads(padding, x.shape[1:3], kernel, stride, dilation)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    out = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(padded.shape[1:3], kernel, stride, dilation, strict=True)
    ]
    z = np.zeros((len(x), *out, w.shape[3]))
    for inputs, outputs in _groups(w, groups):
        for offset, pixels in _offsets(padded, kernel, stride, dilation, out):
            z[..., outputs] += padded[pixels][..., inputs] @ w[offset][:, outputs]
    return z, (padded, pads, out)


def _convolve_backward(g, w, cache, stride, dilation, groups):
    """dw_uv = sum p_uv^T g; for dx, every dp_uv = g w_uv^T is added at its pixels, and the padding is cropped."""
    padded, pads, out = cache
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for inputs, outputs in _groups(w, groups):
        for offset, pixels in _offsets(padded, w.shape[:2], stride, dilation, out):
            dw[offset][:, outputs] = np.tensordot(
                padded[pixels][..., inputs], g[..., outputs], axes=([0, 1, 2], [0, 1, 2])
            )
            dx[(*pixels, inputs)] += g[..., outputs] @ w[offset][:, outputs].T
    (top, bottom), (left, right) = pads
    return dx[:, top : dx.shape[1] - bottom, left : dx.shape[2] - right], dw


def _groups(w, groups):
    """Return the slices of input and output channels of every group."""
    channels, filters = w.shape[2], w.shape[3] // groups
    return [(slice(i * channels, (i + 1) * channels), slice(i * filters, (i + 1) * filters)) for i in range(groups)]


def _conv_forward(layer, scope, x):
    s = layer.settings
    stride, dilation = _pair(s["stride"]), _pair(s["dilation"])
    z, cache = _convolve(x, scope.params["w"], stride, s["padding"], dilation, s["groups"])
    return z + scope.params["b"] if s["bias"] else z, cache


def _conv_backward(layer, scope, cache, g):
    s = layer.settings
    dx, dw = _convolve_backward(g, scope.params["w"], cache, _pair(s["stride"]), _pair(s["dilation"]), s["groups"])
    return dx, {"w": dw} | ({"b": g.sum(axis=(0, 1, 2))} if s["bias"] else {})


conv = Rule(_conv_forward, _conv_backward)


def _conv_1d_forward(layer, scope, x):
    """A sequence is an image of one row, 0 where m_t = 0."""
    s, m = layer.settings, real_steps(scope, x)
    padding = s["padding"] if isinstance(s["padding"], str) else (0, s["padding"])
    w = scope.params["w"][None]
    z, cache = _convolve((m * x)[:, None], w, (1, s["stride"]), padding, (1, s["dilation"]), s["groups"])
    return (z + scope.params["b"] if s["bias"] else z)[:, 0], (cache, m)


def _conv_1d_backward(layer, scope, cache, g):
    """As for an image; then dx_t = m_t d(m_t x_t)."""
    s, (cache, m) = layer.settings, cache
    w = scope.params["w"][None]
    dx, dw = _convolve_backward(g[:, None], w, cache, (1, s["stride"]), (1, s["dilation"]), s["groups"])
    return m * dx[:, 0], {"w": dw[0]} | ({"b": g.sum(axis=(0, 1))} if s["bias"] else {})


conv_1d = Rule(_conv_1d_forward, _conv_1d_backward)


def _transposed(layer, w, size):
    """Return the geometry of the transposed convolution: kernel, stride, padding, and size of its padded input."""
    s = layer.settings
    kernel, stride = w.shape[:2], _pair(s["stride"])
    full = [(n - 1) * a + k for n, a, k in zip(size, stride, kernel, strict=True)]
    if s["padding"] != "same":
        return kernel, stride, _pads(s["padding"], full, kernel, stride, (1, 1)), full
    cut = [max(0, k - a) for k, a in zip(kernel, stride, strict=True)]
    pads = [(c // 2, c - c // 2) for c in cut]
    return kernel, stride, pads, [n * a + c for n, a, c in zip(size, stride, cut, strict=True)]


def _conv_transpose_forward(layer, scope, x):
    """Add x w_uv to the pixels of z that offset (u, v) meets, as in the backward pass of a convolution."""
    w = scope.params["w"]
    kernel, stride, pads, full = _transposed(layer, w, x.shape[1:3])
    z = np.zeros((len(x), *full, w.shape[3]))
    for offset, pixels in _offsets(z, kernel, stride, (1, 1), x.shape[1:3]):
        z[pixels] += x @ w[offset]
    (top, bottom), (left, right) = pads
    z = z[:, top : full[0] - bottom, left : full[1] - right]
    return z + scope.params["b"] if layer.settings["bias"] else z, x


def _conv_transpose_backward(layer, scope, x, g):
    """With the pixels g_uv of the padded cotangent: dx = sum_uv g_uv w_uv^T, dw_uv = sum x^T g_uv."""
    w = scope.params["w"]
    kernel, stride, pads, _ = _transposed(layer, w, x.shape[1:3])
    padded = np.pad(g, [(0, 0), *pads, (0, 0)])
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for offset, pixels in _offsets(padded, kernel, stride, (1, 1), x.shape[1:3]):
        dx += padded[pixels] @ w[offset].T
        dw[offset] = np.tensordot(x, padded[pixels], axes=([0, 1, 2], [0, 1, 2]))
    return dx, {"w": dw} | ({"b": g.sum(axis=(0, 1, 2))} if layer.settings["bias"] else {})


conv_transpose = Rule(_conv_transpose_forward, _conv_transpose_backward)
