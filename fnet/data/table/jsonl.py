"""Tables as lines of JSON: one object per line, with the names of the columns as keys (.jsonl; gzipped or not)."""

import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fnet.core.wording import first_line
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import file_errors
from fnet.data.source import DataError
from fnet.data.table.content import content_of, in_utf8
from fnet.data.table.frames import Content, check_names, from_values

_MEMORY = 6
"""Memory for the values of a text, relative to its length."""


def read_jsonl(path: Path, encoding: str | None, as_text: Collection[str]) -> Content:
    """Read a table, and return it with what was detected.

    The columns are in the order in which their names first occur. A key that an object does not have is missing, like
    null and NaN.

    Args:
        path: the file; gzip is recognized by its first bytes.
        encoding: encoding of the text; None to detect it.
        as_text: columns to convert to text.

    Raises:
        DataError: for a line that is not an object of numbers, text, Booleans and null, or a table that does not fit in
            memory.
    """
    with file_errors(path):
        content, notes = in_utf8(path, content_of(path), encoding)
        fix = "divide it, or save it as an array (.npz), which is read in chunks"
        refuse_beyond_memory(_MEMORY * len(content), f"{path}: a table of {len(content):,} bytes", fix, "path")
        columns: dict[str, list[Any]] = {}
        size = 0
        for number, line in enumerate(io.BytesIO(content), 1):
            if not line.isspace():
                for name, value in _object(path, number, line).items():
                    column = columns.setdefault(name, [])
                    column += [None] * (size - len(column)) + [value]
                size += 1
        if not columns:
            raise DataError(f"{path} is empty", "path")
        for column in columns.values():
            column += [None] * (size - len(column))
        names = check_names(path, list(columns))
        return Content(from_values(dict(zip(names, columns.values(), strict=True)), as_text), notes)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return the object in a line."""
    where = f"{path}: line {number}"
    try:
        parsed = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        is_syntax = isinstance(error, json.JSONDecodeError)
        reason = f"{error.msg} at character {error.colno}" if is_syntax else first_line(error)
        raise DataError(f"{where} is not an object in JSON: {reason}; fix or remove the line", "path") from None
    if not isinstance(parsed, dict):
        received = "a list" if isinstance(parsed, list) else "a single value"
        raise DataError(f'{where}: expected an object, such as {{"a": 1, "b": "x"}}, got {received}', "path")
    for name, value in parsed.items():
        if isinstance(value, dict | list):
            kind = "a list" if isinstance(value, list) else "an object"
            fix = "write each of its entries as a key of its own"
            raise DataError(f"{where}: expected a number or text for '{name}', got {kind}; {fix}", "path")
    return parsed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key '{next(name for name in names if names.count(name) > 1)}' twice")
    return keys


_CONSTANTS = {"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_CONSTANTS.__getitem__)
