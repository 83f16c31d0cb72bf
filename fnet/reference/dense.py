"""The fully connected layer by hand."""

import numpy as np

from fnet.reference.rule import Rule


def _forward(layer, scope, x):
    """z = x w + b; backward needs x."""
    z = x @ scope.params["w"]
    return z + scope.params["b"] if layer.settings["bias"] else z, x


def _backward(layer, scope, x, g):
    """dw = x^T g, db = sum_i g_i, dx = g w^T, for g = dL/dz.

    From z_ij = sum_k x_ik w_kj + b_j: dz_ij/dw_kj = x_ik, dz_ij/db_j = 1 and dz_ij/dx_ik = w_kj. The gradient of a
    variable is the sum of g_ij times these derivatives over all entries of z that depend on it: every example i (and
    every other leading axis) depends on w_kj and b_j, every output j on x_ik. In the lectures' q = W x with W (out, in)
    this reads dW = dq x^T and dx = W^T dq.
    """
    rows, cotangents = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    gradients = {"w": rows.T @ cotangents}
    if layer.settings["bias"]:
        gradients["b"] = np.sum(cotangents, axis=0)
    return g @ scope.params["w"].T, gradients


dense = Rule(_forward, _backward)
