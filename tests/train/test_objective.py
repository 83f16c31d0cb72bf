"""Objectives: the result that they must return, their means over real examples, and data without targets."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.data.stream import Stream
from fnet.train import Batch, Examples, fit, init_state, make_step, weighted_mean

NET = fnet.serial(fnet.dense(2))


def examples(rng, n=5):
    return rng.standard_normal((n, 3)).astype(np.float32), rng.standard_normal((n, 2)).astype(np.float32)


def reconstruction(params, state, batch, key):
    outputs, state = NET.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
    return weighted_mean(jnp.sum(outputs**2, axis=1), batch), (state, {"first": weighted_mean(outputs[:, 0], batch)})


def step_with(result):
    """Take one step with an objective that returns result(loss, state)."""

    def objective(params, state, batch, key):
        return result(jnp.sum(params["dense_1"]["w"]), state)

    step = make_step(NET, None, optax.sgd(0.1), objective=objective)
    start = init_state(NET, optax.sgd(0.1), jax.random.key(0), (3,))
    return step(start, Batch(np.ones((2, 3)), None, np.ones(2, bool)))


RESULT = "objective: expected (loss, (state, metrics)), where metrics is a dict of scalars that may be empty, got "
NUMBER = "must be one number for the whole batch, got "
MEAN = "; take a mean, such as fnet.train.weighted_mean(values, batch)"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda loss, state: loss, f"{RESULT}a number"),
        (lambda loss, state: (loss, state), f"{RESULT}(a number, a dict)"),
        (lambda loss, state: (loss, {"a": loss, "b": loss}), f"{RESULT}(a number, a dict)"),
        (lambda loss, state: (loss, state, {}), f"{RESULT}(a number, a dict, a dict)"),
        (lambda loss, state: (loss, (state, None)), f"{RESULT}(a number, (a dict, None))"),
        (lambda loss, state: None, f"{RESULT}None"),
        (lambda loss, state: (loss * jnp.ones(2), (state, {})), f"objective: the loss {NUMBER}an array of shape (2,)"),
        (
            lambda loss, state: (loss, (state, {"mean": jnp.ones((2, 3))})),
            f"objective: the metric 'mean' {NUMBER}an array of shape (2, 3)",
        ),
        (lambda loss, state: (loss, (state, {"a": {"b": loss}})), f"objective: the metric 'a' {NUMBER}a dict"),
        *(
            (
                lambda loss, state, name=name: (loss, (state, {name: loss})),
                f"objective: '{name}' cannot be the name of a metric, because the step records its own {name}; rename "
                "the metric",
            )
            for name in ("loss", "penalty")
        ),
    ],
)
def test_other_results_of_an_objective_are_refused(result, message):
    end = MEAN if NUMBER in message else ""
    with pytest.raises(ValueError, match=f"^{re.escape(message + end)}(\n|$)"):
        step_with(result)


def test_metrics_are_numbers_of_any_kind():
    _, metrics = step_with(lambda loss, state: (loss, (state, {"a": 2, "b": np.float32(3), "c": loss})))
    assert metrics.metrics["a"] == 2
    assert metrics.metrics["c"] == metrics.loss
    _, metrics = step_with(lambda loss, state: [loss, [state, {}]])
    assert metrics.metrics == {}


def test_a_step_minimizes_either_a_loss_or_an_objective():
    message = "make_step: expected either a loss or an objective, got both; pass None as the loss, or drop objective="
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_step(NET, "mse", optax.sgd(0.1), objective=reconstruction)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
@pytest.mark.parametrize("mask_shape", [(4,), (4, 3)])
def test_the_weighted_mean_by_hand(rng, weighted, shape, mask_shape):
    values, mask = rng.standard_normal(shape), rng.permutation(mask_shape[0] * 3).reshape(4, 3) % 5 < 3
    mask = mask[:, 0] if mask_shape == (4,) else mask
    mask[1] = False
    weight = rng.uniform(0.5, 2.0, 4) if weighted else np.ones(4)
    values[1] = np.nan
    if shape == (4,) and mask_shape == (4, 3) and weighted:
        weight[1] = 0
    entries = [
        (weight[i] * mask[i, t], values[i, t])
        if shape == mask_shape == (4, 3)
        else (weight[i] * mask[i], values[i, t])
        if shape == (4, 3)
        else (weight[i] * np.any(mask[i]), values[i])
        for i in range(4)
        for t in range(3 if shape == (4, 3) else 1)
    ]
    real = [(w, v) for w, v in entries if w > 0]
    expected = sum(w * v for w, v in real) / sum(w for w, _ in real)
    batch = Batch(np.ones((4, 3, 2)), None, mask, weight if weighted else None)
    np.testing.assert_allclose(weighted_mean(values, batch), expected, rtol=1e-5)


def test_a_weighted_mean_of_weights_of_steps_and_of_nothing():
    """(2 * 1 + 3 * 4) / 5: the weight of a masked example does not count."""
    weight = np.array([[2.0, 3.0], [4.0, 5.0]])
    batch = Batch(np.ones((2, 2, 1)), None, np.array([True, False]), weight)
    assert float(weighted_mean(np.array([[1.0, 4.0], [np.nan, 7.0]]), batch)) == pytest.approx(2.8)
    nothing = Batch(np.ones((2, 1)), None, np.zeros(2, bool))
    assert float(weighted_mean(np.array([1.0, np.inf]), nothing)) == 0
    steps = batch._replace(mask=weight > 0, weight=None)
    for values, given, expected in (
        (np.ones(3), steps, "(2,) or (2, time), got the shape (3,)"),
        (np.ones((2, 3)), steps, "(2,) or (2, 2), got the shape (2, 3)"),
        (np.ones(()), nothing, "(2,) or (2, time), got the shape ()"),
        (np.ones(2), batch, "(2, 2), got the shape (2,)"),
    ):
        message = (
            f"weighted_mean: expected one number per example or step of the batch, of shape {expected}; take the mean "
            "over the other axes first"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            weighted_mean(values, given)


def test_the_weighted_mean_over_an_axis_is_a_share(rng):
    values, weight = rng.standard_normal(6), rng.uniform(0.0, 2.0, 6)
    mask = np.array([True, True, False, True, False, False])
    batch = Batch(np.ones((6, 1)), None, mask, weight)
    parts = jax.tree.map(lambda leaf: leaf.reshape(3, 2, *leaf.shape[1:]), batch)
    shares = jax.vmap(lambda v, part: weighted_mean(v, part, axis_name="d"), axis_name="d")(values.reshape(3, 2), parts)
    np.testing.assert_allclose(shares.sum(), weighted_mean(values, batch), rtol=1e-5)
    assert float(shares[2]) == 0


def test_padding_has_no_part_in_an_objective(rng):
    """The epoch has a short last batch: with a learning rate of 0 its mean is that of all examples."""
    x, _ = examples(rng)
    weight = rng.uniform(0.5, 2.0, 5)
    data = Examples(x, None, weight=weight)
    fitted = fit(NET, None, optax.sgd(0.0), data, objective=reconstruction, epochs=1, batch_size=3)
    outputs = x @ fitted.params["dense_1"]["w"]
    values = fitted.history[0].values
    assert values["train_loss"] == pytest.approx(np.average(np.sum(outputs**2, axis=1), weights=weight), rel=1e-5)
    assert values["train_first"] == pytest.approx(np.average(outputs[:, 0], weights=weight), rel=1e-4)


def test_the_weights_of_steps_weigh_the_batches_of_an_epoch(rng):
    """A mask of examples with weights of steps: the mean over the epoch is weighted by both."""
    net, x = fnet.serial(fnet.dense(1)), rng.standard_normal((5, 4, 2)).astype(np.float32)
    weight = rng.uniform(0.5, 2.0, (5, 4))

    def objective(params, state, batch, key):
        outputs, state = net.apply(params, state, batch.x, train=True)
        return weighted_mean(outputs[..., 0], batch), (state, {})

    data = Examples(x, None, weight=weight)
    fitted = fit(net, None, optax.sgd(0.0), data, objective=objective, epochs=1, batch_size=4)
    expected = np.average((x @ fitted.params["dense_1"]["w"])[..., 0], weights=weight)
    assert fitted.history[0].values["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_an_objective_may_do_without_targets(rng):
    x, y = examples(rng)
    settings = {"objective": reconstruction, "epochs": 2, "batch_size": 2}
    expected = fit(NET, None, optax.sgd(0.1), (x, y), **settings)
    for data in (Examples(x, None), (x, None), (x,), [x.tolist()], Stream(x, None)):
        fitted = fit(NET, None, optax.sgd(0.1), data, **settings)
        assert same(fitted.params, expected.params)
    scored = fit(NET, "mse", optax.sgd(0.1), (x,), validation=(x, y), **settings)
    assert same(scored.params, expected.params)
    assert scored.history[0].values["validation_loss"] > 0


def test_a_loss_needs_targets(rng):
    x, y = examples(rng)
    fix = "; pass (x, y), or minimize an objective without targets"
    for part, loss, settings in (
        ("train", "mse", {"train": (x,)}),
        ("train", "cross_entropy", {"train": Examples(x, None)}),
        ("validation", "mse", {"train": (x, y), "validation": (x, None)}),
        ("validation", "cross_entropy", {"train": (x,), "validation": (x,), "objective": reconstruction}),
    ):
        message = f"{part}: the loss compares outputs with targets, but the examples have none{fix}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            fit(NET, loss, optax.sgd(0.1), settings.pop("train"), **settings)
    start = init_state(NET, optax.sgd(0.1), jax.random.key(0), (3,))
    message = "the loss compares outputs with targets, but the batch has none; pass them as y, or minimize an objective"
    with pytest.raises(ValueError, match=f"^{re.escape(message)} without targets(\n|$)"):
        make_step(NET, "mse", optax.sgd(0.1))(start, Batch(x, None, np.ones(5, bool)))
