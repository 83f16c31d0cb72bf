"""Data larger than memory: examples that are read shortly before a training step uses them.

The examples stay in memory-mapped files or records. A part of the data is a list of indices, and functions such as the
normalization are applied to the rows that are read.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fnet.data.arrays import Rows, Tree, chunks, map_rows, rows_of

T = TypeVar("T")

CHUNK_BYTES = 1 << 23
"""Number of bytes in a chunk: small compared with memory, large enough to amortize Python's overhead."""

THREADS = 2
"""Number of threads that prefetch."""

AHEAD = 3
"""Number of results that are computed before they are requested."""

ALIGNMENT = 64
"""Alignment in bytes at which JAX uses an array on a CPU without a copy."""


class View:
    """Lazy view of rows of a base array, with a function applied; nothing is read until rows are requested.

    Args:
        base: the rows to select from.
        rows: indices into the base, or a slice; by default all rows.
        function: row-wise function of rows (n, ...); its result for zero rows determines the shape and dtype.

    >>> squares = np.arange(6) ** 2
    >>> view = View(squares, np.array([5, 1, 3]), lambda rows: rows / 2)
    >>> view.shape, view[:2].tolist(), view[np.array([2])].tolist()
    ((3,), [12.5, 0.5], [4.5])
    """

    def __init__(
        self,
        base: Rows,
        rows: np.ndarray | slice | None = None,
        function: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self._base = base
        self._rows = None if rows is None else np.arange(len(base))[rows]
        self._function = function
        empty = np.empty((0, *base.shape[1:]), base.dtype)
        example = empty if function is None else function(empty)
        self.shape = (len(base if self._rows is None else self._rows), *example.shape[1:])
        self.dtype = example.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        selected = _take(self._base, rows if self._rows is None else self._rows[rows])
        return selected if self._function is None else self._function(selected)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all rows into memory."""
        return np.asarray(self[:], dtype)


class Joined:
    """Concatenation of several arrays of rows.

    >>> joined = Joined([np.arange(3), np.arange(10, 12)])
    >>> joined.shape, joined[np.array([3, 0, 4])].tolist(), joined[1:4].tolist()
    ((5,), [10, 0, 11], [1, 2, 10])
    """

    def __init__(self, parts: Sequence[Rows]):
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        indices = np.arange(len(self))[rows]
        selected = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for part, start in zip(self._parts, self._starts, strict=False):
            inside = (indices >= start) & (indices < start + len(part))
            selected[inside] = _take(part, indices[inside] - start)
        return selected


class Stream(NamedTuple):
    """Examples that training reads batch by batch instead of holding them in memory.

    Args:
        x: examples (n, ...), such as a memory-mapped array, or a dict or tuple of several.
        y: targets (n, ...), likewise.
        mask: (n,), True for the real examples, or (n, time), True for the real steps of sequences of different lengths.
        weight: (n,) or (n, time), weights of the examples or steps in the loss.

    >>> Stream(np.zeros((5, 2), np.float32), np.arange(5)).part(slice(1, 3)).size
    2
    """

    x: Tree
    y: Tree
    mask: Rows | None = None
    weight: Rows | None = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(rows_of(self.x)[0])

    def part(self, rows: np.ndarray | slice) -> "Stream":
        """Return the examples at these indices, with their targets, mask and weights."""
        return map_rows(lambda values: View(values, rows), self)

    def mapped(
        self,
        x: Callable[[np.ndarray], np.ndarray] | None = None,
        y: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Stream":
        """Return the data with a row-wise function of the examples, and another of the targets, applied on reading.

        If the examples or targets are several arrays, the function applies to each.
        """
        examples = self.x if x is None else map_rows(lambda values: View(values, function=x), self.x)
        targets = self.y if y is None else map_rows(lambda values: View(values, function=y), self.y)
        return self._replace(x=examples, y=targets)

    def read(self, rows: np.ndarray, length: int) -> "Stream":
        """Read the rows at these indices into arrays padded with zeros to a length."""
        return map_rows(lambda values: _read(values, rows, length), self)

    def batches_per_chunk(self, batch: int) -> int:
        """Return the number of batches to read together: at least two, if there are that many.

        XLA simplifies a loop over a single batch, and may then round a sum differently than in a loop over several.
        """
        size = sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in rows_of(self))
        return min(math.ceil(self.size / batch), max(2, CHUNK_BYTES // max(1, size * batch)))


def _read(values: Rows, rows: np.ndarray, length: int) -> np.ndarray:
    """Gather rows in chunks that fit in a processor's cache, and pad them with zeros to a length."""
    array = _aligned((length, *values.shape[1:]), values.dtype)
    filled, padding = array[: len(rows)], array[len(rows) :]
    for part in chunks(filled):
        filled[part] = _take(values, rows[part])
    padding[:] = 0
    return array


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Allocate an array that JAX can use without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _take(base: Rows, rows: np.ndarray | slice) -> np.ndarray:
    """Return base[rows]; for a contiguous array, numpy.take is several times faster."""
    if isinstance(base, np.ndarray) and isinstance(rows, np.ndarray) and base.flags.c_contiguous and base.flags.aligned:
        return np.take(base, rows, axis=0)
    return base[rows]


def read_ahead(function: Callable[[int], T], numbers: range) -> Generator[T, None, None]:
    """Yield function(i) for each number in order, computed by threads before it is requested.

    An error in the function is raised in place of its result. Closing the generator stops the threads.

    >>> list(read_ahead(lambda i: i * i, range(2, 5)))
    [4, 9, 16]
    """
    remaining = iter(numbers)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fnet-read-ahead")
    try:
        pending = deque(pool.submit(function, number) for number in itertools.islice(remaining, AHEAD))
        while pending:
            pending.extend(pool.submit(function, number) for number in itertools.islice(remaining, 1))
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
