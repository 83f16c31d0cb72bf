"""What every source of data says of itself and gives."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np


class DataError(ValueError):
    """The data cannot be used as they are.

    setting: of the config's `data`, the one that is to be mended, if one is.
    """

    exit_status = 2

    def __init__(self, message: str, setting: str | None = None):
        super().__init__(message)
        self.setting = setting


class Targets(NamedTuple):
    """What there is to learn.

    kind: `classes` (one of `number` classes, integers from 0) or `values` (`number` real numbers).
    names: of the classes or of the values, where the source knows them.
    shape: the places of one example that have a target each: () for one target an example, (length,) for a target at
        every position of a sequence.
    """

    kind: Literal["classes", "values"]
    number: int
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        singular = {"classes": "class", "values": "value"}[self.kind]
        places = f" at each of {self.shape[0]} positions" if self.shape else ""
        return f"{self.number} {singular if self.number == 1 else self.kind}{places}"


class Spec(NamedTuple):
    """What a source knows before any data is read.

    name: of the data set.
    shape: of one example, channels last.
    targets: what there is to learn.
    size: number of examples.
    range: the least and the greatest value that an entry of an example can take, where all have the same.
    dtype: of an example as a network gets it: float32, or int32 for token numbers, which are not normalised.
    splits: the source's own, by name and size, in the order in which their examples lie; none if it has none.
    ordered: whether examples continue each other, as those of a text do, so that parts are cut off in order.
    vocabulary: of token numbers: a text whose characters they count, or the bytes that they stand for.
    gaps: whether a value may be missing (NaN): it gets the mean of its feature over the training part.
    features: the names of a table's features; "color=red" is 1 where the column color says red, and else 0.
    """

    name: str
    shape: tuple[int, ...]
    targets: Targets
    size: int
    range: tuple[float, float] | None = None
    dtype: Literal["float32", "int32"] = "float32"
    splits: tuple[tuple[str, int], ...] = ()
    ordered: bool = False
    vocabulary: str | bytes | None = None
    gaps: bool = False
    features: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As data that JSON can hold; bytes as their numbers."""
        vocabulary = list(self.vocabulary) if isinstance(self.vocabulary, bytes) else self.vocabulary
        return {**self._asdict(), "targets": self.targets._asdict(), "vocabulary": vocabulary}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Spec":
        """From what `plain` gave, or JSON of it.

        >>> spec = Spec("text", (4,), Targets("classes", 2, ("a", "b"), (4,)), 9, dtype="int32", vocabulary="ab")
        >>> Spec.of_plain(spec.plain()) == spec
        True
        """
        values = {key: _tuples(value) for key, value in plain.items()}
        values["targets"] = Targets(**{key: _tuples(value) for key, value in plain["targets"].items()})
        if isinstance(values["vocabulary"], tuple):
            values["vocabulary"] = bytes(values["vocabulary"])
        return cls(**values)


def _tuples(value: Any) -> Any:
    """Lists, at any depth, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Arrays(NamedTuple):
    """Examples and their targets, row by row.

    x: (n, *shape): float32, or smaller numbers as they are stored (uint8 for images), or int32 token numbers.
    y: (n, *targets.shape) integers for classes, (n, number) float32 for values.
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.x)


def fingerprint(arrays: Arrays) -> str:
    """A hash of the values, shapes and types: equal exactly when the data are.

    >>> a = Arrays(np.zeros((2, 3), np.float32), np.array([0, 1]))
    >>> fingerprint(a) == fingerprint(Arrays(a.x.copy(), a.y.copy()))
    True
    >>> fingerprint(a) == fingerprint(Arrays(a.x + 1, a.y))
    False
    """
    digest = hashlib.sha256()
    for array in (arrays.x, arrays.y):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
