"""What every source of data says of itself and gives."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from fnet.data.stream import Stream


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
    dtype: of an example as a network gets it: float32, or int32 for token numbers, which are not normalized.
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

    @property
    def is_language(self) -> bool:
        """Whether there is a next token of a text to foretell at every position."""
        return self.vocabulary is not None and bool(self.targets.shape)

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


class Rows(Protocol):
    """Rows of numbers that can be had in any order: an array, a memory-mapped file, or a reader of records."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of each."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of their entries."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """The rows of these numbers, or of a slice."""
        ...


ENTRIES = 1 << 18
"""How many entries are computed with at once: in double precision they still fit into a processor's cache."""


def portions(x: Rows) -> Iterator[slice]:
    """Slices of rows, together all of them, in portions whose size depends on the shape of a row alone.

    Sums that are added up portion by portion are therefore the same to the bit wherever the rows lie.

    >>> list(portions(np.zeros((3, ENTRIES // 2))))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    rows = max(1, ENTRIES // max(1, math.prod(x.shape[1:])))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def first_unusable(x: Rows, *, gaps: bool) -> int | None:
    """The number of the first row with a value that is NaN or infinite; where there may be gaps, infinite alone.

    >>> first_unusable(np.array([[1.0], [np.nan], [np.inf]]), gaps=False)
    1
    >>> first_unusable(np.array([[1.0], [np.nan], [np.inf]]), gaps=True)
    2
    """
    if x.dtype.kind == "f":
        for rows in portions(x):
            values = x[rows]
            unusable = np.isinf(values) if gaps else ~np.isfinite(values)
            if unusable.any():
                return rows.start + int(np.argwhere(unusable)[0][0])
    return None


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

    def part(self, rows: np.ndarray | slice) -> "Arrays":
        """The examples of these numbers, and their targets."""
        return Arrays(self.x[rows], self.y[rows])

    def mapped(
        self,
        x: Callable[[np.ndarray], np.ndarray] | None = None,
        y: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Arrays":
        """The examples after a function x of them, and the targets after a function y of them, row by row each."""
        return Arrays(self.x if x is None else x(self.x), self.y if y is None else y(self.y))


def fingerprint(data: "Arrays | Stream") -> str:
    """A hash of the values, shapes and types of examples and targets: equal exactly when the data are.

    >>> a = Arrays(np.zeros((2, 3), np.float32), np.array([0, 1]))
    >>> fingerprint(a) == fingerprint(Arrays(a.x.copy(), a.y.copy()))
    True
    >>> fingerprint(a) == fingerprint(Arrays(a.x + 1, a.y))
    False
    """
    digest = hashlib.sha256()
    for array in (data.x, data.y):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        for rows in portions(array):
            digest.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
