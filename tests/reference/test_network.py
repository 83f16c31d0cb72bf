"""The hand-written network against numbers worked out independently of JAX."""

import jax
import numpy as np
import pytest

import fnet
from fnet.reference.network import loss_and_gradients, penalty


def network(rng):
    net = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(3))
    params, _ = net.init(jax.random.key(0), (2,))
    return net, params, rng.standard_normal((5, 2)), rng.integers(0, 3, 5)


def test_masked_examples_do_not_count(rng):
    net, params, x, y = network(rng)
    mask = np.array([True, False, True, True, False])
    masked = loss_and_gradients(net, params, x, y, "cross_entropy", mask=mask)
    alone = loss_and_gradients(net, params, x[mask], y[mask], "cross_entropy")
    assert masked.loss == pytest.approx(alone.loss, rel=1e-14)
    np.testing.assert_allclose(masked.params["dense_1"]["w"], alone.params["dense_1"]["w"], rtol=1e-12)
    assert not masked.x[~mask].any()


def test_gradient_of_the_mean_is_the_mean_of_the_gradients(rng):
    net, params, x, y = network(rng)
    whole = loss_and_gradients(net, params, x, y, "cross_entropy")
    each = [loss_and_gradients(net, params, x[i : i + 1], y[i : i + 1], "cross_entropy") for i in range(5)]
    mean = np.mean([result.params["dense_2"]["w"] for result in each], axis=0)
    np.testing.assert_allclose(whole.params["dense_2"]["w"], mean, rtol=1e-12)


def test_penalty_by_hand():
    params = {"dense_1": {"w": np.array([[3.0, -4.0, 0.0]]), "b": np.array([100.0])}}
    value, gradients = penalty(params, l1=1.0, l2=2.0)
    assert value == 7 + 25
    assert gradients["dense_1"]["w"].tolist() == [[1 + 6, -1 - 8, 0]]
    assert set(gradients["dense_1"]) == {"w"}


def test_it_computes_in_float64(rng):
    net, params, x, y = network(rng)
    result = loss_and_gradients(net, params, x.astype(np.float32), y, "cross_entropy")
    assert result.outputs.dtype == result.x.dtype == np.float64
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(result.params))
