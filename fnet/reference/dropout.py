"""Dropout by hand, for a given mask: random sampling is not part of backpropagation."""

from fnet.reference.rule import Rule


def _forward(layer, scope, x):
    """y = x c with c = m / (1 - rate) for the mask m, or c = 1 without a mask; backward needs c.

    A mask of whole channels, (batch, 1, ..., 1, channels), is broadcast over all positions.
    """
    m = scope.noise.get("mask")
    c = 1.0 if m is None else m / (1 - layer.settings["rate"])
    return x * c, c


def _backward(layer, scope, c, g):
    """dx = g c.

    For a fixed mask y_i = c_i x_i is linear with a diagonal matrix, dy_i/dx_j = c_i 1[i=j], which is its own transpose:
    the cotangent of a dropped entry is 0, that of any other entry is g / (1 - rate).
    """
    return g * c, {}


dropout = spatial_dropout = Rule(_forward, _backward)
