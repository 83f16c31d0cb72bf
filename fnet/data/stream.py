"""Data larger than memory: examples that are read when a step is about to need them.

The examples stay where they are, in memory-mapped files or records. Parts of them are lists of their numbers, and what
is done to them, such as normalization, is done to those that are read.
"""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from fnet.core.settings import MissingExtra
from fnet.data.source import Rows, portions

T = TypeVar("T")

AT_ONCE = 1 << 23
"""Bytes that are read as one: few enough that memory does not notice, enough that Python's own time does not count."""

THREADS = 2
"""That read ahead, besides the one that computes."""

AHEAD = 3
"""Portions that are read, or being read, before they are asked for."""

ALIGNMENT = 64


class View:
    """Some rows of others, and a function of them: nothing is read before rows are asked for.

    Args:
        base: where the rows are.
        rows: their numbers there, or a slice; by default all.
        function: of rows (n, ...), row by row; what it makes of no rows says of which shape and type it gives them.

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
        none = np.empty((0, *base.shape[1:]), base.dtype)
        like = none if function is None else function(none)
        self.shape = (len(base if self._rows is None else self._rows), *like.shape[1:])
        self.dtype = like.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        found = _taken(self._base, rows if self._rows is None else self._rows[rows])
        return found if self._function is None else self._function(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them, in memory."""
        return np.asarray(self[:], dtype)


class Joined:
    """The rows of several, one after the other.

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
        numbers = np.arange(len(self))[rows]
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for part, start in zip(self._parts, self._starts, strict=False):
            inside = (numbers >= start) & (numbers < start + len(part))
            found[inside] = _taken(part, numbers[inside] - start)
        return found


class Stream(NamedTuple):
    """Examples that training reads batch by batch, in place of arrays that it would hold.

    Args:
        x: examples (n, ...), such as a memory-mapped array.
        y: their targets (n, ...).
        mask: (n, time), True for the real steps of sequences of different lengths.

    >>> Stream(np.zeros((5, 2), np.float32), np.arange(5)).part(slice(1, 3)).size
    2
    """

    x: Rows
    y: Rows
    mask: Rows | None = None

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.x)

    def part(self, rows: np.ndarray | slice) -> "Stream":
        """The examples of these numbers, with what belongs to them."""
        mask = None if self.mask is None else View(self.mask, rows)
        return Stream(View(self.x, rows), View(self.y, rows), mask)

    def mapped(
        self,
        x: Callable[[np.ndarray], np.ndarray] | None = None,
        y: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Stream":
        """The examples after a function x of them, and the targets after a function y of them, row by row each."""
        examples = self.x if x is None else View(self.x, function=x)
        targets = self.y if y is None else View(self.y, function=y)
        return Stream(examples, targets, self.mask)

    def read(self, rows: np.ndarray, places: int) -> tuple[np.ndarray, ...]:
        """The arrays of the rows of these numbers, filled up with zeros to a number of places."""
        return tuple(_read(values, rows, places) for values in self if values is not None)

    def groups_at_once(self, rows: int) -> int:
        """How many groups of so many rows are best read as one: two at least, or all, if there is but one.

        XLA simplifies a loop over a single group, and may then round a sum otherwise than in a loop over several.
        """
        size = sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in self if values is not None)
        return min(math.ceil(self.size / rows), max(2, AT_ONCE // max(1, size * rows)))


def _read(values: Rows, rows: np.ndarray, places: int) -> np.ndarray:
    """Some rows, gathered and changed in portions that fit into a processor's cache."""
    array = _aligned((places, *values.shape[1:]), values.dtype)
    found, rest = array[: len(rows)], array[len(rows) :]
    for part in portions(found):
        found[part] = _taken(values, rows[part])
    rest[:] = 0
    return array


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An empty array that begins where JAX, on a processor, takes it over without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _taken(base: Rows, rows: np.ndarray | slice) -> np.ndarray:
    """base[rows]; of an array whose rows lie one behind the other, numpy.take is several times as fast."""
    if isinstance(base, np.ndarray) and isinstance(rows, np.ndarray) and base.flags.c_contiguous and base.flags.aligned:
        return np.take(base, rows, axis=0)
    return base[rows]


def require() -> Any:
    """Grain, which reads ahead in threads.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        import grain  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("data.stream needs the extra 'stream': pip install 'fnet[stream]'") from None
    return grain


class _Source(Generic[T]):
    """What Grain reads: element i is function(first + i)."""

    def __init__(self, function: Callable[[int], T], numbers: range):
        self._function = function
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> T:
        return self._function(self._numbers[index])


def read_ahead(function: Callable[[int], T], numbers: range) -> Generator[T, None, None]:
    """function(i) for each of the numbers, in their order, computed in threads ahead of being asked for.

    What the function raises is raised in the place of its result. Closing the iterator ends the threads.

    Raises:
        MissingExtra: when Grain is not installed.

    >>> list(read_ahead(lambda i: i * i, range(2, 5)))
    [4, 9, 16]
    """
    grain = require()
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    elements = iter(grain.MapDataset.source(_Source(function, numbers)).to_iter_dataset(options))
    try:
        yield from elements
    finally:
        elements.close()
