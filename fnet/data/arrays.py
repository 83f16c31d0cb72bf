"""Arrays of examples, in memory or elsewhere, and iteration over their rows in chunks."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np


class Rows(Protocol):
    """Rows of numbers that can be read in any order: an array, a memory-mapped file, or a record reader."""

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


Tree = Any
"""Rows, or a dict or tuple of trees: several arrays that belong to the same examples."""


def map_rows(function: Callable[[Any], Any], tree: Tree) -> Any:
    """Return a tree of the same structure, with a function of every array of rows; None is an empty tree.

    >>> map_rows(len, {"a": np.zeros(3), "b": (np.zeros(2), None)})
    {'a': 3, 'b': (2, None)}
    """
    if isinstance(tree, Mapping):
        return {name: map_rows(function, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [map_rows(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return None if tree is None else function(tree)


def rows_of(tree: Tree) -> list[Any]:
    """Return the arrays of rows of a tree.

    >>> [len(rows) for rows in rows_of({"a": np.zeros(3), "b": (np.zeros(2), None)})]
    [3, 2]
    """
    found: list[Any] = []
    map_rows(found.append, tree)
    return found


ENTRIES = 1 << 18
"""Number of entries in a chunk, small enough to fit in a processor's cache in double precision."""


def chunks(x: Rows) -> Iterator[slice]:
    """Divide rows into consecutive slices whose size depends only on the shape of a row.

    Sums over chunks are therefore bitwise equal wherever the rows are stored.

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


def as_float32(values: np.ndarray) -> np.ndarray:
    """Convert numbers to single precision; those beyond its range become infinite, without NumPy's warning.

    >>> as_float32(np.array([0.1, -1e300])).tolist()
    [0.10000000149011612, -inf]
    """
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


class Arrays(NamedTuple):
    """Examples and their targets in memory.

    x: (n, *shape), float32, or a smaller dtype as stored (uint8 for images), or int32 token indices.
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
        """Return the data after a row-wise function of the examples, and another of the targets."""
        return Arrays(self.x if x is None else x(self.x), self.y if y is None else y(self.y))
