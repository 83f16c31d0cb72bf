"""Read files of tables into pandas frames."""

import contextlib
import csv as lines
import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import numpy as np

from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import digest as digest_of_file
from fnet.data.path import existing_file, file_errors, open_file
from fnet.data.source import DataError

if TYPE_CHECKING:
    import pandas as pd

_BYTES_PER_ENTRY = 24
"""Memory for an entry of a table while it is parsed and converted, in bytes."""


class Table(NamedTuple):
    """A table in memory.

    frame: one column per name in the header, in the order of the file; the index is the number of the example, from 0.
    splits: name and number of rows of each file of {train: ..., test: ...}; () for one file.
    notes: what was detected.
    """

    frame: "pd.DataFrame"
    splits: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def read(
    path: str | Mapping[str, str],
    *,
    name: str,  # noqa: ARG001
    separator: str | None = None,
    encoding: str | None = None,  # noqa: ARG001
    decimal: str | None = None,  # noqa: ARG001
    sheet: str | None = None,  # noqa: ARG001
    as_text: Collection[str] = (),
) -> Table:
    """Read a table from a file, or from one file per split."""
    import pandas as pd

    if isinstance(path, str):
        return Table(_frame(existing_file(path), separator, as_text))
    frames = {split: _frame(existing_file(file), separator, as_text) for split, file in path.items()}
    sizes = tuple((split, len(frame)) for split, frame in frames.items())
    return Table(pd.concat(frames.values(), ignore_index=True), sizes)


def digest(path: str | Mapping[str, str]) -> str:
    """Return a hash of the content of all files."""
    if isinstance(path, str):
        return digest_of_file(existing_file(path))
    return hashlib.sha256("".join(digest_of_file(existing_file(file)) for file in path.values()).encode()).hexdigest()


def _frame(path: Path, separator: str | None, as_text: Collection[str]) -> "pd.DataFrame":
    if separator is None:
        with _text_of(path) as opened:
            separator = max(",;\t|", key=opened.readline().count)
    return _read(path, separator, _header(path, separator), as_text)


def _header(path: Path, separator: str) -> list[str]:
    """Return the names of the columns; check the length of every line, because pandas would pad short ones.

    Raises:
        DataError: for a line of another length, an invalid name of a column, or a table that does not fit in memory.
    """
    number = 0
    with _text_of(path) as opened, _fields_of_any_length():
        rows = lines.reader(_without_nul(path, opened), delimiter=separator)
        header = next(rows, [])
        _check_names(path, header)
        for row in rows:
            if row and len(row) != len(header):
                more = f"; check data.separator, which is '{separator}'" if len(header) == 1 else ""
                what = f"line {rows.line_num} has {len(row)} entries, but the first line names {len(header)} columns"
                raise DataError(f"{path}: {what}{more}", "path")
            number += bool(row)
    if not header:
        raise DataError(f"{path} is empty", "path")
    needed = _BYTES_PER_ENTRY * number * len(header) + path.stat().st_size
    what = f"{path}: a table of {number:,} lines and {len(header):,} columns"
    refuse_beyond_memory(needed, what, "divide it, or save it as an array (.npz), which is read in chunks", "path")
    return header


def _check_names(path: Path, header: Sequence[str]) -> None:
    for number, (name, occurrences) in enumerate(Counter(header).items(), 1):
        if occurrences > 1 and name:
            raise DataError(f"{path} names {occurrences} columns '{name}'; rename them", "path")
        if not name:
            what = f"the first line does not name column {number}"
            raise DataError(f"{path}: {what}; name it, and exclude it with data.drop if it is not a feature", "path")


@contextlib.contextmanager
def _text_of(path: Path) -> Iterator[TextIO]:
    """Open a file as text in UTF-8, without a byte order mark."""
    with file_errors(path), io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as opened:
        yield opened


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the limit of 131,072 characters per entry that Python's reader has."""
    before = lines.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        lines.field_size_limit(before)


def _without_nul(path: Path, opened: TextIO) -> Iterator[str]:
    """Yield the lines of a text, and refuse NUL characters, which readers of tables treat differently."""
    for number, line in enumerate(opened, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number} contains a NUL character; save the table as text in UTF-8", "path")
        yield line


def _read(path: Path, separator: str, header: Sequence[str], as_text: Collection[str]) -> "pd.DataFrame":
    import pandas as pd

    with file_errors(path), open_file(path) as opened:
        table = pd.read_csv(
            opened,
            sep=separator,
            index_col=False,
            skip_blank_lines=True,
            low_memory=False,
            names=list(header),
            header=0,
            encoding="utf-8-sig",
            dtype=dict.fromkeys(as_text, str),  # pyright: ignore[reportArgumentType]
        ).copy()  # fmt: skip (a copy has one block per dtype instead of one per column, which is much faster)
    for name in (name for name, dtype in table.dtypes.items() if dtype is np.dtype(object)):
        if pd.api.types.infer_dtype(table[name], skipna=True) in ("integer", "mixed-integer-float"):
            table[name] = table[name].astype(np.float64)  # integers of more than 64 bits
    return table
