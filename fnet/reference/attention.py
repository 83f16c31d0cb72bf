"""Attention and positional encodings by hand."""

import numpy as np

from fnet.reference.rule import Rule


def _project(layer, scope, name, x):
    """z = x w + b."""
    p = scope.params[name]
    return x @ p["w"] + p.get("b", 0.0)


def _project_backward(layer, scope, name, x, g):
    """dx = g w^T, and dw = sum x^T g and db = sum g over every step of every example, as for a dense layer."""
    rows, cotangents = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    gradients = {"w": rows.T @ cotangents}
    if layer.settings["bias"]:
        gradients["b"] = cotangents.sum(axis=0)
    return g @ scope.params[name]["w"].T, gradients


def _split_heads(x, heads):
    """(batch, time, heads * d) -> (batch, heads, time, d)."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _merge_heads(x):
    """The inverse of `_split_heads`."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def _visible(layer, scope, x):
    """Return m_ts (batch, 1, time, time): 1 where step s is visible to step t, else 0."""
    batch, time, _ = x.shape
    m = np.ones((batch, 1, time, time))
    if np.ndim(scope.mask) == 2:
        m = m * np.asarray(scope.mask, np.float64)[:, None, None, :]
    return np.tril(m) if layer.settings["causal"] else m


def _softmax_of_visible(z, m):
    """p_s = m_s e^(z_s) / sum_r m_r e^(z_r), after subtracting the largest visible z; 0 where nothing is visible."""
    largest = np.max(np.where(m > 0, z, -np.inf), axis=-1, keepdims=True)
    e = np.where(m > 0, np.exp(z - np.where(np.isfinite(largest), largest, 0)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, 1)


def _attention_forward(layer, scope, x):
    """For every head p = softmax(q k^T / sqrt(d)) over the visible steps and a = p v; then y = a w_out + b_out."""
    heads = layer.settings["heads"]
    q, k, v = (_split_heads(_project(layer, scope, name, x), heads) for name in ("query", "key", "value"))
    z = q @ np.swapaxes(k, 2, 3) / np.sqrt(q.shape[3])
    p = _softmax_of_visible(z, _visible(layer, scope, x))
    a = _merge_heads(p @ v)
    return _project(layer, scope, "out", a), (x, q, k, v, p, a)


def _attention_backward(layer, scope, cache, g):
    """Backward through one head, where da is the cotangent of its a:

    a_t = sum_s p_ts v_s:       dp_ts = da_t . v_s               dv_s = sum_t p_ts da_t
    p_t = softmax(z_t):         dz_ts = p_ts (dp_ts - sum_r p_tr dp_tr)
    z_ts = q_t . k_s / sqrt(d): dq_t = sum_s dz_ts k_s / sqrt(d)     dk_s = sum_t dz_ts q_t / sqrt(d)

    The second line is the softmax's Jacobian dp_r/dz_s = p_r (1[r=s] - p_s), summed over all p_r, which depend on z_s.
    It removes the weighted mean of dp, since the p of a row sum to 1. Where a step is not visible, p and dz are 0. The
    input has three uses, in q, k and v, whose gradients add up.
    """
    x, q, k, v, p, a = cache
    heads, scale = layer.settings["heads"], 1 / np.sqrt(q.shape[3])
    da, out_gradients = _project_backward(layer, scope, "out", a, g)
    da = _split_heads(da, heads)
    dp = da @ np.swapaxes(v, 2, 3)
    dz = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
    cotangents = {
        "query": dz @ k * scale,
        "key": np.swapaxes(dz, 2, 3) @ q * scale,
        "value": np.swapaxes(p, 2, 3) @ da,
    }
    dx, gradients = np.zeros_like(x), {"out": out_gradients}
    for name, cotangent in cotangents.items():
        dx_part, gradients[name] = _project_backward(layer, scope, name, x, _merge_heads(cotangent))
        dx += dx_part
    return dx, gradients


attention = Rule(_attention_forward, _attention_backward)


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
