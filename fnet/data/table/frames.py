"""What the readers of tables have in common: names of columns, missing values, and conversion to pandas."""

import datetime
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnet.core.wording import shorten
from fnet.data.source import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

BYTES_PER_ENTRY = 24
"""Memory for an entry of a table while it is parsed and converted, in bytes."""

NULLS = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
    "-", "--", "?", "N.A.", "n.a.",
]  # fmt: skip
"""The texts that stand for a missing value: those of pandas, and those of tables that people write."""


class Content(NamedTuple):
    """The content of one file.

    frame: a column per name in the header.
    notes: what was detected or chosen, for a person.
    decimal: decimal separator of the numbers; None if it was neither set nor seen to be a comma.
    """

    frame: "pd.DataFrame"
    notes: Sequence[str] = ()
    decimal: str | None = None


def check_names(path: Path, header: Sequence[str]) -> list[str]:
    """Return the names of columns without spaces around them; an unnamed first column, a saved index, is `index`.

    Args:
        path: the file, for messages.
        header: the names in the file.

    Raises:
        DataError: for a name that occurs twice or is empty, or a header that consists of numbers.
    """
    names = [name.strip() for name in header]
    if len(names) > 1 and not names[0] and "index" not in names:
        names[0] = "index"
    if len(names) > 1 and all(map(_is_number, names)) and not _are_indices(names):
        what = f"expected the names of the columns in the first line, got the numbers {shorten(', '.join(names))}"
        raise DataError(f"{path}: {what}; add a line of names", "path")
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


def from_arrow(table: "pyarrow.Table", header: Sequence[str], nulls: Sequence[str] = ("",)) -> "pd.DataFrame":
    """Return a table of Arrow as a frame; text loses the spaces around it.

    Args:
        table: the table, with columns of Booleans, numbers, text, dates, times of day, or without values.
        header: the names of the columns.
        nulls: the texts that stand for a missing value.
    """
    import pyarrow as pa
    from pyarrow import compute

    pc: Any = compute
    columns = []
    unchanged = {pa.int64(), pa.float64(), pa.bool_()}
    for column, kind in zip(table.columns, table.schema.types, strict=True):
        if kind in unchanged:
            columns.append(column)
            continue
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_time(kind):
            trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
            column = pc.if_else(pc.is_in(trimmed, pa.array(nulls)), pa.scalar(None, pa.string()), trimmed)
        elif pa.types.is_null(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind) or kind == pa.uint64():
            column = column.cast(pa.float64(), safe=False)
        elif pa.types.is_integer(kind):
            column = column.cast(pa.int64())
        elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("us"), safe=False)
        columns.append(column)
    frame = pa.table(columns, [str(number) for number in range(len(columns))]).to_pandas()
    frame.columns = list(header)
    return frame


def from_values(
    columns: Mapping[str, list[Any]], as_text: Collection[str], nulls: Collection[str] = ("",)
) -> "pd.DataFrame":
    """Return columns of Python values as a frame; None is missing, and a column of several types is text.

    Args:
        columns: the values by the names of the columns: Booleans, numbers, text, dates or times.
        as_text: columns to convert to text.
        nulls: the texts that stand for a missing value.
    """
    import pandas as pd

    return pd.DataFrame({name: _series(values, name in as_text, nulls) for name, values in columns.items()})


def _series(values: list[Any], is_text: bool, nulls: Collection[str]) -> "pd.Series":
    """Return a column in the dtype of its values.

    >>> [str(_series(values, False, ()).dtype) for values in ([1, 2], [1, None], [True, False], [1, "a"])]
    ['int64', 'float64', 'bool', 'str']
    """
    import pandas as pd

    if str in {*map(type, values)}:
        values = [value.strip() if isinstance(value, str) else value for value in values]
        values = [None if isinstance(value, str) and value in nulls else value for value in values]
    kinds = {*map(type, values)} - {type(None)}
    if kinds <= {int, float} and not is_text:
        whole = kinds == {int} and None not in values and all(-(2**63) <= value < 2**63 for value in values)
        return pd.Series(
            [np.nan if value is None else value for value in values], dtype="int64" if whole else "float64"
        )
    if kinds == {bool} and not is_text:
        return pd.Series(values, dtype=object if None in values else bool)
    if kinds == {datetime.datetime} and not is_text:
        return pd.Series(values, dtype="datetime64[us]")
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")
