"""Attention by hand."""

from typing import Any

import numpy as np

from fnet.reference.rule import Gradients, Rule


def _project(scope, name, x):
    """z = x w + b."""
    p = scope.params[name]
    return x @ p["w"] + p.get("b", 0.0)


def _project_backward(scope, name, x, g):
    """dx = g w^T, and dw = sum x^T g and db = sum g over every step of every example, as for a dense layer."""
    rows, cotangents = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    gradients = {"w": rows.T @ cotangents}
    if "b" in scope.params[name]:
        gradients["b"] = cotangents.sum(axis=0)
    return g @ scope.params[name]["w"].T, gradients


def _split_heads(x, heads):
    """(batch, time, heads * d) -> (batch, heads, time, d)."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _merge_heads(x):
    """The inverse of `_split_heads`."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def _softmax_of_visible(z, m):
    """p_s = m_s e^(z_s) / sum_r m_r e^(z_r), after subtracting the largest visible z; 0 where nothing is visible."""
    visible = np.where(m > 0, z, -np.inf)
    largest = np.max(visible, axis=-1, keepdims=True)
    e = np.exp(visible - np.where(np.isfinite(largest), largest, 0))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, 1)


def _attend(layer, scope, x, memory, m):
    """For every head p = softmax(q k^T / sqrt(d)) over the visible steps and a = (c p) v; then y = a w_out + b_out.

    m_ts is 1 where step s of the memory is visible to step t of x, else 0. c = mask / (1 - rate) for the mask of the
    dropout of the weights, or 1 without a mask.
    """
    heads = layer.settings["heads"]
    q = _split_heads(_project(scope, "query", x), heads)
    k, v = (_split_heads(_project(scope, name, memory), heads) for name in ("key", "value"))
    z = q @ np.swapaxes(k, 2, 3) / np.sqrt(q.shape[3])
    p = _softmax_of_visible(z, m)
    keep = scope.noise.get("mask")
    c = 1.0 if keep is None else keep / (1 - layer.settings["rate"])
    a = _merge_heads(c * p @ v)
    return _project(scope, "out", a), (x, memory, q, k, v, p, c, a)


def _attend_backward(layer, scope, cache, g):
    """Backward through one head, where da is the cotangent of its a; returns dx, dmemory and the gradients.

    a_t = sum_s c_ts p_ts v_s:  dp_ts = c_ts da_t . v_s          dv_s = sum_t c_ts p_ts da_t
    p_t = softmax(z_t):         dz_ts = p_ts (dp_ts - sum_r p_tr dp_tr)
    z_ts = q_t . k_s / sqrt(d): dq_t = sum_s dz_ts k_s / sqrt(d)     dk_s = sum_t dz_ts q_t / sqrt(d)

    The second line is the softmax's Jacobian dp_r/dz_s = p_r (1[r=s] - p_s), summed over all p_r, which depend on z_s.
    It removes the weighted mean of dp, since the p of a row sum to 1. Where a step is not visible, p and dz are 0. The
    memory has two uses, in k and v, whose gradients add up.
    """
    x, memory, q, k, v, p, c, a = cache
    heads, scale = layer.settings["heads"], 1 / np.sqrt(q.shape[3])
    da, out_gradients = _project_backward(scope, "out", a, g)
    da = _split_heads(da, heads)
    dp = c * (da @ np.swapaxes(v, 2, 3))
    dz = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
    dq = _merge_heads(dz @ k * scale)
    dk = _merge_heads(np.swapaxes(dz, 2, 3) @ q * scale)
    dv = _merge_heads(np.swapaxes(c * p, 2, 3) @ da)
    dx, query_gradients = _project_backward(scope, "query", x, dq)
    through_k, key_gradients = _project_backward(scope, "key", memory, dk)
    through_v, value_gradients = _project_backward(scope, "value", memory, dv)
    gradients = {"query": query_gradients, "key": key_gradients, "value": value_gradients, "out": out_gradients}
    return dx, through_k + through_v, gradients


def _attention_forward(layer, scope, x):
    """The memory is x itself; a masked or, if causal, a later step is not visible."""
    batch, time, _ = x.shape
    m = np.ones((batch, 1, time, time))
    if np.ndim(scope.mask) == 2:
        m = m * np.asarray(scope.mask, np.float64)[:, None, None, :]
    return _attend(layer, scope, x, x, np.tril(m) if layer.settings["causal"] else m)


def _attention_backward(layer, scope, cache, g):
    """The input has three uses, in q, k and v, whose gradients add up."""
    dx, dmemory, gradients = _attend_backward(layer, scope, cache, g)
    return dx + dmemory, gradients


attention = Rule(_attention_forward, _attention_backward)


def _cross_attention_forward(layer, scope, inputs):
    """Keys and values come from the memory, whose masked steps are not visible."""
    x, memory, *memory_mask = inputs
    m = np.ones((len(x), 1, x.shape[1], memory.shape[1]))
    for real in memory_mask:
        m = m * np.asarray(real, np.float64)[:, None, None, :]
    y, cache = _attend(layer, scope, x, memory, m)
    return y, (cache, len(memory_mask))


def _cross_attention_backward(layer, scope, cache, g) -> tuple[Any, Gradients]:
    """The cotangents of x and of the memory; a mask does not have one."""
    dx, dmemory, gradients = _attend_backward(layer, scope, cache[0], g)
    return (dx, dmemory, *[None] * cache[1]), gradients


cross_attention = Rule(_cross_attention_forward, _cross_attention_backward)
