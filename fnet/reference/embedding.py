"""Embeddings by hand. An index does not have a gradient; the rules return 0 for it."""

import numpy as np

from fnet.reference.combine import serial
from fnet.reference.rule import Rule


def _embedding_forward(layer, scope, x):
    """y_i = w[x_i] for every position i; backward needs the indices."""
    x = x.astype(int)
    return scope.params["w"][x], x


def _embedding_backward(layer, scope, x, g):
    """dw[k] = sum of g_i over the positions i with x_i = k: the cotangents of all uses of a row add up.

    With one-hot rows o_i the layer is y = o w, and row k of dw = o^T g is this sum.
    """
    dw = np.zeros_like(scope.params["w"])
    np.add.at(dw, x, g)
    return np.zeros(x.shape), {"w": dw}


embedding = Rule(_embedding_forward, _embedding_backward)


def _one_hot_forward(layer, scope, x):
    """y_i = row x_i of the identity matrix, for every position i."""
    return np.eye(layer.settings["size"])[x.astype(int)], x.shape


def _one_hot_backward(layer, scope, shape, g):
    return np.zeros(shape), {}


one_hot = Rule(_one_hot_forward, _one_hot_backward)


def _positions_forward(layer, scope, x):
    """y_t = x_t + w[t]."""
    return x + scope.params["w"][: x.shape[1]], None


def _positions_backward(layer, scope, cache, g):
    """dx = g; dw[t] = sum over the examples of g_t, and 0 for positions after the end of the sequences."""
    dw = np.zeros_like(scope.params["w"])
    dw[: g.shape[1]] = g.sum(axis=0)
    return g, {"w": dw}


positions = Rule(_positions_forward, _positions_backward)


def _sinusoidal_forward(layer, scope, x):
    """The sine and cosine of t / base^(2i / width) are added to the i-th pair of entries of step t."""
    _, time, width = x.shape
    waves = np.zeros((time, width))
    for k in range(width):
        angle = np.arange(time) * layer.settings["base"] ** (-2 * (k // 2) / width)
        waves[:, k] = np.sin(angle) if k % 2 == 0 else np.cos(angle)
    return x + waves, None


def _sinusoidal_backward(layer, scope, cache, g):
    """dx = g: the encoding does not depend on x."""
    return g, {}


sinusoidal_positions = Rule(_sinusoidal_forward, _sinusoidal_backward)


def _tied_forward(layer, scope, x):
    """y = h w^T with h = f(w[x]); backward needs h and the caches of the layers."""
    h, caches = serial.forward(layer, scope, x)
    first, _ = layer.children[0]
    return h @ scope.params[first]["w"].T, (h, caches)


def _tied_backward(layer, scope, cache, g):
    """dh = g w and, from the readout, dw = sum_i g_i^T h_i, to which the dw of the embedding is added.

    From y_ik = sum_c h_ic w_kc: dy_ik/dh_ic = w_kc and dy_ik/dw_kc = h_ic. The parameter has two uses,
    whose gradients add up.
    """
    h, caches = cache
    first, _ = layer.children[0]
    dx, gradients = serial.backward(layer, scope, caches, g @ scope.params[first]["w"])
    readout_dw = g.reshape(-1, g.shape[-1]).T @ h.reshape(-1, h.shape[-1])
    return dx, {**gradients, first: {"w": gradients[first]["w"] + readout_dw}}


tied = Rule(_tied_forward, _tied_backward)
