"""What every source of data says of itself and gives."""

import hashlib
from typing import Literal, NamedTuple

import numpy as np


class Targets(NamedTuple):
    """What there is to learn.

    kind: `classes` (one of `number` classes, integers from 0) or `values` (`number` real numbers).
    names: of the classes or of the values, where the source knows them.
    """

    kind: Literal["classes", "values"]
    number: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        singular = {"classes": "class", "values": "value"}[self.kind]
        return f"{self.number} {singular if self.number == 1 else self.kind}"


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
    y: (n,) integers for classes, (n, number) float32 for values.
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
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
