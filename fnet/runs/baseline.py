"""Baselines of a run: predictions that a network should improve on, scored like the network itself."""

import math
from typing import Any, NamedTuple

import numpy as np

from fnet.core.wording import format_value
from fnet.data.arrays import Arrays
from fnet.data.normalize import Normalizer, fit
from fnet.data.source import DatasetSpec
from fnet.data.stream import Stream
from fnet.layers.combine import serial
from fnet.losses import Loss
from fnet.runs.linear import Linear, logistic_regression, ridge_regression
from fnet.train.class_weights import class_counts, class_names
from fnet.train.evaluate import make_score, values_of

MAX_PRODUCTS = 2e10
"""Maximum number of multiplications of a linear model, which takes a second or two."""

PRODUCTS_PER_ENTRY = 1000
"""Multiplications for every example, feature and output, for several in each iteration of logistic regression."""


class Baseline(NamedTuple):
    """A baseline and its scores.

    name: majority, mean, frequencies or linear.
    text: the same in words, such as "always 'setosa'".
    outputs: its outputs for the scored part, as those of a network (n, ...).
    scores: its loss and metrics on that part.
    """

    name: str
    text: str
    outputs: np.ndarray
    scores: dict[str, float]


def baselines(
    loss: Loss,
    spec: DatasetSpec,
    train: Arrays | Stream,
    scored: Arrays | Stream,
    *,
    standardize: bool = False,
    weights: Any = None,
) -> tuple[tuple[Baseline, ...], str]:
    """Return the baselines of a dataset, and the reason why there is no linear model for a table, if there is none.

    The first one is the same for every example: the class frequencies of the training part, which predict the majority
    class (`majority`; for a sequence of tokens `frequencies`), the frequencies of every label, or the mean of the
    values. The second, for real numbers with one target per example, is a linear model of the normalized examples:
    logistic regression for classes and labels, ridge regression for values.

    Args:
        loss: the loss, with the metrics of the run.
        spec: description of the dataset.
        train: the training part, normalized as for the network.
        scored: the part that the baselines are scored on.
        standardize: whether the linear model standardizes the examples, because they are not normalized.
        weights: weights of the training examples, for logistic regression.
    """
    score = make_score(serial(), loss)

    def scored_baseline(name: str, text: str, outputs: np.ndarray) -> Baseline:
        return Baseline(name, text, outputs, values_of(score({}, {}, Stream(outputs, scored.y))))

    name, text, constant = _constant(loss, spec, train.y)
    shape = (scored.size, *spec.targets.shape, len(constant))
    first = scored_baseline(name, text, np.broadcast_to(constant, shape))
    if spec.tokens or spec.targets.shape:
        return (first,), ""
    features, outputs = math.prod(spec.shape), len(constant)
    if _products(loss, train.size, features, outputs) > MAX_PRODUCTS:
        size = f"{train.size:,} examples x {features:,} features x {outputs:,} outputs"
        return (first,), f"no linear model, which takes long for {size}" if len(spec.shape) == 1 else ""
    normalizer = fit("standard" if standardize else "none", train.x)
    w, b = _linear_model(loss, spec, _flat(train.x, normalizer), np.asarray(train.y), weights)
    linear = (_flat(scored.x, normalizer) @ w + b).astype(np.float32)
    if loss.targets == "classes" and spec.targets.number == 2:
        linear = np.concatenate([np.zeros_like(linear), linear], axis=1)
    text = "ridge regression" if spec.targets.kind == "values" else "logistic regression"
    return (first, scored_baseline("linear", text, linear)), ""


def _constant(loss: Loss, spec: DatasetSpec, y: Any) -> tuple[str, str, np.ndarray]:
    """Return the name, the description and the outputs (outputs,) of the constant baseline.

    The frequency of a class that does not occur in the n training examples counts as 1 / (2 n), so that no loss is
    infinite.
    """
    n, names = len(y), class_names(spec.targets.number, spec.targets.names)
    if spec.targets.kind == "values":
        return "mean", "the training mean", _mean(y).astype(np.float32)
    if loss.targets == "classes":
        counts = class_counts(y, spec.targets.number)
        outputs = np.log(np.maximum(counts, 0.5) / counts.sum()).astype(np.float32)
        majority = format_value(names[int(np.argmax(counts))])
        if spec.targets.shape:
            return "frequencies", f"the frequencies of the {'tokens' if spec.is_language else 'classes'}", outputs
        return "majority", f"always {majority}", outputs
    p = np.clip(_mean(y), 0.5 / n, 1 - 0.5 / n)
    outputs = (np.log(p / (1 - p)) if loss.probabilities else np.where(p < 0.5, -1.0, 1.0)).astype(np.float32)
    if spec.targets.kind == "labels":
        return "majority", "the majority of every label", outputs
    return "majority", f"always {format_value(names[int(outputs[0] >= 0)])}", outputs


def _mean(y: Any) -> np.ndarray:
    return np.asarray(y, np.float64).mean(axis=0)


def _linear_model(loss: Loss, spec: DatasetSpec, x: np.ndarray, y: np.ndarray, weights: Any) -> Linear:
    weights = None if weights is None else np.asarray(weights)
    if spec.targets.kind == "values":
        return ridge_regression(x, y.astype(np.float64))
    if loss.targets == "labels":
        return logistic_regression(x, y.astype(np.float64), "sigmoid", weights)
    if spec.targets.number == 2:
        return logistic_regression(x, y[:, None].astype(np.float64), "sigmoid", weights)
    return logistic_regression(x, np.eye(spec.targets.number)[y], "softmax", weights)


def _flat(x: Any, normalizer: Normalizer) -> np.ndarray:
    """Return examples as rows of features in double precision."""
    return normalizer(np.asarray(x)).astype(np.float64).reshape(len(x), -1)


def _products(loss: Loss, n: int, features: int, outputs: int) -> float:
    """Return an upper bound of the multiplications of a linear model, to which its memory is proportional as well."""
    squares = min(n, features) if loss.targets == "values" else 0
    return n * features * (PRODUCTS_PER_ENTRY * outputs + squares)
