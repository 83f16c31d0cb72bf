"""What is in a data set: sizes, ranges and classes of its parts, before and after normalization."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fnet.data.normalize import Normalization
from fnet.data.pipeline import Splits, prepare, split
from fnet.data.source import Arrays, Spec
from fnet.data.split import PARTS


class Range(NamedTuple):
    """Of some numbers: the least, the greatest, their mean and standard deviation, and how many are missing (NaN)."""

    least: float
    greatest: float
    mean: float
    deviation: float
    missing: int = 0


class Part(NamedTuple):
    """One part of the data.

    name: train, validation or test.
    source: the fraction or the splits that it is made of.
    examples: how many.
    stored: the range of all entries as the source has them.
    normalized: and as a network gets them; None for token numbers.
    features: the range of every feature of a table as stored; none for other shapes.
    classes: how many targets there are of each class; none for values.
    values: the range of every value that is to be learned; none for classes.
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
    """A data set looked at.

    spec: what its source says of it.
    stored: the type of its entries as the source has them.
    normalization: unit, standard or none.
    parts: those that hold examples.
    raw: the arrays of each as the source has them.
    splits: the arrays as a network gets them.
    """

    spec: Spec
    stored: str
    normalization: Normalization
    parts: tuple[Part, ...]
    raw: tuple[Arrays, ...]
    splits: Splits[Arrays]

    def plain(self) -> dict[str, Any]:
        """All but the arrays, as JSON can hold it."""
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
    arrays: Arrays, spec: Spec, parts: Sequence[float | str], normalization: Normalization, *, seed: int
) -> Inspection:
    """Looks at data as a run with these settings would divide and normalize them.

    Args:
        arrays: the whole data set.
        spec: what its source says of it.
        parts: fraction or own splits of the training, validation and test part.
        normalization: unit, standard or none.
        seed: of the split.

    Raises:
        DataError, SplitError: as `prepare.prepare`.
    """
    raw = split(arrays, spec, parts, seed=seed)
    splits = prepare(arrays, spec, parts, normalization, seed=seed)
    found = [
        _part(name, str(asked), part, normalized, spec)
        for name, asked, part, normalized in zip(PARTS, parts, raw, splits[:3], strict=True)
        if part.size
    ]
    return Inspection(spec, str(arrays.x.dtype), normalization, tuple(found), raw, splits)


def range_of(x: np.ndarray) -> Range:
    """The range of all entries.

    >>> range_of(np.array([1.0, np.nan, 3.0]))
    Range(least=1.0, greatest=3.0, mean=2.0, deviation=1.0, missing=1)
    """
    if x.dtype.kind == "f":
        known = ~np.isnan(x)
        if not known.all():
            rest = x[known]
            of_rest = range_of(rest) if rest.size else Range(np.nan, np.nan, np.nan, np.nan)
            return of_rest._replace(missing=x.size - rest.size)
    mean = float(x.mean(dtype=np.float64))
    rows = max(1, (1 << 18) * len(x) // max(1, x.size))
    squares = sum(float(np.square(x[i : i + rows] - mean).sum()) for i in range(0, len(x), rows))
    return Range(float(x.min()), float(x.max()), mean, float(np.sqrt(squares / x.size)))


def _part(name: str, source: str, part: Arrays, normalized: Arrays, spec: Spec) -> Part:
    tokens = spec.dtype == "int32"
    return Part(
        name,
        source,
        part.size,
        range_of(part.x),
        None if tokens else range_of(normalized.x),
        tuple(range_of(column) for column in part.x.T) if part.x.ndim == 2 and not tokens else (),
        tuple(np.bincount(part.y.reshape(-1), minlength=spec.targets.number).tolist())
        if spec.targets.kind == "classes"
        else (),
        tuple(range_of(column) for column in part.y.T) if spec.targets.kind == "values" else (),
    )
