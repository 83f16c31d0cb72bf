"""The hand-written network, compared with numbers that were computed independently of JAX."""

import functools

import jax
import numpy as np
import pytest

import fnet
from fnet.reference.losses import huber
from fnet.reference.network import loss_and_gradients, penalty
from fnet.reference.rule import NoReference
from fnet.regularization import Penalties


def network(rng):
    net = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(3))
    params, _ = net.init(jax.random.key(0), (2,))
    return net, params, rng.standard_normal((5, 2)), rng.integers(0, 3, 5)


def test_masked_examples_have_no_effect(rng):
    net, params, x, y = network(rng)
    mask = np.array([True, False, True, True, False])
    masked = loss_and_gradients(net, params, x, y, "cross_entropy", mask=mask)
    alone = loss_and_gradients(net, params, x[mask], y[mask], "cross_entropy")
    assert masked.loss == pytest.approx(alone.loss, rel=1e-14)
    np.testing.assert_allclose(masked.params["dense_1"]["w"], alone.params["dense_1"]["w"], rtol=1e-12)
    assert not masked.x[~mask].any()


def test_the_content_of_masked_examples_and_steps_has_no_effect(rng):
    """All steps of the last example are masked; the vector of an example contains all of its steps."""
    net = fnet.serial(fnet.flatten(), fnet.dense(2))
    params, _ = net.init(jax.random.key(0), (3, 2))
    x, y = rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 2))
    mask = np.array([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    zeros = np.where(mask[..., None], x, 0.0)
    expected = loss_and_gradients(net, params, zeros[:3], y[:3], "mse", weight=weight[:3])
    x[~mask], y[3] = np.nan, np.nan
    result = loss_and_gradients(net, params, x, y, "mse", mask=mask, weight=weight)
    assert result.loss == pytest.approx(expected.loss, rel=1e-14)
    np.testing.assert_allclose(result.params["dense_1"]["w"], expected.params["dense_1"]["w"], rtol=1e-13)
    np.testing.assert_allclose(result.x[:3], np.where(mask[:3, :, None], expected.x, 0.0), rtol=1e-13)
    assert not result.x[~mask].any()


def test_the_state_changes_in_training_only(rng):
    """With momentum 0.75, a quarter of the new mean is the mean of the batch."""
    net = fnet.serial(fnet.batch_norm(momentum=0.75))
    params, _ = net.init(jax.random.key(0), (2,))
    state = {"batch_norm_1": {"mean": np.array([3.0, -1.0]), "var": np.array([2.0, 0.5])}}
    x = rng.standard_normal((5, 2))
    trained, evaluated = (
        loss_and_gradients(net, params, x, 2 * x, "mse", state=state, train=train).state for train in (True, False)
    )
    np.testing.assert_allclose(
        trained["batch_norm_1"]["mean"], 0.75 * np.array([3.0, -1.0]) + 0.25 * x.mean(axis=0), rtol=1e-12
    )
    for name, value in state["batch_norm_1"].items():
        np.testing.assert_array_equal(evaluated["batch_norm_1"][name], value)


def test_gradient_of_the_mean_is_the_mean_of_the_gradients(rng):
    net, params, x, y = network(rng)
    whole = loss_and_gradients(net, params, x, y, "cross_entropy")
    each = [loss_and_gradients(net, params, x[i : i + 1], y[i : i + 1], "cross_entropy") for i in range(5)]
    mean = np.mean([result.params["dense_2"]["w"] for result in each], axis=0)
    np.testing.assert_allclose(whole.params["dense_2"]["w"], mean, rtol=1e-12)


def test_penalty_by_hand():
    params = {"dense_1": {"w": np.array([[3.0, -4.0, 0.0]]), "b": np.array([100.0])}}
    value, gradients = penalty(params, Penalties(l1=1.0, l2=2.0, max_norm=0.1))
    assert value == 7 + 25
    assert gradients["dense_1"]["w"].tolist() == [[1 + 6, -1 - 8, 0]]
    assert set(gradients["dense_1"]) == {"w"}


def test_penalty_of_each_layer_by_hand():
    """w = -2 everywhere. The longest matching path applies, separately for l1 and l2; 0 removes a penalty."""
    params = {"w": np.array([[-2.0]]), "b": np.array([100.0])}
    params = {"dense_1": params, "dense_10": params, "block": {"dense_1": params, "dense_2": params}}
    layers = {"dense_1": {"l1": 3.0}, "block": {"l2": 5.0}, "block/dense_2": {"l1": 7.0, "l2": 0.0}}
    value, gradients = penalty(params, Penalties(l1=1.0, l2=1.0, layers=layers))
    assert value == (3 * 2 + 2) + (1 * 2 + 2) + (1 * 2 + 5 * 2) + 7 * 2
    assert gradients["dense_1"]["w"].tolist() == [[-3 - 2]]
    assert gradients["dense_10"]["w"].tolist() == [[-1 - 2]]
    assert gradients["block"]["dense_1"]["w"].tolist() == [[-1 - 5 * 2]]
    assert gradients["block"]["dense_2"]["w"].tolist() == [[-7]]


def test_the_penalty_is_part_of_the_loss_and_of_its_gradient(rng):
    net, params, x, y = network(rng)
    free = loss_and_gradients(net, params, x, y, "cross_entropy")
    result = loss_and_gradients(
        net, params, x, y, "cross_entropy", regularization=Penalties(layers={"dense_2": {"l2": 0.5}})
    )
    w = np.asarray(params["dense_2"]["w"], np.float64)
    assert result.loss == pytest.approx(free.loss + 0.25 * np.sum(w**2), rel=1e-12)
    np.testing.assert_allclose(result.params["dense_2"]["w"], free.params["dense_2"]["w"] + 0.5 * w, rtol=1e-12)
    np.testing.assert_array_equal(result.params["dense_1"]["w"], free.params["dense_1"]["w"])
    np.testing.assert_array_equal(result.params["dense_2"]["b"], free.params["dense_2"]["b"])


def test_a_loss_may_be_a_function_with_settings(rng):
    """For one affine unit with an error far greater than delta, dL/dw = delta sign(e) x."""
    net = fnet.serial(fnet.dense(1))
    params = {"dense_1": {"w": np.array([[1.0], [2.0]]), "b": np.zeros(1)}}
    x, y = np.array([[3.0, -1.0]]), np.array([[11.0]])
    result = loss_and_gradients(net, params, x, y, functools.partial(huber, delta=2.0))
    assert result.loss == 2 * (10 - 1)
    assert result.params["dense_1"]["w"].tolist() == [[-6.0], [2.0]]
    with pytest.raises(NoReference, match="no hand-written derivative exists for the loss 'mine'"):
        loss_and_gradients(net, params, x, y, "mine")


def test_it_computes_in_float64(rng):
    net, params, x, y = network(rng)
    result = loss_and_gradients(net, params, x.astype(np.float32), y, "cross_entropy")
    assert result.outputs.dtype == result.x.dtype == np.float64
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(result.params))
