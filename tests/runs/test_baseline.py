"""Baselines, against scikit-learn's dummy and linear models."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from fnet.data.arrays import Arrays
from fnet.data.source import DatasetSpec, Targets
from fnet.losses import LOSSES
from fnet.runs import baseline
from fnet.runs.baseline import baselines
from fnet.runs.linear import logistic_regression, ridge_regression


def draw(rng, classes, n=60, features=4):
    """Return normalized examples and labels that depend on them, the first class more often than the others."""
    x = rng.standard_normal((n, features)).astype(np.float32)
    z = x @ rng.standard_normal((features, classes)) + rng.gumbel(size=(n, classes))
    z[:, 0] += 1
    return x, z.argmax(axis=1)


def spec_of(kind, number, names=(), shape=(4,), **settings):
    return DatasetSpec("t", shape, Targets(kind, number, names), 90, **settings)


@pytest.mark.parametrize(("loss", "classes"), [("cross_entropy", 3), ("cross_entropy", 2), ("binary_cross_entropy", 2)])
def test_classes(rng, loss, classes):
    x, y = draw(rng, classes, n=90)
    names = ("a", "b", "c")[:classes]
    column = (lambda y: y[:, None].astype(np.float32)) if loss == "binary_cross_entropy" else (lambda y: y)
    train, scored = Arrays(x[:60], column(y[:60])), Arrays(x[60:], column(y[60:]))
    (majority, linear), skipped = baselines(LOSSES[loss], spec_of("classes", classes, names), train, scored)
    assert (majority.text, linear.text, skipped) == (
        f"always '{names[np.bincount(y[:60]).argmax()]}'",
        "logistic regression",
        "",
    )
    models = (majority, DummyClassifier(strategy="prior")), (linear, LogisticRegression(tol=1e-8, max_iter=1000))
    for found, model in models:
        model.fit(x[:60], y[:60])
        assert found.scores["accuracy"] == pytest.approx(model.score(x[60:], y[60:]))
        assert found.scores["loss"] == pytest.approx(log_loss(y[60:], model.predict_proba(x[60:])), rel=1e-3)


def test_logistic_regression_takes_the_weights_of_the_examples(rng):
    x, y = draw(rng, 3)
    w = rng.uniform(0.1, 3, len(y))
    model = LogisticRegression(tol=1e-8, max_iter=1000).fit(x, y, w)
    weights, biases = logistic_regression(x.astype(float), np.eye(3)[y], "softmax", w)
    np.testing.assert_allclose(weights.T, model.coef_, atol=2e-3)
    np.testing.assert_allclose(biases - biases.mean(), model.intercept_ - model.intercept_.mean(), atol=2e-3)


def test_values(rng):
    x = rng.standard_normal((90, 4)).astype(np.float32)
    y = (x @ rng.standard_normal((4, 2)) + rng.standard_normal((90, 2))).astype(np.float32)
    train, scored = Arrays(x[:60], y[:60]), Arrays(x[60:], y[60:])
    (mean, linear), _ = baselines(LOSSES["mse"], spec_of("values", 2), train, scored)
    assert (mean.text, linear.text) == ("the training mean", "ridge regression")
    for found, model in (mean, DummyRegressor()), (linear, Ridge()):
        predictions = model.fit(x[:60], y[:60]).predict(x[60:])
        for name, metric in (
            ("rmse", root_mean_squared_error),
            ("mean_absolute_error", mean_absolute_error),
            ("r2", r2_score),
        ):
            assert found.scores[name] == pytest.approx(metric(y[60:], predictions), rel=1e-4)


def test_more_features_than_examples(rng):
    x, y = rng.standard_normal((10, 30)), rng.standard_normal((10, 1))
    weights, biases = ridge_regression(x, y)
    model = Ridge().fit(x, y)
    np.testing.assert_allclose(weights[:, 0], model.coef_.reshape(-1), rtol=1e-9)
    np.testing.assert_allclose(biases, model.intercept_, rtol=1e-9)


def test_independent_labels_have_a_model_each(rng):
    x = rng.standard_normal((90, 4)).astype(np.float32)
    y = (x @ rng.standard_normal((4, 3)) + rng.logistic(size=(90, 3)) > 0.5).astype(np.float32)
    train, scored = Arrays(x[:60], y[:60]), Arrays(x[60:], y[60:])
    (majority, linear), _ = baselines(LOSSES["binary_cross_entropy"], spec_of("labels", 3), train, scored)
    assert majority.text == "the majority of every label"
    for found, make in (majority, DummyClassifier), (linear, lambda: LogisticRegression(tol=1e-8)):
        predictions = np.stack([make().fit(x[:60], y[:60, k]).predict(x[60:]) for k in range(3)], axis=1)
        assert found.scores["accuracy"] == pytest.approx((predictions == y[60:]).mean())


def test_the_majority_with_a_margin():
    """The constant with the least hinge loss is 1 or -1, whose loss is twice the fraction of the minority."""
    y = np.array([0, 0, 0, 1], np.float32)[:, None]
    data = Arrays(np.zeros((4, 4), np.float32), y)
    found, _ = baselines(LOSSES["hinge"], spec_of("classes", 2, ("no", "yes")), data, data)
    assert (found[0].text, found[0].scores["loss"], found[0].scores["accuracy"]) == ("always 'no'", 0.5, 0.75)


def test_tokens_have_the_unigram_loss(rng):
    """The loss of the token frequencies on the training text itself is their entropy."""
    y = rng.choice(3, (6, 5), p=[0.6, 0.3, 0.1])
    spec = DatasetSpec("text", (5,), Targets("classes", 3, tuple("abc"), (5,)), 6, tokens=True, vocabulary="abc")
    found, _ = baselines(LOSSES["cross_entropy"], spec, Arrays(y, y), Arrays(y, y))
    p = np.bincount(y.reshape(-1), minlength=3) / y.size
    assert [baseline.name for baseline in found] == ["frequencies"]
    assert found[0].scores["loss"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
    assert found[0].scores["accuracy"] == pytest.approx(p.max())


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((4,), "no linear model, which takes long for 60 examples x 4 features x 3 outputs"), ((2, 2), "")],
)
def test_a_large_linear_model_is_skipped_and_a_table_says_so(rng, monkeypatch, shape, reason):
    monkeypatch.setattr(baseline, "MAX_PRODUCTS", 60 * 4 * 3 * baseline.PRODUCTS_PER_ENTRY - 1)
    x, y = draw(rng, 3)
    data = Arrays(x.reshape(-1, *shape), y)
    found, skipped = baselines(LOSSES["cross_entropy"], spec_of("classes", 3, shape=shape), data, data)
    assert ([found.name for found in found], skipped) == (["majority"], reason)


def test_examples_that_are_not_normalized_are_standardized(rng):
    x, y = draw(rng, 2)
    scales, data = np.float32([1e-3, 1e3, 1, 50]), Arrays(x, y)
    found, _ = baselines(LOSSES["cross_entropy"], spec_of("classes", 2), data, data, standardize=True)
    data = Arrays(x * scales + 7, y)
    other, _ = baselines(LOSSES["cross_entropy"], spec_of("classes", 2), data, data, standardize=True)
    assert other[1].scores["loss"] == pytest.approx(found[1].scores["loss"], rel=1e-3)
