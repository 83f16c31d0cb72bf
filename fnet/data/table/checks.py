"""Remarks on the columns of a table that the user should know about: constants, identifiers and leaks."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from fnet.core.wording import shorten
from fnet.data.arrays import ENTRIES
from fnet.data.source import ColumnSummary, Targets
from fnet.data.table import parse
from fnet.data.table.columns import MIN_ROWS, Texts, Typed, text_of

T = TypeVar("T")

LEAK = 0.9999
"""Absolute correlation with a target above which a column determines it."""

_SAMPLE = 2000
_LISTED = 5


def remarks(typed: Sequence[Typed]) -> list[str]:
    """Return remarks on columns that give no features though the user did not say so, and on uncertain types."""
    inferred = [one for one in typed if one.origin == "inferred"]
    result = []
    for note in ("empty", "constant"):
        names = [one.column.name for one in typed if one.note == note]
        if names:
            result.append(f"{columns_named(names)} {note}, and left out of the features")
    names = [one.column.name for one in inferred if one.column.type == "identifier" and not one.note]
    if names:
        they = "are taken as identifiers, because their values differ" if len(names) > 1 else (
            "is taken as an identifier, because its values differ"
        )  # fmt: skip
        kind = (
            "category"
            if isinstance(next(o for o in inferred if o.column.name == names[0]).entries, Texts)
            else "number"
        )
        fix = f"to use it as a feature, set data.columns: {{{names[0]}: {kind}}}"
        result.append(f"{columns_named(names, verb=False)} {they} in every row, and left out of the features; {fix}")
    for one in typed:
        name = one.column.name
        if one.column.type == "category" and one.note not in ("", "constant", "empty"):
            fix = f"set data.columns: {{{name}: category}} for all of them, or drop it"
            result.append(f"the column '{name}' gives {one.note} as features; {fix}")
        if one.note in parse.NOTES_ON_POINTS:
            result.append(points_named(name, one.note))
        if one.column.type == "date" and one.note.startswith("could"):
            form = "day/month" if one.column.form.startswith("%d") else "month/day"
            result.append(
                f"the dates in '{name}' {one.note}; they are read as {form}; write them as 2024-01-31 to be sure"
            )
    return result


def points_named(name: str, note: str) -> str:
    """Return a remark on numbers such as 1.234, whose points could be decimal points or divide thousands."""
    if note == parse.THOUSANDS:
        return f"the points in '{name}' divide thousands, so that 1.234 is read as 1234; else set data.decimal: '.'"
    return f"the points in '{name}' are read as decimal points; if they divide thousands, set data.decimal: ','"


def columns_named(names: Sequence[str], *, verb: bool = True) -> str:
    """Return the names of columns as the subject of a sentence.

    >>> columns_named(["a"]), columns_named(["a", "b"])
    ("the column 'a' is", "the columns 'a', 'b' are")
    """
    quoted = ", ".join(f"'{name}'" for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    subject = f"the column{'s' if len(names) > 1 else ''} {quoted}{more}"
    return subject + (" are" if len(names) > 1 else " is") * verb


def leaks(typed: Sequence[Typed], y: np.ndarray, targets: Targets) -> list[str]:
    """Return a remark on the columns that determine the target, which would usually not be known when it is predicted.

    A column of numbers determines a value or label if their absolute correlation exceeds `LEAK`. A column of numbers,
    truth values or categories determines the class if all rows with the same value have the same class, and it has at
    most half as many different values as the table has rows.
    """
    if len(y) < MIN_ROWS:
        return []
    used = [one for one in typed if one.column.width and one.column.type in ("number", "boolean", "category")]
    numbers = [one for one in used if one.column.type != "category"]
    found: list[str] = []
    for part in _chunks(numbers, len(y)):
        rows = np.stack([_numbers(one) for one in part])
        leaking = _determine_class(rows, y) if targets.kind == "classes" else _correlated(rows, y)
        found += [one.column.name for one, leaks in zip(part, leaking, strict=True) if leaks]
    if targets.kind == "classes":
        texts = [(one, one.entries) for one in used if one.column.type == "category"]
        found += [
            one.column.name
            for one, entries in texts
            if isinstance(entries, Texts) and _codes_determine_class(entries, y)
        ]
    if not found:
        return []
    exactly = "determine" if len(found) > 1 else "determines"
    fix = f"if it would not be known for a prediction, set data.drop: [{found[0]}]"
    what = f"{columns_named(found, verb=False)} {exactly} the target exactly"
    return [f"{what}, so the target may leak into the features; {fix}"]


def _numbers(one: Typed) -> np.ndarray:
    if isinstance(one.entries, Texts):
        assert one.parsed is not None
        return one.entries.expand(one.parsed, np.nan)
    return one.entries


def _chunks(items: Sequence[T], rows: int) -> list[Sequence[T]]:
    """Divide columns into chunks that fit in a processor's cache."""
    step = max(1, ENTRIES // rows)
    return [items[start : start + step] for start in range(0, len(items), step)]


def _correlated(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which columns (k, n) have a correlation of almost 1 or -1 with one of the targets (n, m)."""
    known = ~np.isnan(columns)
    x = np.where(known, columns, 0)
    x = np.where(known, x - (x.sum(axis=1) / known.sum(axis=1))[:, None], 0)
    z = y.astype(np.float64) - y.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(x).sum(axis=1))[:, None] * np.sqrt(np.square(z).sum(axis=0))
    return ((np.abs(x @ z) > LEAK * scale) & (scale > 0)).any(axis=1)


def _determine_class(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which columns (k, n) have one class per value, and on average at least two rows per value."""
    candidates = 2 * _distinct(columns) <= len(y)
    for rows in (slice(_SAMPLE), slice(None)):
        if candidates.any():
            order = np.argsort(columns[candidates, rows], axis=1)
            x, labels = np.take_along_axis(columns[candidates, rows], order, axis=1), y[rows][order]
            same = (x[:, 1:] == x[:, :-1]) | (np.isnan(x[:, 1:]) & np.isnan(x[:, :-1]))
            candidates[candidates] = ~(same & (labels[:, 1:] != labels[:, :-1])).any(axis=1)
    return candidates


def _distinct(columns: np.ndarray) -> np.ndarray:
    """Return the number of different values of columns (k, n), missing ones excluded.

    >>> _distinct(np.array([[3.0, np.nan, 3.0, 1.0], [np.nan] * 4])).tolist()
    [2, 0]
    """
    x = np.sort(columns, axis=1)
    known = ~np.isnan(x)
    return known[:, 0] + ((x[:, 1:] != x[:, :-1]) & known[:, 1:]).sum(axis=1)


def _codes_determine_class(entries: Texts, y: np.ndarray) -> bool:
    """Return whether all rows with the same text have the same class."""
    number = len(entries.texts) + 1
    if 2 * number > len(y) + 2:
        return False
    one = np.zeros(number, y.dtype)
    one[entries.codes] = y
    return bool((one[entries.codes] == y).all())


def summaries(typed: Sequence[Typed]) -> list[ColumnSummary]:
    """Summarize columns."""
    plain = [number for number, one in enumerate(typed) if isinstance(one.entries, np.ndarray)]
    distinct = dict.fromkeys(range(len(typed)), 0)
    for part in _chunks(plain, len(typed[plain[0]].entries)) if plain else ():
        entries: list[Any] = [typed[number].entries for number in part]
        numbers = [
            np.where(np.isnat(one), np.nan, one.astype(np.float64)) if one.dtype.kind == "M" else one for one in entries
        ]
        distinct |= zip(part, _distinct(np.stack(numbers)).tolist(), strict=True)
    return [_summary(one, distinct[number]) for number, one in enumerate(typed)]


def _summary(one: Typed, distinct: int) -> ColumnSummary:
    column, entries = one.column, one.entries
    if isinstance(entries, Texts):
        missing, distinct = int((entries.codes < 0).sum()), len(entries.texts)
        examples = entries.texts[:3]
    else:
        unknown = np.isnat(entries) if entries.dtype.kind == "M" else np.isnan(entries)
        missing = int(unknown.sum())
        known = entries[~unknown] if missing else entries
        examples = [_example(value, column.type) for value in known[:5]]
    note = one.note or ("identifier" if column.type == "identifier" else "")
    if column.type == "number" and column.form:
        note = (
            note or "commas divide thousands"
            if column.form == "."
            else f"written with '{column.form[1:] or column.form[0]}'"
        )
    examples = tuple(shorten(text, 30) for text in list(dict.fromkeys(examples))[:3])
    return ColumnSummary(column.name, column.type, one.origin, distinct, missing, examples, column.width, note)


def _example(value: np.generic, kind: str) -> str:
    if kind == "boolean":
        return str(bool(value))
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[s]")).replace("T00:00:00", "").replace("T", " ")
    return f"{value:.6g}" if isinstance(value, np.floating) and value != round(value) else text_of(value)
