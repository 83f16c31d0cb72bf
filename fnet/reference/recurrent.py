"""Recurrent layers by hand: backpropagation through time.

The sequence is unrolled: step t is a layer that takes x_t and the state of step t - 1, and all these layers share w, u
and b. The state of step t has two uses, the output h_t and step t + 1, whose cotangents add up. The gradient of a
shared parameter is the sum of its gradients at all steps. One loop runs forward over t = 1 ... T. Another one runs
backward over t = T ... 1 and carries dh, the cotangent from later steps.

A masked step, m_t = 0, has h_t = h_(t-1): its cotangent bypasses the cell and passes to step t - 1.

Every step function processes one step of a batch; shapes are x_t (batch, in), h (batch, units).
"""

import numpy as np

from fnet.reference.activation import logistic
from fnet.reference.masking import real_steps
from fnet.reference.rule import Rule


def _tanh_derivative(h):
    return 1 - h**2


def _sigmoid_derivative(h):
    return h * (1 - h)


def _relu_derivative(h):
    return np.where(h > 0, 1.0, 0.0)


# phi, and phi' as a function of h = phi(z); relu'(0) = 0
_ACTIVATIONS = {
    "tanh": (np.tanh, _tanh_derivative),
    "sigmoid": (logistic, _sigmoid_derivative),
    "relu": (lambda z: np.maximum(0, z), _relu_derivative),
}


def _rnn_step(layer, params, x, state):
    """h = phi(z) with z = x w + h_- u + b, where h_- is the previous state."""
    (previous,) = state
    phi, _ = _ACTIVATIONS[layer.settings["activation"]]
    h = phi(x @ params["w"] + previous @ params["u"] + params["b"])
    return (h,), (x, previous, h)


def _rnn_step_backward(layer, params, cache, cotangents):
    """dz = dh phi'(z); then dw = x^T dz, du = h_-^T dz, db = sum_i dz_i, dx = dz w^T and dh_- = dz u^T.

    z is linear in x and in h_- with the matrices w and u, as a dense layer is in its input.
    """
    (x, previous, h), (dh,) = cache, cotangents
    _, derivative = _ACTIVATIONS[layer.settings["activation"]]
    dz = dh * derivative(h)
    gradients = {"w": x.T @ dz, "u": previous.T @ dz, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (dz @ params["u"].T,), gradients


def _gru_step(layer, params, x, state):
    """r, s = sigma(z_r), sigma(z_s); n = tanh(z_n); h = s h_- + (1 - s) n.

    z_r = x w_r + h_- u_r + b_r, z_s likewise, and z_n = x w_n + (r h_-) u_n + b_n.
    """
    (previous,) = state
    w_r, w_s, w_n = np.split(params["w"], 3, axis=1)
    u_r, u_s, u_n = np.split(params["u"], 3, axis=1)
    b_r, b_s, b_n = np.split(params["b"], 3)
    r = logistic(x @ w_r + previous @ u_r + b_r)
    s = logistic(x @ w_s + previous @ u_s + b_s)
    n = np.tanh(x @ w_n + (r * previous) @ u_n + b_n)
    return (s * previous + (1 - s) * n,), (x, previous, r, s, n)


def _gru_step_backward(layer, params, cache, cotangents):
    """From h = s h_- + (1 - s) n, in which s, n and h_- each have a factor:

    ds = dh (h_- - n), dn = dh (1 - s), and dh s contributes to dh_-.

    Through the activations dz_s = ds s (1 - s) and dz_n = dn (1 - n^2). The product p = r h_- that u_n multiplies has
    dp = dz_n u_n^T. Each of its factors gets dp times the other one: dr = dp h_-, and dp r contributes to dh_-. Then
    dz_r = dr r (1 - r). In total h_- has four uses: dh_- = dh s + dp r + dz_r u_r^T + dz_s u_s^T. The gradients of
    the parameters of r and s are those of dense layers with the inputs x and h_-; for u_n the input is p, not h_-.
    """
    (x, previous, r, s, n), (dh,) = cache, cotangents
    u_r, u_s, u_n = np.split(params["u"], 3, axis=1)
    dz_s = dh * (previous - n) * s * (1 - s)
    dz_n = dh * (1 - s) * (1 - n**2)
    dp = dz_n @ u_n.T
    dz_r = dp * previous * r * (1 - r)
    d_previous = dh * s + dp * r + dz_r @ u_r.T + dz_s @ u_s.T
    dz = np.concatenate([dz_r, dz_s, dz_n], axis=1)
    du = np.concatenate([previous.T @ dz_r, previous.T @ dz_s, (r * previous).T @ dz_n], axis=1)
    gradients = {"w": x.T @ dz, "u": du, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (d_previous,), gradients


def _lstm_step(layer, params, x, state):
    """i, f, o = sigma(z_i), sigma(z_f), sigma(z_o); g = tanh(z_g); c = f c_- + i g; h = o tanh(c).

    z = x w + h_- u + b, in the blocks i, f, g, o.
    """
    previous, c_previous = state
    z_i, z_f, z_g, z_o = np.split(x @ params["w"] + previous @ params["u"] + params["b"], 4, axis=1)
    i, f, g, o = logistic(z_i), logistic(z_f), np.tanh(z_g), logistic(z_o)
    c = f * c_previous + i * g
    return (o * np.tanh(c), c), (x, previous, c_previous, i, f, g, o, c)


def _lstm_step_backward(layer, params, cache, cotangents):
    """From h = o tanh(c): do = dh tanh(c), and c, also the c_- of the next step, gets dc + dh o (1 - tanh(c)^2).

    From c = f c_- + i g with this dc: df = dc c_-, di = dc g, dg = dc i and dc_- = dc f. Along the cell the cotangent
    is only multiplied by the forget gate, and is preserved where that is near 1. Through the activations
    dz_i = di i (1 - i), f and o likewise, and dz_g = dg (1 - g^2); and z is a dense layer of x and h_-.
    """
    (x, previous, c_previous, i, f, g, o, c), (dh, dc) = cache, cotangents
    t = np.tanh(c)
    dc = dc + dh * o * (1 - t**2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c_previous * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = dh * t * o * (1 - o)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
    gradients = {"w": x.T @ dz, "u": previous.T @ dz, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (dz @ params["u"].T, dc * f), gradients


def _steps(layer, x):
    """Return the indices of the steps, in the order of processing."""
    order = range(x.shape[1])
    return list(reversed(order)) if layer.settings["reverse"] else list(order)


def _through_time(step, step_backward, parts):
    """Return the rule of a layer whose state consists of `parts` arrays, the first of which is the output h."""

    def forward(layer, scope, x):
        """state_t = m_t step(x_t, state_(t-1)) + (1 - m_t) state_(t-1), from zeros; backward needs all caches."""
        m, units = real_steps(scope, x), len(scope.params["u"])
        state = (np.zeros((len(x), units)),) * parts
        h, caches = np.zeros((*x.shape[:2], units)), {}
        for t in _steps(layer, x):
            after, caches[t] = step(layer, scope.params, x[:, t], state)
            state = tuple(m[:, t] * new + (1 - m[:, t]) * old for new, old in zip(after, state, strict=True))
            h[:, t] = state[0]
        return h if layer.settings["sequence"] else state[0], (x, m, caches)

    def backward(layer, scope, cache, g):
        """Backpropagate through the steps in reverse order.

        The cotangent of state_t is the one from step t + 1 plus g_t, the cotangent of its output. It passes through the
        cell where m_t = 1 and bypasses it where m_t = 0. Without `sequence` the only output is the last state.
        """
        x, m, caches = cache
        dx = np.zeros_like(x)
        gradients = {name: np.zeros_like(p) for name, p in scope.params.items()}
        cotangents = [np.zeros((len(x), len(scope.params["u"]))) for _ in range(parts)]
        if not layer.settings["sequence"]:
            cotangents[0] = g
        for t in reversed(_steps(layer, x)):
            if layer.settings["sequence"]:
                cotangents[0] = cotangents[0] + g[:, t]
            through_cell = [m[:, t] * d for d in cotangents]
            dx[:, t], previous, step_gradients = step_backward(layer, scope.params, caches[t], through_cell)
            cotangents = [new + (1 - m[:, t]) * d for new, d in zip(previous, cotangents, strict=True)]
            gradients = {name: total + step_gradients[name] for name, total in gradients.items()}
        return dx, gradients

    return Rule(forward, backward)


rnn = _through_time(_rnn_step, _rnn_step_backward, 1)

gru = _through_time(_gru_step, _gru_step_backward, 1)

lstm = _through_time(_lstm_step, _lstm_step_backward, 2)
