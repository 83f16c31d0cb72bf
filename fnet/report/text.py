"""Text forms of numbers and names, for every table."""

from collections.abc import Mapping


def format_values(values: Mapping[str, float]) -> str:
    """Write named numbers on one line.

    >>> format_values({"train_loss": 0.123456, "train_accuracy": 0.98765})
    'train_loss 0.1235  train_accuracy 98.8%'
    """
    return "  ".join(f"{name} {format_value(name, value)}" for name, value in values.items())


def format_value(name: str, value: float) -> str:
    """Write a number: an accuracy in percent, any other with four digits."""
    return f"{100 * value:.1f}%" if name.endswith("accuracy") else f"{value:.4g}"


def visible(name: str) -> str:
    """Write a name so that it can be seen: one that is blank or contains control characters as Python writes it.

    >>> visible("cat"), visible(" "), visible("a\\n")
    ('cat', "' '", "'a\\\\n'")
    """
    return name if name.isprintable() and name.strip() else repr(name)
