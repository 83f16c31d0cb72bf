"""Tables: one example per row, columns of any type, one or several columns of targets."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len, MinLen

from fnet.data.cache import cached
from fnet.data.path import FileSource, PathText, existing_file
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
from fnet.data.table.decode import Settings, decode, decode_like, values_of, where_of

SUPPLIED = ("group",)
"""Parameters of the formats that users do not set."""

_LAYOUT = 5
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
        missing: how to treat an empty entry (or NA, NaN, null, ?, -); refuse the file, replace it with the column's
            mean over the training part, or drop the row.
        separator: character between entries; by default detected.
        encoding: encoding of the text; by default detected.
        decimal: decimal separator of numbers; by default detected.
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
    encoding: Annotated[str, MinLen(1)] | None = None,
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
        encoding: encoding of the text; by default detected.
    """
    return _table("jsonl", path, target, targets, columns, drop, missing, group, {"encoding": encoding})


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
) -> FileSource:
    """Return the source of a table in any format; `reader` are the settings of its reader."""
    names = [target] if isinstance(target, str) else list(target)
    types = dict(sorted((columns or {}).items()))
    settings = Settings(names, targets, types, sorted(drop or ()), missing, group, reader)
    title = _title(path)

    def stored(decode: Callable[[], Mapping[str, np.ndarray]], **more: Any) -> Mapping[str, np.ndarray]:
        """Return arrays from the cache, or decode them."""
        for file in [path] if isinstance(path, str) else path.values():
            if name != "parquet":
                existing_file(file)
        content = {"name": title, "format": name, "layout": _LAYOUT, "settings": settings._asdict()}
        with readers.unchanged(path):
            return cached(content | {"content": readers.digest(path)} | more, decode)

    def decoded() -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        arrays = stored(lambda: decode(name, path, settings))
        return arrays, json.loads(arrays["header"].tobytes())

    def spec() -> DatasetSpec:
        arrays, header = decoded()
        for text in header["warnings"]:
            warnings.warn(f"{where_of(path)}: {text}", DataWarning, stacklevel=3)
        kind, number, labels = header["targets"]
        return DatasetSpec(
            title,
            arrays["x"].shape[1:],
            Targets(kind, number, tuple(labels)),
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
        kept = decoded()[0].get("rows")
        arrays = stored(lambda: values_of(name, path, settings, column, kept), column=column)
        if "values" in arrays:
            return arrays["values"]
        return np.array([*json.loads(arrays["texts"].tobytes()), None], object)[arrays["codes"]]

    def encoded_like(known: DatasetSpec) -> FileSource:
        more = {"columns": [column._asdict() for column in known.columns], "targets": known.targets._asdict()}

        def arrays() -> Mapping[str, np.ndarray]:
            return stored(lambda: decode_like(name, path, settings, known), **more, has_missing=known.has_missing)

        def like_spec() -> DatasetSpec:
            result = arrays()
            sizes = zip(json.loads(result["splits"].tobytes()), result["sizes"].tolist(), strict=True)
            return known._replace(name=title, size=len(result["x"]), splits=tuple(sizes))

        return FileSource(like_spec, lambda: Stream(arrays()["x"], arrays()["y"]), values)

    return FileSource(spec, rows, values, encoded_like, summary)


def _title(path: str | Mapping[Any, str]) -> str:
    """Return the name of a dataset: that of its first file, without its extension.

    >>> _title("/data/houses.csv.gz"), _title({"train": "a.v2.csv", "test": "b.csv"})
    ('houses', 'a.v2')
    """
    first = Path(path if isinstance(path, str) else next(iter(path.values())))
    return Path(first.stem).stem if first.suffix == ".gz" else first.stem
