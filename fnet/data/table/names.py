"""What the readers of tables have in common: the names of columns, and the texts that stand for a missing value."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fnet.data.source import DataError

NULLS = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
]  # fmt: skip
"""The texts that stand for a missing value, as in pandas."""


def check_names(path: Path, header: Sequence[str]) -> list[str]:
    """Return the names of columns without spaces around them; an unnamed first column, a saved index, is `index`.

    Raises:
        DataError: for a name that occurs twice or is empty, or a header that consists of numbers.
    """
    names = [name.strip() for name in header]
    if len(names) > 1 and not names[0] and "index" not in names:
        names[0] = "index"
    if len(names) > 1 and all(map(_is_number, names)) and not _are_indices(names):
        what = f"expected the names of the columns in the first line, got the numbers {', '.join(names[:3])}"
        raise DataError(f"{path}: {what}{', …' * (len(names) > 3)}; add a line of names", "path")
    for number, (name, occurrences) in enumerate(Counter(names).items(), 1):
        if occurrences > 1 and name:
            raise DataError(f"{path} names {occurrences} columns '{name}'; rename them", "path")
        if not name:
            what = f"the first line does not name column {number}"
            raise DataError(f"{path}: {what}; name it, and exclude it with data.drop if it is not a feature", "path")
    return names


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _are_indices(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names) and len(set(names)) == len(names)
