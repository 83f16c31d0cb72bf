"""Recurrent layers by hand: backpropagation through time.

A sequence is unrolled: step t is a layer of its own that takes x_t and the state of step t - 1, and all these layers
share w, u and b. So the state of step t has two uses, the output h_t and step t + 1, whose cotangents add up; and the
gradient of a shared parameter is the sum of what it is at every step. One loop goes forward over t = 1 ... T, another
goes back over t = T ... 1 and takes with it dh, the cotangent that comes from the later steps.

A step that the mask leaves out, m_t = 0, has h_t = h_(t-1): its cotangent goes past the cell to step t - 1.

Every function works on one step of a batch; shapes are x_t (batch, in), h (batch, units).
"""

import numpy as np

from fnet.reference.activation import logistic
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
    """h = phi(z) with z = x w + h_- u + b, where h_- is the state before."""
    (before,) = state
    phi, _ = _ACTIVATIONS[layer.settings["activation"]]
    h = phi(x @ params["w"] + before @ params["u"] + params["b"])
    return (h,), (x, before, h)


def _rnn_step_backward(layer, params, cache, cotangents):
    """dz = dh phi'(z); then dw = x^T dz, du = h_-^T dz, db = sum_i dz_i, dx = dz w^T and dh_- = dz u^T.

    z is linear in x and in h_- with the matrices w and u, as a dense layer is in its input.
    """
    (x, before, h), (dh,) = cache, cotangents
    _, derivative = _ACTIVATIONS[layer.settings["activation"]]
    dz = dh * derivative(h)
    gradients = {"w": x.T @ dz, "u": before.T @ dz, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (dz @ params["u"].T,), gradients


def _gru_step(layer, params, x, state):
    """r, s = sigma(z_r), sigma(z_s); n = tanh(z_n); h = s h_- + (1 - s) n.

    z_r = x w_r + h_- u_r + b_r, z_s likewise, and z_n = x w_n + (r h_-) u_n + b_n.
    """
    (before,) = state
    w_r, w_s, w_n = np.split(params["w"], 3, axis=1)
    u_r, u_s, u_n = np.split(params["u"], 3, axis=1)
    b_r, b_s, b_n = np.split(params["b"], 3)
    r = logistic(x @ w_r + before @ u_r + b_r)
    s = logistic(x @ w_s + before @ u_s + b_s)
    n = np.tanh(x @ w_n + (r * before) @ u_n + b_n)
    return (s * before + (1 - s) * n,), (x, before, r, s, n)


def _gru_step_backward(layer, params, cache, cotangents):
    """From h = s h_- + (1 - s) n, in which s, n and h_- each have a factor:

    ds = dh (h_- - n), dn = dh (1 - s), and h_- gets dh s.

    Through the activations dz_s = ds s (1 - s) and dz_n = dn (1 - n^2). The product p = r h_- that u_n multiplies gets
    dp = dz_n u_n^T, which it hands on, each factor times the other: dr = dp h_-, and h_- gets dp r. Then
    dz_r = dr r (1 - r). In all h_- has four uses: dh_- = dh s + dp r + dz_r u_r^T + dz_s u_s^T. The parameters of r and
    s are those of dense layers that see x and h_-; u_n sees p in place of h_-.
    """
    (x, before, r, s, n), (dh,) = cache, cotangents
    u_r, u_s, u_n = np.split(params["u"], 3, axis=1)
    dz_s = dh * (before - n) * s * (1 - s)
    dz_n = dh * (1 - s) * (1 - n**2)
    dp = dz_n @ u_n.T
    dz_r = dp * before * r * (1 - r)
    d_before = dh * s + dp * r + dz_r @ u_r.T + dz_s @ u_s.T
    dz = np.concatenate([dz_r, dz_s, dz_n], axis=1)
    du = np.concatenate([before.T @ dz_r, before.T @ dz_s, (r * before).T @ dz_n], axis=1)
    gradients = {"w": x.T @ dz, "u": du, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (d_before,), gradients


def _lstm_step(layer, params, x, state):
    """i, f, o = sigma(z_i), sigma(z_f), sigma(z_o); g = tanh(z_g); c = f c_- + i g; h = o tanh(c).

    z = x w + h_- u + b, in the blocks i, f, g, o.
    """
    before, c_before = state
    z_i, z_f, z_g, z_o = np.split(x @ params["w"] + before @ params["u"] + params["b"], 4, axis=1)
    i, f, g, o = logistic(z_i), logistic(z_f), np.tanh(z_g), logistic(z_o)
    c = f * c_before + i * g
    return (o * np.tanh(c), c), (x, before, c_before, i, f, g, o, c)


def _lstm_step_backward(layer, params, cache, cotangents):
    """From h = o tanh(c): do = dh tanh(c), and c, which is also the next step's c_-, gets dc + dh o (1 - tanh(c)^2).

    From c = f c_- + i g with that dc: df = dc c_-, di = dc g, dg = dc i and dc_- = dc f: along the cell the cotangent
    is multiplied by the forget gate alone, and stays where that is near 1. Through the activations
    dz_i = di i (1 - i), f and o likewise, and dz_g = dg (1 - g^2); and z is that of a dense layer of x and h_-.
    """
    (x, before, c_before, i, f, g, o, c), (dh, dc) = cache, cotangents
    t = np.tanh(c)
    dc = dc + dh * o * (1 - t**2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c_before * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = dh * t * o * (1 - o)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
    gradients = {"w": x.T @ dz, "u": before.T @ dz, "b": dz.sum(axis=0)}
    return dz @ params["w"].T, (dz @ params["u"].T, dc * f), gradients


def _steps(layer, x):
    """The numbers of the steps, in the order in which they are taken."""
    order = range(x.shape[1])
    return list(reversed(order)) if layer.settings["reverse"] else list(order)


def _real(scope, x):
    """m (batch, time, 1): 1 for a real step."""
    m = np.ones(x.shape[:2]) if np.ndim(scope.mask) != 2 else np.asarray(scope.mask, np.float64)
    return m[:, :, None]


def _through_time(step, step_backward, parts):
    """The rule of a layer that takes a state of so many parts through a sequence; the first part is the output h."""

    def forward(layer, scope, x):
        """state_t = m_t step(x_t, state_(t-1)) + (1 - m_t) state_(t-1), from zeros; backward needs all caches."""
        m, units = _real(scope, x), len(scope.params["u"])
        state = (np.zeros((len(x), units)),) * parts
        h, caches = np.zeros((*x.shape[:2], units)), {}
        for t in _steps(layer, x):
            after, caches[t] = step(layer, scope.params, x[:, t], state)
            state = tuple(m[:, t] * new + (1 - m[:, t]) * old for new, old in zip(after, state, strict=True))
            h[:, t] = state[0]
        return h if layer.settings["sequence"] else state[0], (x, m, caches)

    def backward(layer, scope, cache, g):
        """From the last step taken to the first.

        The cotangent of state_t is what comes from step t + 1, plus g_t for its output; m_t of it goes through the cell
        and 1 - m_t past it. Without `sequence` the only output is the last state.
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
            through = [m[:, t] * d for d in cotangents]
            dx[:, t], before, of_step = step_backward(layer, scope.params, caches[t], through)
            cotangents = [new + (1 - m[:, t]) * d for new, d in zip(before, cotangents, strict=True)]
            gradients = {name: total + of_step[name] for name, total in gradients.items()}
        return dx, gradients

    return Rule(forward, backward)


rnn = _through_time(_rnn_step, _rnn_step_backward, 1)

gru = _through_time(_gru_step, _gru_step_backward, 1)

lstm = _through_time(_lstm_step, _lstm_step_backward, 2)
