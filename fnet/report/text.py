"""Formatting of numbers and names, for all tables."""

from collections.abc import Mapping

from fnet.core.wording import DIGITS, format_score


def format_values(values: Mapping[str, float], formats: Mapping[str, str]) -> str:
    """Write named numbers on one line, each in its format, by default with four digits.

    >>> format_values({"train_loss": 0.123456, "train_accuracy": 0.98765}, {"train_accuracy": ".1%"})
    'train_loss 0.1235  train_accuracy 98.8%'
    """
    return "  ".join(f"{name} {format_score(value, formats.get(name, DIGITS))}" for name, value in values.items())


def visible(name: str) -> str:
    """Return a printable form of a name; a blank name or one with control characters is written as a Python string.

    >>> visible("cat"), visible(" "), visible("a\\n")
    ('cat', "' '", "'a\\\\n'")
    """
    return name if name.isprintable() and name.strip() else repr(name)
