"""The protocol of data sources, and the description of a dataset that is known before any example is read."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from fnet.core.wording import printable
from fnet.data.arrays import Arrays, chunks
from fnet.data.normalize import Normalization, TargetNormalization
from fnet.data.stream import Stream


class DataError(ValueError):
    """Data that cannot be used, with a message of one line.

    setting: the setting in the config's `data` section that causes the error, if any.
    """

    exit_status = 2

    def __init__(self, message: str, setting: str | None = None):
        super().__init__(printable(message))
        self.setting = setting


class DataWarning(UserWarning):
    """Something about the data that the user should know, and that does not prevent its use."""


TargetKind = Literal["classes", "values", "labels"]


class Targets(NamedTuple):
    """Description of the targets.

    kind: `classes` (one of `number` classes, integers from 0), `values` (`number` real numbers), or `labels` (`number`
        independent labels, each 0 or 1).
    names: names of the classes, values or labels, if the source knows them.
    shape: () for one target per example, (length,) for one target at every position of a sequence.
    """

    kind: TargetKind
    number: int
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        singular = {"classes": "class", "values": "value", "labels": "label"}[self.kind]
        positions = f" at each of {self.shape[0]} positions" if self.shape else ""
        return f"{self.number} {singular if self.number == 1 else self.kind}{positions}"


ColumnType = Literal["number", "boolean", "category", "date", "text", "identifier"]


class Column(NamedTuple):
    """A column of a table, and how its entries become features.

    name: header of the column.
    type: type of its entries.
    categories: categories of a category, or words of a text, one feature each; None for other types.
    parts: for a date, its features, such as `year`, `month (sin)` and `days`.
    form: how the entries are written, if not plainly: for a number, the decimal separator followed by the unit
        (`,kg`); for a date, the format in the codes of `strptime`.
    origin: for a date, the day from which days are counted, as YYYY-MM-DD.
    used: whether the column gives features. An identifier never does.
    """

    name: str
    type: ColumnType = "number"
    categories: tuple[str, ...] | None = None
    parts: tuple[str, ...] = ()
    form: str = ""
    origin: str = ""
    used: bool = True

    @property
    def width(self) -> int:
        """Number of features of the column."""
        if not self.used or self.type == "identifier":
            return 0
        if self.type == "date":
            return len(self.parts)
        return 1 if self.categories is None else len(self.categories)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features.

        >>> Column("town", "category", ("Bruges", "Ghent")).features
        ('town = Bruges', 'town = Ghent')
        >>> Column("born", "date", parts=("year", "days"), origin="2001-01-31").features
        ('born: year', 'born: days')
        """
        if not self.width:
            return ()
        if self.type == "date":
            return tuple(f"{self.name}: {part}" for part in self.parts)
        if self.categories is None:
            return (self.name,)
        sign = ":" if self.type == "text" else " ="
        return tuple(f"{self.name}{sign} {category}" for category in self.categories)


class ColumnSummary(NamedTuple):
    """What a column of a table contains, for a person.

    name: header of the column.
    type: type of its entries.
    origin: `inferred`, or `set` by the user.
    distinct: number of different values.
    missing: number of missing entries.
    examples: some of its values.
    features: number of features.
    note: why it does not give features, or what it is otherwise: `target`, `constant`, `empty`, ...
    """

    name: str
    type: str
    origin: str
    distinct: int
    missing: int
    examples: tuple[str, ...]
    features: int
    note: str = ""


class TableSummary(NamedTuple):
    """What a table contains, for a person.

    columns: its columns, in order.
    notes: what was detected about its files, such as `encoding windows-1252`.
    """

    columns: tuple[ColumnSummary, ...]
    notes: tuple[str, ...] = ()


class DatasetSpec(NamedTuple):
    """Description of a dataset, known before its examples are read.

    name: name of the dataset.
    shape: shape of one example, channels last.
    targets: description of the targets.
    size: number of examples.
    range: min and max that an entry of an example can take, if they are the same for all entries.
    tokens: whether the entries are token indices (int32, never normalized) rather than real numbers (float32).
    splits: name and size of each of the source's own splits, in the order in which their examples are stored.
    ordered: whether consecutive examples continue each other, as in a text, so that splits are cut in order.
    vocabulary: for token indices, the characters or bytes that they index.
    has_missing: whether values may be missing (NaN); the mean of the feature over the training part replaces them.
    columns: for a table, the columns that the features come from, in order.
    """

    name: str
    shape: tuple[int, ...]
    targets: Targets
    size: int
    range: tuple[float, float] | None = None
    tokens: bool = False
    splits: tuple[tuple[str, int], ...] = ()
    ordered: bool = False
    vocabulary: str | bytes | None = None
    has_missing: bool = False
    columns: tuple[Column, ...] = ()

    @property
    def dtype(self) -> Literal["float32", "int32"]:
        """Dtype of the examples that the network receives."""
        return "int32" if self.tokens else "float32"

    @property
    def is_language(self) -> bool:
        """Whether the targets are the next token of a text at every position."""
        return self.vocabulary is not None and bool(self.targets.shape)

    def plain(self) -> dict[str, Any]:
        """Return the description as data that JSON can represent, with bytes as lists of numbers."""
        return {
            **self._asdict(),
            "targets": self.targets._asdict(),
            "vocabulary": list(self.vocabulary) if isinstance(self.vocabulary, bytes) else self.vocabulary,
            "columns": [column._asdict() for column in self.columns],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "DatasetSpec":
        """Return the description for the result of `plain`, also after a round trip through JSON.

        >>> spec = DatasetSpec("text", (4,), Targets("classes", 2, ("a", "b"), (4,)), 9, tokens=True, vocabulary="ab")
        >>> DatasetSpec.from_plain(spec.plain()) == spec
        True
        """
        values = {key: _as_tuples(value) for key, value in plain.items()}
        values["targets"] = Targets(**_as_tuples(plain["targets"]))
        values["columns"] = tuple(map(plain_column, plain["columns"]))
        if isinstance(values["vocabulary"], tuple):
            values["vocabulary"] = bytes(values["vocabulary"])
        return cls(**values)


def plain_column(plain: Mapping[str, Any]) -> Column:
    """Return a column for the mapping of its fields; without a type, one with categories is a category."""
    column = Column(**_as_tuples(plain))
    return column if "type" in plain or column.categories is None else column._replace(type="category")


def _as_tuples(value: Any) -> Any:
    """Return data with lists replaced by tuples, at any depth."""
    if isinstance(value, Mapping):
        return {key: _as_tuples(inner) for key, inner in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


class DataSource(Protocol):
    """A dataset with its settings: the protocol that a new kind of data source implements.

    A source subclasses this protocol, usually as a frozen dataclass whose fields are its settings. It implements `spec`
    and `read`, and overrides the other methods if their defaults do not fit.
    """

    def spec(self) -> DatasetSpec:
        """Describe the dataset without reading its examples, as far as its format permits.

        Raises:
            DataError: when the data is missing or unusable.
        """
        ...

    def read(self, seed: int) -> Arrays:
        """Read the whole dataset into memory; only synthetic data depends on the seed.

        Raises:
            DataError: when the data is missing or unusable.
        """
        ...

    def stream(self, seed: int) -> Stream:
        """Open the dataset for reading batch by batch; the default implementation reads it into memory.

        Raises:
            DataError: when the data is missing or unusable.
        """
        return Stream(*self.read(seed))

    def column(self, name: str) -> np.ndarray:
        """Return the values (n,) of a column of the source, one per example of `read`, by which they can be divided.

        Raises:
            DataError: when there is no such column; only tables have columns.
        """
        raise DataError(f"expected a table with a column '{name}', got data without columns", "split")

    def summary(self) -> TableSummary | None:
        """Summarize the columns of a table, features and others; None for other data."""
        return None

    def fingerprint(self, data: Arrays | Stream) -> str:
        """Return a hash of the dataset that `read` or `stream` returned; by default, of its content."""
        return fingerprint(data)

    def like(self, spec: DatasetSpec) -> "DataSource":  # noqa: ARG002
        """Return the source with examples and targets encoded as for the network that was trained on `spec`.

        The default returns the source itself: what it contains does not determine how it is encoded.
        """
        return self

    def default_normalization(self, spec: DatasetSpec) -> Normalization:
        """Return the default normalization: unit for images, standard for tables, none for token indices."""
        if spec.tokens:
            return "none"
        return "unit" if len(spec.shape) == 3 else "standard"

    def default_target_normalization(self, spec: DatasetSpec) -> TargetNormalization:
        """Return the default normalization of targets: standard for values, one set per example, otherwise none."""
        return "standard" if spec.targets.kind == "values" and not spec.targets.shape else "none"


def fingerprint(data: Arrays | Stream) -> str:
    """Return a hash of the values, shapes and dtypes of examples and targets.

    >>> a = Arrays(np.zeros((2, 3), np.float32), np.array([0, 1]))
    >>> fingerprint(a) == fingerprint(Arrays(a.x.copy(), a.y.copy()))
    True
    >>> fingerprint(a) == fingerprint(Arrays(a.x + 1, a.y))
    False
    """
    digest = hashlib.sha256()
    for array in (data.x, data.y):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        for rows in chunks(array):
            digest.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
