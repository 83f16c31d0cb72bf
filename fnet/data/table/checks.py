"""Remarks on the columns of a table that the user should know about: constants, identifiers and leaks."""

from collections.abc import Sequence

import numpy as np

from fnet.core.wording import shorten
from fnet.data.arrays import ENTRIES
from fnet.data.source import ColumnSummary, Targets
from fnet.data.table.columns import MIN_ROWS, Texts, Typed, text_of

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
        if one.column.type == "date" and one.note.startswith("could"):
            form = "day/month" if one.column.form.startswith("%d") else "month/day"
            result.append(
                f"the dates in '{name}' {one.note}; they are read as {form}; write them as 2024-01-31 to be sure"
            )
    return result


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
    step = max(1, ENTRIES // len(y))
    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        block = np.stack([_numbers(one) for one in part], axis=1)
        leaking = _determine_class(block, y) if targets.kind == "classes" else _correlated(block, y)
        found += [one.column.name for one, leaks in zip(part, leaking, strict=True) if leaks]
    if targets.kind == "classes":
        found += [one.column.name for one in used if isinstance(one.entries, Texts) and one.parsed is None
                  and _codes_determine_class(one.entries, y)]  # fmt: skip
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


def _correlated(block: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which columns (n, k) have a correlation of almost 1 or -1 with one of the targets (n, m)."""
    known = ~np.isnan(block)
    x = np.where(known, block, 0)
    x = np.where(known, x - x.sum(axis=0) / known.sum(axis=0), 0)
    z = y.astype(np.float64) - y.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(x).sum(axis=0))[:, None] * np.sqrt(np.square(z).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.abs(x.T @ z) > LEAK * scale).any(axis=1) & (scale > 0).any(axis=1)


def _determine_class(block: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which columns (n, k) determine the class (n,): first on a sample, then on all rows."""
    candidates = _determined(block[:_SAMPLE], y[:_SAMPLE], len(y[:_SAMPLE]))
    if (len(y) > _SAMPLE and candidates.any()) or candidates.any():
        candidates[candidates] = _determined(block[:, candidates], y, len(y) // 2)
    return candidates


def _determined(block: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
    """Return which columns have one class per value, and at most this many values."""
    order = np.argsort(block, axis=0)
    x, labels = np.take_along_axis(block, order, axis=0), y[order]
    changes = x[1:] != x[:-1]
    return ~(~changes & (labels[1:] != labels[:-1])).any(axis=0) & (1 + changes.sum(axis=0) <= limit)


def _codes_determine_class(entries: Texts, y: np.ndarray) -> bool:
    """Return whether all rows with the same text have the same class."""
    number = len(entries.texts) + 1
    if 2 * number > len(y) + 2:
        return False
    one = np.zeros(number, y.dtype)
    one[entries.codes] = y
    return bool((one[entries.codes] == y).all())


def summary(one: Typed, *, note: str = "") -> ColumnSummary:
    """Summarize a column."""
    column, entries = one.column, one.entries
    if isinstance(entries, Texts):
        missing, distinct = int((entries.codes < 0).sum()), len(entries.texts)
        examples = entries.texts[:3]
    else:
        unknown = np.isnat(entries) if entries.dtype.kind == "M" else np.isnan(entries)
        missing = int(unknown.sum())
        known = entries[~unknown] if missing else entries
        distinct = len(np.unique(known))
        examples = [_example(value, column.type) for value in known[:3]]
    if column.type == "number" and column.form:
        note = note or f"numbers with '{column.form[1:] or column.form[0]}'"
    return ColumnSummary(
        column.name,
        column.type,
        one.origin,
        distinct,
        missing,
        tuple(shorten(text, 30) for text in dict.fromkeys(examples)),
        column.width,
        note or one.note or ("identifier" if column.type == "identifier" else ""),
    )


def _example(value: np.generic, kind: str) -> str:
    if kind == "boolean":
        return str(bool(value))
    return f"{value:.6g}" if isinstance(value, np.floating) and value != round(value) else text_of(value)
