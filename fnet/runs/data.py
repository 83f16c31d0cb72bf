"""Load the data of an experiment."""

from typing import Any

import numpy as np

from fnet.data.normalize import Normalizer
from fnet.data.pipeline import Splits, split_and_normalize
from fnet.runs.experiment import Experiment


def load_data(experiment: Experiment, normalizer: Normalizer | None = None) -> tuple[Splits[Any], str]:
    """Load, split and normalize the data of an experiment, with targets in the form that its loss expects.

    Args:
        experiment: the experiment.
        normalizer: the normalizer of its trained network, for data that may have changed since; by default one with the
            statistics of the training part.

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
        rules=data.rules,
        keys=data.keys(),
    )
    if experiment.loss.targets == "labels":
        train, validation, test = (part.mapped(y=_as_column) for part in splits[:3])
        splits = splits._replace(train=train, validation=validation, test=test)
    return splits, data.source.fingerprint(raw)


def _as_column(labels: np.ndarray) -> np.ndarray:
    """Return binary labels (n,) as floats (n, 1), the shape of the single output."""
    return labels.astype(np.float32)[:, None]
