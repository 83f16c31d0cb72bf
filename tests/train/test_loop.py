import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.losses import LOSSES
from fnet.metrics import MEAN_ABSOLUTE_ERROR, REGRESSION_METRICS, Metric
from fnet.train import Diverged, EarlyStopping, Epoch, Segment, fit, segments
from fnet.train.early_stopping import recorded_values
from fnet.train.evaluate import BATCH_SIZE, make_score, outputs_of
from fnet.train.feed import example_order
from fnet.train.interrupt import defer_interrupts


def regression(rng, n=11):
    x = rng.standard_normal((n, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


def test_public_names():
    names = "fit Fitted make_step TrainState Batch Examples init_state EarlyStopping objective Diverged"
    assert all(callable(getattr(fnet.train, name)) for name in names.split())


def identity_trainer():
    """Return a network and a loss that record the examples: with rate -1, w becomes the sum of the batch means."""
    net = fnet.serial(fnet.dense(1, bias=False, init="zeros"))
    return net, lambda outputs, targets: outputs[:, 0]


@pytest.mark.parametrize("batch_size", [1, 4, 5, "all", 1000])
def test_every_example_counts_once_per_epoch(batch_size):
    """With loss_i = w x_i, gradient descent with rate -1 sums the batch means."""
    net, loss = identity_trainer()
    x = 2.0 ** np.arange(11, dtype=np.float32)[:, None]
    seen = []

    def note(event):
        if isinstance(event, Segment):
            seen.append(event.examples)

    fitted = fit(net, loss, optax.sgd(-1.0), (x, x), epochs=1, batch_size=batch_size, on_event=note)
    order = example_order(0, 1, 11)
    size = 11 if batch_size in ("all", 1000) else batch_size
    expected = sum(x[order[start : start + size]].mean() for start in range(0, 11, size))
    assert fitted.params["dense_1"]["w"].item() == pytest.approx(expected, rel=1e-6)
    assert sum(seen) == 11


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_number_of_steps_may_end_within_an_epoch(steps):
    """Three steps per epoch over 11 numbers: w is the sum of the batch means of these steps, in order."""
    net, loss = identity_trainer()
    x = 2.0 ** np.arange(11, dtype=np.float32)[:, None]
    fitted = fit(net, loss, optax.sgd(-1.0), (x, x), steps=steps, batch_size=4)
    batches = [example_order(0, epoch, 11)[start : start + 4] for epoch in (1, 2) for start in (0, 4, 8)][:steps]
    assert fitted.params["dense_1"]["w"].item() == pytest.approx(sum(x[batch].mean() for batch in batches), rel=1e-6)
    assert fitted.history[-1].step == steps == int(fitted.train_state.step)
    last = batches[3:] or batches
    w, losses = sum(x[batch].mean() for batch in batches[: steps - len(last)]), []
    for batch in last:
        losses += [w * value for value in x[batch]]
        w += x[batch].mean()
    assert fitted.history[-1].values["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_order_depends_only_on_seed_and_epoch():
    orders = {(s, e): tuple(example_order(s, e, 20)) for s in (0, 1) for e in (1, 2)}
    assert len(set(orders.values())) == 4
    assert orders[1, 2] == tuple(example_order(1, 2, 20))


def test_the_training_loss_of_an_epoch_weighs_every_example_equally(rng):
    """With a learning rate close to 0, it is the loss over the whole training set, despite the short last batch."""
    x, y = regression(rng)
    net = fnet.serial(fnet.dense(1))
    fitted = fit(net, "mse", optax.sgd(1e-12), (x, y), epochs=1, batch_size=4)
    outputs, _ = net.apply(fitted.params, fitted.state, x, train=False)
    values = fitted.history[0].values
    assert values["train_loss"] == pytest.approx(float(np.mean((outputs - y) ** 2)), rel=1e-5)
    assert values["train_mean_absolute_error"] == pytest.approx(float(np.mean(np.abs(outputs - y))), rel=1e-5)


def test_linear_regression_finds_the_line(rng):
    x, y = regression(rng, 50)
    fitted = fit(fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.2), (x, y), epochs=200, batch_size="all")
    np.testing.assert_allclose(fitted.params["dense_1"]["w"], [[1.0], [-2.0]], atol=1e-4)
    np.testing.assert_allclose(fitted.params["dense_1"]["b"], [0.5], atol=1e-4)


def test_the_same_seed_gives_the_same_bits(rng):
    x, y = regression(rng)
    net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(1))

    def losses(seed):
        fitted = fit(net, "mse", optax.adam(0.01), (x, y), epochs=3, batch_size=4, seed=seed)
        return [epoch.values["train_loss"] for epoch in fitted.history]

    assert losses(3) == losses(3)
    assert losses(3) != losses(4)


def test_events_account_for_every_step(rng):
    x, y = regression(rng)
    events = []
    fit(
        fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), validation=(x, y), epochs=2, batch_size=4,
        on_event=events.append,
    )  # fmt: skip
    segments = [event for event in events if isinstance(event, Segment)]
    epochs = [event for event in events if isinstance(event, Epoch)]
    steps = [segment.first_step + i for segment in segments for i in range(len(segment.metrics.loss))]
    assert steps == list(range(6))
    assert {segment.total_steps for segment in segments} == {6}
    assert [epoch.step for epoch in epochs] == [3, 6]
    assert set(epochs[0].values) == {
        f"{part}_{name}" for part in ("train", "validation") for name in ("loss", "rmse", "mean_absolute_error", "r2")
    }


def test_early_stopping_keeps_the_best_epoch(rng):
    """After six epochs the rate turns negative and the loss rises: patience runs out, and epoch 6 is returned."""
    x, y = regression(rng, 20)
    fitted = fit(
        fnet.serial(fnet.dense(1)), "mse", optax.sgd(lambda step: jnp.where(step < 6, 0.1, -0.02)), (x, y),
        validation=(x, y), epochs=50, batch_size="all", early_stopping=EarlyStopping("validation_loss", 3),
    )  # fmt: skip
    losses = [epoch.values["validation_loss"] for epoch in fitted.history]
    assert fitted.stopped == "early"
    assert fitted.kept_epoch == int(np.argmin(losses)) + 1 == 6
    assert len(fitted.history) == fitted.kept_epoch + 3
    outputs, _ = fnet.serial(fnet.dense(1)).apply(fitted.params, fitted.state, x, train=False)
    assert float(np.mean((outputs - y) ** 2)) == pytest.approx(min(losses), rel=1e-5)


def test_accuracy_is_better_when_higher(rng):
    x = rng.standard_normal((40, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    fitted = fit(
        fnet.serial(fnet.dense(2)), "cross_entropy", optax.adam(0.1), (x, y), validation=(x, y), epochs=30,
        early_stopping=EarlyStopping("validation_accuracy", 20),
    )  # fmt: skip
    best = max(epoch.values["validation_accuracy"] for epoch in fitted.history)
    assert fitted.history[fitted.kept_epoch - 1].values["validation_accuracy"] == best > 0.9


GAIN = Metric("gain", lambda outputs, targets: -jnp.abs(outputs - targets)[:, 0], higher_is_better=True)
"""The negative of the mean absolute error; the names do not say which of the two should rise."""


@pytest.mark.parametrize("part", ["train", "validation"])
def test_every_metric_of_a_loss_is_recorded(rng, part):
    x, y = regression(rng)
    loss = LOSSES["mse"]._replace(metrics=(MEAN_ABSOLUTE_ERROR, GAIN))
    fitted = fit(fnet.serial(fnet.dense(1)), loss, optax.sgd(0.1), (x, y), validation=(x, y), epochs=2, batch_size=4)
    names = [f"{part}_{name}" for name in ("loss", "mean_absolute_error", "gain")]
    for epoch in fitted.history:
        assert [name for name in epoch.values if name.startswith(part)] == names
        assert epoch.values[names[1]] == pytest.approx(-epoch.values[names[2]])
    outputs, _ = fnet.serial(fnet.dense(1)).apply(fitted.params, {}, x, train=False)
    assert fitted.history[-1].values["validation_gain"] == pytest.approx(-np.abs(outputs - y).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("monitor", "best"),
    [
        ("validation_gain", np.argmax),
        ("validation_mean_absolute_error", np.argmin),
        ("train_loss", np.argmin),
        ("penalty", np.argmin),
    ],
)
def test_a_monitored_value_has_the_direction_of_its_metric(rng, monitor, best):
    """A learning rate that turns negative first improves and then worsens every value."""
    x, y = regression(rng, 20)
    fitted = fit(
        fnet.serial(fnet.dense(1)), LOSSES["mse"]._replace(metrics=(MEAN_ABSOLUTE_ERROR, GAIN)),
        optax.sgd(lambda step: jnp.where(step < 6, 0.1, -0.05)), (x, y), validation=(x, y), epochs=15,
        batch_size="all", regularization=fnet.Penalties(l2=0.01), early_stopping=EarlyStopping(monitor, 15),
    )  # fmt: skip
    values = [epoch.values[monitor] for epoch in fitted.history]
    assert fitted.kept_epoch == int(best(values)) + 1
    assert [epoch.epoch for epoch in fitted.history if epoch.improved][-1] == fitted.kept_epoch


def test_an_unknown_monitor_is_refused_before_training(rng):
    x, y = regression(rng)
    events = []
    recorded = "recorded: train_loss, train_rmse, train_mean_absolute_error, train_r2, penalty$"
    with pytest.raises(ValueError, match=f"monitors 'val_loss', which is not recorded; {recorded}"):
        fit(
            fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), early_stopping=EarlyStopping("val_loss", 3),
            regularization=fnet.Penalties(l2=0.1), on_event=events.append,
        )  # fmt: skip
    assert events == []


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_the_names_of_recorded_values_are_known_before_training(rng, penalty):
    x, y = regression(rng)
    for validation in (None, (x, y)):
        fitted = fit(
            fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), validation=validation, epochs=1,
            regularization=fnet.Penalties(l2=penalty),
        )  # fmt: skip
        recorded = recorded_values(REGRESSION_METRICS, validation=validation is not None, penalized=penalty > 0)
        assert set(recorded) == set(fitted.history[0].values)


@pytest.mark.parametrize("batch_size", [1, 4, "all"])
def test_divergence_carries_the_last_finite_parameters(rng, batch_size):
    x, y = regression(rng)
    net = fnet.serial(fnet.dense(1))
    with pytest.raises(Diverged, match=r"step \d+ \(epoch \d+\): .*the learning rate is probably too large") as caught:
        fit(net, "mse", optax.sgd(30.0), (x, y), epochs=200, batch_size=batch_size)
    good = caught.value.train_state
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(good.params))
    outputs, _ = net.apply(good.params, good.state, x, train=False)
    assert np.isfinite(fnet.losses.mse(outputs, y).mean())
    assert f"step {int(good.step) + 2} " in str(caught.value)


def test_a_state_that_overflows_is_reported(rng):
    """The variance of 1e25 is beyond float32, but the normalized batch is 0 and the loss is finite."""
    x, y = regression(rng)
    net = fnet.serial(fnet.batch_norm(), fnet.dense(1))
    with pytest.raises(Diverged, match="the loss, a parameter or the state became NaN or infinite") as caught:
        fit(net, "mse", optax.sgd(0.1), (1e25 * x, y), batch_size=4)
    good = caught.value.train_state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((good.params, good.state)))


def test_a_state_may_begin_infinite(rng):
    @fnet.constructor
    def running_min() -> fnet.Layer:
        """Keep the smallest number seen."""

        def init(key, in_shape):
            return {}, {"min": jnp.full((), jnp.inf)}

        def apply(params, state, x, *, train, key=None, mask=None):
            return x, {"min": jnp.minimum(state["min"], x.min())} if train else state

        return fnet.Layer("running_min", {}, lambda in_shape: in_shape, init, apply)

    x, y = regression(rng)
    fitted = fit(fnet.serial(running_min(), fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), epochs=1)
    assert float(fitted.state["running_min_1"]["min"]) == x.min()


def test_nan_in_the_first_loss_is_reported(rng):
    x, y = regression(rng)
    y[3] = np.nan
    with pytest.raises(Diverged, match=r"step 1 .*before any update; the data contains extreme values"):
        fit(fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), batch_size="all")


def test_interruption_returns_the_result_so_far(rng):
    x, y = regression(rng)

    def interrupt(event):
        if isinstance(event, Epoch) and event.epoch == 2:
            raise KeyboardInterrupt

    fitted = fit(fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, y), epochs=50, on_event=interrupt)
    assert fitted.stopped == "interrupted"
    assert len(fitted.history) == fitted.kept_epoch == 2
    assert int(fitted.train_state.step) == 2


def test_training_resumes_from_a_state(rng):
    """Two epochs, resumed to four, are bitwise equal to four at once."""
    x, y = regression(rng)
    net, optimizer = fnet.serial(fnet.dense(4), fnet.dropout(0.5), fnet.dense(1)), optax.adam(0.1)
    settings = {"batch_size": 8, "validation": (x, y)}
    first = fit(net, "mse", optimizer, (x, y), epochs=2, **settings)
    second = fit(net, "mse", optimizer, (x, y), epochs=4, start=first.train_state, **settings)
    whole = fit(net, "mse", optimizer, (x, y), epochs=4, **settings)
    assert [event.epoch for event in second.history] == [3, 4]
    assert [event.values for event in first.history + second.history] == [event.values for event in whole.history]
    assert same(second.train_state, whole.train_state)
    over = fit(net, "mse", optimizer, (x, y), epochs=4, start=whole.train_state, **settings)
    assert (over.history, over.kept_epoch, over.stopped) == ([], 4, "done")
    assert same(over.params, whole.params)


def test_training_resumes_within_an_epoch(rng, monkeypatch):
    """The state determines the position in the order of the examples: the rest of the epoch is the same."""
    monkeypatch.setattr(segments, "SEGMENT_SECONDS", 0.0)  # one step per segment
    x, y = regression(rng)
    net, optimizer = fnet.serial(fnet.dense(1)), optax.adam(0.1)

    def interrupt(event):
        if isinstance(event, Segment) and event.first_step == 4:
            raise KeyboardInterrupt

    half = fit(net, "mse", optimizer, (x, y), epochs=3, batch_size=4, on_event=interrupt)
    assert (half.stopped, half.kept_epoch, int(half.train_state.step)) == ("interrupted", 2, 5)
    rest = fit(net, "mse", optimizer, (x, y), epochs=3, batch_size=4, start=half.train_state)
    whole = fit(net, "mse", optimizer, (x, y), epochs=3, batch_size=4)
    assert same(rest.train_state, whole.train_state)
    assert [(event.epoch, event.step) for event in rest.history] == [(2, 6), (3, 9)]
    assert rest.history[1].values == whole.history[2].values


def test_resuming_a_completed_run_changes_nothing(rng):
    """The run ended within an epoch: no steps remain, so no epoch is recorded."""
    x, y = regression(rng)
    net, optimizer = fnet.serial(fnet.dense(1)), optax.adam(0.1)
    first = fit(net, "mse", optimizer, (x, y), steps=5, batch_size=4)
    over = fit(net, "mse", optimizer, (x, y), steps=5, batch_size=4, start=first.train_state)
    assert (over.history, over.kept_epoch, over.stopped) == ([], 2, "done")
    assert same(over.params, first.params)


def test_bad_data_is_refused_before_training(rng):
    net = fnet.serial(fnet.dense(2))
    with pytest.raises(ValueError, match="the label of example 1 is 2, but the network has 2 outputs"):
        fit(net, "cross_entropy", optax.sgd(0.1), (np.ones((3, 2)), np.array([0, 2, 1])))
    good = (np.ones((3, 2)), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="the label of example 0 is -1"):
        fit(net, "cross_entropy", optax.sgd(0.1), good, validation=(np.ones((1, 2)), np.array([-1])))
    with pytest.raises(ValueError, match="got 3 examples and 2 targets"):
        fit(net, "cross_entropy", optax.sgd(0.1), (np.ones((3, 2)), np.array([0, 1])))
    with pytest.raises(ValueError, match="got 0 examples and 0 targets"):
        fit(net, "cross_entropy", optax.sgd(0.1), (np.ones((0, 2)), np.array([], int)))


@pytest.mark.parametrize("size", [1, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 3])
def test_scores_count_every_example_once(rng, size):
    net = fnet.serial(fnet.dense(1))
    params, state = net.init(jax.random.key(0), (2,))
    x, y = regression(rng, size)
    score = make_score(net, fnet.losses.LOSSES["mse"])(params, state, (x, y))
    outputs = outputs_of(net, params, state, x)
    assert outputs.shape == (size, 1)
    np.testing.assert_allclose(outputs, net.apply(params, state, x, train=False)[0], rtol=1e-5, atol=1e-6)
    assert float(score.loss) == pytest.approx(float(np.mean((outputs - y) ** 2)), rel=1e-4)
    assert float(score.metrics["mean_absolute_error"]) == pytest.approx(float(np.mean(np.abs(outputs - y))), rel=1e-4)


def test_ctrl_c_works_as_before_after_training(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with defer_interrupts() as raise_if_pending:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise_if_pending()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
