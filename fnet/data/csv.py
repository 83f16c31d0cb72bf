"""Tables of comma-separated values: one example per line, one column per feature, one column of targets."""

import contextlib
import csv as lines
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TextIO

import numpy as np
from annotated_types import Len, MinLen

from fnet.core.wording import suggestion
from fnet.data.arrays import as_float32
from fnet.data.cache import cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import FileSource, PathText, digest, existing_file, file_errors, open_file
from fnet.data.source import Column, DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000
"""Maximum number of categories in a column, each of which is a feature."""

MAX_CLASSES = 20
"""Maximum number of different whole numbers that are taken as classes by default."""

_BYTES_PER_ENTRY = 24
"""Memory for an entry of a table while it is parsed and converted, in bytes."""

_LAYOUT = 2
"""Version of the arrays in the cache."""

ColumnName = Annotated[str, MinLen(1)]


class _Settings(NamedTuple):
    """The settings that the arrays of a table depend on."""

    target: str
    targets: str | None
    categorical: list[str]
    drop: list[str]
    missing: str
    separator: str


def csv(
    path: PathText,
    target: ColumnName,
    targets: Literal["classes", "values"] | None = None,
    categorical: list[ColumnName] | None = None,
    drop: list[ColumnName] | None = None,
    missing: Literal["refuse", "mean", "drop"] = "refuse",
    separator: Annotated[str, Len(1, 1)] = ",",
) -> FileSource:
    """A table in a .csv file whose first line names the columns.

    Columns of text are one-hot encoded, with one feature per category in alphabetical order; all other columns are
    numeric. The file is parsed once; later reads come from the cache of decoded arrays.

    Args:
        path: the file.
        target: name of the column to predict.
        targets: classes or values; by default classes if the column contains text, booleans, or at most 20 different
            whole numbers.
        categorical: numeric columns to one-hot encode as well.
        drop: columns to ignore.
        missing: how to treat an empty entry (or NA, NaN, null): refuse the file, replace it with the column's mean over
            the training part, or drop the line.
        separator: character between entries.
    """
    settings = _Settings(target, targets, sorted(categorical or ()), sorted(drop or ()), missing, separator)

    def table() -> tuple[Path, dict[str, np.ndarray]]:
        csv_path = existing_file(path)
        key = {"name": csv_path.stem, "format": "csv", "content": digest(csv_path), "layout": _LAYOUT}
        return csv_path, dict(cached(key | {"settings": settings._asdict()}, lambda: _decode(csv_path, settings)))

    def spec() -> DatasetSpec:
        csv_path, arrays = table()
        header = json.loads(str(arrays["header"]))
        names = tuple(header["targets"])
        return DatasetSpec(
            csv_path.stem,
            arrays["x"].shape[1:],
            Targets("classes" if arrays["y"].ndim == 1 else "values", len(names), names),
            len(arrays["x"]),
            has_missing=missing == "mean",
            columns=tuple(Column(name, None if texts is None else tuple(texts)) for name, texts in header["columns"]),
        )

    def rows() -> Stream:
        _, arrays = table()
        return Stream(arrays["x"], arrays["y"])

    return FileSource(spec, rows)


def encode(path: Path, columns: Sequence[Column], *, has_missing: bool) -> np.ndarray:
    """Encode a table as features (n, features), like the table that a network was trained on.

    Other columns, such as the target, are ignored. The separator is the most frequent of comma, semicolon, tab and
    vertical bar in the first line.

    Args:
        path: the file.
        columns: columns of the table that the network was trained on, as in `DatasetSpec.columns`.
        has_missing: whether values may be missing; missing values become NaN.

    Raises:
        DataError: for a column that does not exist, text in a numeric column, a category that did not occur in
            training, or a missing value.
    """
    with _text_of(path) as opened:
        separator = max(",;\t|", key=opened.readline().count)
    header = _header(path, separator)
    table = _read(path, separator, header)
    features = []
    for column in columns:
        values = _column(path, table, column.name, header, has_missing)
        if column.categories is None:
            features.append(_numbers(path, table, values)[:, None])
        else:
            features.append(_known_categories(path, table, values, column.categories))
    return as_float32(np.concatenate(features, axis=1))


def _decode(path: Path, settings: _Settings) -> dict[str, np.ndarray]:
    """Return the features and targets of a table, and the names of both as JSON."""
    table = _checked_table(path, settings)
    target = settings.target
    y, names = _targets(path, table, target, settings.targets)
    columns, x = _features(path, table.drop(columns=target), settings.categorical)
    if not columns:
        raise DataError(f"{path} has no columns besides the target '{target}'", "drop")
    header = {"targets": names, "columns": columns}
    return {"x": x, "y": y, "header": np.array(json.dumps(header))}


def _checked_table(path: Path, settings: _Settings) -> "pd.DataFrame":
    """Read a table without the dropped columns, and check its columns and missing values."""
    header = _header(path, settings.separator)
    target, drop, missing = settings.target, settings.drop, settings.missing
    for setting, names in (("target", [target]), ("categorical", settings.categorical), ("drop", drop)):
        for name in names:
            if name not in header:
                raise DataError(f"{path} has no column '{name}'{suggestion(name, header)}", setting)
    if target in drop:
        raise DataError(f"the column '{target}' is both the target and dropped", "drop")
    table = _read(path, settings.separator, header).drop(columns=drop)
    if missing == "drop":
        table = table.dropna()
    empty = table.isna() if missing == "refuse" else table[[target]].isna()
    if empty.to_numpy().any():
        row, column = np.argwhere(empty.to_numpy())[0]
        fix = "fill it in, or set data.missing: drop" + (" or mean" if missing == "refuse" else "")
        what = f"example {_example(table, row)} has no value for '{empty.columns[column]}'"
        raise DataError(f"{path}: {what}; {fix}", "missing")
    if table.empty:
        without = " without missing values" if missing == "drop" else ""
        raise DataError(f"{path} does not contain examples{without}", "path")
    return table


def _header(path: Path, separator: str) -> list[str]:
    """Return the names of the columns; check the length of every line, because pandas would pad short ones.

    Raises:
        DataError: for a line of another length, an invalid name of a column, or a table that does not fit in memory.
    """
    number = 0
    with _text_of(path) as opened, _fields_of_any_length():
        rows = lines.reader(_without_nul(path, opened), delimiter=separator)
        header = next(rows, [])
        _check_names(path, header)
        for row in rows:
            if row and len(row) != len(header):
                more = f"; check data.separator, which is '{separator}'" if len(header) == 1 else ""
                what = f"line {rows.line_num} has {len(row)} entries, but the first line names {len(header)} columns"
                raise DataError(f"{path}: {what}{more}", "path")
            number += bool(row)
    if not header:
        raise DataError(f"{path} is empty", "path")
    needed = _BYTES_PER_ENTRY * number * len(header) + path.stat().st_size
    what = f"{path}: a table of {number:,} lines and {len(header):,} columns"
    refuse_beyond_memory(needed, what, "divide it, or save it as an array (.npz), which is read in chunks", "path")
    return header


def _check_names(path: Path, header: Sequence[str]) -> None:
    for number, (name, occurrences) in enumerate(Counter(header).items(), 1):
        if occurrences > 1 and name:
            raise DataError(f"{path} names {occurrences} columns '{name}'; rename them", "path")
        if not name:
            what = f"the first line does not name column {number}"
            raise DataError(f"{path}: {what}; name it, and exclude it with data.drop if it is not a feature", "path")


@contextlib.contextmanager
def _text_of(path: Path) -> Iterator[TextIO]:
    """Open a file as text in UTF-8, without a byte order mark."""
    with file_errors(path), io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as opened:
        yield opened


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the limit of 131,072 characters per entry that Python's reader has."""
    before = lines.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        lines.field_size_limit(before)


def _without_nul(path: Path, opened: TextIO) -> Iterator[str]:
    """Yield the lines of a text, and refuse NUL characters, which readers of tables treat differently."""
    for number, line in enumerate(opened, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number} contains a NUL character; save the table as text in UTF-8", "path")
        yield line


def _read(path: Path, separator: str, header: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    with file_errors(path), open_file(path) as opened:
        table = pd.read_csv(
            opened,
            sep=separator,
            index_col=False,
            skip_blank_lines=True,
            low_memory=False,
            names=list(header),
            header=0,
            encoding="utf-8-sig",
        ).copy()  # fmt: skip (a copy has one block per dtype instead of one per column, which is much faster)
    for name in (name for name, dtype in table.dtypes.items() if dtype is np.dtype(object)):
        if pd.api.types.infer_dtype(table[name], skipna=True) in ("integer", "mixed-integer-float"):
            table[name] = table[name].astype(np.float64)  # integers of more than 64 bits
    return table


def _column(path: Path, table: "pd.DataFrame", name: str, header: list[str], has_missing: bool) -> "pd.Series":
    if name not in header:
        near = suggestion(name, header)
        raise DataError(f"{path} has no column '{name}', which the network was trained on{near}")
    missing = table[name].isna().to_numpy()
    if missing.any() and not has_missing:
        example = _example(table, int(np.argmax(missing)))
        raise DataError(f"{path}: example {example} has no value for '{name}'; fill it in")
    return table[name]  # pyright: ignore[reportReturnType] (the names of columns differ)


def _numbers(path: Path, table: "pd.DataFrame", column: "pd.Series") -> np.ndarray:
    """Return the numbers of a column (n,); NaN for missing values."""
    import pandas as pd

    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)
    wrong = ~np.isfinite(numbers) & column.notna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        received = f"'{column.iloc[row]}' for example {_example(table, row)}"
        raise DataError(f"{path}: expected numbers in '{column.name}', got {received}")
    return numbers


def _known_categories(
    path: Path, table: "pd.DataFrame", column: "pd.Series", categories: tuple[str, ...]
) -> np.ndarray:
    """One-hot encode a column over the training categories, (n, categories); NaN for missing values."""
    index = {category: number for number, category in enumerate(categories)}
    missing = column.isna().to_numpy()
    numbers = column.map(_text).map(index).to_numpy(np.float64)
    unknown = np.isnan(numbers) & ~missing
    if unknown.any():
        row = int(np.argmax(unknown))
        what = f"'{column.iloc[row]}' for '{column.name}' of example {_example(table, row)} did not occur in training"
        raise DataError(f"{path}: {what}; known: {', '.join(categories)}")
    return np.where(missing[:, None], np.nan, numbers[:, None] == np.arange(len(categories)))


def _targets(path: Path, table: "pd.DataFrame", name: str, kind: str | None) -> tuple[np.ndarray, list[str]]:
    """Return the targets, and the names of their classes, or the name of the value."""
    column = table[name]
    is_text = column.dtype.kind not in "buif"
    if not is_text:
        _refuse_infinite(path, table.filter([name]))
    values = column.astype(str).to_numpy() if is_text else column.to_numpy()
    different, labels = np.unique(values, return_inverse=True)
    if kind is None:
        whole = not is_text and bool(np.all(values == np.round(values)))
        few = whole and len(different) <= MAX_CLASSES
        kind = "classes" if is_text or values.dtype.kind == "b" or few else "values"
    if kind == "values":
        if is_text:
            raise DataError(f"{path}: expected numbers in '{name}', got text; set data.targets: classes", "targets")
        return as_float32(values)[:, None], [name]
    if len(different) < 2:
        what = f"'{name}' is '{_text(different[0])}' in every row"
        raise DataError(f"{path}: {what}; classification needs at least two classes", "target")
    return labels.astype(np.int32), [_text(label) for label in different]


def _features(path: Path, table: "pd.DataFrame", categorical: Sequence[str]) -> tuple[list[Column], np.ndarray]:
    """Return the columns of a table and its features (n, features); NaN for missing values."""
    numeric = [kind.kind in "buif" and name not in categorical for name, kind in table.dtypes.items()]
    numbers: Any = table.loc[:, numeric]
    _refuse_infinite(path, numbers)
    columns = [
        Column(name) if is_numeric else _one_hot_column(path, table[name], stray=name not in categorical)
        for name, is_numeric in zip(table.columns, numeric, strict=True)
    ]
    width = sum(column.width for column in columns)
    what = f"{path}: {len(table):,} examples of {width:,} features"
    refuse_beyond_memory(8 * len(table) * width, what, "leave out columns of many categories with data.drop", "drop")
    x = np.empty((len(table), width), np.float32)
    starts = np.cumsum([0, *(column.width for column in columns)])
    x[:, starts[:-1][numeric]] = as_float32(numbers.to_numpy(np.float64))
    for column, start in zip(columns, starts.tolist(), strict=False):
        if column.categories is not None:
            x[:, start : start + column.width] = _one_hot(table[column.name], column.width)
    return columns, x


def _one_hot_column(path: Path, column: Any, *, stray: bool) -> Column:
    """Return the categories of a column, in their order; with `stray`, refuse a column of numbers with a typo."""
    if stray:
        _refuse_stray_text(path, column)
    categories = _categories(column)
    if len(categories) > MAX_CATEGORIES:
        what = f"expected at most {MAX_CATEGORIES} categories in the column '{column.name}', got {len(categories)}"
        raise DataError(f"{path}: {what}; ignore the column with data.drop: [{column.name}]", "drop")
    return Column(str(column.name), tuple(map(_text, categories)))


def _categories(column: "pd.Series") -> list[Any]:
    return sorted(column.dropna().unique())


def _one_hot(column: Any, width: int) -> np.ndarray:
    """Return the features of a column, (n, categories); NaN for missing values."""
    import pandas as pd

    coded = pd.Categorical(column, categories=_categories(column))
    features = (np.asarray(coded.codes)[:, None] == np.arange(width)).astype(np.float32)
    features[column.isna()] = np.nan
    return features


def _text(value: Any) -> str:
    """Return a class or category as text, whole numbers without a decimal point.

    >>> _text("3"), _text(3), _text(np.float64(3)), _text(0.5), _text(True)
    ('3', '3', '3', '0.5', 'True')
    """
    is_whole = isinstance(value, float | np.floating) and np.isfinite(value) and value == round(value)
    return str(int(value)) if is_whole else str(value)


def _refuse_infinite(path: Path, table: "pd.DataFrame") -> None:
    """Refuse columns of numbers in which one is infinite in single precision."""
    values = table.to_numpy(np.float64)
    infinite = np.isinf(as_float32(values))
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        what = f"example {_example(table, row)} has the value {values[row, column]:g} for '{table.columns[column]}'"
        raise DataError(f"{path}: {what}, which is infinite in single precision; remove or replace it", "path")


def _refuse_stray_text(path: Path, column: "pd.Series") -> None:
    """Refuse a column of numbers with a typo, which would otherwise silently become thousands of categories."""
    import pandas as pd

    known, name = column.dropna(), column.name
    is_number = np.isfinite(np.asarray(pd.to_numeric(known, errors="coerce"), np.float64))
    if is_number.size and 0.5 < is_number.mean() < 1:
        row = int(np.flatnonzero(~is_number)[0])
        what = f"'{name}' contains numbers, but '{known.iloc[row]}' for example {_example(known, row)}"
        raise DataError(f"{path}: {what}; fix it, or set data.categorical: [{name}]", "categorical")


def _example(table: "pd.DataFrame | pd.Series", position: int) -> int:
    """Return the index in the file of the example at a position, which differ if lines were dropped."""
    return int(table.index[position])
