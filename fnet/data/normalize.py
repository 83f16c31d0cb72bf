"""Normalization: an affine map of the examples or of their targets, fitted to the training part only."""

import functools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from fnet.data.arrays import Rows, chunks

Normalization = Literal["unit", "standard", "none"]

TargetNormalization = Literal["standard", "none"]

_EXACT = 1 << 16

_ROUNDING = 1e-12
"""Standard deviation relative to the mean that rounding of the mean can cause, and differing float32 values cannot."""


class Normalizer(NamedTuple):
    """The map x -> (x - offset) / scale, per entry of an example or with shared values; `fill`, if given, replaces NaN.

    It is computed in double precision and rounded to single. Where x contains bytes, and offset and scale are whole
    numbers of at most 2^16, single precision gives the same bits: x - offset is exact, and rounding a quotient of
    float32 numbers to double first changes nothing (S. Figueroa, When is double rounding innocuous?, 1995).
    """

    offset: np.ndarray
    scale: np.ndarray
    fill: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, np.float32)
        exact = x.dtype.itemsize == 1 and self.fill is None and _exact(self.offset) and _exact(self.scale)
        offset, scale = (np.asarray(part, np.float32 if exact else np.float64) for part in self[:2])
        for rows in chunks(x):
            values = x[rows] if self.fill is None else np.where(np.isnan(x[rows]), self.fill, x[rows])
            if exact:
                np.divide(values - offset if offset.any() else values, scale, out=out[rows])
            else:
                out[rows] = (values - offset) / scale
        return out

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Return values * scale + offset in double precision: normalized targets in their original unit.

        >>> Normalizer(np.array([300.0]), np.array([20.0])).inverse(np.array([[0.5], [-1.0]])).tolist()
        [[310.0], [280.0]]
        """
        return np.asarray(values, np.float64) * self.scale + self.offset

    @property
    def is_identity(self) -> bool:
        """Whether the map leaves known values unchanged."""
        return self.fill is None and not np.any(self.offset) and bool(np.all(self.scale == 1))


def _exact(values: np.ndarray) -> bool:
    return bool(np.all((values == np.round(values)) & (np.abs(values) <= _EXACT)))


def mean_of_known(x: Rows) -> np.ndarray:
    """Return the mean of each feature of training examples x (n, ...) over its known values; 0 if all are missing.

    >>> mean_of_known(np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, np.nan]])).tolist()
    [1.5, 0.0]
    """
    total, number = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for rows in chunks(x):
        values = x[rows]
        known = ~np.isnan(values)
        total += np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
        number += known.sum(axis=0)
    return total / np.maximum(1, number)


IDENTITY = Normalizer(np.zeros(()), np.ones(()))
"""The normalizer that leaves examples unchanged."""


def fit(
    kind: Normalization, x: Rows, value_range: tuple[float, float] | None = None, *, has_missing: bool = False
) -> Normalizer:
    """Fit a normalizer to training examples, which are read in chunks.

    `unit` maps to [0, 1], using the range of all entries if the source states one (images), else the min and max of
    each feature. `standard` subtracts each feature's mean and divides by its standard deviation (of the
    population, 1/n). `none` leaves them unchanged. A constant feature is divided by 1, however small its values are.
    One that varies is scaled, however small its variation is.

    Args:
        kind: unit, standard or none.
        x: (n, ...) training examples.
        value_range: min and max that an entry can take.
        has_missing: whether values may be missing (NaN); the mean of the feature replaces them.

    >>> x = np.array([[0.0, 5.0], [2.0, 5.0]])
    >>> fit("standard", x)(x).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> fit("unit", x)(np.array([[1.0, 5.0]])).tolist()
    [[0.5, 0.0]]
    """
    fill = mean_of_known(x) if has_missing else None

    def values() -> Iterator[np.ndarray]:
        for rows in chunks(x):
            yield x[rows] if fill is None else np.where(np.isnan(x[rows]), fill, x[rows])

    match kind:
        case "none":
            return IDENTITY._replace(fill=fill)
        case "standard":
            offset = np.asarray(sum(part.sum(axis=0, dtype=np.float64) for part in values()) / len(x))
            squares = sum(np.square(part - offset).sum(axis=0) for part in values())
            scale = np.sqrt(squares / len(x))
        case "unit":
            low, high = value_range or (
                functools.reduce(np.minimum, (part.min(axis=0) for part in values())),
                functools.reduce(np.maximum, (part.max(axis=0) for part in values())),
            )
            offset = np.asarray(low, np.float64)
            scale = np.asarray(high, np.float64) - offset
    constant = scale <= _ROUNDING * np.abs(offset)
    return Normalizer(offset, np.where(constant, 1.0, scale), fill)
