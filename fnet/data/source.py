"""What every source of data says of itself and gives."""

import hashlib
from typing import Literal, NamedTuple

import numpy as np


class Targets(NamedTuple):
    """What there is to learn.

    kind: `classes` (one of `count` classes, integers from 0) or `values` (`count` real numbers).
    names: of the classes or of the values, where the source knows them.
    """

    kind: Literal["classes", "values"]
    count: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        noun = {"classes": "class", "values": "value"}[self.kind]
        plural = {"classes": "classes", "values": "values"}[self.kind]
        return f"{self.count} {noun if self.count == 1 else plural}"


class Spec(NamedTuple):
    """What a source knows before any data is read.

    name: of the data set.
    shape: of one example, channels last.
    targets: what there is to learn.
    size: number of examples.
    range: the least and the greatest value that an entry of an example can take, where all have the same.
    """

    name: str
    shape: tuple[int, ...]
    targets: Targets
    size: int
    range: tuple[float, float] | None = None


class Arrays(NamedTuple):
    """Examples and their targets, row by row.

    x: (n, *shape), float32.
    y: (n,) integers for classes, (n, count) float32 for values.
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
    >>> fingerprint(a) == fingerprint(Arrays(a.x.copy(), a.y.copy())), fingerprint(a) == fingerprint(Arrays(a.x + 1, a.y))
    (True, False)
    """
    digest = hashlib.sha256()
    for array in (arrays.x, arrays.y):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
