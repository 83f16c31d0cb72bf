"""Arrays of examples, in memory or elsewhere, and going through them in chunks."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np


class Rows(Protocol):
    """Rows of numbers that can be read in any order: an array, a memory-mapped file, or a reader of records."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, followed by the shape of a row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return the rows at these indices, or in this slice."""
        ...


ENTRIES = 1 << 18
"""Number of entries in a chunk: in double precision they still fit into a processor's cache."""


def chunks(x: Rows) -> Iterator[slice]:
    """Divide rows into consecutive slices whose size depends on the shape of a row alone.

    Sums over chunks are therefore equal to the bit wherever the rows are stored.

    >>> list(chunks(np.zeros((3, ENTRIES // 2))))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    rows = max(1, ENTRIES // max(1, math.prod(x.shape[1:])))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def first_invalid(x: Rows, *, has_missing: bool) -> int | None:
    """Return the index of the first row with a NaN or infinite value; with has_missing, only infinity counts.

    >>> first_invalid(np.array([[1.0], [np.nan], [np.inf]]), has_missing=False)
    1
    >>> first_invalid(np.array([[1.0], [np.nan], [np.inf]]), has_missing=True)
    2
    """
    if x.dtype.kind == "f":
        for rows in chunks(x):
            values = x[rows]
            invalid = np.isinf(values) if has_missing else ~np.isfinite(values)
            if invalid.any():
                return rows.start + int(np.argwhere(invalid)[0][0])
    return None


class Arrays(NamedTuple):
    """Examples and their targets in memory.

    x: (n, *shape), float32, or a smaller type as stored (uint8 for images), or int32 token numbers.
    y: (n, *targets.shape) integers for classes, (n, number) float32 for values.
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.x)

    def part(self, rows: np.ndarray | slice) -> "Arrays":
        """Return the examples at these indices, with their targets."""
        return Arrays(self.x[rows], self.y[rows])

    def mapped(
        self,
        x: Callable[[np.ndarray], np.ndarray] | None = None,
        y: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Arrays":
        """Apply a row-wise function to the examples, and another to the targets."""
        return Arrays(self.x if x is None else x(self.x), self.y if y is None else y(self.y))
