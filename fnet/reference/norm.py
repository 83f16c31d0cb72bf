"""Normalization by hand: the gradient also passes through the mean and the variance."""

from typing import NamedTuple

import numpy as np

from fnet.reference.masking import real_entries
from fnet.reference.rule import Array, Gradients, Rule, Scope


class Standardized(NamedTuple):
    """The cache for the backward pass of a normalization.

    xhat: (x - mu) s.
    s: 1 / sqrt(v + eps), with length 1 along the axes of the statistics.
    axes: axes over which mu and v were computed.
    share: m_i / n, the weight of x_i in mu: 1 / n, or 0 for a masked entry.
    """

    xhat: Array
    s: Array
    axes: tuple[int, ...]
    share: Array


def standardize(x: Array, axes: tuple[int, ...], m: Array, eps: float) -> Standardized:
    """xhat_i = (x_i - mu) s, for every i, with s = 1 / sqrt(v + eps) and the statistics of the entries with m_i = 1:

    mu = sum_i m_i x_i / n and v = sum_i m_i (x_i - mu)^2 / n, where n = sum_i m_i, or 1 if that is 0.
    """
    mu, v, n = moments(x, axes, m)
    s = 1 / np.sqrt(v + eps)
    return Standardized((x - mu) * s, s, axes, m / n)


def moments(x: Array, axes: tuple[int, ...], m: Array) -> tuple[Array, Array, Array]:
    """Return the mean mu and the biased variance v of the entries with m_i = 1, and their number n, at least 1."""
    n = np.maximum(np.sum(np.broadcast_to(m, x.shape), axis=axes, keepdims=True), 1)
    mu = np.sum(m * x, axis=axes, keepdims=True) / n
    return mu, np.sum(m * (x - mu) ** 2, axis=axes, keepdims=True) / n, n


def standardize_backward(cache: Standardized, h: Array) -> Array:
    """dx_i = s (h_i - m_i/n (sum_j h_j + xhat_i sum_j h_j xhat_j)), for h = dL/dxhat.

    L depends on x_i in three ways: directly, through mu and through v. With xhat_j = (x_j - mu) (v + eps)^(-1/2):

    directly:    dxhat_i/dx_i = s
    through v:   dL/dv = sum_j h_j (x_j - mu) (-1/2) (v + eps)^(-3/2) = -(s^2 / 2) sum_j h_j xhat_j
                 dv/dx_i = 2 m_i (x_i - mu) / n, for mu held fixed
    through mu:  dL/dmu = -s sum_j h_j + dL/dv dv/dmu, where dv/dmu = -2 sum_j m_j (x_j - mu) / n = 0, since the
                 deviations from a mean sum to 0
                 dmu/dx_i = m_i / n

    Summed: dx_i = s h_i - (s^2 / 2) (sum_j h_j xhat_j) 2 m_i (x_i - mu) / n - s (sum_j h_j) m_i / n, and
    s (x_i - mu) = xhat_i gives the formula. The sums are over every j, masked or not, because each output depends on mu
    and v. With m = 1 this is the usual form (s / n) (n h_i - sum_j h_j - xhat_i sum_j h_j xhat_j). It removes the
    components of h along 1 and along xhat, because a shift or scaling of all x does not change xhat, up to eps.
    """
    xhat, s, axes, share = cache
    through_mean = np.sum(h, axis=axes, keepdims=True)
    through_variance = np.sum(h * xhat, axis=axes, keepdims=True)
    return s * (h - share * (through_mean + xhat * through_variance))


def affine(scope: Scope, xhat: Array) -> Array:
    """Return y = scale * xhat + shift, where missing parameters are 1 and 0."""
    return xhat * scope.params.get("scale", 1.0) + scope.params.get("shift", 0.0)


def affine_backward(scope: Scope, xhat: Array, g: Array) -> tuple[Array, Gradients]:
    """h = g scale, dscale_c = sum g_c xhat_c, dshift_c = sum g_c, over every axis except the channels c."""
    axes = tuple(range(g.ndim - 1))
    gradients = {"scale": np.sum(g * xhat, axis=axes), "shift": np.sum(g, axis=axes)}
    return g * scope.params.get("scale", 1.0), {name: gradients[name] for name in scope.params}


def _batch_norm_forward(layer, scope, x):
    """In training, the statistics of a channel are over all other axes.

    In evaluation, they are taken from the state and do not depend on x: the share is 0, and backward gives dx = s h.
    """
    eps, axes = layer.settings["eps"], tuple(range(x.ndim - 1))
    if scope.train:
        cache = standardize(x, axes, real_entries(scope, x), eps)
    else:
        s = 1 / np.sqrt(scope.state["var"] + eps)
        cache = Standardized((x - scope.state["mean"]) * s, s, axes, np.zeros(1))
    return affine(scope, cache.xhat), cache


def _batch_norm_backward(layer, scope, cache, g):
    h, gradients = affine_backward(scope, cache.xhat, g)
    return standardize_backward(cache, h), gradients


def _batch_norm_state(layer, scope, x):
    """mean := a mean + (1 - a) mu and var := a var + (1 - a) v, with a = momentum and the statistics of the batch.

    In evaluation, and without any real entry, the state does not change.
    """
    m = real_entries(scope, x)
    if not scope.train or not m.any():
        return dict(scope.state)
    a = layer.settings["momentum"]
    mu, v, _ = moments(x, tuple(range(x.ndim - 1)), m)
    return {
        "mean": a * scope.state["mean"] + (1 - a) * mu.reshape(-1),
        "var": a * scope.state["var"] + (1 - a) * v.reshape(-1),
    }


def _layer_norm_forward(layer, scope, x):
    """The statistics of a position are over its channels."""
    cache = standardize(x, (-1,), np.ones([1] * x.ndim), layer.settings["eps"])
    return affine(scope, cache.xhat), cache


def _layer_norm_backward(layer, scope, cache, g):
    h, gradients = affine_backward(scope, cache.xhat, g)
    return standardize_backward(cache, h), gradients


def _group_norm_forward(layer, scope, x):
    """The axis of channels is split into two, (groups, channels / groups).

    The statistics of an example's group are over the second of them and all axes between the batch and the channels;
    the masked steps of a (batch, time) mask are excluded.
    """
    grouped = x.reshape(*x.shape[:-1], layer.settings["groups"], -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    steps = scope.mask is not None and np.ndim(scope.mask) == 2 and x.ndim > 2
    m = real_entries(scope, x)[..., None] if steps else np.ones([1] * grouped.ndim)
    cache = standardize(grouped, axes, m, layer.settings["eps"])
    return affine(scope, cache.xhat.reshape(x.shape)), cache


def _group_norm_backward(layer, scope, cache, g):
    h, gradients = affine_backward(scope, cache.xhat.reshape(g.shape), g)
    return standardize_backward(cache, h.reshape(cache.xhat.shape)).reshape(g.shape), gradients


def _rms_norm_forward(layer, scope, x):
    """xhat = x r with r = (q + eps)^(-1/2), for q = sum_k x_k^2 / n over the n channels; backward needs both."""
    r = 1 / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + layer.settings["eps"])
    return affine(scope, x * r), (x * r, r)


def _rms_norm_backward(layer, scope, cache, g):
    """dx_i = r (h_i - xhat_i sum_j h_j xhat_j / n), for h = dL/dxhat.

    Directly dxhat_i/dx_i = r. Through q: dL/dq = sum_j h_j x_j (-1/2) (q + eps)^(-3/2) = -(r^2 / 2) sum_j h_j xhat_j
    and dq/dx_i = 2 x_i / n, whose product is -r xhat_i sum_j h_j xhat_j / n.
    """
    xhat, r = cache
    h, gradients = affine_backward(scope, xhat, g)
    return r * (h - xhat * np.mean(h * xhat, axis=-1, keepdims=True)), gradients


batch_norm = Rule(_batch_norm_forward, _batch_norm_backward, _batch_norm_state)

layer_norm = Rule(_layer_norm_forward, _layer_norm_backward)

group_norm = Rule(_group_norm_forward, _group_norm_backward)

rms_norm = Rule(_rms_norm_forward, _rms_norm_backward)
