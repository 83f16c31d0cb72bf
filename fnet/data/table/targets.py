"""Targets of a table: classes, values or labels."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnet.core.wording import shorten, suggestion
from fnet.data.arrays import as_float32
from fnet.data.source import DataError, Targets
from fnet.data.table import parse
from fnet.data.table.checks import points_named
from fnet.data.table.columns import (
    MIN_ROWS,
    Texts,
    column_of,
    names_rows,
    ordered,
    refuse_infinite,
    refuse_misfits,
    texts_of,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 20
"""Maximum number of different whole numbers that are taken as classes by default."""

MAX_ROUNDING = 1e-4
"""Rounding of a value to float32, relative to the standard deviation of its column, above which values are float64."""

_SEPARATORS = re.compile(r"\s*[;|,]\s*")


def targets(
    frame: "pd.DataFrame", names: Sequence[str], kind: str | None, where: str, decimal: str | None
) -> tuple[np.ndarray, Targets, list[str]]:
    """Return the targets of a table, their description, and remarks about them.

    Args:
        frame: the table, without missing entries in the columns of the targets.
        names: the columns of the targets.
        kind: classes, values or labels; by default inferred.
        where: the file, for messages.
        decimal: decimal separator of numbers that could have either, if it is known.

    Returns:
        Labels of classes (n,) int32; values or labels (n, number) float32, or float64 for values that float32 does not
        represent precisely enough, such as 1e9 + 1.

    Raises:
        DataError: for targets that do not have this kind, or that are all the same.
    """
    numbers = {name: _numbers(column_of(frame, name), where, decimal) for name in names}
    if kind is None:
        kind = _kind(frame, numbers, where)
    if kind == "labels":
        return _labels(frame, names, where)
    if kind == "values":
        y, description, notes = _values(frame, numbers, where)
        return y, description, [*notes, *_notes_on_points(frame, names, decimal)]
    if len(names) > 1:
        fix = "give one column, or set data.targets: values or labels"
        raise DataError(f"{where}: expected one column of classes, got {len(names)} targets; {fix}", "targets")
    return _classes(frame, names[0], where)


def _numbers(column: "pd.Series", where: str, decimal: str | None) -> np.ndarray | None:
    """Return the numbers of a column (n,), or None if it contains something else."""
    if column.dtype.kind in "uif":
        values = column.to_numpy(np.float64)
    else:
        entries = texts_of(column)
        parsed = None if column.dtype.kind in "bM" else parse.numbers(entries.texts, decimal)
        if parsed is None or not np.isfinite(parsed.values).all():
            return None
        values = entries.expand(parsed.values, np.nan)
    refuse_infinite([str(column.name)], values[:, None], column.index, where)
    return values


def _kind(frame: "pd.DataFrame", numbers: dict[str, np.ndarray | None], where: str) -> str:
    """Return the kind of targets."""
    if len(numbers) > 1:
        if all(_is_binary(column_of(frame, name), values) for name, values in numbers.items()):
            return "labels"
        for name, values in numbers.items():
            if values is None:
                what = f"'{name}' contains text, but several targets are numbers, or labels of 0 and 1"
                raise DataError(f"{where}: {what}; give one column as data.target", "target")
        return "values"
    (values,) = numbers.values()
    if values is None:
        return "classes"
    different = np.unique(values)
    whole = bool(np.all(different == np.round(different)))
    few = len(different) <= min(MAX_CLASSES, max(2, len(values) // 2))
    return "classes" if whole and few else "values"


def _is_binary(column: "pd.Series", values: np.ndarray | None) -> bool:
    if values is not None:
        return bool(np.isin(values, (0, 1)).all())
    return column.dtype.kind == "b" or parse.truths(texts_of(column).texts) is not None


def _values(
    frame: "pd.DataFrame", numbers: dict[str, np.ndarray | None], where: str
) -> tuple[np.ndarray, Targets, list[str]]:
    names, notes = tuple(numbers), []
    for name, values in numbers.items():
        if values is None:
            column = column_of(frame, name)
            if column.dtype.kind == "M" or (parse.dates(texts_of(column).texts) is not None):
                fix = "predict a number, such as the days until the date"
                raise DataError(f"{where}: expected numbers in '{name}', got dates; {fix}", "targets")
            _refuse_text(column, where)
        elif values.min() == values.max():
            notes.append(f"the target '{name}' is {values[0]:g} in every row, so there is nothing to learn")
        elif len(values) >= MIN_ROWS and names_rows(name) and len(np.unique(values)) == len(values):
            notes.append(f"the target '{name}' has another value in every row and seems to be an identifier")
    y = np.stack([values for values in numbers.values() if values is not None], axis=1)
    rounded = as_float32(y)
    is_precise = np.all(np.abs(rounded - y).max(axis=0) <= MAX_ROUNDING * y.std(axis=0))
    return rounded if is_precise else y, Targets("values", len(names), names), notes


def _notes_on_points(frame: "pd.DataFrame", names: Sequence[str], decimal: str | None) -> Iterator[str]:
    """Yield remarks on targets such as 1.234, whose points could divide thousands."""
    for name in names:
        column = column_of(frame, name)
        texts = texts_of(column).texts if column.dtype.kind not in "uif" else []
        parsed = parse.numbers(texts, decimal)
        note = parse.note_on_points(texts, parsed.form, decimal) if parsed else ""
        if note:
            yield points_named(name, note)


def _refuse_text(column: "pd.Series", where: str) -> None:
    """Refuse a column of text in which numbers are expected.

    Raises:
        DataError: that names the example, if most of the others are numbers.
    """
    entries = texts_of(column)
    parsed = None if column.dtype.kind == "b" else parse.numbers(entries.texts)
    if parsed is not None:
        refuse_misfits(column, entries, ~np.isfinite(parsed.values), "numbers", where, "targets")
    received = "true and false" if column.dtype.kind == "b" else "text"
    what = f"expected numbers in '{column.name}', got {received}"
    raise DataError(f"{where}: {what}; set data.targets: classes", "targets")


def _classes(frame: "pd.DataFrame", name: str, where: str) -> tuple[np.ndarray, Targets, list[str]]:
    entries = texts_of(column_of(frame, name))
    if len(entries.texts) < 2:
        what = f"'{name}' is '{shorten(entries.texts[0])}' in every row"
        raise DataError(f"{where}: {what}; classification needs at least two classes", "target")
    if len(entries.codes) >= MIN_ROWS and len(entries.texts) == len(entries.codes):
        what = f"'{name}' is different in every row, so its classes cannot be learned"
        raise DataError(f"{where}: {what}; give another column as data.target", "target")
    names = tuple(ordered(entries.texts))
    return _numbered(entries, names), Targets("classes", len(names), names), _notes_on_classes(name, names)


def _notes_on_classes(column: str, names: Sequence[str]) -> list[str]:
    """Name classes that differ only in case, spaces or punctuation, and are probably the same.

    >>> _notes_on_classes("kind", ("a b", "A-b", "c"))
    ["the classes 'a b', 'A-b' of 'kind' differ only in case, spaces or punctuation; unify them"]
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(filter(str.isalpha, name.casefold())) + "".join(re.findall(r"\d+", name)), []).append(
            name
        )
    result = []
    for key, found in alike.items():
        if len(found) > 1 and any(map(str.isalpha, key)):
            shown = ", ".join(f"'{shorten(name)}'" for name in found)
            what = f"the classes {shown} of '{column}' differ only in case, spaces or punctuation"
            result.append(f"{what}; unify them")
    return result


def _numbered(entries: Texts, names: Sequence[str]) -> np.ndarray:
    """Return the index of the class of every row (n,), or -1."""
    known = {name: number for number, name in enumerate(names)}
    return entries.expand(np.array([known.get(text, -1) for text in entries.texts], np.int32), -1)


def _labels(frame: "pd.DataFrame", names: Sequence[str], where: str) -> tuple[np.ndarray, Targets, list[str]]:
    if len(names) == 1:
        entries = texts_of(column_of(frame, names[0]))
        if not _is_binary(column_of(frame, names[0]), _numbers(column_of(frame, names[0]), where, None)):
            found = tuple(ordered({label for text in entries.texts for label in _split(text)}))
            y = _indicators(entries, found)
            return y, Targets("labels", len(found), found), _notes_on_labels(y, found)
    y = np.stack([_truth_values(column_of(frame, name), where) for name in names], axis=1)
    return y, Targets("labels", len(names), tuple(names)), _notes_on_labels(y, names)


def _notes_on_labels(y: np.ndarray, names: Sequence[str]) -> list[str]:
    """Name the labels that are the same in every row."""
    means = y.mean(axis=0)
    return [
        f"the label '{name}' is {mean:g} in every row, so there is nothing to learn"
        for name, mean in zip(names, means.tolist(), strict=True)
        if mean in (0, 1)
    ]


def _split(text: str) -> list[str]:
    """Return the labels of a text.

    >>> _split("a;b|c, d")
    ['a', 'b', 'c', 'd']
    """
    return [label for label in _SEPARATORS.split(text.strip()) if label]


def _indicators(entries: Texts, names: Sequence[str]) -> np.ndarray:
    """Return 1 for the labels of every row (n, labels), else 0; a missing entry has no labels."""
    known = {name: number for number, name in enumerate(names)}
    y = np.zeros((len(entries.texts) + 1, len(names)), np.float32)
    for row, text in enumerate(entries.texts):
        y[row, [known[label] for label in _split(text) if label in known]] = 1
    return y[entries.codes]


def _truth_values(column: "pd.Series", where: str) -> np.ndarray:
    """Return a column of 0, 1, true and false as float32 (n,)."""
    entries = texts_of(column)
    values = parse.read_truths(entries.texts)
    refuse_misfits(column, entries, np.isnan(values), "0 and 1, or true and false,", where, "targets")
    return entries.expand(values, np.nan).astype(np.float32)


def targets_like(
    frame: "pd.DataFrame", names: Sequence[str], known: Targets, where: str, decimal: str | None
) -> np.ndarray:
    """Return the targets of a table for a network that was trained on targets of this description.

    Raises:
        DataError: for a column that does not exist, a missing entry, or a class or label that is unknown.
    """
    for name in names:
        if name not in frame.columns:
            raise DataError(f"{where} has no column '{name}', the target{suggestion(name, map(str, frame.columns))}")
    one_of_texts = known.kind == "labels" and tuple(names) != known.names
    missing = frame[list(names)].isna().to_numpy()
    if missing.any() and not one_of_texts:
        row, column = np.argwhere(missing)[0]
        raise DataError(f"{where}: example {frame.index[row]} has no value for '{names[column]}'; fill it in")
    if known.kind == "values":
        values = {name: _numbers(column_of(frame, name), where, decimal) for name in names}
        return _values(frame, values, where)[0]
    if known.kind == "labels" and not one_of_texts:
        return _labels(frame, names, where)[0]
    entries = texts_of(column_of(frame, names[0]))
    parts = [_split(text) if one_of_texts else [text] for text in entries.texts]
    wrong = np.array([any(part not in known.names for part in texts) for texts in parts], bool)
    if wrong.any():
        row, text = entries.first_row(wrong)
        what = f"'{shorten(text)}' for '{names[0]}' of example {frame.index[row]} did not occur in training"
        raise DataError(f"{where}: {what}; known: {shorten(', '.join(known.names), 200)}")
    return _indicators(entries, known.names) if one_of_texts else _numbered(entries, known.names)
