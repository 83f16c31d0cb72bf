"""Tables in parquet files: columns with types, in groups of rows."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import file_errors, open_file
from fnet.data.source import DataError
from fnet.data.table.frames import BYTES_PER_ENTRY, Content, check_names, from_arrow

if TYPE_CHECKING:
    import pyarrow


def read_parquet(path: Path, as_text: Collection[str]) -> Content:
    """Read a table. Categories become text, decimals numbers, and times with a zone are in UTC.

    Args:
        path: the file.
        as_text: columns to convert to text.

    Raises:
        DataError: for a damaged file, columns of lists, objects or bytes, or a table that does not fit in memory.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with file_errors(path), open_file(path) as opened, parquet.ParquetFile(opened) as file:
        rows, width = file.metadata.num_rows, len(file.schema_arrow)
        what = f"{path}: a table of {rows:,} rows and {width:,} columns"
        refuse_beyond_memory(BYTES_PER_ENTRY * rows * width, what, "divide it into files in a folder", "path")
        saved = file.schema_arrow.names
        names = check_names(path, [_index(name, saved) for name in saved])
        for name, field in zip(names, file.schema_arrow, strict=True):
            _check_type(path, name, field.type)
        table = file.read()
        for number, name in enumerate(names):
            if name in as_text and not pa.types.is_dictionary(table.column(number).type):
                table = table.set_column(number, name, table.column(number).cast(pa.string()))
        return Content(from_arrow(table, names))


def _index(name: str, names: Collection[str]) -> str:
    """Return the name of a column, `index` for the index of a frame that pandas saved."""
    return "index" if name == "__index_level_0__" and "index" not in names else name


def _check_type(path: Path, name: str, kind: "pyarrow.DataType") -> None:
    """Refuse a column whose values are not numbers, text, Booleans, dates or times of day."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    known = (
        types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string, types.is_large_string,
        types.is_date, types.is_timestamp, types.is_time, types.is_null,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in known):
        what = f"the column '{name}' contains values of the type {kind}"
        raise DataError(f"{path}: {what}; save it as columns of numbers, text or dates", "path")
