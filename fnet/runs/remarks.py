"""Remarks on the result of a run: how it compares with its baselines, and what to try where it falls short."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fnet.core.wording import format_score, format_value
from fnet.data.pipeline import Splits
from fnet.losses import Loss, mse
from fnet.metrics import ACCURACY, Metric
from fnet.runs.baseline import Baseline, baselines
from fnet.runs.experiment import Experiment
from fnet.train.class_weights import CLASS_LOSSES, class_counts, class_names

MAX_REMARKS = 3
"""Maximum number of remarks."""

IMBALANCED = 0.7
"""Fraction of the majority class of the scored part above which balanced accuracy is shown."""

MARGIN = 0.05
"""Difference of accuracy and balanced accuracy above which class weights are named."""

FEW_EXAMPLES = 50
"""Number of scored examples below which a remark says what one of them is worth."""

BALANCED_ACCURACY = ACCURACY._replace(name="balanced_accuracy")
"""The mean recall of the classes, by which networks with class weights are compared."""

Scores = Mapping[str, Mapping[str, float]]


class Comparison(NamedTuple):
    """The result of a run compared with its baselines on one part of the data: test, else the last one with examples.

    part: name of the part.
    measure: the metric that is shown; the loss for sequences of targets, several values, and values without `mse`.
    baselines: the baselines with their scores.
    skipped: why there is no linear model for a table; else empty.
    balanced_accuracy: mean recall of the network over the classes that occur in the part, if accuracy says little.
    remarks: at most three facts, each with a way out.
    """

    part: str
    measure: Metric
    baselines: tuple[Baseline, ...]
    skipped: str = ""
    balanced_accuracy: float | None = None
    remarks: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the comparison as data that JSON can represent."""
        scores = {baseline.name: baseline.scores for baseline in self.baselines}
        balanced = {} if self.balanced_accuracy is None else {"balanced_accuracy": self.balanced_accuracy}
        return {"part": self.part, "baselines": scores, **balanced, "remarks": list(self.remarks)}


def compare(experiment: Experiment, loss: Loss, splits: Splits[Any], scores: Scores, outputs: Any) -> Comparison | None:
    """Compare the scores of a network with baselines; there are none for a custom loss.

    Networks and baselines are compared by accuracy, by balanced accuracy if the classes are weighted, and by the loss
    if the targets are values. The loss is also what is shown, unless it is the squared error of one value, which orders
    networks like its root: a mean over values in different units says nothing. A difference counts if it is greater
    than its standard error, which is that of the mean of the differences of all examples. For sequences of targets,
    whose outputs are too many to keep, every difference of the losses counts.

    Args:
        experiment: the experiment.
        loss: its loss, with the metrics of the run.
        splits: the parts of the data.
        scores: loss and metrics of the network on every part.
        outputs: its outputs for the last part with examples; None for sequences of targets.
    """
    if loss.targets not in ("classes", "labels", "values"):
        return None
    part, data = list(splits.parts().items())[-1]
    targets = experiment.spec.targets
    standardize = experiment.data.normalization == "none"
    weights = experiment.weights_of(splits.train)
    found, skipped = baselines(loss, experiment.spec, splits.train, data, standardize=standardize, weights=weights)
    is_root = targets.number == 1 and loss.function is mse
    shows_loss = outputs is None or (targets.kind == "values" and not is_root)
    measure = Metric("loss", loss.function, higher_is_better=False) if shows_loss else loss.metrics[0]
    if outputs is None:
        gains = [Gain(baseline.scores["loss"] - scores[part]["loss"], 0.0) for baseline in found]
        remarks = _Result(experiment, part, data.size, scores, measure).standing(found, gains)
        return Comparison(part, measure, found, skipped, None, remarks)
    y = np.asarray(data.y)
    own, *others = (_values(loss, values, y, targets.kind) for values in (outputs, *(b.outputs for b in found)))
    share = np.full(len(y), 1 / len(y))
    balanced, imbalance = None, ()
    if targets.kind == "classes":
        labels = y.reshape(-1).astype(int)
        recalls = recalls_of(own, labels, targets.number)
        if experiment.class_weights is not None:
            counts = np.bincount(labels, minlength=targets.number)
            share = (1 / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
            measure = BALANCED_ACCURACY
            scores = {**scores, part: {**scores[part], measure.name: float(share @ own)}}
            found = tuple(
                baseline._replace(scores={**baseline.scores, measure.name: float(share @ other)})
                for baseline, other in zip(found, others, strict=True)
            )
        result = _Result(experiment, part, data.size, scores, measure)
        balanced, imbalance = result.imbalance(recalls, labels, class_counts(splits.train.y, targets.number))
    gains = [gain(own - other, share) for other in others]
    linear = gain(others[1] - others[0], share) if len(others) > 1 else None
    result = _Result(experiment, part, data.size, scores, measure)
    remarks = (*result.standing(found, gains, linear, gain(own, share).error), *imbalance, *result.few())
    return Comparison(part, measure, found, skipped, balanced, remarks[:MAX_REMARKS])


class Gain(NamedTuple):
    """By how much predictions are better than others: the mean over the examples, and its standard error."""

    mean: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether the difference is greater than its standard error, beyond rounding."""
        return abs(self.mean) > (1 + 1e-9) * self.error


def gain(differences: np.ndarray, share: np.ndarray) -> Gain:
    """Return the weighted mean of differences (n,) and its standard error, for shares (n,) that sum to 1.

    With equal shares, the squared error is the variance of the differences (with n - 1) divided by n. A single example
    that makes the difference does not count: its gain 1/n is the standard error.

    >>> gain(np.array([1.0, 0.0, 0.0, 0.0]), np.full(4, 0.25))
    Gain(mean=0.25, error=0.25)
    """
    n, mean = len(differences), float((share * differences).sum())
    squares = float((np.square(share) * np.square(differences - mean)).sum())
    return Gain(mean, math.sqrt(squares * n / (n - 1)) if n > 1 else math.inf)


def recalls_of(correct: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the fraction of the examples of every class that are predicted correctly; NaN for a class without any.

    >>> recalls_of(np.array([1, 0, 1]), np.array([0, 0, 2]), 3).tolist()
    [0.5, nan, 1.0]
    """
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts, np.bincount(labels, correct, classes) / np.maximum(counts, 1), np.nan)


def _values(loss: Loss, outputs: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    """Return a value per example that is better if higher: the accuracy, or for values the negative loss."""
    if kind == "values":
        return -np.asarray(jax.jit(loss.function)(outputs, y), np.float64)
    predictions = np.asarray(jax.jit(loss.predict)(outputs))
    return (predictions == y.reshape(predictions.shape)).reshape(len(y), -1).mean(axis=1)


class _Result(NamedTuple):
    """The scores that remarks are about.

    experiment: the experiment.
    part: name of the scored part.
    size: number of its examples.
    scores: loss and metrics of the network on every part.
    measure: the metric that is shown.
    """

    experiment: Experiment
    part: str
    size: int
    scores: Scores
    measure: Metric

    def standing(
        self, found: Sequence[Baseline], gains: Sequence[Gain], linear: Gain | None = None, error: float = 0.0
    ) -> tuple[str, ...]:
        """Return a remark if the network is no better than the constant baseline, or worse than the linear model.

        Args:
            found: the baselines.
            gains: gain of the network over each.
            linear: gain of the linear model over the constant baseline, if there is one.
            error: standard error of the network's score.
        """
        if gains[0].mean <= 0 or not gains[0].counts:
            index, relation = 0, "no better than"
        elif gains[-1].mean < 0 and gains[-1].counts:
            index, relation = len(gains) - 1, "worse than"
        else:
            return ()
        reference, own = found[index], self._shown(self.scores[self.part])
        fact = f"the network ({own}) is {relation} {reference.text} ({self._shown(reference.scores)})"
        within = " within a standard error" if not index and gains[0].mean > 0 else ""
        useless = not index and linear is not None and linear.mean <= 0
        also = f", nor is {found[-1].text}: check the features and the target" if useless else ""
        return (f"{fact} on the {self.part} part{within}{also}; {self._advice(reference, error)}",)

    def imbalance(
        self, recalls: np.ndarray, labels: np.ndarray, training: np.ndarray
    ) -> tuple[float | None, tuple[str, ...]]:
        """Return the balanced accuracy if accuracy says little, and a remark if the rare classes are predicted badly.

        Args:
            recalls: recall of every class in the scored part, NaN for a class without examples.
            labels: its labels.
            training: number of training examples of every class.
        """
        rare = training < training.max() / 2
        missed = np.flatnonzero((recalls == 0) & rare)
        majority = np.bincount(labels).max() / len(labels)
        if majority <= IMBALANCED and not len(missed):
            return None, ()
        balanced, accuracy = float(np.nanmean(recalls)), float(self.scores[self.part]["accuracy"])
        if not len(missed) and accuracy - balanced <= MARGIN:
            return balanced, ()
        targets = self.experiment.spec.targets
        names = class_names(targets.number, targets.names)
        listed = ", ".join(format_value(names[label]) for label in missed[:3]) + (", ..." if len(missed) > 3 else "")
        fact = f"accuracy hides rare classes on the {self.part} part: balanced accuracy is {balanced:.1%}"
        fact += f", and no example of {listed} is recognized" if len(missed) else ""
        if self.experiment.class_weights is not None:
            return balanced, (f"{fact}; more examples of the rare classes would help",)
        name = self.experiment.loss_settings["name"]
        name = name if name in CLASS_LOSSES else "binary_cross_entropy"
        return balanced, (f"{fact}; try loss: {{name: {name}, class_weights: balanced}}",)

    def few(self) -> tuple[str, ...]:
        """Return a remark on what one example is worth, if there are few."""
        if self.size >= FEW_EXAMPLES:
            return ()
        kind = self.experiment.spec.targets.kind
        worth = (
            f"{1 / self.size:.1%} of every mean" if kind == "values" else f"{100 / self.size:.1f} points of accuracy"
        )
        examples = "1 example" if self.size == 1 else f"{self.size} examples"
        return (f"the {self.part} part has {examples}: one is {worth}; enlarge it with data.split",)

    def _advice(self, reference: Baseline, error: float) -> str:
        """Return what to try: against overfitting if the training part has better scores, else to fit it better.

        Args:
            reference: the baseline that is better, whose score the network must exceed at least on the training part.
            error: standard error of the network's score.
        """
        values = self.experiment.spec.targets.kind == "values" or self.measure.name == "loss"
        key, sign = ("loss", -1) if values else ("accuracy", 1)
        trained, scored = (sign * self.scores[part][key] for part in ("train", self.part))
        learned = self.experiment.class_weights is not None or trained > sign * reference.scores[key]
        overfits = trained - scored > error
        if learned and overfits:
            return (
                f"it is better on the training part ({self._trained()}), so it overfits: try fewer units, dropout, "
                "regularization.l2, train.early_stopping, or more examples"
            )
        steps = ["more train.epochs", "another optimizer.learning_rate", "more units"]
        if self.experiment.data.normalization == "none" and not self.experiment.spec.tokens:
            steps.insert(0, "data.normalize: standard")
        if self.experiment.spec.targets.kind == "values" and self.experiment.data.target_normalization == "none":
            steps.insert(0, "data.normalize_targets: standard")
        listed = f"{', '.join(steps[:-1])}, or {steps[-1]}"
        fact = "no better than that on the training part either" if overfits else "not much better on the training part"
        return f"it is {fact} ({self._trained()}): try {listed}"

    def _trained(self) -> str:
        scores = self.scores["train"]
        return self._shown(scores) if self.measure.name in scores else f"accuracy {scores['accuracy']:.1%}"

    def _shown(self, scores: Mapping[str, float]) -> str:
        return f"{self.measure.name.replace('_', ' ')} {format_score(scores[self.measure.name], self.measure.format)}"
