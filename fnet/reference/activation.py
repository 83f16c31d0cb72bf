"""Activations by hand: each phi with its derivative phi'.

For y = phi(z), elementwise, dz = g * phi'(z). At a kink phi' follows the convention of `jax.nn`, which is stated.
"""

import math

import numpy as np
from scipy.special import erf

from fnet.reference.rule import Rule


def _elementwise(phi, derivative) -> Rule:
    """Return the rule of an elementwise function; both functions take z and the layer's settings."""

    def forward(layer, scope, z):
        return phi(z, **layer.settings), z

    def backward(layer, scope, z, g):
        return g * derivative(z, **layer.settings), {}

    return Rule(forward, backward)


def logistic(z):
    """Return 1 / (1 + e^-z), for each sign of z in the form that does not overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


identity = _elementwise(lambda z: z, lambda z: np.ones_like(z))

sigmoid = _elementwise(logistic, lambda z: logistic(z) * (1 - logistic(z)))

tanh = _elementwise(np.tanh, lambda z: 1 - np.tanh(z) ** 2)

# relu'(0) = 0
relu = _elementwise(lambda z: np.maximum(0, z), lambda z: np.where(z > 0, 1.0, 0.0))

# leaky_relu'(0) = 1
leaky_relu = _elementwise(
    lambda z, slope: np.where(z >= 0, z, slope * z),
    lambda z, slope: np.where(z >= 0, 1.0, slope),
)

# elu'(0) = alpha; the exponent is clipped at 0, above which the other branch is used, so that it cannot overflow
elu = _elementwise(
    lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
    lambda z, alpha: np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0))),
)

# (z s(z))' = s(z) + z s(z) (1 - s(z))
swish = _elementwise(
    lambda z: z * logistic(z),
    lambda z: logistic(z) * (1 + z * (1 - logistic(z))),
)


def _gelu(z, approximate):
    if not approximate:
        return 0.5 * z * (1 + erf(z / math.sqrt(2)))
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def _gelu_derivative(z, approximate):
    """(z Phi(z))' = Phi(z) + z Phi'(z), with Phi' the normal density, or the derivative of the approximation."""
    if not approximate:
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + erf(z / math.sqrt(2))) + z * density
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2)


gelu = _elementwise(_gelu, _gelu_derivative)


def _softmax_forward(layer, scope, z):
    """y_c = e^(z_c) / sum_k e^(z_k); backward needs y."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def _softmax_backward(layer, scope, y, g):
    """dz_k = y_k (g_k - sum_c g_c y_c), from dy_c/dz_k = y_c (1[c=k] - y_k)."""
    return y * (g - np.sum(g * y, axis=-1, keepdims=True)), {}


softmax = Rule(_softmax_forward, _softmax_backward)
