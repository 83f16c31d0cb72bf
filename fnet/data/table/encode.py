"""Features of the columns of a table, for training and for prediction."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fnet.core.wording import printable, shorten, suggestion
from fnet.data.arrays import as_float32
from fnet.data.memory import refuse_beyond_memory
from fnet.data.source import Column, DataError, DatasetSpec, DataWarning
from fnet.data.table import parse, readers
from fnet.data.table.columns import (
    Texts,
    Typed,
    column_of,
    date_parts,
    refuse_infinite,
    refuse_misfits,
    texts_of,
    words,
)

if TYPE_CHECKING:
    import pandas as pd


def features(typed: Sequence[Typed], index: "pd.Index", where: str) -> np.ndarray:
    """Return the features (n, features) of columns with their types; NaN for missing entries.

    Args:
        typed: the columns.
        index: numbers of the examples.
        where: the file, for messages.

    Raises:
        DataError: for numbers that are infinite in single precision, or features that do not fit in memory.
    """
    widths = [one.column.width for one in typed]
    width, starts = sum(widths), np.cumsum([0, *widths])
    what = f"{where}: {len(index):,} examples of {width:,} features"
    refuse_beyond_memory(8 * len(index) * width, what, "leave out columns of many categories with data.drop", "drop")
    x = np.empty((len(index), width), np.float32)
    plain = [number for number, one in enumerate(typed) if widths[number] and _is_plain(one)]
    if plain:
        block = np.stack([typed[number].entries for number in plain], axis=1)  # pyright: ignore[reportArgumentType, reportCallIssue]
        refuse_infinite([typed[number].column.name for number in plain], block, index, where)
        x[:, starts[plain]] = as_float32(block)
    for number in set(range(len(typed))) - set(plain):
        if widths[number]:
            values = _features(typed[number])
            if typed[number].column.type == "number":
                refuse_infinite([typed[number].column.name], values, index, where)
            x[:, starts[number] : starts[number] + widths[number]] = as_float32(values)
    return x


def _is_plain(typed: Typed) -> bool:
    return typed.column.type in ("number", "boolean") and isinstance(typed.entries, np.ndarray)


def _features(typed: Typed) -> np.ndarray:
    """Return the features of one column (n, width)."""
    column, entries, parsed = typed.column, typed.entries, typed.parsed
    if not isinstance(entries, Texts):
        return entries[:, None] if column.type != "date" else _dates(column, entries)
    if parsed is not None:
        values = _dates(column, parsed) if column.type == "date" else parsed[:, None]
        return np.concatenate([values, np.full((1, values.shape[1]), np.nan)])[entries.codes]
    return _counts(column, entries) if column.type == "text" else _one_hot(column, entries)


def _dates(column: Column, dates: np.ndarray) -> np.ndarray:
    """Return the parts of dates that vary in the training table, (n, parts)."""
    missing = np.isnat(dates)
    parts = date_parts(np.where(missing, np.datetime64(column.origin, "us"), dates), column.origin)
    return np.where(missing[:, None], np.nan, np.stack([parts[part] for part in column.parts], axis=1))


def _one_hot(column: Column, entries: Texts) -> np.ndarray:
    """Return one-hot features (n, categories): NaN for a missing entry, 0 for a category that is not known."""
    known = {category: number for number, category in enumerate(column.categories or ())}
    numbers = entries.expand(np.array([known.get(text, -1) for text in entries.texts], np.int64), -2)
    values = (numbers[:, None] == np.arange(len(known))).astype(np.float32)
    values[numbers == -2] = np.nan
    return values


def _counts(column: Column, entries: Texts) -> np.ndarray:
    """Return how often every word occurs in a text, (n, words): NaN for a missing entry."""
    known = {word: number for number, word in enumerate(column.categories or ())}
    counts = np.zeros((len(entries.texts) + 1, len(known)), np.float32)
    for row, text in enumerate(entries.texts):
        for word in words(text):
            if word in known:
                counts[row, known[word]] += 1
    counts[-1] = np.nan
    return counts[entries.codes]


def as_text(columns: Sequence[Column]) -> list[str]:
    """Return the names of the columns that must be read as text to be encoded like the training table."""
    return [column.name for column in columns if column.form or column.type in ("category", "text", "identifier")]


def encode(frame: "pd.DataFrame", columns: Sequence[Column], where: str, *, has_missing: bool) -> np.ndarray:
    """Encode a table as features (n, features), like the table that a network was trained on.

    Columns that are not features, such as the target, are ignored. A category that did not occur in training has the
    value 0 for all features of its column; a DataWarning counts such entries. Dates use the formula of training, also
    where they are later than all dates of training.

    Args:
        frame: the table.
        columns: columns of the table that the network was trained on, as in `DatasetSpec.columns`.
        where: the file, for messages.
        has_missing: whether values may be missing; missing values become NaN.

    Raises:
        DataError: for a column that does not exist, an entry of another type, or a missing value.
    """
    refuse_without(frame, [column.name for column in columns if column.width], where)
    typed = [_like(frame, column, where, has_missing) for column in columns if column.width]
    return features(typed, frame.index, where)


def refuse_without(frame: "pd.DataFrame", names: Sequence[str], where: str) -> None:
    """Refuse a table without the columns that a network was trained on.

    Raises:
        DataError: that names all of them, and a similar name for a single one.
    """
    lacking = [name for name in names if name not in frame.columns]
    if len(lacking) == 1:
        near = suggestion(lacking[0], map(str, frame.columns))
        raise DataError(f"{where} has no column '{lacking[0]}', which the network was trained on{near}")
    if lacking:
        quoted = ", ".join(f"'{name}'" for name in lacking)
        raise DataError(f"{where} has no columns {shorten(quoted, 200)}, which the network was trained on")


def _like(frame: "pd.DataFrame", column: Column, where: str, has_missing: bool) -> Typed:
    """Return the entries of a column, read as in the training table."""
    name = column.name
    series = column_of(frame, name)
    missing = series.isna().to_numpy()
    if missing.any() and not has_missing:
        example = frame.index[int(np.argmax(missing))]
        raise DataError(f"{where}: example {example} has no value for '{name}'; fill it in")
    if series.dtype.kind in "buif" and column.type in ("number", "boolean"):
        return Typed(column, "set", series.to_numpy(np.float64))
    if series.dtype.kind == "M" and column.type == "date":
        return Typed(column, "set", series.to_numpy().astype("datetime64[us]"))
    entries = texts_of(series)
    return Typed(column, "set", entries, _parsed(series, column, entries, where))


def _parsed(series: "pd.Series", column: Column, entries: Texts, where: str) -> np.ndarray | None:
    """Return the values of texts; None for categories and free text."""
    texts = entries.texts
    if column.type == "category":
        _warn_unknown(column, entries, where)
    if column.type == "number":
        values = parse.read_numbers(texts, column.form or ".")
        plain = np.isnan(values)
        if plain.any() and column.form:  # a number without the unit
            values[plain] = parse.read_numbers([texts[i] for i in np.flatnonzero(plain)], column.form[0])
        refuse_misfits(series, entries, ~np.isfinite(values), "numbers", where, None)
        return values
    if column.type == "boolean":
        values = parse.read_truths(texts)
        refuse_misfits(series, entries, np.isnan(values), "true or false", where, None)
        return values
    if column.type == "date":
        values = parse.read_dates(texts, column.form or parse.FORMATS[0])
        if np.isnat(values).any():
            values = np.where(np.isnat(values), parse.read_dates(texts, parse.FORMATS[0]), values)
        refuse_misfits(series, entries, np.isnat(values), "dates, such as 2024-01-31,", where, None)
        return values
    return None


def warn_unknown(frame: "pd.DataFrame", columns: Sequence[Column], where: str) -> None:
    """Warn of categories that did not occur in training, before the rows of a table are encoded some at a time."""
    for column in columns:
        if column.type == "category" and column.width and column.name in frame.columns:
            _warn_unknown(column, texts_of(column_of(frame, column.name)), where)


def _warn_unknown(column: Column, entries: Texts, where: str) -> None:
    """Warn of categories that did not occur in training."""
    known = set(column.categories or ())
    unknown = np.array([text not in known for text in entries.texts], bool)
    if unknown.any():
        number = int(entries.expand(unknown, False).sum())
        _, text = entries.first_row(unknown)
        what = f"{number:,} of {len(entries.codes):,} entries of '{column.name}', such as '{printable(text)}',"
        message = f"{where}: {what} did not occur in training; their features are 0"
        warnings.warn(message, DataWarning, stacklevel=2)


def frame_like(path: Path, spec: DatasetSpec) -> "pd.DataFrame":
    """Read a table whose columns have the types that they had in training.

    Raises:
        DataError: for a table without rows, or without one of the columns.
    """
    if not spec.columns:
        raise DataError(f"{path} is a table, but the network was trained on arrays of shape {spec.shape}")
    table = readers.read(str(path), name=readers.format_of(path) or "csv", as_text=as_text(spec.columns))
    if table.frame.empty:
        raise DataError(f"{path} does not contain examples")
    refuse_without(table.frame, [column.name for column in spec.columns if column.width], str(path))
    return table.frame


def identifiers(frame: "pd.DataFrame", columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return the entries of the identifier columns of a table; empty text for a missing one."""
    names = [column.name for column in columns if column.type == "identifier" and column.name in frame.columns]
    entries = {name: texts_of(column_of(frame, name)) for name in names}
    return {name: np.array([*texts, ""], object)[codes].tolist() for name, (codes, texts) in entries.items()}
