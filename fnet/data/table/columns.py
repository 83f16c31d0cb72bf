"""Types of the columns of a table, inferred from their entries or set by the user."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from fnet.core.wording import shorten
from fnet.data.arrays import as_float32
from fnet.data.source import Column, ColumnType, DataError
from fnet.data.table import parse

if TYPE_CHECKING:
    import pandas as pd

TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
"""The types of columns."""

MAX_CATEGORIES = 1000
"""Maximum number of categories of a column whose type is inferred; the most frequent ones are kept."""

MAX_WORDS = 100
"""Maximum number of words of a text column that are features."""

MIN_ROWS = 10
"""Minimum number of rows from which it is inferred that a column identifies them."""

_DISTINCT = 0.95
"""Fraction of the entries of a text column that differ from all others if it is an identifier."""

_WORDS_OF_TEXT = 5
"""Average number of words from which on entries that differ are free text."""

_IDENTIFIERS = {"id", "ids", "key", "uuid", "guid", "index", "idx", "identifier"}
_WORD = re.compile(r"[^\W_]+")


class Texts(NamedTuple):
    """The entries of a column as text.

    codes: (n,) index into the texts; -1 for a missing entry.
    texts: the different texts.
    """

    codes: np.ndarray
    texts: list[str]

    def expand(self, values: np.ndarray, missing: Any) -> np.ndarray:
        """Return the values of the texts for every row."""
        return np.concatenate([values, np.array([missing], values.dtype)])[self.codes]

    def first_row(self, wrong: np.ndarray) -> tuple[int, str]:
        """Return the first row whose text is wrong, and the text."""
        row = int(np.argmax(self.expand(wrong, False)))
        return row, self.texts[self.codes[row]]


class Typed(NamedTuple):
    """A column with its type.

    column: how its entries become features.
    origin: `inferred` or `set`.
    entries: the entries: texts, or numbers, truth values or dates as an array (n,).
    parsed: for texts of another type, the value of each.
    note: why it does not give features: constant or empty; or a remark on its type.
    """

    column: Column
    origin: str
    entries: "Texts | np.ndarray"
    parsed: np.ndarray | None = None
    note: str = ""


def text_of(value: Any) -> str:
    """Return a class or category as text, whole numbers without a decimal point.

    >>> text_of("3"), text_of(3), text_of(np.float64(3)), text_of(0.5), text_of(True)
    ('3', '3', '3', '0.5', 'True')
    """
    is_whole = isinstance(value, float | np.floating) and np.isfinite(value) and value == round(value)
    return str(int(value)) if is_whole else str(value)


def column_of(frame: "pd.DataFrame", name: str) -> "pd.Series":
    """Return a column of a table, whose columns have different names."""
    return frame[name]  # pyright: ignore[reportReturnType]


def texts_of(column: "pd.Series") -> Texts:
    """Return the entries of a column as text."""
    import pandas as pd

    codes, values = pd.factorize(column)
    texts = [text_of(value) for value in values.tolist()]
    if len(set(texts)) < len(texts):  # such as the number 1 and the text 1
        number = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        codes = np.append([number[text] for text in texts], -1)[codes]
        texts = list(number)
    return Texts(np.asarray(codes), texts)


def names_rows(name: str) -> bool:
    """Return whether a column of this name contains identifiers.

    >>> [names_rows(name) for name in ("id", "PassengerId", "user_key", "grid", "paid", "id_card_issued")]
    [True, True, True, False, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return bool(words) and words[-1].lower() in _IDENTIFIERS


def infer(frame: "pd.DataFrame", types: Mapping[str, ColumnType], where: str, decimal: str | None) -> list[Typed]:
    """Return the columns of a table with their types.

    Args:
        frame: the table.
        types: types that the user set, by column.
        where: the file, for messages.
        decimal: decimal separator of numbers that could have either, if it is known.

    Raises:
        DataError: for entries that do not have the type that was set, or that most of the others have.
    """
    is_plain = {
        name: dtype.kind in "buif" and types.get(str(name)) in (None, "number", *["boolean"] * (dtype.kind == "b"))
        for name, dtype in frame.dtypes.items()
    }
    plain = [str(name) for name, value in is_plain.items() if value]
    block = dict(zip(plain, frame.loc[:, list(is_plain.values())].to_numpy(np.float64).T, strict=True))
    typed = []
    for name, dtype in frame.dtypes.items():
        if is_plain[name]:
            typed.append(_plain(str(name), dtype, block[str(name)], types.get(str(name))))
        else:
            typed.append(_typed(column_of(frame, str(name)), types.get(str(name)), where, decimal))
    return _with_features(typed)


def _plain(name: str, dtype: np.dtype, values: np.ndarray, chosen: ColumnType | None) -> Typed:
    """Return a column of numbers or truth values."""
    kind = chosen or ("boolean" if dtype.kind == "b" else "number")
    identifies = chosen is None and dtype.kind != "b" and _counts_rows(name, values)
    column = Column(name, "identifier" if identifies else kind)
    return _unless_constant(Typed(column, "inferred" if chosen is None else "set", values))


def _counts_rows(name: str, values: np.ndarray) -> bool:
    """Return whether different whole numbers count the rows from 0 or 1, or are named as identifiers."""
    if len(values) < MIN_ROWS or np.isnan(values[0]) or values[0] == values[-1]:
        return False
    named = names_rows(name)
    low, high = (0.0, 0.0) if named else (values.min(), values.max())
    if not named and not (low in (0, 1) and high - low == len(values) - 1):
        return False
    ordered = np.sort(values)
    return bool(np.all(ordered == np.round(ordered)) and np.all(ordered[1:] > ordered[:-1]))


def _typed(column: "pd.Series", chosen: ColumnType | None, where: str, decimal: str | None) -> Typed:
    """Return a column of texts, dates or objects, or of numbers that the user set to be something else."""
    name, origin = str(column.name), "inferred" if chosen is None else "set"
    if column.dtype.kind == "M" and chosen in (None, "date"):
        return _unless_constant(_dated(name, origin, column.to_numpy().astype("datetime64[us]"), ""))
    texts = texts_of(column)
    if chosen is None:
        return _unless_constant(_inferred(column, texts, where, decimal))
    return _unless_constant(_as_type(column, chosen, texts, where, decimal))


def _inferred(column: "pd.Series", entries: Texts, where: str, decimal: str | None) -> Typed:
    """Return a column of texts with the type that all its entries have."""
    name, texts = str(column.name), entries.texts
    truths = parse.truths(texts)
    if truths is not None:
        return Typed(Column(name, "boolean"), "inferred", entries, truths.astype(np.float64))
    numbers = parse.numbers(texts, decimal)
    if numbers is not None:
        values = _all_fit(column, entries, np.isfinite(numbers.values), "number", where)
        if values:
            return _numbered(name, "inferred", entries, numbers, decimal)
    else:
        dates = parse.dates(texts)
        if dates is not None and _all_fit(column, entries, ~np.isnat(dates.values), "date", where):
            return _dated(name, "inferred", entries, dates.form, dates.values, ambiguous=dates.ambiguous)
    return _words_or_categories(name, "inferred", entries)


def _all_fit(column: "pd.Series", entries: Texts, fits: np.ndarray, kind: str, where: str) -> bool:
    """Return whether all entries have a type; refuse a few that do not, which are probably typos."""
    if fits.all():
        return True
    rows = entries.expand(fits, False)
    if 2 * rows.sum() <= (entries.codes >= 0).sum():
        return False
    row, text = entries.first_row(~fits)
    what = f"'{column.name}' contains {kind}s, but '{shorten(text)}' for example {column.index[row]}"
    fix = f"fix it, or set data.columns: {{{column.name}: category}}; leave it empty if it is missing"
    raise DataError(f"{where}: {what}; {fix}", "columns")


def _words_or_categories(name: str, origin: str, entries: Texts) -> Typed:
    """Return a column of texts as identifier, free text or category."""
    known = int((entries.codes >= 0).sum())
    number = len(entries.texts)
    if 2 * number > known >= MIN_ROWS:
        sample = entries.texts[: parse.SAMPLE]
        if sum(len(text.split()) for text in sample) >= _WORDS_OF_TEXT * len(sample):
            return _bag_of_words(name, origin, entries)
    all_different = number == known and names_rows(name)
    if known >= MIN_ROWS and (number >= _DISTINCT * known or all_different):
        return Typed(Column(name, "identifier"), origin, entries)
    return _categorized(name, origin, entries, MAX_CATEGORIES)


def _categorized(name: str, origin: str, entries: Texts, limit: int | None) -> Typed:
    """Return a column of categories; beyond the limit, with only the most frequent ones."""
    kept, note = entries.texts, ""
    if limit is not None and len(kept) > limit:
        counts = np.bincount(entries.codes[entries.codes >= 0], minlength=len(kept))
        kept = [entries.texts[index] for index in np.argsort(-counts, kind="stable")[:limit]]
        note = f"the {limit} most frequent of {len(entries.texts):,} categories"
    return Typed(Column(name, "category", tuple(ordered(kept))), origin, entries, note=note)


def ordered(texts: Iterable[str]) -> list[str]:
    """Return texts in the order of their numbers if all are numbers, else in alphabetical order.

    >>> ordered(["10", "9"]), ordered(["10", "9", "b"])
    (['9', '10'], ['10', '9', 'b'])
    """
    texts = list(texts)
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case.

    >>> words("Don't, 2 Times")
    ['don', 't', '2', 'times']
    """
    return _WORD.findall(text.casefold())


def _bag_of_words(name: str, origin: str, entries: Texts) -> Typed:
    """Return a column of free text; its features are the words that occur in most texts, but not in all of them."""
    rows = np.bincount(entries.codes[entries.codes >= 0], minlength=len(entries.texts)).tolist()
    counts = Counter[str]()
    for text, number in zip(entries.texts, rows, strict=True):
        for word in set(words(text)):
            counts[word] += number
    frequent = [word for word in counts if 1 < counts[word] < sum(rows)]
    frequent.sort(key=lambda word: (-counts[word], word))
    return Typed(Column(name, "text", tuple(sorted(frequent[:MAX_WORDS])), used=bool(frequent)), origin, entries)


def _as_type(column: "pd.Series", kind: ColumnType, entries: Texts, where: str, decimal: str | None) -> Typed:
    """Return a column with the type that the user set.

    Raises:
        DataError: for an entry that does not have this type.
    """
    name, texts = str(column.name), entries.texts
    if kind == "identifier":
        return Typed(Column(name, kind), "set", entries)
    if kind == "text":
        return _bag_of_words(name, "set", entries)
    if kind == "category" or not texts:
        return _categorized(name, "set", entries, None)
    if kind == "boolean":
        truths = parse.read_truths(texts)
        refuse_misfits(column, entries, np.isnan(truths), "true or false", where, "columns")
        return Typed(Column(name, kind), "set", entries, truths)
    if kind == "number":
        numbers = parse.numbers(texts, decimal) or parse.Parsed(".", parse.read_numbers(texts, decimal or "."))
        refuse_misfits(column, entries, ~np.isfinite(numbers.values), "numbers", where, "columns")
        return _numbered(name, "set", entries, numbers, decimal)
    dates = parse.dates(texts) or parse.Dates(parse.FORMATS[0], parse.read_dates(texts, parse.FORMATS[0]))
    refuse_misfits(column, entries, np.isnat(dates.values), "dates, such as 2024-01-31,", where, "columns")
    return _dated(name, "set", entries, dates.form, dates.values, ambiguous=dates.ambiguous)


def refuse_misfits(
    column: "pd.Series", entries: Texts, wrong: np.ndarray, expected: str, where: str, setting: str | None
) -> None:
    """Refuse texts that do not have the type of their column.

    Raises:
        DataError: that names the column, the example and its text.
    """
    if wrong.any():
        row, text = entries.first_row(wrong)
        received = f"'{shorten(text)}' for example {column.index[row]}"
        raise DataError(f"{where}: expected {expected} in '{column.name}', got {received}", setting)


def _numbered(name: str, origin: str, entries: Texts, numbers: parse.Parsed, decimal: str | None) -> Typed:
    """Return a column of numbers; its form is empty if they are plain and have a decimal point."""
    form = "" if numbers.form == "." and not any("," in text for text in entries.texts) else numbers.form
    note = parse.note_on_points(entries.texts, numbers.form, decimal)
    return Typed(Column(name, "number", form=form), origin, entries, numbers.values, note)


def _dated(
    name: str,
    origin: str,
    entries: "Texts | np.ndarray",
    form: str,
    values: np.ndarray | None = None,
    *,
    ambiguous: bool = False,
) -> Typed:
    """Return a column of dates, whose features are the parts that vary."""
    dates = entries if isinstance(entries, np.ndarray) else values
    assert dates is not None
    known = dates[~np.isnat(dates)]
    note = "could have day and month exchanged" if ambiguous else ""
    if not len(known):
        return Typed(Column(name, "date", form=form, used=False), origin, entries, values, note)
    first = str(known.min().astype("datetime64[D]"))
    parts = tuple(part for part, varying in date_parts(known, first).items() if np.ptp(varying) > 1e-9)
    return Typed(Column(name, "date", None, parts, form, first), origin, entries, values, note)


def date_parts(dates: np.ndarray, origin: str) -> dict[str, np.ndarray]:
    """Return the features of dates (n,): year, position in the year, week and day on a circle, and days since a day.

    >>> parts = date_parts(np.array(["2020-01-01T06:00"], "datetime64[us]"), "2019-12-31")
    >>> {part: round(float(value[0]), 3) for part, value in parts.items()}
    {'year': 2020.0, 'month (sin)': 0.0, 'month (cos)': 1.0, 'weekday (sin)': 0.975, 'weekday (cos)': -0.223,
     'hour (sin)': 1.0, 'hour (cos)': 0.0, 'days': 1.25}
    """
    days, months, years = (dates.astype(f"datetime64[{unit}]") for unit in "DMY")
    numbers = {
        "month": (months - years.astype(months.dtype)).astype(np.float64) / 12,
        "weekday": (days.astype(np.int64) + 3) % 7 / 7,
        "hour": (dates - days).astype("timedelta64[s]").astype(np.float64) / 86_400,
    }
    parts = {"year": years.astype(np.int64) + 1970.0}
    for name, turns in numbers.items():
        parts[f"{name} (sin)"], parts[f"{name} (cos)"] = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    elapsed = (dates - np.datetime64(origin, "D")).astype("timedelta64[s]").astype(np.float64)
    return {**parts, "days": elapsed / 86_400}


def _unless_constant(typed: Typed) -> Typed:
    """Mark a column without entries, or with the same one in every row, as not used."""
    entries = typed.entries
    if isinstance(entries, Texts):
        number = len(entries.texts) if typed.parsed is None else len(set(typed.parsed.tolist()))
    elif entries.dtype.kind == "M":
        number = min(2, len(np.unique(entries[~np.isnat(entries)])))
    else:
        number = number_of_values(entries)
    if number > 1 or (number and typed.column.type == "identifier"):
        return typed
    return typed._replace(column=typed.column._replace(used=False), note="constant" if number else "empty")


def number_of_values(values: np.ndarray) -> int:
    """Return 0 if all numbers are missing, 1 if all others are equal, else 2."""
    if values[0] != values[-1] and not np.isnan(values[0]) and not np.isnan(values[-1]):
        return 2
    known = values[~np.isnan(values)]
    return min(len(known), 1 + int(len(known) > 0 and bool(known.min() < known.max())))


def _with_features(typed: list[Typed]) -> list[Typed]:
    """Keep columns that count the rows, or are named as identifiers, as numbers if there are no other features."""
    if any(one.column.width for one in typed):
        return typed
    numbers = [isinstance(one.entries, np.ndarray) and one.origin == "inferred" and not one.note for one in typed]
    return [
        one._replace(column=one.column._replace(type="number")) if is_number else one
        for one, is_number in zip(typed, numbers, strict=True)
    ]


def refuse_infinite(names: Sequence[str], x: np.ndarray, index: Any, where: str) -> None:
    """Refuse numbers x (n, columns) that are infinite in single precision.

    Raises:
        DataError: that names the first.
    """
    infinite = np.isinf(as_float32(x))
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        what = f"example {index[row]} has the value {x[row, column]:g} for '{names[column]}'"
        raise DataError(f"{where}: {what}, which is infinite in single precision; remove or replace it", "path")
