"""The settings of fit: what it starts from, what it minimizes and records, and what it refuses."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.data.stream import Stream
from fnet.metrics import Metric
from fnet.train import EarlyStopping, Epoch, Examples, Segment, fit, init_state, segments


def regression(rng, n=11):
    x = rng.standard_normal((n, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


NET = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(1))


def first_error(outputs, targets):
    return jnp.abs(outputs - targets)[:, 0]


def test_examples_may_be_tuples_or_records(rng):
    x, y = regression(rng)
    mask, weight = rng.permutation(11) < 8, rng.uniform(0.5, 2.0, 11).astype(np.float32)
    settings = {"epochs": 2, "batch_size": 4}
    for data, equal in (
        ((x, y), [Examples(x, y), [x.tolist(), y.tolist()], Stream(x, y)]),
        ((x, y, mask), [Examples(x, y, mask), Stream(x, y, mask)]),
        (Examples(x, y, weight=weight), [Stream(x, y, weight=weight)]),
    ):
        expected = fit(NET, "mse", optax.adam(0.1), data, validation=data, **settings)
        for other in equal:
            fitted = fit(NET, "mse", optax.adam(0.1), other, validation=other, **settings)
            assert same(fitted.params, expected.params)
            assert [epoch.values for epoch in fitted.history] == [epoch.values for epoch in expected.history]
    weighted = fit(NET, "mse", optax.adam(0.1), (x, y), weights=weight.tolist(), **settings)
    assert same(weighted.params, expected.params)
    assert weighted.history[0].values["train_loss"] == expected.history[0].values["train_loss"]


def test_weights_weigh_the_batches_of_an_epoch(rng):
    """With a learning rate of 0, the training loss is the weighted mean over all examples, also over short batches."""
    x, y = regression(rng)
    weight = rng.uniform(0.0, 3.0, 11)
    data = Examples(x, y, weight=weight)
    fitted = fit(NET, "mse", optax.sgd(0.0), data, validation=data, epochs=1, batch_size=4)
    outputs, _ = NET.apply(fitted.params, {}, x, train=False)
    expected = np.average(np.square(outputs - y)[:, 0], weights=weight)
    for part in ("train", "validation"):
        assert fitted.history[0].values[f"{part}_loss"] == pytest.approx(expected, rel=1e-5)


def test_training_begins_with_given_parameters_and_state(rng):
    x, y = regression(rng)
    net = fnet.serial(fnet.dense(3), fnet.batch_norm(), fnet.dense(1))
    params, state = net.init(jax.random.key(9), (2,))
    state = jax.tree.map(lambda leaf: leaf + 1.0, state)
    fitted = fit(net, "mse", optax.sgd(0.0), (x, y), epochs=1, batch_size="all", params=params, state=state)
    assert same(fitted.params, params)
    x1 = x @ params["dense_1"]["w"]
    np.testing.assert_allclose(fitted.state["batch_norm_1"]["mean"], 0.9 + 0.1 * x1.mean(axis=0), rtol=1e-4)
    momentum = fit(net, "mse", optax.sgd(0.1, momentum=0.9), (x, y), epochs=1, params=params)
    assert same(momentum.params, fit(net, "mse", optax.sgd(0.1, momentum=0.9), (x, y), epochs=1, params=params).params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda params: {"dense_1": params["dense_1"]},
            "params: it misses the entry 'dense_2/b', which the network has; pass parameters of this network, such as "
            "those of net.init",
        ),
        (
            lambda params: {**params, "dense_3": {"w": np.ones((1, 1))}},
            "params: it has the entry 'dense_3/w', which the network does not have; pass parameters of this network, "
            "such as those of net.init",
        ),
        (
            lambda params: {"dense_1": params["dense_2"], "dense_2": params["dense_1"]},
            "params: 'dense_1/b' has the shape (1,), but the network's has the shape (3,); pass parameters of this "
            "network, such as those of net.init",
        ),
    ],
    ids=["missing", "foreign", "swapped"],
)
def test_parameters_of_another_network_are_refused(rng, change, message):
    params, _ = NET.init(jax.random.key(0), (2,))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(NET, "mse", optax.sgd(0.1), regression(rng), params=change(params))


def test_a_state_that_lost_an_entry_is_refused(rng):
    net = fnet.serial(fnet.dense(3), fnet.batch_norm(), fnet.dense(1))
    message = "state: it misses the entry 'batch_norm_1/mean', which the network has; pass the state of this network"
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(net, "mse", optax.sgd(0.1), regression(rng), state={})
    lost = init_state(net, optax.sgd(0.1), jax.random.key(0), (2,))._replace(state={})
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(net, "mse", optax.sgd(0.1), regression(rng), start=lost)


def test_further_metrics_are_recorded(rng):
    """A function receives the outputs, a Metric what it asks for."""
    data = (rng.standard_normal((12, 2)).astype(np.float32), np.arange(12) % 3)
    net = fnet.serial(fnet.dense(3))

    def top2(outputs, targets):
        return jnp.any(jnp.argsort(outputs, axis=-1)[:, -2:] == targets[:, None], axis=-1)

    second = Metric("", lambda predictions, targets: predictions == 1, None)
    fitted = fit(
        net, "cross_entropy", optax.sgd(0.0), data, validation=data, epochs=1, batch_size=5,
        metrics={"top2": top2, "second": second},
    )  # fmt: skip
    logits = np.asarray(data[0] @ fitted.params["dense_1"]["w"])
    expected = np.mean([target in np.argsort(row)[-2:] for row, target in zip(logits, data[1], strict=True)])
    for part in ("train", "validation"):
        values = fitted.history[0].values
        assert values[f"{part}_top2"] == pytest.approx(expected, rel=1e-6)
        assert values[f"{part}_second"] == pytest.approx(np.mean(logits.argmax(axis=1) == 1), rel=1e-6)
    with pytest.raises(ValueError, match="a loss and its metrics need different names, got loss, accuracy, accuracy"):
        fit(net, "cross_entropy", optax.sgd(0.0), data, metrics={"accuracy": top2})


def test_events_carry_the_training_state_and_the_history_does_not(rng, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_SECONDS", 0.0)
    x, y = regression(rng)
    events = []
    fitted = fit(NET, "mse", optax.sgd(0.1), (x, y), epochs=2, batch_size=4, on_event=events.append)
    for event in events:
        done = event.step if isinstance(event, Epoch) else event.first_step + len(event.metrics.loss)
        assert int(event.train_state.step) == done
    assert [isinstance(event, Segment) for event in events].count(True) == 6
    assert same(events[-1].train_state, fitted.train_state)
    before = [event for event in events if isinstance(event, Segment)][1].train_state
    rest = fit(NET, "mse", optax.sgd(0.1), (x, y), epochs=2, batch_size=4, start=before)
    assert same(rest.params, fitted.params)
    assert all(epoch.train_state is None for epoch in fitted.history)


def test_the_moving_average_of_the_parameters(rng):
    """It begins as the initial parameters, is scored in validation, is returned, and continues after a resumption."""
    x, y = regression(rng)
    after = []

    def note(event):
        if isinstance(event, Epoch):
            after.append(event.train_state)

    settings = {"batch_size": "all", "ema": 0.8, "validation": (x, y)}
    params, _ = NET.init(jax.random.key(5), (2,))
    fitted = fit(NET, "mse", optax.sgd(0.1), (x, y), epochs=4, params=params, on_event=note, **settings)
    expected = params
    for train_state in after:
        expected = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * new, expected, train_state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), fitted.params, expected)
    assert not same(fitted.params, fitted.train_state.params)
    plain = fit(NET, "mse", optax.sgd(0.1), (x, y), epochs=4, params=params, batch_size="all")
    assert same(fitted.train_state.params, plain.params)
    outputs, _ = NET.apply(fitted.params, {}, x, train=False)
    assert fitted.history[-1].values["validation_loss"] == pytest.approx(float(np.mean((outputs - y) ** 2)), rel=1e-5)
    rest = fit(NET, "mse", optax.sgd(0.1), (x, y), epochs=4, start=after[1], **settings)
    assert same(rest.params, fitted.params)
    stopped = fit(
        NET,
        "mse",
        optax.sgd(0.0),
        (x, y),
        epochs=4,
        early_stopping=EarlyStopping(patience=1),
        params=params,
        **settings,
    )
    assert stopped.kept_epoch == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), stopped.params, params)


@pytest.mark.parametrize("ema", [0.0, 1.0, -0.1])
def test_a_decay_out_of_bounds_is_refused(rng, ema):
    with pytest.raises(ValueError, match=f"^ema: expected a number between 0 and 1, such as 0.999, got {ema:g}$"):
        fit(NET, "mse", optax.sgd(0.1), regression(rng), ema=ema)


def custom_objective(params, state, batch, key):
    """The maximum over the batch of the squared error, which is not a mean over examples."""
    outputs, state = NET.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
    errors = jnp.where(batch.mask, (outputs - batch.y)[:, 0] ** 2, 0)
    return jnp.max(errors), (state, {"spread": jnp.max(errors) - jnp.min(errors)})


def test_an_objective_of_a_whole_batch(rng):
    x, y = regression(rng, 8)
    params, _ = NET.init(jax.random.key(2), (2,))
    fitted = fit(
        NET, None, optax.sgd(0.1), (x, y), objective=custom_objective, epochs=1, batch_size="all", params=params
    )

    def maximum(params):
        return jnp.max((NET.apply(params, {}, x, train=False)[0] - y) ** 2)

    value, gradient = jax.value_and_grad(maximum)(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), fitted.params, expected)
    assert fitted.history[0].values["train_loss"] == pytest.approx(float(value), rel=1e-5)
    assert set(fitted.history[0].values) == {"train_loss", "train_spread"}


def test_an_objective_with_a_loss_for_validation(rng):
    x, y = regression(rng, 8)
    fitted = fit(
        NET, "mse", optax.sgd(0.1), (x, y), objective=custom_objective, validation=(x, y), epochs=2, batch_size=3,
        metrics={"first": first_error}, early_stopping=EarlyStopping("train_spread", mode="min"),
    )  # fmt: skip
    assert set(fitted.history[0].values) == {
        "train_loss", "train_spread", "validation_loss", "validation_rmse", "validation_mean_absolute_error",
        "validation_r2", "validation_first",
    }  # fmt: skip


def test_the_objective_of_the_library_is_an_objective(rng):
    """It makes the same steps as the loss that it is made of, also with a penalty."""
    x, y = regression(rng)
    penalties = fnet.Penalties(l2=0.1)
    own = fnet.train.objective(NET, "mse", regularization=penalties)
    first = fit(NET, None, optax.sgd(0.1), (x, y), objective=own, epochs=2, batch_size=4)
    second = fit(NET, "mse", optax.sgd(0.1), (x, y), regularization=penalties, epochs=2, batch_size=4)
    assert same(first.params, second.params)
    assert first.history[1].values["train_loss"] == second.history[1].values["train_loss"]


def test_an_objective_is_not_combined_with_what_it_excludes(rng):
    x, y = regression(rng)
    for settings, message in (
        ({"loss": None}, "expected a loss, such as 'mse', or an objective, got None for both"),
        (
            {"loss": None, "objective": custom_objective, "validation": (x, y)},
            "validation examples are scored by a loss, but only an objective is given; pass a loss as well, such as "
            "'mse'",
        ),
        (
            {"loss": None, "objective": custom_objective, "metrics": {"first": first_error}},
            "metrics are scored by a loss, but only an objective is given; pass a loss as well, such as 'mse'",
        ),
        (
            {"loss": None, "objective": custom_objective, "regularization": fnet.Penalties(l2=0.1)},
            "l1 and l2 penalties apply to a loss, but an objective is given; add them to the objective",
        ),
    ):
        loss = settings.pop("loss")
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            fit(NET, loss, optax.sgd(0.1), (x, y), **settings)


@pytest.mark.parametrize(("mode", "best"), [("min", np.argmin), ("max", np.argmax)])
def test_the_mode_of_early_stopping_wins_over_the_metric(rng, mode, best):
    """A learning rate that turns negative first improves and then worsens the loss."""
    x, y = regression(rng, 20)
    for monitor in ("validation_first", "validation_loss"):
        fitted = fit(
            fnet.serial(fnet.dense(1)), "mse", optax.sgd(lambda step: jnp.where(step < 4, 0.1, -0.05)), (x, y),
            validation=(x, y), epochs=7, batch_size="all", metrics={"first": first_error},
            early_stopping=EarlyStopping(monitor, 15, mode=mode),
        )  # fmt: skip
        values = [epoch.values[monitor] for epoch in fitted.history]
        assert fitted.kept_epoch == int(best(values)) + 1


def test_a_value_of_unknown_direction_needs_a_mode(rng):
    message = (
        "early stopping monitors 'train_first', of which it is unknown whether a lower or a higher value is better; "
        "pass mode='min' or mode='max'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(
            NET, "mse", optax.sgd(0.1), regression(rng), metrics={"first": first_error},
            early_stopping=EarlyStopping("train_first"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, or 'all', got 0"),
        ({"batch_size": -3}, "batch_size: expected a whole number of at least 1, or 'all', got -3"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number of at least 1, or 'all', got 2.5"),
        ({"epochs": 0}, "epochs: expected a whole number of at least 1, got 0"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"optimizer": "adam"}, "optimizer: expected an Optax transformation, got 'adam'; pass optax.adam(1e-3)"),
        (
            {"optimizer": types.SimpleNamespace(init=3)},
            "optimizer: expected an Optax transformation, got namespace(init=3); pass optax.adam(1e-3)",
        ),
        ({"optimizer": 0.1}, "optimizer: expected an Optax transformation, got 0.1; pass optax.adam(1e-3)"),
        (
            {"train": (np.ones((3, 2)),) * 4},
            "train: expected examples and targets (x, y), or (x, y, mask), fnet.train.Examples or a Stream, "
            "got 4 values",
        ),
        (
            {"validation": np.ones((3, 2))},
            "train: expected examples and targets (x, y), or (x, y, mask), fnet.train.Examples or a Stream, "
            "got ndarray",
        ),
        (
            {"weights": np.ones(3), "train": Examples(np.ones((3, 2)), np.ones((3, 1)), weight=np.ones(3))},
            "the training examples have weights, and weights= is given too; pass one of them",
        ),
        (
            {"params": {}, "start": init_state(NET, optax.sgd(0.1), jax.random.key(0), (2,))},
            "start= already contains parameters and a state; pass either start=, or params= and state=",
        ),
        (
            {"train": (np.ones((3, 2)), np.ones((3, 1)), np.zeros(3, bool))},
            "the mask is all False, so that no example counts; True stands for a real example",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(rng, settings, message):
    message = message.replace("train:", "validation:") if "validation" in settings else message
    given = {"optimizer": optax.sgd(0.1), "train": regression(rng), **settings}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(NET, "mse", given.pop("optimizer"), given.pop("train"), **given)


TRACED = (
    "fnet.train.fit, evaluation and gradient checks run on the host and cannot be traced, but an argument or a setting "
    "is a traced value; call them outside jax.jit, jax.vmap and jax.grad, or use fnet.train.make_step, which can be "
    "traced"
)


@pytest.mark.parametrize(
    "settings",
    [
        lambda value: {"regularization": fnet.Penalties(l2=value)},
        lambda value: {"regularization": fnet.Penalties(max_norm=value)},
        lambda value: {"ema": value / 2},
        lambda value: {"weights": value * np.ones(11)},
        lambda value: {"params": jax.tree.map(lambda leaf: value * leaf, NET.init(jax.random.key(0), (2,))[0])},
        lambda value: {"loss": functools.partial(fnet.losses.huber, delta=value)},
        lambda value: {"optimizer": optax.adam(value)},
        lambda value: {"net": fnet.serial(fnet.dropout(value / 2), fnet.dense(1))},
    ],
    ids=["penalty", "max_norm", "ema", "weights", "params", "loss", "learning rate", "layer"],
)
def test_training_cannot_be_traced(rng, settings):
    def trained(value):
        given = {"net": NET, "loss": "mse", "optimizer": optax.sgd(0.1), "train": regression(rng), **settings(value)}
        return jax.tree.leaves(fit(**given, epochs=1).params)

    for transform in (lambda f: jax.vmap(f)(jnp.array([0.1, 0.2])), lambda f: jax.jit(f)(0.1)):
        with pytest.raises(ValueError, match=f"^{re.escape(TRACED)}(\n|$)"):
            transform(trained)


def test_numpy_integers_are_lengths(rng):
    fitted = fit(NET, "mse", optax.sgd(0.1), regression(rng), epochs=np.int64(2), batch_size=np.int32(4))
    assert int(fitted.train_state.step) == 6


def test_a_label_of_weight_zero_may_be_missing(rng):
    x, y = rng.standard_normal((4, 2)).astype(np.float32), np.array([0, 1, -1, 1])
    net = fnet.serial(fnet.dense(2))
    for data in ((x, y, y >= 0), Examples(x, y, weight=(y >= 0).astype(float))):
        fitted = fit(net, "cross_entropy", optax.sgd(0.1), data, validation=data, epochs=1, batch_size=3)
        assert np.isfinite(list(fitted.history[0].values.values())).all()
    with pytest.raises(ValueError, match="the label of example 2 is -1, but the network has 2 outputs"):
        fit(net, "cross_entropy", optax.sgd(0.1), (x, y, np.ones(4, bool)))


def test_an_average_is_not_dropped_in_silence(rng):
    data = regression(rng)
    first = fit(NET, "mse", optax.sgd(0.1), data, epochs=1, ema=0.9)
    with pytest.raises(ValueError, match=r"start= has a moving average of the parameters; pass the decay"):
        fit(NET, "mse", optax.sgd(0.1), data, epochs=2, start=first.train_state)
