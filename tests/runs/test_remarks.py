"""Remarks on results, for networks whose outputs are constructed."""

import types

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from fnet.data.arrays import Arrays
from fnet.data.normalize import IDENTITY
from fnet.data.pipeline import Splits
from fnet.data.source import DatasetSpec, Targets
from fnet.losses import LOSSES
from fnet.metrics import ACCURACY
from fnet.report.tables import comparison_text
from fnet.runs.remarks import compare, gain, recalls_of
from fnet.train.class_weights import example_weights

NONE = Arrays(np.zeros((0, 1), np.float32), np.zeros(0, int))


def experiment_of(number, names=(), *, kind="classes", class_weights=None, normalization="standard"):
    """Return what remarks read of an experiment."""
    spec = DatasetSpec("t", (1,), Targets(kind, number, names), 0)
    return types.SimpleNamespace(
        spec=spec,
        data=types.SimpleNamespace(normalization=normalization, target_normalization="none"),
        class_weights=class_weights,
        loss_settings={"name": "cross_entropy"},
        weights_of=lambda train: class_weights and example_weights(train.y, class_weights, number, names),
    )


def remarks_of(y, predicted, *, train_accuracy=1.0, x=None, **settings):
    """Return the comparison of predictions of classes with baselines, on a test part that equals the training part."""
    y, predicted = np.asarray(y), np.asarray(predicted)
    number = int(y.max()) + 1
    x = np.zeros((len(y), 1), np.float32) if x is None else x
    splits = Splits(Arrays(x, y), NONE, Arrays(x, y), IDENTITY)
    scores = {"train": {"loss": 0.0, "accuracy": train_accuracy}}
    scores["test"] = {"loss": 0.0, "accuracy": float((y == predicted).mean())}
    names = tuple("abcdefg"[:number])
    outputs = 9 * np.eye(number, dtype=np.float32)[predicted]
    return compare(experiment_of(number, names, **settings), LOSSES["cross_entropy"], splits, scores, outputs)


HALF = np.arange(100) % 2


def test_the_standard_error_is_that_of_a_mean(rng):
    d = rng.standard_normal(30)
    mean, error = gain(d, np.full(30, 1 / 30))
    assert (mean, error) == (pytest.approx(d.mean()), pytest.approx(d.std(ddof=1) / np.sqrt(30)))


def test_a_good_network_has_no_remarks():
    found = remarks_of(HALF, HALF)
    assert (found.remarks, found.balanced_accuracy, found.part) == ((), None, "test")


def test_one_example_more_than_the_baseline_does_not_count():
    predicted = np.where(np.arange(100) == 1, 1, 0)
    (remark,) = remarks_of(HALF, predicted).remarks
    assert (
        "the network (accuracy 51.0%) is no better than always 'a' (accuracy 50.0%) on the test part within" in remark
    )


@pytest.mark.parametrize(
    ("train_accuracy", "advice"),
    [
        (0.99, "it is better on the training part (accuracy 99.0%), so it overfits: try fewer units, dropout"),
        (0.52, "it is not much better on the training part (accuracy 52.0%): try more train.epochs"),
    ],
)
def test_a_network_at_chance_overfits_or_underfits(train_accuracy, advice):
    (remark,) = remarks_of(HALF, np.zeros(100, int), train_accuracy=train_accuracy).remarks
    assert advice in remark
    assert "nor is logistic regression: check the features and the target" in remark


def test_normalization_is_the_first_advice_for_examples_without_it():
    (remark,) = remarks_of(HALF, 0 * HALF, train_accuracy=0.5, normalization="none").remarks
    assert "try data.normalize: standard, more train.epochs" in remark


def test_a_network_worse_than_the_linear_model():
    """The feature is the class, and the network is right in 80 of 100 cases."""
    predicted = np.where(np.arange(100) < 20, 1 - HALF, HALF)
    (remark,) = remarks_of(HALF, predicted, x=HALF[:, None].astype(np.float32)).remarks
    expected = (
        "the network (accuracy 80.0%) is worse than logistic regression (accuracy 100.0%) on the test part; it is"
    )
    assert remark.startswith(expected)


def test_rare_classes_that_are_never_predicted():
    y = np.where(np.arange(100) < 4, 1, 0)
    found = remarks_of(y, 0 * y)
    assert found.balanced_accuracy == balanced_accuracy_score(y, 0 * y) == 0.5
    assert found.remarks[1] == (
        "accuracy hides rare classes on the test part: balanced accuracy is 50.0%, and no example of 'b' is "
        "recognized; try loss: {name: cross_entropy, class_weights: balanced}"
    )


def test_a_majority_class_alone_is_not_a_remark():
    """Nine of ten examples are of one class; balanced accuracy is shown, and it is as high as accuracy."""
    y = (np.arange(100) % 10 == 0).astype(int)
    found = remarks_of(y, y)
    assert (found.balanced_accuracy, found.remarks) == (1.0, ())
    assert comparison_text(found).startswith("for comparison, accuracy on the test part: always 'a' 90.0%, ")
    assert comparison_text(found).endswith("; balanced accuracy of the network 100.0%")


def test_networks_with_class_weights_are_compared_by_balanced_accuracy():
    """The accuracy of 62% is below that of the majority class, 80%."""
    y = (np.arange(100) % 5 == 0).astype(int)
    predicted = np.where((y == 0) & (np.arange(100) < 48), 1, y)
    found = remarks_of(y, predicted, class_weights="balanced")
    assert found.measure == ACCURACY._replace(name="balanced_accuracy")
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, predicted))
    assert found.baselines[0].scores["balanced_accuracy"] == pytest.approx(0.5)
    assert not any("no better" in remark for remark in found.remarks)


def test_recalls_against_scikit_learn(rng):
    y, predicted = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    recalls = recalls_of((y == predicted).astype(float), y, 4)
    np.testing.assert_allclose(recalls[:3], recall_score(y, predicted, average=None))
    assert np.isnan(recalls[3])


def test_few_examples():
    assert remarks_of(HALF[:12], HALF[:12]).remarks == (
        "the test part has 12 examples: one is 8.3 points of accuracy; enlarge it with data.split",
    )


def test_values_that_are_no_better_than_their_mean(rng):
    y = rng.standard_normal((60, 1)).astype(np.float32)
    x = rng.standard_normal((60, 1)).astype(np.float32)
    splits = Splits(Arrays(x[:30], y[:30]), NONE, Arrays(x, y), IDENTITY)
    outputs = np.full_like(y, y[:30].mean())
    loss = float(np.square(outputs - y).mean())
    scores = {part: {"loss": loss, "rmse": loss**0.5} for part in ("train", "test")}
    found = compare(experiment_of(1, kind="values"), LOSSES["mse"], splits, scores, outputs)
    assert found.remarks[0].startswith(f"the network (rmse {loss**0.5:.4g}) is no better than the training mean (rmse")
    assert "it is not much better on the training part" in found.remarks[0]
    assert "try data.normalize_targets: standard, more train.epochs" in found.remarks[0]


def test_a_network_that_does_not_reach_the_linear_model_on_the_training_part_does_not_overfit():
    """The network is right in 80 of 100 cases, the linear model in 95."""
    predicted = np.where(np.arange(100) < 20, 1 - HALF, HALF)
    x = np.where(np.arange(100) < 5, 1 - HALF, HALF)[:, None].astype(np.float32)
    (remark,) = remarks_of(HALF, predicted, x=x, train_accuracy=0.97).remarks
    assert "it is better on the training part (accuracy 97.0%), so it overfits" in remark
    (remark,) = remarks_of(HALF, predicted, x=x, train_accuracy=0.9).remarks
    assert "it is no better than that on the training part either (accuracy 90.0%): try more train.epochs" in remark


def test_several_values_are_compared_by_their_loss():
    """The root mean squared error of the network is lower: that of the value in the larger unit dominates it."""
    y = np.stack([1000.0 * (-1.0) ** HALF, (-1.0) ** HALF], axis=1).astype(np.float32)
    outputs = y * np.array([0.1, -2], np.float32)
    splits = Splits(Arrays(y * 0, y / [1000, 1]), NONE, Arrays(y * 0, y / [1000, 1]), IDENTITY)
    loss = float(np.mean([0.9**2, 3**2]))
    scores = {part: {"loss": loss, "rmse": np.mean([900, 3])} for part in ("train", "test")}
    found = compare(experiment_of(2, kind="values"), LOSSES["mse"], splits, scores, outputs / [1000, 1])
    assert found.remarks[0].startswith("the network (loss 4.905) is no better than the training mean (loss 1) on the")
    assert comparison_text(found).startswith("for comparison, loss on the test part: the training mean 1, ")


def test_there_are_at_most_three_remarks_of_one_line():
    y = np.where(np.arange(20) < 2, 1, 0)
    found = remarks_of(y, 0 * y, train_accuracy=0.9)
    assert len(found.remarks) == 3
    assert len(comparison_text(found).splitlines()) == 4
