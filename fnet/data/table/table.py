"""Tables: one example per row, columns of any type, one or several columns of targets."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Len, MinLen

from fnet.data.cache import cached
from fnet.data.path import FileSource, PathText
from fnet.data.source import (
    ColumnSummary,
    ColumnType,
    DatasetSpec,
    DataWarning,
    TableSummary,
    Targets,
    plain_column,
)
from fnet.data.stream import Stream
from fnet.data.table import readers
from fnet.data.table.decode import Settings, decode, unchanged, values_of, where_of

if TYPE_CHECKING:
    pass

SUPPLIED = ("group",)
"""Parameters of the formats that users do not set."""

_LAYOUT = 3
"""Version of the arrays in the cache."""

ColumnName = Annotated[str, MinLen(1)]
Paths = PathText | dict[Literal["train", "validation", "test"], PathText]
Target = ColumnName | Annotated[list[ColumnName], MinLen(1)]
Kind = Literal["classes", "values", "labels"]
Types = dict[ColumnName, ColumnType]
Missing = Literal["refuse", "mean", "drop"]


def csv(
    path: Paths,
    target: Target,
    targets: Kind | None = None,
    columns: Types | None = None,
    drop: list[ColumnName] | None = None,
    missing: Missing = "refuse",
    separator: Annotated[str, Len(1, 1)] | None = None,
    encoding: Annotated[str, MinLen(1)] | None = None,
    decimal: Literal[".", ","] | None = None,
    group: str | None = None,
) -> FileSource:
    """A table of separated values (.csv, .tsv), gzipped or not, whose first line names the columns.

    The file is parsed once; later reads come from the cache of decoded arrays.

    Args:
        path: the file, or one file per split, such as {train: a.csv, test: b.csv}.
        target: name of the column to predict, or names of several.
        targets: classes, values or labels; by default classes if the column contains text, Booleans or few whole
            numbers, labels for several columns of 0 and 1, else values.
        columns: types of columns that differ from the inferred ones; number, boolean, category, date, text or
            identifier.
        drop: columns to ignore.
        missing: how to treat an empty entry (or NA, NaN, null); refuse the file, replace it with the column's mean over
            the training part, or drop the row.
        separator: character between entries; by default detected.
        encoding: encoding of the text; by default detected.
        decimal: decimal mark of numbers; by default detected.
    """
    reader = {"separator": separator, "encoding": encoding, "decimal": decimal}
    return _table("csv", path, target, targets, columns, drop, missing, group, reader)


def parquet(
    path: Paths,
    target: Target,
    targets: Kind | None = None,
    columns: Types | None = None,
    drop: list[ColumnName] | None = None,
    missing: Missing = "refuse",
    group: str | None = None,
) -> FileSource:
    """A table in a Parquet file, or in a folder of them.

    Args:
        path: the file or folder, or one per split, such as {train: a.parquet, test: b.parquet}.
        target: name of the column to predict, or names of several.
        targets: classes, values or labels; by default as for csv.
        columns: types of columns that differ from the inferred ones, as for csv.
        drop: columns to ignore.
        missing: how to treat an empty entry: refuse, mean or drop, as for csv.
    """
    return _table("parquet", path, target, targets, columns, drop, missing, group, {})


def xlsx(
    path: Paths,
    target: Target,
    targets: Kind | None = None,
    columns: Types | None = None,
    drop: list[ColumnName] | None = None,
    missing: Missing = "refuse",
    sheet: Annotated[str, MinLen(1)] | None = None,
    group: str | None = None,
) -> FileSource:
    """A table in a sheet of an Excel workbook, whose first row names the columns.

    Args:
        path: the file, or one file per split, such as {train: a.xlsx, test: b.xlsx}.
        target: name of the column to predict, or names of several.
        targets: classes, values or labels; by default as for csv.
        columns: types of columns that differ from the inferred ones, as for csv.
        drop: columns to ignore.
        missing: how to treat an empty cell: refuse, mean or drop, as for csv.
        sheet: name of the sheet; by default the first.
    """
    return _table("xlsx", path, target, targets, columns, drop, missing, group, {"sheet": sheet})


def jsonl(
    path: Paths,
    target: Target,
    targets: Kind | None = None,
    columns: Types | None = None,
    drop: list[ColumnName] | None = None,
    missing: Missing = "refuse",
    group: str | None = None,
) -> FileSource:
    """A table of one JSON object per line (.jsonl), gzipped or not; the keys are the columns.

    Args:
        path: the file, or one file per split, such as {train: a.jsonl, test: b.jsonl}.
        target: name of the column to predict, or names of several.
        targets: classes, values or labels; by default as for csv.
        columns: types of columns that differ from the inferred ones, as for csv.
        drop: columns to ignore.
        missing: how to treat a missing key or null: refuse, mean or drop, as for csv.
    """
    return _table("jsonl", path, target, targets, columns, drop, missing, group, {})


@dataclass(frozen=True)
class TableSource(FileSource):
    """A table, whose columns can also divide the examples.

    table: returns the summary of the columns.
    values: returns the values of a column.
    """

    table: Any
    values: Any

    def summary(self) -> TableSummary:
        """Summarize the columns, features and others."""
        return self.table()

    def column(self, name: str) -> np.ndarray:
        """Return the values (n,) of a column: numbers, dates as days since 1970-01-01, or text."""
        return self.values(name)


def _table(
    name: str,
    path: str | Mapping[Any, str],
    target: str | Sequence[str],
    targets: str | None,
    columns: Mapping[str, ColumnType] | None,
    drop: Sequence[str] | None,
    missing: str,
    group: str | None,
    reader: dict[str, Any],
) -> TableSource:
    """Return the source of a table in any format; `reader` are the settings of its reader."""
    names = [target] if isinstance(target, str) else list(target)
    types = dict(sorted((columns or {}).items()))
    settings = Settings(names, targets, types, sorted(drop or ()), missing, group, reader)
    title = _title(path)

    def key() -> dict[str, Any]:
        content = {"name": title, "format": name, "content": readers.digest(path), "layout": _LAYOUT}
        splits = {} if isinstance(path, str) else {"files": list(path)}
        return content | splits | {"settings": settings._asdict()}

    def decoded() -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        arrays = cached(key(), lambda: unchanged(path, lambda: decode(name, path, settings)))
        return arrays, json.loads(arrays["header"].tobytes())

    def spec() -> DatasetSpec:
        arrays, header = decoded()
        for text in header["warnings"]:
            warnings.warn(f"{where_of(path)}: {text}", DataWarning, stacklevel=3)
        return DatasetSpec(
            title,
            arrays["x"].shape[1:],
            Targets(header["targets"][0], header["targets"][1], tuple(header["targets"][2])),
            len(arrays["x"]),
            splits=tuple((split, size) for split, size in header["splits"]),
            has_missing=missing == "mean",
            columns=tuple(map(plain_column, header["columns"])),
        )

    def rows() -> Stream:
        arrays, _ = decoded()
        return Stream(arrays["x"], arrays["y"])

    def summary() -> TableSummary:
        _, header = decoded()
        columns = (ColumnSummary(**{**one, "examples": tuple(one["examples"])}) for one in header["summary"])
        return TableSummary(tuple(columns), tuple(header["notes"]))

    def values(column: str) -> np.ndarray:
        arrays, _ = decoded()
        kept = arrays["rows"] if "rows" in arrays else slice(None)
        return cached(key() | {"column": column}, lambda: {"values": values_of(name, path, reader, column, kept)})[
            "values"
        ]

    return TableSource(spec, rows, summary, values)


def _title(path: str | Mapping[str, str]) -> str:
    """Return the name of a dataset: that of its first file, without its extension.

    >>> _title("/data/houses.csv.gz"), _title({"train": "a.v2.csv", "test": "b.csv"})
    ('houses', 'a.v2')
    """
    first = Path(path if isinstance(path, str) else next(iter(path.values())))
    return Path(first.stem).stem if first.suffix == ".gz" else first.stem
