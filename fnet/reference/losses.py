"""Losses by hand: each returns L_i for every example i, and beside it the cotangent dL_i/d(outputs of i)."""

import numpy as np

from fnet.reference.activation import logistic


def mse(outputs, targets):
    """L_i = (1/K) sum_k (g_k - y_k)^2 over K outputs; dL_i/dg_k = (2/K) (g_k - y_k)."""
    error = outputs - targets
    return _mean(error**2), 2 * error / _outputs(error)


def binary_cross_entropy(logits, labels):
    """L_i = (1/K) sum_k log(1 + e^(z_k)) - y_k z_k over K labels; dL_i/dz_k = (1/K) (sigmoid(z_k) - y_k).

    log(1 + e^z) = max(z, 0) + log(1 + e^-|z|), and its derivative is the logistic function.
    """
    losses = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))) - labels * logits
    return _mean(losses), (logistic(logits) - labels) / _outputs(logits)


def cross_entropy(logits, labels):
    """L_i = -sum_c y_c log p_c with p = softmax(z); dL_i/dz_c = p_c sum_k y_k - y_c, which is p_c - y_c for one-hot y.

    From log p_c = z_c - log(sum_k e^(z_k)), whose second term has the derivative p. Averaged over positions, if any.
    """
    classes = logits.shape[-1]
    y = labels if labels.shape == logits.shape else np.eye(classes)[labels]
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    losses = -np.sum(y * log_p, axis=-1)
    g = np.exp(log_p) * y.sum(axis=-1, keepdims=True) - y
    return _mean(losses), g / _outputs(losses)


LOSSES = {"mse": mse, "binary_cross_entropy": binary_cross_entropy, "cross_entropy": cross_entropy}


def _outputs(values):
    """K, the number of outputs of one example."""
    return values[0].size


def _mean(values):
    """The mean over the outputs of each example."""
    return values.reshape(values.shape[0], -1).mean(axis=1)
