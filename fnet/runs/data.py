"""Load the data of an experiment."""

from typing import Any

import numpy as np

from fnet.data.normalize import Normalizer, fit
from fnet.data.pipeline import Splits, split_and_normalize
from fnet.losses import Loss
from fnet.metrics import in_unit
from fnet.runs.experiment import Experiment


def load_data(
    experiment: Experiment, normalizer: Normalizer | None = None, target_normalizer: Normalizer | None = None
) -> tuple[Splits[Any], str]:
    """Load, split and normalize the data of an experiment, with targets in the form that its loss expects.

    Args:
        experiment: the experiment.
        normalizer: the normalizer of its trained network, for data that may have changed since; by default one with the
            statistics of the training part.
        target_normalizer: the target normalizer of its trained network, likewise.

    Returns:
        The parts of the data, and the fingerprint of the dataset.

    Raises:
        DataError: when the data cannot be used.
    """
    data = experiment.data
    raw: Any = (data.source.stream if data.stream else data.source.read)(experiment.seed)
    splits = split_and_normalize(
        raw,
        data.spec,
        data.parts,
        data.normalization,
        seed=experiment.seed,
        order=data.order,
        normalizer=normalizer,
        target_normalization=data.target_normalization,
        target_normalizer=target_normalizer,
        rules=data.rules,
        keys=data.keys(),
    )
    if experiment.loss.targets == "labels" and experiment.spec.targets.kind == "classes":
        train, validation, test = (part.mapped(y=_as_column) for part in splits[:3])
        splits = splits._replace(train=train, validation=validation, test=test)
    return splits, data.source.fingerprint(raw)


def reported_loss(experiment: Experiment, splits: Splits[Any]) -> Loss:
    """Return the loss of an experiment with the metrics of regression in the original unit of the targets.

    The loss itself is that of the targets as they are trained on. A metric of the caller's own receives these as well.
    """
    loss = experiment.loss
    if experiment.spec.targets.kind != "values":
        return loss
    normalizer = splits.target_normalizer
    if not normalizer.is_identity:
        return loss._replace(metrics=in_unit(loss.metrics, scale=normalizer.scale.reshape(-1)))
    # R^2 in float32 is computed from targets near 0; where they are already, the program does not depend on their mean.
    center, scale = (part.reshape(-1, part.shape[-1]).mean(axis=0) for part in fit("standard", splits.train.y)[:2])
    far = np.abs(center) > scale
    return loss._replace(metrics=in_unit(loss.metrics, center=np.where(far, center, 0))) if far.any() else loss


def _as_column(labels: np.ndarray) -> np.ndarray:
    """Return binary labels (n,) as floats (n, 1), the shape of the single output."""
    return labels.astype(np.float32)[:, None]
