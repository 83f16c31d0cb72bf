"""Rearrangements by hand: their transpose moves every cotangent back to where its entry came from.

Each is linear, and every row of its matrix contains at most one 1: y_i = x_j(i), or 0. So dx_j is the sum of the
cotangents g_i of all entries of y that are copies of x_j: none, one or several.
"""

import numpy as np

from fnet.reference.rule import Rule


def _flatten_forward(layer, scope, x):
    return x.reshape(x.shape[0], -1), x.shape


def _flatten_backward(layer, scope, x_shape, g):
    return g.reshape(x_shape), {}


def _reshape_forward(layer, scope, x):
    """y has the entries of x in row-major order; backward needs the shape of x."""
    return x.reshape(len(x), *layer.settings["shape"]), x.shape


def _permute_forward(layer, scope, x):
    """y[n, i_1, i_2, ...] = x[n, ...], where index i_k belongs to axis axes[k] of x."""
    return np.transpose(x, (0, *layer.settings["axes"])), None


def _permute_backward(layer, scope, cache, g):
    """dx by the inverse permutation: axis axes[k] of dx is axis k of g."""
    inverse = np.argsort((0, *layer.settings["axes"]))
    return np.transpose(g, inverse), {}


def _zero_pad_forward(layer, scope, x):
    """y[n, before + i, ..., c] = x[n, i, ..., c], and 0 elsewhere; backward needs the position of x in y."""
    padding = layer.settings["padding"]
    pairs = [(padding, padding)] * (x.ndim - 2) if isinstance(padding, int) else padding
    inside = tuple(slice(before, before + size) for (before, _), size in zip(pairs, x.shape[1:-1], strict=True))
    y = np.zeros((len(x), *(sum(pair) + size for pair, size in zip(pairs, x.shape[1:-1], strict=True)), x.shape[-1]))
    y[:, *inside] = x
    return y, inside


def _zero_pad_backward(layer, scope, inside, g):
    """dx is the part of g inside the padding: the zeros are constant."""
    return g[:, *inside], {}


def _upsample_forward(layer, scope, x):
    """y[n, i, ..., c] = x[n, floor(i / f), ..., c]; backward needs the factors f."""
    factor = layer.settings["factor"]
    factors = (factor,) * (x.ndim - 2) if isinstance(factor, int) else factor
    for axis, f in enumerate(factors, start=1):
        x = np.repeat(x, f, axis)
    return x, factors


def _upsample_backward(layer, scope, factors, g):
    """dx[n, j, ..., c] = sum of g[n, f j + r, ..., c] over r = 0 ... f - 1, along every spatial axis."""
    for axis, f in enumerate(factors, start=1):
        g = g.reshape(*g.shape[:axis], g.shape[axis] // f, f, *g.shape[axis + 1 :]).sum(axis=axis + 1)
    return g, {}


flatten = Rule(_flatten_forward, _flatten_backward)

reshape = Rule(_reshape_forward, _flatten_backward)

permute = Rule(_permute_forward, _permute_backward)

zero_pad = Rule(_zero_pad_forward, _zero_pad_backward)

upsample = Rule(_upsample_forward, _upsample_backward)
