"""Numbers, truth values and dates that are written as text.

A form is how all entries of a column are written. It is found from the different texts of the column and saved with
it, so that the entries of another file are read in the same way.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CURRENCIES = r"USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|ZAR|RUB|TRY|KRW|MXN|SGD|HKD|ILS|THB"
_SYMBOL = rf"(?:[A-Z]{{0,2}}[$€£¥₹₽₩₺₪฿]|{_CURRENCIES})"
_UNIT = r"(?:[^\W\d_]|[%‰°$€£¥₹₽₩₺₪฿/·²³'\"µ])+[23]?(?:\s?/\s?[^\W\d_]+)?"

THOUSANDS = "points divide thousands"
NOTES_ON_POINTS = (THOUSANDS, "points could divide thousands")
"""Notes on numbers such as 1.234, which are read as whole numbers or as decimals."""

SAMPLE = 300
"""Number of texts that are tried before all of them are."""

_TRUTH = {"true": True, "false": False, "yes": True, "no": False, "t": True, "f": False, "y": True, "n": False}
_PAIRS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})

_MINUS = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'"})


def _pattern(decimal: str) -> re.Pattern[str]:
    """Return the pattern of a number with this decimal separator: sign, currency, digits with separators, and unit."""
    mark, others = re.escape(decimal), "[ '" + ("," if decimal == "." else ".") + "]"
    digits = rf"(?:\d{{1,3}}(?P<separator>{others})\d{{3}}(?:(?P=separator)\d{{3}})*|\d+)(?:{mark}\d*)?|{mark}\d+"
    return re.compile(
        rf"\s*(?P<sign>[-+]?)\s?(?P<prefix>{_SYMBOL}?)\s?(?P<sign2>[-+]?)(?P<digits>(?:{digits})(?:[eE][-+]?\d+)?)"
        rf"\s?(?P<unit>(?:{_UNIT})?)\s*"
    )


_PATTERNS = {decimal: _pattern(decimal) for decimal in ".,"}
_PLAIN = {
    mark: re.compile(rf"^ ?-?(?:\d{{1,3}}(?:[{other}]\d{{3}})+|\d+)(?:[{mark}]\d*)? ?$", re.MULTILINE)
    for mark, other in (".,", ",.")
}
_CODE = re.compile(r"\s*0\d+\s*")
_DIGITS = re.compile(r"\d[\d.,]*")


class Parsed(NamedTuple):
    """Texts as numbers.

    form: how they are written: the decimal separator and the unit.
    values: (n,) float64, NaN where a text is not written like the others.
    """

    form: str
    values: np.ndarray


def grouping(texts: Sequence[str], mark: str) -> str:
    """Return whether a mark in numbers could divide thousands: `mixed`, `all`, or empty text if it could not.

    It could if three digits follow it wherever it occurs, and one to three stand before it. It is `mixed` if there are
    numbers up to 999 without it as well, which decimals with exactly three digits hardly ever are.

    >>> grouping(["1.234", "12.500", "850"], "."), grouping(["250.000 €", "99.900 €"], "."), grouping(["1.5", "2"], ".")
    ('mixed', 'all', '')
    """
    found = [_DIGITS.findall(text) for text in texts[:SAMPLE]]
    pattern = re.compile(rf"[1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}")
    grouped = sum(len(one) == 1 and pattern.fullmatch(one[0]) is not None for one in found)
    plain = sum(len(one) == 1 and one[0].isdecimal() and len(one[0]) <= 3 for one in found)
    if grouped < 2 or grouped + plain < len(found):
        return ""
    return "mixed" if plain else "all"


def note_on_points(texts: Sequence[str], form: str, decimal: str | None) -> str:
    """Return a note on numbers in a form whose points could be decimal points or divide thousands."""
    if decimal is not None or not grouping(texts, "."):
        return ""
    return NOTES_ON_POINTS[form[0] == "."]


def numbers(texts: Sequence[str], decimal: str | None = None) -> Parsed | None:
    """Return the numbers that most of the texts are, or None if at most half of them are written in the same form.

    Numbers may have a sign, separators of thousands (comma or point, space, apostrophe), a decimal point or comma, an
    exponent, and a currency, percent sign or unit, the same in all of them. A percentage is the number before the sign.

    Args:
        texts: different texts.
        decimal: the decimal separator, where texts such as 1,234 could have either; by default a point, unless the
            points seem to divide thousands.

    >>> numbers(["1.234,50 €", "-2,5 €"])
    Parsed(form=',€', values=array([1234.5,   -2.5]))
    >>> numbers(["1,200", "850"]).values.tolist(), numbers(["1,200", "850"], ",").values.tolist()
    ([1200.0, 850.0], [1.2, 850.0])
    >>> numbers(["12 kg", "300 g", "a few"]) is None
    True
    """
    if not texts or any(_CODE.fullmatch(text) for text in texts[:SAMPLE]):
        return None  # codes such as 01234
    best = None
    is_comma = decimal == "," or (decimal is None and grouping(texts, ".") == "mixed")
    for mark in (",", ".") if is_comma else (".", ","):
        found = _PATTERNS[mark]
        sample = [match for text in texts[:SAMPLE] if (match := found.fullmatch(text.translate(_MINUS)))]
        if 2 * len(sample) <= min(SAMPLE, len(texts)):
            continue
        units = Counter(match["prefix"] or match["unit"] for match in sample)
        parsed = Parsed(mark + units.most_common(1)[0][0], read_numbers(texts, mark + units.most_common(1)[0][0]))
        known = np.isfinite(parsed.values).sum()
        if known == len(texts):
            return parsed
        if 2 * known > len(texts) and (best is None or known > np.isfinite(best.values).sum()):
            best = parsed
    return best


def read_numbers(texts: Sequence[str], form: str) -> np.ndarray:
    """Return texts in a form as numbers (n,), NaN for those that are not.

    >>> read_numbers(["7 kg", "1 200kg", "3 m"], ".kg").tolist()
    [7.0, 1200.0, nan]
    """
    mark, unit = form[0], form[1:]
    plain = _read_plain_numbers(texts, mark, unit)
    if plain is not None:
        return plain
    fullmatch, values = _PATTERNS[mark].fullmatch, np.full(len(texts), np.nan)
    remove = str.maketrans("", "", " '," if mark == "." else " '.")
    for number, text in enumerate(texts):
        match = fullmatch(text if text.isascii() else text.translate(_MINUS))
        if match and (match["prefix"] or match["unit"]) == unit and not (match["prefix"] and match["unit"]):
            digits = match["digits"].translate(remove)
            value = float(digits if mark == "." else digits.replace(",", "."))
            values[number] = -value if "-" in (match["sign"], match["sign2"]) else value
    return values


def _read_plain_numbers(texts: Sequence[str], mark: str, unit: str) -> np.ndarray | None:
    """Return texts as numbers, all at once; None if one has another form than `€-1,234.5` or `-1,234.5 €`."""
    joined = "\n".join(texts)
    if unit:
        if joined.count(unit) != len(texts):
            return None
        joined = joined.replace(unit, "")
    if len(_PLAIN[mark].findall(joined)) != len(texts) or joined.count("\n") != len(texts) - 1:
        return None
    joined = joined.replace("," if mark == "." else ".", "").replace(mark, ".")
    return np.array(joined.split("\n"), np.float64)


def truths(texts: Sequence[str]) -> np.ndarray | None:
    """Return whether each text says yes, or None if they are not all true/false, yes/no, t/f or y/n.

    >>> truths(["Yes", "no"]).tolist(), truths(["yes", "maybe"])
    ([True, False], None)
    """
    folded = [text.strip().casefold() for text in texts]
    if not any(set(folded) <= pair for pair in _PAIRS):
        return None
    return np.array([_TRUTH[text] for text in folded], bool)


def read_truths(texts: Sequence[str]) -> np.ndarray:
    """Return texts as 1 for yes and 0 for no, and NaN for those that are neither; 1 and 0 are accepted as well.

    >>> read_truths(["Y", "false", "1", "x"]).tolist()
    [1.0, 0.0, 1.0, nan]
    """
    known = {**_TRUTH, "1": True, "0": False}
    return np.array([float(known.get(text.strip().casefold(), np.nan)) for text in texts])


_DAYS = (
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%Y-%m", "%Y.%m.%d",
)  # fmt: skip
_TIMES = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_ISO = ("ISO8601",)
FORMATS = (*_ISO, *(day + time for time, day in itertools.product(_TIMES, _DAYS[1:])))
"""Formats of dates, in the order in which they are tried."""

_DATE = re.compile(
    r"\s*(?:\d{1,4}[-./ ](?:\d{1,2}|[A-Za-z]{3,9})(?:[-./ ]\d{1,4})?|[A-Za-z]{3,9} \d{1,2}, \d{4})(?:\D.*)?"
)


class Dates(NamedTuple):
    """Texts as dates.

    form: their format.
    values: (n,) datetime64, NaT where a text is not written like the others.
    ambiguous: whether day and month could be exchanged.
    """

    form: str
    values: np.ndarray
    ambiguous: bool = False


def dates(texts: Sequence[str]) -> Dates | None:
    """Return the dates that most of the texts are, or None if at most half of them are written in the same format.

    Of the formats that fit equally many, the first of `FORMATS` is taken: the day stands before the month.

    >>> dates(["31.1.2020", "5.12.2021"])
    Dates(form='%d.%m.%Y', values=array(['2020-01-31T00:00:00.000000', ...], dtype='datetime64[us]'), ambiguous=False)
    >>> dates(["1/2/2020", "12/31/2021"]).form, dates(["1/2/2020"]).ambiguous, dates(["a", "2020-01-01"])
    ('%m/%d/%Y', True, None)
    """
    sample = texts[:SAMPLE]
    if 2 * sum(1 for text in sample if _DATE.fullmatch(text)) <= len(sample):
        return None
    iso = read_dates(texts, FORMATS[0])
    if not np.isnat(iso).any():
        return Dates(FORMATS[0], iso)
    few = sample[:: max(1, len(sample) // 20)]
    scores = [int((~np.isnat(read_dates(few, form))).sum()) for form in FORMATS]
    best = max(scores)
    if 2 * best <= len(few):
        return None
    forms = [form for form, score in zip(FORMATS, scores, strict=True) if score == best]
    parsed = [Dates(form, read_dates(texts, form)) for form in forms]
    known = [int((~np.isnat(result.values)).sum()) for result in parsed]
    first = parsed[known.index(max(known))]
    others = [r for r, k in zip(parsed, known, strict=True) if k == max(known) and r is not first]
    return first._replace(ambiguous=any(not np.array_equal(r.values, first.values, equal_nan=True) for r in others))


def read_dates(texts: Sequence[str], form: str) -> np.ndarray:
    """Return texts in a format as dates (n,) in UTC, NaT for those that are not."""
    import pandas as pd

    stripped = pd.Index([text.strip() for text in texts], dtype=object)
    parsed = pd.to_datetime(stripped, format=form, errors="coerce", utc=True)
    return parsed.tz_localize(None).to_numpy().astype("datetime64[us]")
