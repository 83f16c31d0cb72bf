"""Tables as text: one line per example, with entries divided by a separator (.csv, .tsv, .txt; gzipped or not)."""

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import file_errors
from fnet.data.source import DataError
from fnet.data.table import parse
from fnet.data.table.content import content_of, in_utf8
from fnet.data.table.frames import BYTES_PER_ENTRY, NULLS, Content, check_names, from_arrow

if TYPE_CHECKING:
    import pyarrow

SEPARATORS = ",;\t|"
"""The separators that are detected, the most usual first."""

_BLOCK = 1 << 24
_SAMPLE_LINES = 200
_SAMPLE_CHARACTERS = 1 << 16
_PARSED_BLOCK = 1 << 22
_MAX_BLOCK = 2**31 - 1

_MAX_THREADED_COLUMNS = 500
"""Number of columns up to which threads save more time than their tasks, one per column and block, take."""

_TEMPORAL = re.compile(r"\s*(\d{4}-\d\d?-\d\d?|\d\d?:\d\d)")
"""Text that a reader could take for a date or a time of day."""

_ZERO = r"^\s*[+-]?0\d"
"""A number with a leading zero, such as a zip code."""

_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
_POINT = re.compile(r"\s*[+-]?(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,})\s*")
"""Numbers with a decimal comma, and numbers whose commas group thousands."""


class Layout(NamedTuple):
    """How a text is divided into columns.

    separator: character between entries.
    header: names of the columns.
    start: byte after the line of the header.
    line: number of that line.
    is_padded: whether every line ends with a separator, after which there is no entry.
    as_text: indices of columns with dates and times, or with numbers whose thousands could be divided by the mark of
        decimals, in the first lines.
    decimal: the decimal separator of the numbers in the first lines.
    """

    separator: str
    header: list[str]
    start: int
    line: int
    is_padded: bool
    as_text: frozenset[int]
    decimal: str


def read_delimited(
    path: Path, separator: str | None, encoding: str | None, decimal: str | None, as_text: Collection[str]
) -> Content:
    """Read a table, and return it with what was detected.

    Args:
        path: the file; gzip is recognized by its first bytes.
        separator: character between entries; None to detect it.
        encoding: encoding of the text; None to detect it.
        decimal: the decimal separator of numbers; None to detect it.
        as_text: columns to keep as text.

    Raises:
        DataError: for a file that is not a table, or does not fit in memory.
    """
    with file_errors(path):
        content, notes = in_utf8(path, content_of(path), encoding)
        layout = _layout(path, content, separator)
        if separator is None and layout.separator != ",":
            notes.append(f"separator {'tab' if layout.separator == chr(9) else repr(layout.separator)}")
        if decimal is None and layout.decimal == ",":
            notes.append("decimal comma")
        lines = content.count(b"\n") + (content[-1:] != b"\n")
        entries = lines * len(layout.header)
        what = f"{path}: a table of {lines - layout.line:,} lines and {len(layout.header):,} columns"
        fix = "divide it, or save it as an array (.npz), which is read in chunks"
        refuse_beyond_memory(BYTES_PER_ENTRY * entries + len(content), what, fix, "path")
        text_columns = {number for number, name in enumerate(layout.header) if name in as_text}
        table = _parse(path, content, layout, decimal or layout.decimal, text_columns | layout.as_text)
        if layout.is_padded:
            table = _without_padding(path, table)
        known = decimal or ("," if layout.decimal == "," else None)
        return Content(from_arrow(table, layout.header, NULLS), notes, known)


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the limit of 131,072 characters per entry that Python's reader has."""
    before = csv.field_size_limit(_MAX_BLOCK)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _opened(content: bytes) -> TextIO:
    return io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")


def _layout(path: Path, content: bytes, separator: str | None) -> Layout:
    """Find the separator and the header in the first lines."""
    lines, characters = [], 0
    for line in _opened(content):
        lines.append(line)
        characters += len(line)
        if len(lines) >= _SAMPLE_LINES or (characters > _SAMPLE_CHARACTERS and len(lines) > 1):
            break
    skipped = 0
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    declared = re.fullmatch(r"sep=(.)\r?\n?", lines[skipped], re.IGNORECASE) if skipped < len(lines) else None
    if declared:  # Excel's own way of naming the separator
        separator = separator or declared[1]
        skipped += 1
    if skipped == len(lines):
        raise DataError(f"{path} is empty", "path")
    sample = lines[skipped:]
    with _fields_of_any_length():
        separator = separator or _separator(sample)
        records = csv.reader(iter(sample), delimiter=separator)
        header = next(records)
        last = skipped + records.line_num
        rows = [row for row in records if row]
    start = len("".join(lines[:last]).encode())
    is_padded = bool(rows) and len(rows[0]) == len(header) + 1 and not rows[0][-1].strip()
    is_last_empty = all(len(row) == len(header) and not row[-1].strip() for row in rows)
    if len(header) > 1 and not header[-1].strip() and is_last_empty:
        header, is_padded = header[:-1], True
    header = check_names(path, header)
    temporal = {number for row in rows for number, entry in enumerate(row[: len(header)]) if _TEMPORAL.match(entry)}
    comma, grouped = _decimal_comma(rows, len(header)) if separator == ";" else (False, set())
    return Layout(separator, header, start, last, is_padded, frozenset(temporal | grouped), "," if comma else ".")


def _decimal_comma(rows: Sequence[Sequence[str]], width: int) -> tuple[bool, set[int]]:
    """Return whether numbers have a decimal comma, and the columns whose points or commas could divide thousands."""
    entries, grouped = [], set()
    for number in range(width):
        column = [row[number] for row in rows if number < len(row) and row[number].strip()]
        if parse.grouping(column, ",") == "mixed":
            grouped.add(number)
            continue
        if parse.grouping(column, "."):
            grouped.add(number)
        entries += [entry for entry in column if "," in entry]
    return any(map(_COMMA.fullmatch, entries)) and not any(map(_POINT.fullmatch, entries)), grouped


def _separator(sample: Sequence[str]) -> str:
    """Return the separator by which most lines have as many entries as the header, and more than one."""
    scores = {}
    for separator in SEPARATORS:
        rows = [row for row in csv.reader(iter(sample), delimiter=separator) if row]
        width = len(rows[0])
        if width > 1:
            scores[separator] = sum(len(row) == width for row in rows) / len(rows), width
    return max(scores, key=lambda separator: scores[separator], default=",")


def _parse(path: Path, content: bytes, layout: Layout, decimal: str, as_text: Collection[int]) -> "pyarrow.Table":
    """Parse the lines after the header; dates, times of day and numbers with leading zeros stay text.

    Raises:
        DataError: for lines whose number of entries differs from the header's, and a quote that stays open.
    """
    import pyarrow as pa
    from pyarrow import compute

    pc: Any = compute
    if content.count(b'"', layout.start) % 2:
        _check_lines(path, content, layout)
    table = _converted(path, content, layout, decimal, as_text)
    kinds = list(enumerate(table.schema.types))
    text = {number for number, kind in kinds if pa.types.is_temporal(kind)}
    whole = [number for number, kind in kinds if pa.types.is_integer(kind)]
    if whole and _has_leading_zeros(content, layout):
        digits = _converted(path, content, layout, decimal, whole, only=whole)
        for number, column in zip(whole, digits.columns, strict=True):
            if pc.any(pc.match_substring_regex(column, _ZERO)).as_py():
                text.add(number)
    return _converted(path, content, layout, decimal, {*as_text, *text}) if text else table


def _has_leading_zeros(content: bytes, layout: Layout) -> bool:
    """Return whether an entry starts with 0 and another digit, as zip codes do."""
    before = np.zeros(256, bool)
    before[list(f'{layout.separator}\n\r" '.encode())] = True
    characters = np.frombuffer(content, np.uint8)
    for start in range(max(1, layout.start), len(content), _BLOCK):
        block = characters[start - 1 : start + _BLOCK + 1]
        zeros = np.flatnonzero(block[1:-1] == ord("0"))
        zeros = zeros[before[block[zeros]]]
        if ((block[zeros + 2] >= ord("0")) & (block[zeros + 2] <= ord("9"))).any():
            return True
    return False


def _converted(
    path: Path,
    content: bytes,
    layout: Layout,
    decimal: str,
    as_text: Collection[int],
    only: Sequence[int] = (),
) -> "pyarrow.Table":
    """Parse the lines after the header with some columns as text; with `only`, return no more than these columns."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = [str(number) for number in range(len(layout.header) + layout.is_padded)]
    if re.compile(rb"\S").search(content, layout.start) is None:
        return pa.table({name: pa.array([], pa.null()) for name in names})
    text = pa.BufferReader(pa.py_buffer(content).slice(layout.start))
    parsing = arrow.ParseOptions(delimiter=layout.separator, newlines_in_values=content.find(b'"', layout.start) >= 0)
    conversion = arrow.ConvertOptions(
        column_types={str(number): pa.string() for number in as_text},
        null_values=NULLS,
        strings_can_be_null=True,
        true_values=["True", "TRUE", "true"],
        false_values=["False", "FALSE", "false"],
        decimal_point=decimal,
        include_columns=[names[number] for number in only],
    )
    use_threads = len(names) <= _MAX_THREADED_COLUMNS
    reading = arrow.ReadOptions(column_names=names, block_size=_PARSED_BLOCK, use_threads=use_threads)
    try:
        return arrow.read_csv(text, reading, parsing, conversion)
    except pa.ArrowInvalid:
        _check_lines(path, content, layout)
    text.seek(0)
    reading.block_size = min(len(content) + 1, _MAX_BLOCK)  # for lines that are longer than a block
    return arrow.read_csv(text, reading, parsing, conversion)


def _check_lines(path: Path, content: bytes, layout: Layout) -> None:
    """Refuse lines whose number of entries differs from the header's, and a quote that stays open.

    Raises:
        DataError: for the first such line.
    """
    width, end = len(layout.header) + layout.is_padded, object.__repr__(layout)
    line, row = layout.line, []
    with _opened(content[layout.start :]) as opened, _fields_of_any_length():
        rows = csv.reader(itertools.chain(opened, ["\n", end]), delimiter=layout.separator)
        for row in rows:
            if row == [end]:
                return
            if row and (len(row) != width or end in row[-1]):
                break
            line = layout.line + rows.line_num
    if end in row[-1]:
        what = f"a quote that is opened in line {line + 1} is not closed"
        raise DataError(f"{path}: {what}; close it, or double quotes inside an entry", "path")
    number = len(layout.header)
    lengths = f"has {len(row)} entries, but the first line names {number} column{'s' * (number > 1)}"
    what = f"line {layout.line + rows.line_num} {lengths}"
    shown = "a tab" if layout.separator == "\t" else f"'{layout.separator}'"
    fix = f"quote entries that contain {shown}" if number > 1 else "remove lines above the names, such as a title"
    fix += f", or check data.separator, which is {shown}"
    raise DataError(f"{path}: {what}; {fix}", "path")


def _without_padding(path: Path, table: "pyarrow.Table") -> "pyarrow.Table":
    """Remove the last column, which must not contain anything."""
    last: Any = table.column(table.num_columns - 1)
    if last.null_count < len(last):
        row = next(number for number, known in enumerate(last.is_valid().to_pylist()) if known)
        what = f"example {row} has an entry '{last[row]}' in a column without a name"
        raise DataError(f"{path}: {what}; name the column in the first line", "path")
    return table.remove_column(table.num_columns - 1)
