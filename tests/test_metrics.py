"""Metrics that are not means of one number per example, compared with scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import fnet
from fnet.data.stream import Stream
from fnet.metrics import REGRESSION_METRICS, Metric, in_unit
from fnet.train.early_stopping import EarlyStopping
from fnet.train.evaluate import make_score
from fnet.train.loop import fit
from fnet.train.score import value_of
from fnet.train.state import Batch, Examples

SCIKIT_LEARN = {"rmse": root_mean_squared_error, "mean_absolute_error": mean_absolute_error, "r2": r2_score}


def values_of(predictions, targets, metrics=REGRESSION_METRICS):
    """Return the metrics over all examples at once."""
    terms = {metric.name: metric.function(predictions, targets) for metric in metrics}
    sums = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).sum(axis=0), terms)
    return {metric.name: float(value_of(metric, sums[metric.name], len(targets))) for metric in metrics}


def expected(predictions, targets, weight=None):
    """Return the metrics by scikit-learn."""
    return {name: f(targets, predictions, sample_weight=weight) for name, f in SCIKIT_LEARN.items()}


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_are_those_of_scikit_learn(rng, outputs):
    """Of several outputs with different units, the values are averaged."""
    targets = rng.standard_normal((40, outputs)) * 10.0 ** np.arange(outputs) + np.arange(outputs)
    predictions = targets + rng.standard_normal((40, outputs)) * 0.4
    with jax.enable_x64(True):
        assert values_of(predictions, targets) == pytest.approx(expected(predictions, targets), rel=1e-12)


def test_the_outputs_of_all_positions_count_alike(rng):
    targets, predictions = rng.standard_normal((2, 5, 4, 2))
    with jax.enable_x64(True):
        values = values_of(predictions, targets)
    assert values == pytest.approx(expected(predictions.reshape(-1, 2), targets.reshape(-1, 2)), rel=1e-12)


@pytest.mark.parametrize(("predictions", "value"), [([3.0, 3.0, 3.0], 1.0), ([3.0, 3.0, 4.0], 0.0)])
@pytest.mark.filterwarnings("error")
def test_r2_of_a_constant_target_is_that_of_scikit_learn(predictions, value):
    predictions, targets = np.array(predictions)[:, None], np.full((3, 1), 3.0)
    assert values_of(predictions, targets)["r2"] == r2_score(targets, predictions) == value


def test_standardized_targets_have_metrics_in_the_original_unit(rng):
    """In float32, with an offset that leaves R^2 of the original targets no correct digit."""
    targets = np.array([3e7, 5.0]) + rng.standard_normal((200, 2)) * [4, 0.1]
    predictions = targets + rng.standard_normal((200, 2)) * [1, 0.02]
    offset, scale = targets.mean(axis=0), targets.std(axis=0)
    small = [((part - offset) / scale).astype(np.float32) for part in (predictions, targets)]
    metrics = in_unit(REGRESSION_METRICS, scale=scale)
    assert values_of(*small, metrics) == pytest.approx(expected(predictions, targets), rel=1e-5)


def test_a_center_keeps_the_digits_of_targets_far_from_0(rng):
    targets = (2000 + rng.standard_normal((300, 1))).astype(np.float32)
    predictions = targets + 0.3 * rng.standard_normal((300, 1)).astype(np.float32)
    metrics = in_unit(REGRESSION_METRICS, center=np.array([2001.0]))
    assert values_of(predictions, targets, metrics)["r2"] == pytest.approx(r2_score(targets, predictions), rel=1e-5)


def data_of(rng, size=11):
    x = rng.standard_normal((size, 3)).astype(np.float32)
    y = (x @ rng.standard_normal((3, 2)) + [1, -2] + rng.standard_normal((size, 2))).astype(np.float32)
    return x, y, rng.integers(0, 4, size).astype(np.float32)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_values_of_an_epoch_are_those_of_the_whole_part(rng, streamed):
    """Neither is a mean over batches, of which the last is short; the learning rate is close to 0."""
    x, y, weight = data_of(rng)
    weight[0] = 2
    net = fnet.serial(fnet.dense(2))
    data = Stream(x, y, weight=weight) if streamed else Examples(x, y, weight=weight)
    fitted = fit(net, "mse", optax.sgd(1e-12), data, validation=data, epochs=2, batch_size=4)
    outputs = np.asarray(net.apply(fitted.params, fitted.state, x, train=False)[0])
    of_part = expected(outputs, y, weight)
    for part in ("train", "validation"):
        recorded = {name: fitted.history[1].values[f"{part}_{name}"] for name in SCIKIT_LEARN}
        assert recorded == pytest.approx(of_part, rel=1e-5)
    score = make_score(net, fnet.losses.LOSSES["huber"])(fitted.params, fitted.state, data)
    assert score.metrics == pytest.approx(of_part, rel=1e-5)


def test_steps_of_sequences_are_masked(rng):
    net = fnet.serial(fnet.dense(2))
    x, y = rng.standard_normal((3, 5, 4)).astype(np.float32), rng.standard_normal((3, 5, 2)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [2], [1]])
    y[~mask] = np.nan
    params, state = net.init(jax.random.key(1), (5, 4))
    score = make_score(net, fnet.losses.LOSSES["mse"])(params, state, Examples(x, y, mask=mask))
    outputs = np.asarray(net.apply(params, state, x, train=False)[0])
    assert score.metrics == pytest.approx(expected(outputs[mask], y[mask]), rel=1e-5)


def test_a_step_reports_the_metrics_of_its_batch(rng):
    x, y, _ = data_of(rng)
    net = fnet.serial(fnet.dense(2))
    evaluate = fnet.train.objective(net, "mse")
    params, state = net.init(jax.random.key(0), (3,))
    _, (_, metrics) = jax.jit(evaluate)(params, state, Batch(x, y, np.ones(len(x), bool)), jax.random.key(0))
    outputs = np.asarray(net.apply(params, state, x, train=False)[0])
    assert {name: float(value) for name, value in metrics.metrics.items()} == pytest.approx(
        expected(outputs, y), rel=1e-5
    )


def test_sums_over_many_steps_lose_no_small_terms(rng):
    """A sum of 20,000 numbers in float32 that is merely added up has a relative error of about 1e-4."""
    y = np.full((20_000, 1), 0.1, np.float32)
    y[0] = 3000
    net = fnet.serial(fnet.dense(1, bias=False))
    fitted = fit(net, "huber", optax.sgd(0.0), (np.zeros((20_000, 1), np.float32), y), epochs=1, batch_size=1)
    exact = np.sqrt(np.mean(np.square(y.astype(np.float64))))
    assert fitted.history[0].values["train_rmse"] == pytest.approx(exact, rel=1e-7)


def test_early_stopping_monitors_r2(rng):
    """The learning rate turns negative after six epochs, so that R^2 falls."""
    x, y, _ = data_of(rng, 30)
    fitted = fit(
        fnet.serial(fnet.dense(2)), "mse", optax.sgd(lambda step: jnp.where(step < 6, 0.1, -0.05)), (x, y),
        validation=(x, y), epochs=12, batch_size="all", early_stopping=EarlyStopping("validation_r2", 12),
    )  # fmt: skip
    assert fitted.kept_epoch == 1 + int(np.argmax([epoch.values["validation_r2"] for epoch in fitted.history])) == 6


def test_a_metric_of_ones_own_is_a_function_of_several_means(rng):
    """The F1 score, as a ratio of means."""
    x = rng.standard_normal((50, 2)).astype(np.float32)
    y = (x[:, :1] + rng.standard_normal((50, 1)) > 0).astype(np.float32)
    f1 = Metric(
        "f1", lambda p, y: (p * y, p + y), higher_is_better=True, finish=lambda means: 2 * (means[0] / means[1]).sum()
    )
    fitted = fit(
        fnet.serial(fnet.dense(1)), "binary_cross_entropy", optax.sgd(1e-12), (x, y), metrics={"f1": f1}, epochs=1,
        batch_size=16, validation=(x, y),
    )  # fmt: skip
    from sklearn.metrics import f1_score

    outputs = np.asarray(fnet.serial(fnet.dense(1)).apply(fitted.params, {}, x, train=False)[0])
    values = fitted.history[0].values
    assert values["train_f1"] == pytest.approx(f1_score(y, outputs >= 0), rel=1e-6)
    assert values["validation_f1"] == values["train_f1"]
    assert "train_accuracy" in values


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            Metric("m", lambda p, y: (p - y)[:1], False, finish=lambda means: means.sum()),
            r"'m' with finish must have .*\(",
        ),
        (
            Metric("m", lambda p, y: p - y, False, finish=lambda means: means),
            r"'m': finish must return one number, .* \(1,\)",
        ),
    ],
)
def test_a_metric_with_other_shapes_is_refused(rng, metric, message):
    x = rng.standard_normal((4, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=message):
        fit(fnet.serial(fnet.dense(1)), "mse", optax.sgd(0.1), (x, x[:, :1]), metrics={"m": metric}, epochs=1)
