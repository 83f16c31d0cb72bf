"""Normalisation: an affine map of the examples, fitted on the training part alone."""

from typing import Literal, NamedTuple

import numpy as np

Normalization = Literal["unit", "standard", "none"]


class Normalizer(NamedTuple):
    """x -> (x - offset) / scale, per entry of an example or for all alike."""

    offset: np.ndarray
    scale: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.offset) / self.scale).astype(np.float32)


def fit(kind: Normalization, x: np.ndarray, value_range: tuple[float, float] | None = None) -> Normalizer:
    """The normaliser of a kind for training examples x (n, ...).

    `unit` maps to [0, 1]: by the range that all entries share where the source states one (images), else by the least
    and greatest value of each feature. `standard` subtracts each feature's mean and divides by its standard deviation
    (that of the population, 1/n). `none` changes nothing. A constant feature is divided by 1.

    >>> x = np.array([[0.0, 5.0], [2.0, 5.0]])
    >>> fit("standard", x)(x).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> fit("unit", x)(np.array([[1.0, 5.0]])).tolist()
    [[0.5, 0.0]]
    """
    x = x.astype(np.float64)
    match kind:
        case "none":
            return Normalizer(np.zeros(()), np.ones(()))
        case "standard":
            offset, scale = x.mean(axis=0), x.std(axis=0)
        case "unit":
            low, high = (x.min(axis=0), x.max(axis=0)) if value_range is None else map(np.asarray, value_range)
            offset, scale = low, high - low
    constant = scale <= 1e-12 * np.maximum(1, np.abs(offset))
    return Normalizer(offset, np.where(constant, 1.0, scale))
