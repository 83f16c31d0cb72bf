"""Losses by hand: each returns L_i for every example i and the cotangent dL_i/d(outputs of i)."""

import numpy as np
from scipy.special import xlogy

from fnet.reference.activation import logistic
from fnet.reference.rule import NoReference


def mse(outputs, targets):
    """L_i = (1/K) sum_k (g_k - y_k)^2 over K outputs; dL_i/dg_k = (2/K) (g_k - y_k)."""
    error = outputs - targets
    return _mean(error**2), 2 * error / _outputs(error)


def huber(outputs, targets, *, delta=1.0):
    """L_i = (1/K) sum_k H(e_k) with e = g - y; dL_i/dg_k = (1/K) min(max(e_k, -delta), delta).

    H(e) = e^2 / 2 where |e| <= delta, and H'(e) = e; else H(e) = delta (|e| - delta / 2), and H'(e) = delta sign(e).
    Both pieces have the derivative delta at e = delta. With the clipped error c = H'(e), both are H(e) = c (e - c / 2).
    """
    error = outputs - targets
    clipped = np.clip(error, -delta, delta)
    return _mean(clipped * (error - clipped / 2)), clipped / _outputs(error)


def binary_cross_entropy(logits, labels):
    """L_i = (1/K) sum_k log(1 + e^(z_k)) - y_k z_k over K labels; dL_i/dz_k = (1/K) (sigmoid(z_k) - y_k).

    log(1 + e^z) = max(z, 0) + log(1 + e^-|z|), and its derivative is the logistic function.
    """
    losses = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))) - labels * logits
    return _mean(losses), (logistic(logits) - labels) / _outputs(logits)


def hinge(logits, labels):
    """L_i = (1/K) sum_k max(0, 1 - t_k z_k) with t = 2y - 1; dL_i/dz_k = -(1/K) t_k where t_k z_k < 1, else 0.

    At the kink t z = 1 the derivative is 0, like that of `jax.nn.relu` at 0.
    """
    t = 2.0 * labels - 1.0
    margin = t * logits
    return _mean(np.maximum(0, 1 - margin)), np.where(margin < 1, -t, 0.0) / _outputs(logits)


def cross_entropy(logits, labels, *, label_smoothing=0.0):
    """L_i = -sum_c y'_c log p_c with p = softmax(z) and y' = y (1 - s) + s / C over C classes.

    dL_i/dz_c = p_c sum_k y'_k - y'_c, which is p_c - y'_c for one-hot y: log p_c = z_c - log(sum_k e^(z_k)), whose
    second term has the derivative p. Averaged over positions, if any.
    """
    classes = logits.shape[-1]
    y = labels if labels.shape == logits.shape else np.eye(classes)[labels]
    y = y * (1 - label_smoothing) + label_smoothing / classes
    log_p = _log_softmax(logits)
    losses = -np.sum(y * log_p, axis=-1)
    g = np.exp(log_p) * y.sum(axis=-1, keepdims=True) - y
    return _mean(losses), g / _outputs(losses)


def kl_divergence(logits, targets):
    """L_i = sum_c y_c (log y_c - log p_c) with p = softmax(z) and 0 log 0 = 0; dL_i/dz_c = p_c sum_k y_k - y_c.

    It is the cross-entropy minus the entropy of y, which is constant. Averaged over positions, if any.
    """
    log_p = _log_softmax(logits)
    losses = np.sum(xlogy(targets, targets) - targets * log_p, axis=-1)
    g = np.exp(log_p) * targets.sum(axis=-1, keepdims=True) - targets
    return _mean(losses), g / _outputs(losses)


LOSSES = {
    "mse": mse,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "huber": huber,
    "hinge": hinge,
    "kl_divergence": kl_divergence,
}


def loss_of(name):
    """Return the hand-written loss with this name.

    Raises:
        NoReference: if there is none, as for a user-defined loss.
    """
    if name in LOSSES:
        return LOSSES[name]
    raise NoReference(
        f"no hand-written derivative exists for the loss '{name}', so JAX's gradient cannot be compared with one; use "
        f"one of {', '.join(LOSSES)}, or a function (outputs, targets) -> (losses, cotangents)"
    )


def _log_softmax(z):
    """Return log p_c = z_c - log(sum_k e^(z_k)), computed after subtracting max_k z_k to avoid overflow."""
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _outputs(values):
    """Return K, the number of outputs of one example."""
    return values[0].size


def _mean(values):
    """Return the mean over the outputs of each example."""
    return values.reshape(values.shape[0], -1).mean(axis=1)
