"""Summary of a dataset: sizes, ranges and classes of its parts, before and after normalization."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fnet.data.arrays import ENTRIES, Arrays, chunks
from fnet.data.normalize import Normalization
from fnet.data.pipeline import Splits, split, split_and_normalize
from fnet.data.source import DatasetSpec, TableSummary
from fnet.data.split import NO_RULES, PARTS, Rules


class Range(NamedTuple):
    """Min, max, mean and standard deviation of numbers, and the number of missing values (NaN)."""

    min: float
    max: float
    mean: float
    std: float
    missing: int = 0


class Part(NamedTuple):
    """Summary of one part of the data.

    name: train, validation or test.
    source: the fraction, or the names of the splits, that it consists of.
    examples: number of examples.
    stored: range of all entries as stored.
    normalized: range of all entries as the network receives them; None for token indices.
    features: range of every feature of a table as stored; empty for other shapes.
    classes: number of targets in each class; empty for values.
    values: range of every target value; empty for classes.
    """

    name: str
    source: str
    examples: int
    stored: Range
    normalized: Range | None
    features: tuple[Range, ...]
    classes: tuple[int, ...]
    values: tuple[Range, ...]


class Inspection(NamedTuple):
    """Summary of a dataset.

    spec: description of the dataset.
    stored: dtype of the entries as stored.
    normalization: unit, standard or none.
    parts: summaries of the parts that contain examples.
    raw: arrays of all parts as stored.
    splits: arrays of all parts as the network receives them.
    table: summary of the columns of a table; None for other data.
    """

    spec: DatasetSpec
    stored: str
    normalization: Normalization
    parts: tuple[Part, ...]
    raw: tuple[Arrays, ...]
    splits: Splits[Arrays]
    table: TableSummary | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features of a table or of other examples of one axis."""
        names = tuple(name for column in self.spec.columns for name in column.features)
        return names or tuple(f"feature {number}" for number in range(1, self.spec.shape[0] + 1))

    def plain(self) -> dict[str, Any]:
        """Return the summary without the arrays, as data that JSON can represent."""
        spec, targets = self.spec, self.spec.targets
        return {
            "name": spec.name,
            "examples": spec.size,
            "shape": spec.shape,
            "dtype": spec.dtype,
            "stored": self.stored,
            "targets": {"kind": targets.kind, "number": targets.number, "names": targets.names, "shape": targets.shape},
            "splits": dict(spec.splits),
            "normalize": self.normalization,
            "columns": [column._asdict() for column in self.table.columns] if self.table else [],
            "detected": self.table.notes if self.table else (),
            "parts": {
                part.name: {
                    "of": part.source,
                    "examples": part.examples,
                    "stored": part.stored._asdict(),
                    "normalized": part.normalized and part.normalized._asdict(),
                    "features": [feature._asdict() for feature in part.features],
                    "classes": part.classes,
                    "values": [value._asdict() for value in part.values],
                }
                for part in self.parts
            },
        }


def inspect(
    arrays: Arrays,
    spec: DatasetSpec,
    parts: Sequence[float | str],
    normalization: Normalization,
    *,
    seed: int,
    rules: Rules = NO_RULES,
    keys: np.ndarray | None = None,
    table: TableSummary | None = None,
) -> Inspection:
    """Summarize a dataset as a run with these settings would split and normalize it.

    Args:
        arrays: the whole dataset.
        spec: its description.
        parts: the training, validation and test part, each a fraction or the names of the source's own splits.
        normalization: unit, standard or none.
        seed: seed of the split.
        rules, keys: further rules of the split, and the values of their column, as for `split.divide`.
        table: summary of the columns of a table.

    Raises:
        DataError, SplitError: as for `pipeline.split_and_normalize`.
    """
    raw = split(arrays, spec, parts, seed=seed, rules=rules, keys=keys)
    splits = split_and_normalize(arrays, spec, parts, normalization, seed=seed, rules=rules, keys=keys)
    summaries = [
        _summary(name, source if isinstance(source, str) else f"{source:.4g}", part, normalized, spec)
        for name, source, part, normalized in zip(PARTS, parts, raw, splits[:3], strict=True)
        if part.size
    ]
    return Inspection(spec, str(arrays.x.dtype), normalization, tuple(summaries), raw, splits, table)


def range_of(x: np.ndarray) -> Range:
    """Return the range of all entries.

    >>> range_of(np.array([1.0, np.nan, 3.0]))
    Range(min=1.0, max=3.0, mean=2.0, std=1.0, missing=1)
    """
    if x.dtype.kind == "f":
        known = ~np.isnan(x)
        if not known.all():
            rest = x[known]
            range_of_rest = range_of(rest) if rest.size else Range(np.nan, np.nan, np.nan, np.nan)
            return range_of_rest._replace(missing=x.size - rest.size)
    mean = float(x.mean(dtype=np.float64))
    squares = sum(float(np.square(x[rows] - mean).sum()) for rows in chunks(x))
    return Range(float(x.min()), float(x.max()), mean, float(np.sqrt(squares / x.size)))


def ranges_of(x: np.ndarray) -> tuple[Range, ...]:
    """Return the range of every column of x (n, k).

    >>> ranges_of(np.array([[1.0, np.nan], [3.0, np.nan], [2.0, 5.0]]))[0]
    Range(min=1.0, max=3.0, mean=2.0, std=0.816496580927726, missing=0)
    """
    ranges: list[Range] = []
    step = max(1, ENTRIES // max(1, len(x)))
    for start in range(0, x.shape[1], step):
        values = x[:, start : start + step].astype(np.float64)
        known = ~np.isnan(values)
        number = known.sum(axis=0)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(1, number)
        std = np.sqrt(np.square(np.where(known, values - mean, 0)).sum(axis=0) / np.maximum(1, number))
        lowest, highest = np.where(known, values, np.inf).min(axis=0), np.where(known, values, -np.inf).max(axis=0)
        columns = np.where(number > 0, np.stack([lowest, highest, mean, std]), np.nan)
        missing = (len(x) - number).tolist()
        ranges += map(Range, *columns.tolist(), missing)
    return tuple(ranges)


def _summary(name: str, source: str, part: Arrays, normalized: Arrays, spec: DatasetSpec) -> Part:
    is_table = part.x.ndim == 2 and not spec.tokens
    is_classes = spec.targets.kind == "classes"
    return Part(
        name,
        source,
        part.size,
        stored=range_of(part.x),
        normalized=None if spec.tokens else range_of(normalized.x),
        features=ranges_of(part.x) if is_table else (),
        classes=tuple(np.bincount(part.y.reshape(-1), minlength=spec.targets.number).tolist()) if is_classes else (),
        values=() if is_classes else ranges_of(part.y),
    )
