"""Files with tables as pandas frames: text, parquet, Excel workbooks and lines of JSON."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fnet.data import path as paths
from fnet.data.path import existing_file, file_errors
from fnet.data.source import DataError
from fnet.data.table.delimited import read_delimited

if TYPE_CHECKING:
    import pandas as pd


class Table(NamedTuple):
    """A table as it is stored.

    frame: a column per name in the header, in the order of the file, of Booleans, int64, float64, text or datetime64;
        Booleans with missing entries are objects. Missing entries are NaN, NaT or None. The index counts the examples
        from 0.
    splits: name and number of examples of each file, in the order of the examples; empty for a single file.
    notes: what was detected, for a person.
    """

    frame: "pd.DataFrame"
    splits: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def read(
    path: str | Mapping[str, str],
    *,
    name: str,
    separator: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    sheet: str | None = None,
    as_text: Collection[str] = (),
) -> Table:
    """Read a table from a file, or from one file per split.

    Args:
        path: the file, or the files by the names of the splits.
        name: the format, csv, parquet, xlsx or jsonl.
        separator: for csv, the character between entries; detected by default.
        encoding: for csv and jsonl, the encoding; detected by default.
        decimal: for csv, the decimal separator; a point by default.
        sheet: for xlsx, the name of the sheet; by default the first.
        as_text: columns that are not converted to numbers, so that a zip code keeps its leading zeros.

    Raises:
        DataError: for a file that is missing, damaged or not a table, one that changes while it is read, or files of
            different columns.
    """

    def one(file: str, as_text: Collection[str]) -> tuple["pd.DataFrame", list[str]]:
        return read_delimited(existing_file(file), separator, encoding, decimal, as_text)

    with unchanged(path):
        if isinstance(path, str):
            frame, notes = one(path, as_text)
            return Table(frame, (), tuple(notes))
        return _joined(path, one, as_text)


Reader = Callable[[str, Collection[str]], tuple["pd.DataFrame", list[str]]]


def _joined(files: Mapping[str, str], one: Reader, as_text: Collection[str]) -> Table:
    """Read several files of the same columns, in any order, as one table."""
    import pandas as pd

    tables = {split: one(file, as_text) for split, file in files.items()}
    frames = [frame for frame, _ in tables.values()]
    (first, file), *others = files.items()
    names = list(frames[0].columns)
    for (split, other), frame in zip(others, frames[1:], strict=True):
        missing = [name for name in names if name not in frame]
        more = [name for name in frame.columns if name not in names]
        if missing or more:
            where, lacking = (other, file) if missing else (file, other)
            what = f"{where} has no column '{(missing or more)[0]}', which {lacking} has"
            raise DataError(f"{what}; the files for {first} and {split} need the same columns", "path")
    mixed = {
        name for name in names if len({_is_text(frame[name]) for frame in frames if frame[name].notna().any()}) > 1
    }
    if mixed - {*as_text}:  # a column is text in every file if it is text in one
        return _joined(files, one, {*as_text, *mixed})
    notes = [f"{split}: {note}" for split, (_, notes) in tables.items() for note in notes]
    splits = tuple((split, len(frame)) for split, frame in zip(files, frames, strict=True))
    whole: Any = pd.concat([frame[names] for frame in frames], ignore_index=True)
    return Table(whole, splits, tuple(notes))


def _is_text(column: Any) -> bool | None:
    """Return whether a column contains text; None if it is empty."""
    import pandas as pd

    is_empty = not column.notna().any()
    return None if is_empty else pd.api.types.infer_dtype(column, skipna=True) == "string"


def digest(path: str | Mapping[str, str]) -> str:
    """Hash the content of all files, and the names of the splits."""
    if isinstance(path, str):
        return paths.digest(existing_file(path))
    digests = [[split, paths.digest(existing_file(file))] for split, file in path.items()]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@contextlib.contextmanager
def unchanged(path: str | Mapping[str, str]) -> Iterator[None]:
    """Refuse files that change in the meantime: grow, shrink, or are written or replaced.

    Raises:
        DataError: at the end, when the size, time or identity of a file differs from that at the beginning.
    """
    files = [existing_file(file) for file in ([path] if isinstance(path, str) else path.values())]
    before = _states(files)
    yield
    for file, old, new in zip(files, before, _states(files), strict=True):
        if old != new:
            raise DataError(f"{file} changed while it was read; repeat this when it is complete", "path")


def _states(files: Sequence[Path]) -> list[tuple[int, ...]]:
    states = []
    for file in files:
        with file_errors(file):
            status = os.stat(file)
            states.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return states
