"""Read a table and return its features and targets, with everything that is known about both."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.source import Column, ColumnSummary, ColumnType, DataError, DatasetSpec, DataWarning
from fnet.data.table import checks, encode, parse, readers
from fnet.data.table.columns import Typed, column_of, infer, texts_of
from fnet.data.table.targets import targets as targets_of
from fnet.data.table.targets import targets_like

if TYPE_CHECKING:
    import pandas as pd


SUMMARIZED = 1000
"""Maximum number of columns besides the targets that are summarized for a person."""


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


def decode(name: str, path: str | Mapping[str, str], settings: Settings) -> dict[str, np.ndarray]:
    """Return the features and targets of a table, and what is known about both as JSON."""
    types = settings.columns | ({settings.group: "identifier"} if settings.group else {})
    as_text = [column for column, kind in types.items() if kind not in ("number", "boolean")]
    table = readers.read(path, name=name, **settings.reader, as_text=as_text)
    where = where_of(path)
    _check_names(table.frame, settings, where)
    frame: Any = table.frame.drop(columns=settings.drop)
    empty = _missing(frame, settings, types)
    if settings.missing == "drop":
        kept = ~empty.any(axis=1)
        frame, empty = frame[kept], empty[kept]
    if not len(frame):
        without = " without missing values" if settings.missing == "drop" else ""
        raise DataError(f"{where} does not contain examples{without}", "path")
    y, targets, notes = targets_of(
        _with_targets(frame, empty, settings, where), settings.target, settings.targets, where, table.decimal
    )
    others = frame.drop(columns=settings.target)
    typed = infer(others, types, where, table.decimal)  # pyright: ignore[reportArgumentType] (types from the schema)
    if settings.missing == "refuse":
        used = {one.column.name for one in typed if one.column.width or one.note == "constant"}
        _refuse_missing(frame, empty, [column in used for column in frame.columns], where, " or mean")
    if not typed:
        raise DataError(f"{where} has no columns besides the target '{settings.target[0]}'", "drop")
    if not any(one.column.width for one in typed):
        raise DataError(f"{where} has no features: {'; '.join(checks.remarks(typed))}", "columns")
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


def decode_like(
    name: str, path: str | Mapping[str, str], settings: Settings, known: DatasetSpec
) -> dict[str, np.ndarray]:
    """Return the features and targets of a table, encoded as for the network that was trained on another.

    Raises:
        DataError: as for `encode.encode`, and for a class or label that did not occur in training.
    """
    where = where_of(path)
    table = readers.read(path, name=name, **settings.reader, as_text=encode.as_text(known.columns))
    encode.refuse_without(table.frame, [column.name for column in known.columns if column.width], where)
    columns = [column.name for column in known.columns if column.name in table.frame]
    more = [one for one in map(str, table.frame.columns) if one not in {*columns, *settings.target, *settings.drop}]
    if more:
        text = f"{where}: {checks.columns_named(more)} ignored, because the network was not trained with such columns"
        warnings.warn(text, DataWarning, stacklevel=2)
    frame: Any = table.frame
    if settings.missing == "drop":
        frame = frame.dropna(subset=[column.name for column in known.columns if column.width] + settings.target)
    if not len(frame):
        raise DataError(f"{where} does not contain examples", "path")
    sizes = _splits(table, frame)
    return {
        "x": encode.encode(frame, known.columns, where, has_missing=known.has_missing),
        "y": targets_like(frame, settings.target, known.targets, where, table.decimal),
        "splits": np.frombuffer(json.dumps([split for split, _ in sizes]).encode(), np.uint8),
        "sizes": np.array([size for _, size in sizes], np.int64),
    }


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
            raise DataError(
                f"the column '{name}' is the target; set data.targets instead, and remove it from data.columns",
                "columns",
            )
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


def _with_targets(frame: "pd.DataFrame", empty: np.ndarray, settings: Settings, where: str) -> Any:
    """Return the columns of the targets, after refusing missing ones."""
    _refuse_missing(frame, empty, [name in settings.target for name in frame.columns], where, "")
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
    typed = typed[:SUMMARIZED]
    targets = [
        Typed(Column(name, used=False), "set", texts_of(column_of(frame, name)), note="target")
        for name in settings.target
    ]
    known = {one.name: one for one in [*checks.summaries(typed), *checks.summaries(targets)]}
    for name in settings.target:
        known[name] = known[name]._replace(type="")
    if settings.group in known:
        known[settings.group] = known[settings.group]._replace(note="divides the examples")
    dropped = {name: ColumnSummary(name, "", "set", 0, 0, (), 0, "dropped") for name in settings.drop}
    known |= dropped
    return [known[name] for name in map(str, whole.columns) if name in known]


def values_of(
    name: str, path: str | Mapping[str, str], settings: Settings, column: str, kept: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return a column as `values`, numbers or dates, or as `texts` in JSON and the `codes` that index them.

    Args:
        name: the format.
        path: the file or files.
        settings: the settings of the table.
        column: name of the column.
        kept: numbers of the examples that are not dropped; None for all.

    Raises:
        DataError: for a column that does not exist.
    """
    kind = settings.columns.get(column)
    as_text = [column] if kind in ("category", "text", "identifier", "date") else []
    frame, where = readers.read(path, name=name, **settings.reader, as_text=as_text).frame, where_of(path)
    if column not in frame.columns:
        raise DataError(f"{where} has no column '{column}'{suggestion(column, map(str, frame.columns))}", "split")
    series = column_of(frame if kept is None else frame.iloc[kept], column)
    if series.dtype.kind in "buifM" and not as_text:
        return {"values": series.to_numpy(np.float64 if series.dtype.kind != "M" else "datetime64[us]")}
    entries = texts_of(series)
    if kind in (None, "number", "date"):
        numbers = parse.numbers(entries.texts) if kind != "date" else None
        if numbers is not None and np.isfinite(numbers.values).all():
            return {"values": entries.expand(numbers.values, np.nan)}
        dates = parse.dates(entries.texts)
        if dates is not None and not np.isnat(dates.values).any():
            return {"values": entries.expand(dates.values, np.datetime64("NaT"))}
    return {"codes": entries.codes, "texts": np.frombuffer(json.dumps(entries.texts).encode(), np.uint8)}
