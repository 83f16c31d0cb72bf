"""Read a table and return its features and targets, with everything that is known about both."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.path import existing_path
from fnet.data.source import Column, ColumnSummary, ColumnType, DataError
from fnet.data.table import checks, encode, parse, readers
from fnet.data.table.columns import Typed, column_of, infer, texts_of
from fnet.data.table.targets import targets as targets_of

if TYPE_CHECKING:
    import pandas as pd


class Settings(NamedTuple):
    """The settings that the arrays of a table depend on."""

    target: list[str]
    targets: str | None
    columns: dict[str, ColumnType]
    drop: list[str]
    missing: str
    group: str | None
    reader: dict[str, Any]


def where_of(path: str | Mapping[str, str]) -> str:
    """Return the files of a table as messages name them."""
    return path if isinstance(path, str) else ", ".join(path.values())


def unchanged(path: str | Mapping[str, str], decode: Any) -> dict[str, np.ndarray]:
    """Return the result of decoding files that did not change meanwhile.

    Raises:
        DataError: when they changed.
    """
    before = _signature(path)
    arrays = decode()
    if _signature(path) != before:
        raise DataError(f"{where_of(path)} changed while it was read; wait until it is complete", "path")
    return arrays


def _signature(path: str | Mapping[str, str]) -> list[tuple[int, ...]]:
    """Return size and time of modification of all files."""
    places = [existing_path(one) for one in ([path] if isinstance(path, str) else path.values())]
    found = [file for place in places for file in (sorted(place.iterdir()) if place.is_dir() else [place])]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in map(os.stat, found)]


def decode(name: str, path: str | Mapping[str, str], settings: Settings) -> dict[str, np.ndarray]:
    """Return the features and targets of a table, and what is known about both as JSON."""
    as_text = [
        column for column, kind in settings.columns.items() if kind in ("category", "text", "identifier", "date")
    ]
    table = readers.read(
        path, name=name, **settings.reader, as_text=[*as_text, *([settings.group] if settings.group else [])]
    )
    where = where_of(path)
    _check_names(table.frame, settings, where)
    decimal = settings.reader.get("decimal") or ("," if "decimal comma" in table.notes else None)
    frame: Any = table.frame.drop(columns=settings.drop)
    types = settings.columns | ({settings.group: "identifier"} if settings.group else {})
    empty = _missing(frame, settings, types)
    if settings.missing == "drop":
        kept = ~empty.any(axis=1)
        frame, empty = frame[kept], empty[kept]
    if not len(frame):
        without = " without missing values" if settings.missing == "drop" else ""
        raise DataError(f"{where} does not contain examples{without}", "path")
    y, targets, notes = targets_of(
        _with_targets(frame, empty, settings, where), settings.target, settings.targets, where, decimal
    )
    others = frame.drop(columns=settings.target)
    typed = infer(others, types, where, decimal)
    if settings.missing == "refuse":
        used = {one.column.name for one in typed if one.column.width or one.note == "constant"}
        _refuse_missing(frame, empty, [column in used for column in frame.columns], where, " or mean")
    if not any(one.column.width for one in typed):
        what = (
            "columns besides the target that vary"
            if len(typed)
            else f"columns besides the target '{settings.target[0]}'"
        )
        raise DataError(f"{where} has no {what}", "drop")
    x = encode.features(typed, frame.index, where)
    notes = [*checks.remarks(typed), *notes, *checks.leaks(typed, y, targets)]
    header = {
        "targets": [targets.kind, targets.number, targets.names],
        "columns": [one.column._asdict() for one in typed],
        "splits": _splits(table, frame),
        "warnings": notes,
        "notes": table.notes,
        "summary": [one._asdict() for one in _summary(table.frame, frame, typed, settings)],
    }
    arrays = {"x": x, "y": y, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    return arrays if len(frame) == len(table.frame) else {**arrays, "rows": frame.index.to_numpy()}


def _check_names(frame: "pd.DataFrame", settings: Settings, where: str) -> None:
    """Refuse settings that name columns that do not exist, or that contradict each other."""
    known = [str(name) for name in frame.columns]
    group = [settings.group] if settings.group else []
    chosen = {"target": settings.target, "columns": settings.columns, "drop": settings.drop, "split": group}
    for setting, names in chosen.items():
        for name in names:
            if name not in known:
                raise DataError(f"{where} has no column '{name}'{suggestion(name, known)}", setting)
    for number, name in enumerate(settings.target):
        if name in settings.drop:
            raise DataError(f"the column '{name}' is both the target and dropped", "drop")
        if name in settings.columns:
            raise DataError(f"the column '{name}' is the target; set data.targets instead of its type", "columns")
        if name in settings.target[:number]:
            raise DataError(f"data.target names the column '{name}' twice", "target")


def _missing(frame: "pd.DataFrame", settings: Settings, types: Mapping[str, str]) -> np.ndarray:
    """Return where entries are missing (n, columns), False for columns that are empty or that are identifiers."""
    empty = frame.isna().to_numpy(copy=True)
    targets = np.array([name in settings.target for name in frame.columns])
    ignored = np.array([types.get(str(name)) == "identifier" for name in frame.columns])
    if settings.targets == "labels" and len(settings.target) == 1:
        ignored |= targets  # no entry means no label
    empty[:, ignored | (empty.all(axis=0) & ~targets)] = False
    return empty


def _with_targets(frame: "pd.DataFrame", empty: np.ndarray, settings: Settings, where: str) -> "pd.DataFrame":
    """Return the columns of the targets, after refusing missing ones."""
    fix = " or mean" if settings.missing == "refuse" else ""
    _refuse_missing(frame, empty, [name in settings.target for name in frame.columns], where, fix * 0)
    return frame[settings.target]


def _refuse_missing(frame: "pd.DataFrame", empty: np.ndarray, columns: Sequence[bool], where: str, more: str) -> None:
    """Refuse missing entries in some of the columns."""
    empty = empty & np.array(columns)
    if empty.any():
        row, column = np.argwhere(empty)[0]
        what = f"example {frame.index[row]} has no value for '{frame.columns[column]}'"
        raise DataError(f"{where}: {what}; fill it in, or set data.missing: drop{more}", "missing")


def _splits(table: readers.Table, frame: "pd.DataFrame") -> list[tuple[str, int]]:
    """Return the names and sizes of the splits, of which rows may have been dropped."""
    ends = np.cumsum([0, *(size for _, size in table.splits)])
    counts = np.diff(np.searchsorted(frame.index.to_numpy(), ends))
    return [(name, int(count)) for (name, _), count in zip(table.splits, counts, strict=True)]


def _summary(
    whole: "pd.DataFrame", frame: "pd.DataFrame", typed: Sequence[Typed], settings: Settings
) -> list[ColumnSummary]:
    """Summarize all columns of a table, in its order."""
    known = {one.column.name: one for one in typed}
    result = []
    for name in map(str, whole.columns):
        if name in known:
            note = "divides the examples" if name == settings.group else ""
            result.append(checks.summary(known[name], note=note))
        elif name in settings.target:
            entries = texts_of(column_of(frame, name))
            result.append(
                checks.summary(Typed(Column(name, used=False), "set", entries))._replace(type="", note="target")
            )
        else:
            result.append(ColumnSummary(name, "", "set", 0, 0, (), 0, "dropped"))
    return result


def values_of(name: str, path: str | Mapping[str, str], reader: dict[str, Any], column: str, kept: Any) -> np.ndarray:
    """Return the values of a column that divides the examples: numbers, days since 1970-01-01, or text."""
    frame, where = readers.read(path, name=name, **reader).frame, where_of(path)
    if column not in frame.columns:
        raise DataError(f"{where} has no column '{column}'{suggestion(column, map(str, frame.columns))}", "split")
    series = column_of(frame, column).iloc[kept]
    missing = series.isna().to_numpy()
    if missing.any():
        example = series.index[int(np.argmax(missing))]
        raise DataError(f"{where}: example {example} has no value for '{column}', which divides the examples", "split")
    if series.dtype.kind in "buif":
        return series.to_numpy(np.float64)
    if series.dtype.kind == "M":
        return _days(series.to_numpy())
    entries = texts_of(series)
    dates = parse.dates(entries.texts)
    if dates is not None and not np.isnat(dates.values).any():
        return _days(entries.expand(dates.values, np.datetime64("NaT")))
    return np.array(entries.texts)[entries.codes]


def _days(dates: np.ndarray) -> np.ndarray:
    return dates.astype("datetime64[us]").astype(np.int64) / 86_400e6
