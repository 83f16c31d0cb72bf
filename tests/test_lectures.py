"""Worked examples of the lectures, reproduced."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.reference.network import backward, forward, loss_and_gradients
from fnet.reference.rule import Scope
from fnet.trace.functions import tanh
from fnet.trace.graph import constant, gradient, variable


def test_upstream_times_local_gradient():
    """Item 1: f = (x + y) z at x=-2, y=5, z=-4; q = x + y is a layer whose bias has dL/dq for its gradient."""
    net = fnet.graph(
        fnet.dense(1, name="q"),
        fnet.dense(1, name="z", bias=False),
        nodes={"q": ("q", "input"), "z": ("z", "input"), "f": ("multiply", "q", "z")},
    )
    params = {
        "q": {"w": np.array([[1.0], [1.0], [0.0]]), "b": np.zeros(1)},
        "z": {"w": np.array([[0.0], [0.0], [1.0]])},
    }
    point = np.array([[-2.0, 5.0, -4.0]])
    f, cache = forward(net, Scope(params), point)
    dx, gradients = backward(net, Scope(params), cache, np.ones((1, 1)))
    params_bar, x_bar = jax.grad(lambda p, x: net.apply(p, {}, x, train=False)[0].sum(), argnums=(0, 1))(
        jax.tree.map(lambda leaf: leaf.astype(np.float32), params), point.astype(np.float32)
    )
    assert f.item() == -12
    for point_gradient, q_gradient in ((dx, gradients["q"]["b"]), (x_bar, params_bar["q"]["b"])):
        assert point_gradient.tolist() == [[-4, -4, 3]]
        assert q_gradient.tolist() == [-4]


def test_two_linear_units_under_mse(rng):
    """Item 5: h = w1 x + b1, g = w2 h + b2; dL/d(w1,b1,w2,b2) = -(2/N) sum_i (e_i w2 x_i, e_i w2, e_i h_i, e_i)."""
    w1, b1, w2, b2 = 0.7, -0.2, 1.3, 0.4
    x, y = rng.standard_normal((6, 1)), rng.standard_normal((6, 1))
    h = w1 * x + b1
    e = y - (w2 * h + b2)
    expected = [float(-2 / 6 * np.sum(term)) for term in (e * w2 * x, e * w2, e * h, e)]
    net = fnet.serial(fnet.dense(1), fnet.dense(1))
    params = {
        "dense_1": {"w": np.array([[w1]]), "b": np.array([b1])},
        "dense_2": {"w": np.array([[w2]]), "b": np.array([b2])},
    }
    by_hand = loss_and_gradients(net, params, x, y, "mse").params
    with jax.enable_x64(True):
        by_jax = jax.grad(lambda p: fnet.losses.mse(net.apply(p, {}, x, train=True)[0], y).mean())(params)
    for gradients in (by_hand, by_jax):
        actual = [gradients[layer][leaf].item() for layer in ("dense_1", "dense_2") for leaf in ("w", "b")]
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_layer_recursion(rng):
    """Item 7: g^l = W^(l+1) (sigma'(z^(l+1)) * g^(l+1)), dL/dW^l = x^(l-1) (sigma'(z^l) * g^l)^T, dL/db^l likewise."""
    sizes = [3, 5, 4, 2]
    weights = [rng.standard_normal(shape) for shape in itertools.pairwise(sizes)]
    biases = [rng.standard_normal(size) for size in sizes[1:]]
    x, y = rng.standard_normal(3), rng.standard_normal(2)
    xs, slopes = [x], []
    for w, b in zip(weights, biases, strict=True):
        xs.append(np.tanh(w.T @ xs[-1] + b))
        slopes.append(1 - xs[-1] ** 2)
    g = 2 * (xs[-1] - y) / 2
    weight_gradients, bias_gradients = [], []
    for w, slope, x_before in zip(reversed(weights), reversed(slopes), reversed(xs[:-1]), strict=True):
        weight_gradients.append(np.outer(x_before, slope * g))
        bias_gradients.append(slope * g)
        g = w @ (slope * g)
    net = fnet.serial(*(layer for size in sizes[1:] for layer in (fnet.dense(size), fnet.tanh())))
    params = {f"dense_{i}": {"w": w, "b": b} for i, (w, b) in enumerate(zip(weights, biases, strict=True), 1)}
    result = loss_and_gradients(net, params, x[None], y[None], "mse")
    np.testing.assert_allclose(result.x[0], g, rtol=1e-12)
    for i, (w, b) in enumerate(zip(reversed(weight_gradients), reversed(bias_gradients), strict=True), 1):
        np.testing.assert_allclose(result.params[f"dense_{i}"]["w"], w, rtol=1e-12)
        np.testing.assert_allclose(result.params[f"dense_{i}"]["b"], b, rtol=1e-12)


def xor_by_hand(scale):
    """Return the outputs of item 9: OR and AND as scaled hidden units, then a1 AND NOT a2."""
    params = {
        "dense_1": {"w": scale * jnp.ones((2, 2)), "b": scale * jnp.array([-0.5, -1.5])},
        "dense_2": {"w": jnp.array([[1.0], [-1.0]]), "b": jnp.array([-0.5])},
    }
    net = fnet.serial(fnet.dense(2), fnet.sigmoid(), fnet.dense(1), fnet.sigmoid())
    x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return net.apply(params, {}, x, train=False)[0][:, 0]


def test_the_total_derivative_of_a_recurrence_built_unit_by_unit(rng):
    """Items 6 and 8: all steps share their weights, and every path through time contributes to their gradient.

    Two units read three steps, h_tj = tanh(sum_k x_tk w_kj + sum_i h_(t-1)i u_ij + b_j), each unit a separate node of
    the lectures' graph. The gradients of the graph, of the layer by hand, and of JAX are equal.
    """
    net = fnet.serial(fnet.rnn(2, sequence=False))
    x = rng.standard_normal((1, 3, 2))
    weights = {"w": rng.standard_normal((2, 2)), "u": rng.standard_normal((2, 2)), "b": rng.standard_normal(2)}
    variables = {(leaf, *index): variable(value) for leaf in weights for index, value in np.ndenumerate(weights[leaf])}
    h = [constant(0.0), constant(0.0)]
    for step in x[0]:
        z = [
            variables["b", j] + sum(step[k] * variables["w", k, j] + h[k] * variables["u", k, j] for k in range(2))
            for j in range(2)
        ]
        h = [tanh(node) for node in z]
    names, nodes = list(variables), list(variables.values())
    by_graph = dict(zip(names, map(float, gradient(3 * h[0] - h[1] ** 2, *nodes)), strict=True))

    params = {"rnn_1": weights}
    y, cache = forward(net, Scope(params), x)
    np.testing.assert_allclose(y[0], [float(node) for node in h], rtol=1e-14)
    _, by_hand = backward(net, Scope(params), cache, np.array([[3.0, -2 * y[0, 1]]]))
    with jax.enable_x64(True):
        by_jax = jax.grad(lambda p: (lambda h: 3 * h[0] - h[1] ** 2)(net.apply(p, {}, x, train=False)[0][0]))(params)
    for (leaf, *index), expected in by_graph.items():
        assert abs(expected) > 1e-3
        for gradients in (by_hand, by_jax):
            assert float(gradients["rnn_1"][leaf][tuple(index)]) == pytest.approx(expected, rel=1e-12)


def test_xor_with_hand_set_weights():
    assert [f"{a:.2f}" for a in xor_by_hand(1.0)] == ["0.42", "0.44", "0.44", "0.42"]
    assert (xor_by_hand(10.0) >= 0.5).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("scale", "is_xor"), [(2.19, False), (2.21, True)])
def test_xor_needs_a_scale_of_four_artanh_one_half(scale, is_xor):
    assert 2.19 < 4 * np.arctanh(0.5) < 2.21
    assert ((xor_by_hand(scale) >= 0.5).tolist() == [False, True, True, False]) is is_xor
