"""Normalisation: an affine map of the examples, fitted on the training part alone."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

Normalization = Literal["unit", "standard", "none"]

_ENTRIES = 1 << 18


class Normalizer(NamedTuple):
    """x -> (x - offset) / scale, per entry of an example or for all alike; NaN counts as `fill`, where there is one."""

    offset: np.ndarray
    scale: np.ndarray
    fill: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, np.float32)
        for rows in _portions(x):
            values = x[rows] if self.fill is None else np.where(np.isnan(x[rows]), self.fill, x[rows])
            out[rows] = (values - self.offset) / self.scale
        return out


def filling(x: np.ndarray) -> np.ndarray:
    """What stands in for a missing value (NaN) of training examples x (n, ...): the mean of the others; 0 if none is.

    >>> filling(np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, np.nan]])).tolist()
    [1.5, 0.0]
    """
    known = ~np.isnan(x)
    return np.where(known, x, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(1, known.sum(axis=0))


AS_THEY_ARE = Normalizer(np.zeros(()), np.ones(()))
"""What changes nothing."""


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
    match kind:
        case "none":
            return AS_THEY_ARE
        case "standard":
            offset = x.mean(axis=0, dtype=np.float64)
            squares = sum(np.square(x[rows] - offset).sum(axis=0) for rows in _portions(x))
            scale = np.sqrt(squares / len(x))
        case "unit":
            low, high = (x.min(axis=0), x.max(axis=0)) if value_range is None else value_range
            offset = np.asarray(low, np.float64)
            scale = np.asarray(high, np.float64) - offset
    constant = scale <= 1e-12 * np.maximum(1, np.abs(offset))
    return Normalizer(offset, np.where(constant, 1.0, scale))


def _portions(x: np.ndarray) -> Iterator[slice]:
    """Slices of rows that are computed with at once: in double precision they still fit into a processor's cache."""
    rows = max(1, _ENTRIES * len(x) // max(1, x.size))
    return (slice(start, start + rows) for start in range(0, len(x), rows))
