"""Evaluate parameters on the data of an experiment."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnet.data.normalize import Normalizer
from fnet.data.pipeline import Splits
from fnet.runs import files
from fnet.runs.data import load_data, reported_loss
from fnet.runs.experiment import Experiment
from fnet.runs.remarks import Comparison, compare
from fnet.train.evaluate import make_score, outputs_of, values_of

Scores = dict[str, dict[str, float]]
"""Loss and metrics by the name of the part: {"train": {"loss": 0.1, "accuracy": 0.97}, ...}."""


class Evaluation(NamedTuple):
    """The scores of every part of the data, and the predictions of one part.

    scores: loss and metrics of every part.
    sizes: number of examples of every part.
    part: the part that the predictions are for: test, or the last one that has examples.
    predictions: the predictions for that part; values in their original unit.
    labels: the targets of that part, likewise.
    fingerprint: fingerprint of the data.
    comparison: baselines on that part, fitted to the training part, and remarks; None for a custom loss.
    """

    scores: Scores
    sizes: dict[str, int]
    part: str
    predictions: np.ndarray
    labels: np.ndarray
    fingerprint: str
    comparison: Comparison | None

    def of_file(self) -> "Evaluation":
        """Return the evaluation of other data, which were read as one part, under the name `file`.

        It has no baselines, because these are fitted to a training part.
        """
        scores, sizes = {"file": self.scores[self.part]}, {"file": self.sizes[self.part]}
        return self._replace(scores=scores, sizes=sizes, part="file", comparison=None)


def evaluate(
    experiment: Experiment,
    params: Any,
    state: Any,
    normalizer: Normalizer | None = None,
    target_normalizer: Normalizer | None = None,
) -> Evaluation:
    """Score parameters on the data of an experiment.

    Args:
        experiment: the experiment.
        params, state: of its network.
        normalizer, target_normalizer: those that the network was trained with, as for `load_data`.

    Raises:
        DataError: when the data cannot be used.
    """
    splits, fingerprint = load_data(experiment, normalizer, target_normalizer)
    part, data = list(splits.parts().items())[-1]
    outputs = outputs_of(experiment.net, params, state, data.x)
    predictions = np.asarray(experiment.loss.predict(jnp.asarray(outputs)))
    labels = np.asarray(data.y).reshape(predictions.shape)
    if experiment.spec.targets.kind == "values":
        predictions, labels = map(splits.target_normalizer.inverse, (predictions, labels))
    elif experiment.spec.targets.kind == "labels":
        predictions, labels = predictions.astype(int), labels.astype(int)
    else:
        predictions, labels = predictions.reshape(-1).astype(int), labels.reshape(-1).astype(int)
    scores = scores_of(experiment, params, state, splits)
    compared = None if experiment.spec.targets.shape else outputs
    comparison = compare(experiment, reported_loss(experiment, splits), splits, scores, compared)
    return Evaluation(scores, sizes_of(splits), part, predictions, labels, fingerprint, comparison)


def change_since_training(run: str, fingerprint: str, *, size: int, trained_size: int) -> str | None:
    """Return in words how the data of a run have changed since training; None if they have not, or it is unknown.

    Args:
        run: folder of the run, whose environment.json contains the fingerprint of the data.
        fingerprint: fingerprint of the current data.
        size: number of examples of the current data.
        trained_size: number of examples that the data had.
    """
    try:
        recorded = json.loads(files.read(Path(run) / "environment.json"))["data"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if recorded == fingerprint or not isinstance(recorded, str):
        return None
    what = "the number of examples is the same" if size == trained_size else f"{size:,} examples, then {trained_size:,}"
    return f"the data have changed since training: {what}; the fingerprint differs"


def scores_of(experiment: Experiment, params: Any, state: Any, splits: Splits[Any]) -> Scores:
    """Return the loss and the metrics of the parameters on every part of the data, in the original unit of values."""
    score = make_score(experiment.net, reported_loss(experiment, splits))
    return {part: values_of(score(params, state, data)) for part, data in splits.parts().items()}


def sizes_of(splits: Splits[Any]) -> dict[str, int]:
    """Return the number of examples of every part that has examples."""
    return {part: data.size for part, data in splits.parts().items()}
