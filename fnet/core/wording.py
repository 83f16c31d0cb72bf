"""Wording of messages: pydantic's errors and values as text, and suggestions of the nearest known name."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

MISSING = "required, but not given"

_UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)
"""Control characters, separators of lines, invisible spaces, bidirectional controls and lone surrogates."""

DIGITS = ",.4g"
"""Format of a loss, and of a metric that does not have another one."""


def printable(text: str, *, multiline: bool = False) -> str:
    r"""Replace every character that could change how a terminal shows the text by a visible escape.

    These are the control characters of ASCII and of Latin-1 (C1), line and paragraph separators, invisible spaces,
    bidirectional controls, and lone surrogates. Whatever comes from a file is printed through this function.

    Args:
        text: the text.
        multiline: whether to keep newlines.

    >>> print(printable("red\x1b[31m\nline \u202eabc"))
    red\x1b[31m\nline \u202eabc
    """
    return _UNPRINTABLE.sub(lambda match: _escape(match[0], multiline), text)


def _escape(character: str, multiline: bool) -> str:
    return character if multiline and character == "\n" else character.encode("unicode_escape").decode("ascii")


def in_bytes(number: float) -> str:
    """Return a number of bytes as text.

    >>> in_bytes(950), in_bytes(1_260_000), in_bytes(160 * 10**9), in_bytes(4 * 10**16)
    ('950 bytes', '1.3 MB', '160 GB', '40,000 TB')
    """
    if number < 1000:
        return f"{number:.0f} bytes"
    units = ["kB", "MB", "GB", "TB"]
    while (number := number / 1000) >= 1000 and len(units) > 1:
        del units[0]
    return f"{number:,.1f}".removesuffix(".0") + f" {units[0]}"


def required(key: str) -> str:
    """Return the message that a key is missing.

    >>> required("data.name")
    "'data.name' is required, but not given"
    """
    return f"'{key}' is {MISSING}"


def errors_in_words(*errors: Mapping[str, Any]) -> str:
    """Return pydantic's errors about one value as a sentence: what was expected and what was received.

    For a union, pass the errors of all members.

    >>> errors_in_words({"type": "greater_than_equal", "ctx": {"ge": 1}, "input": 0})
    'expected a value of at least 1, got 0'
    """
    first = errors[0]
    if first["type"] == "missing":
        return MISSING
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    # Only suggest another type when no bound failed.
    bounds = [error for error in errors if error["type"].startswith(("greater_than", "less_than"))]
    relevant = [error for error in errors if not error["type"].endswith("_type")] if bounds else errors
    expected = list(dict.fromkeys(map(_expectation, relevant)))
    near = ""
    if first["type"] == "literal_error":
        near = suggestion(str(first["input"]), re.findall(r"'([^']+)'", first["ctx"]["expected"]), listing=False)
    return f"expected {' or '.join(expected)}, got {format_value(first['input'])}{near}"


def _expectation(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return f"a value of at least {format_number(context['ge'])}"
        case "greater_than":
            return f"a value greater than {format_number(context['gt'])}"
        case "less_than_equal":
            return f"a value of at most {format_number(context['le'])}"
        case "less_than":
            return f"a value less than {format_number(context['lt'])}"
        case "int_type" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type":
            return "true or false"
        case "string_type" | "invalid_key":
            return "text"
        case "string_too_short":
            return "non-empty text"
        case "none_required":
            return "nothing (null)"
        case "list_type" | "tuple_type":
            return "a list"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "a mapping of settings"
        case "literal_error":
            return context["expected"]
        case _:
            return f"something else ({error['msg'][:1].lower()}{error['msg'][1:]})"


def format_score(value: float, format: str = DIGITS) -> str:
    """Write the value of a loss or metric for a person; numbers below 10^9 are not written with an exponent.

    Args:
        value: the value.
        format: format specification, such as that of a metric.

    >>> format_score(0.285), format_score(1234.5), format_score(35_360.4), format_score(9999.9), format_score(2.5e9)
    ('0.285', '1,234', '35,360', '10,000', '2.5e+09')
    >>> format_score(0.98765, ".1%")
    '98.8%'
    """
    text = f"{value:{format}}"
    return f"{value:,.0f}" if format.endswith("g") and "e+" in text and abs(value) < 1e9 else text


def format_number(value: float) -> str:
    """Write an integer with all its digits, and any other number in its shortest notation.

    >>> format_number(2**32), format_number(0.5), format_number(1.0)
    ('4294967296', '0.5', '1')
    """
    return str(value) if isinstance(value, int) else f"{value:g}"


def format_value(value: Any) -> str:
    r"""Write a value on one line as users write it in YAML, truncated to 60 characters.

    >>> print(format_value(None), format_value(True), format_value("a\n"), format_value([1]))
    nothing true 'a\n' a list
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return shorten(printable(f"'{value}'"))
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case int() if value.bit_length() > 10_000:  # Python refuses to convert thousands of digits
            return f"a number of {value.bit_length():,} bits"
        case int() | float():
            return shorten(str(value))
        case _:
            name = getattr(value, "__name__", None)
            return f"the {'type' if isinstance(value, type) else 'function'} {name}" if name else shorten(str(value))


def shorten(text: str, length: int = 60) -> str:
    """Truncate a text that is longer than this number of characters; the last three are then dots.

    >>> shorten("a long text", 9)
    'a long...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or its type if it has none.

    >>> first_line(ValueError("\none\ntwo")), first_line(ValueError())
    ('one', 'ValueError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most similar to a misspelled one, or None if none is similar.

    >>> nearest("lerning_rate", ["learning_rate", "momentum"]), nearest("zzz", ["b", "a"])
    ('learning_rate', None)
    """
    if len(word) > 100:
        return None
    matches = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(word: str, known: Iterable[str], *, listing: bool = True) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, else `; known: ...`, to append to a message.

    Args:
        word: the word that was received.
        known: the valid words.
        listing: whether to list the known words if none is similar.

    >>> suggestion("lerning_rate", ["learning_rate", "momentum"])
    "; did you mean 'learning_rate'?"
    >>> suggestion("zzz", ["b", "a"])
    '; known: a, b'
    """
    known = sorted(known)
    near = nearest(word, known)
    if near is not None:
        return f"; did you mean '{near}'?"
    return f"; known: {', '.join(known)}" if known and listing else ""
