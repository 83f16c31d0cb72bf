"""Files with tables as pandas frames: text, parquet, Excel workbooks and lines of JSON."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnet.data import path as paths
from fnet.data.path import existing_file, existing_path, file_errors
from fnet.data.source import DataError
from fnet.data.table.delimited import read_delimited
from fnet.data.table.frames import Content
from fnet.data.table.jsonl import read_jsonl
from fnet.data.table.parquet import read_parquet
from fnet.data.table.xlsx import read_xlsx

if TYPE_CHECKING:
    import pandas as pd


EXTENSIONS: Mapping[str, str] = {
    ".csv": "csv", ".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv", ".parquet": "parquet", ".xlsx": "xlsx",
    ".jsonl": "jsonl", ".jsonl.gz": "jsonl",
}  # fmt: skip
"""The format of a table for each extension of files."""


def format_of(path: Path) -> str | None:
    """Return the format of a table by the extension of its file, or None if it is not one.

    >>> format_of(Path("a.CSV.gz")), format_of(Path("a.npz"))
    ('csv', None)
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if path.is_dir():
        return "parquet" if next(path.glob("*.parquet"), None) else None
    return EXTENSIONS.get("".join(suffixes[-2:])) or EXTENSIONS.get("".join(suffixes[-1:]))


class Table(NamedTuple):
    """A table as it is stored.

    frame: a column per name in the header, in the order of the file, of Booleans, int64, float64, text or datetime64;
        Booleans with missing entries are objects. Missing entries are NaN, NaT or None. The index counts the examples
        from 0.
    splits: name and number of examples of each file, in the order of the examples; empty for a single file.
    notes: what was detected, for a person.
    decimal: decimal separator of the numbers; None if it was neither set nor seen to be a comma.
    """

    frame: "pd.DataFrame"
    splits: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    decimal: str | None = None


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
    """Read a table from a file, from one file per split, or from a folder of parquet files.

    Args:
        path: the file or folder, or the files by the names of the splits.
        name: the format, csv, parquet, xlsx or jsonl.
        separator: for csv, the character between entries; detected by default.
        encoding: for csv and jsonl, the encoding; detected by default.
        decimal: for csv, the decimal separator; detected by default.
        sheet: for xlsx, the name of the sheet; by default the first.
        as_text: columns that are not converted to numbers, so that a zip code keeps its leading zeros.

    Raises:
        DataError: for a file that is missing, damaged or not a table, one that changes while it is read, or files of
            different columns.
        MissingExtra: when the reader of the format is not installed.
    """

    def one(file: Path, as_text: Collection[str]) -> Content:
        match name:
            case "csv":
                return read_delimited(file, separator, encoding, decimal, as_text)
            case "jsonl":
                return read_jsonl(file, encoding, as_text)
            case "parquet":
                return read_parquet(file, as_text)
            case "xlsx":
                return read_xlsx(file, sheet, as_text)
        raise ValueError(f"unknown format of tables '{name}'")

    with unchanged(path):
        if isinstance(path, str):
            (frame, notes, decimal), _ = _joined(files_of(path), one, as_text)
            return Table(frame, (), tuple(dict.fromkeys(notes)), decimal)
        files = [files_of(part) for part in path.values()]
        (frame, notes, decimal), sizes = _joined([file for part in files for file in part], one, as_text)
        ends = np.cumsum([0, *sizes])[np.cumsum([0, *map(len, files)])]
        splits = tuple(zip(path, np.diff(ends).tolist(), strict=True))
        return Table(frame, splits, tuple(dict.fromkeys(notes)), decimal)


def files_of(path: str | Mapping[str, str]) -> list[Path]:
    """Return the files of a table: one, or the parquet files of a folder sorted by name; or those of every split.

    Raises:
        DataError: when a file does not exist, or a folder does not contain parquet files.
    """
    if not isinstance(path, str):
        return [file for part in path.values() for file in files_of(part)]
    location = existing_path(path)
    if not location.is_dir():
        return [existing_file(path)]
    with file_errors(location):
        parts = sorted(part for part in location.iterdir() if part.suffix == ".parquet" and part.name[0] not in "._")
    if not parts:
        raise DataError(f"{location}: expected a file, got a folder without parquet files (*.parquet)", "path")
    return [existing_file(str(part)) for part in parts]


def _joined(
    files: Sequence[Path], one: Callable[[Path, Collection[str]], Content], as_text: Collection[str]
) -> tuple[Content, list[int]]:
    """Read files of the same columns, in any order, as one table; return it with their numbers of examples."""
    import pandas as pd

    if len(files) == 1:
        content = one(files[0], as_text)
        return content, [len(content.frame)]
    contents = [one(file, as_text) for file in files]
    frames = [content.frame for content in contents]
    names = list(frames[0].columns)
    for file, frame in zip(files, frames, strict=True):
        lacking, more = frames[0].columns.difference(frame.columns), frame.columns.difference(names)
        if len(lacking) or len(more):
            where, other = (file, files[0]) if len(lacking) else (files[0], file)
            what = f"{where} has no column '{[*lacking, *more][0]}', but {other} has"
            raise DataError(f"{what}; the files of a table need the same columns", "path")
    text = [set(map(str, frame.columns[list(map(_is_text, frame.dtypes))])) for frame in frames]
    mixed = {
        name
        for frame, texts in zip(frames, text, strict=True)
        for name in set.union(*text) - texts
        if np.any(frame[name].notna())
    }
    if mixed - {*as_text}:  # a column is text in every file if it is text in one
        return _joined(files, one, {*as_text, *mixed})
    whole: Any = pd.concat([frame[names] for frame in frames], ignore_index=True)
    notes = [note for content in contents for note in content.notes]
    decimal = next((content.decimal for content in contents if content.decimal), None)
    return Content(whole, notes, decimal), [len(frame) for frame in frames]


def _is_text(dtype: Any) -> bool:
    import pandas as pd

    return isinstance(dtype, pd.StringDtype)


def digest(path: str | Mapping[str, str]) -> str:
    """Hash the content of all files, and the names of the splits."""
    files = files_of(path)
    digests = [paths.digest(file) for file in files]
    if isinstance(path, str) and len(files) == 1:
        return digests[0]
    splits = [] if isinstance(path, str) else [(split, len(files_of(part))) for split, part in path.items()]
    return hashlib.sha256(json.dumps([digests, splits]).encode()).hexdigest()


@contextlib.contextmanager
def unchanged(path: str | Mapping[str, str]) -> Iterator[None]:
    """Refuse files that change in the meantime: grow, shrink, or are written or replaced.

    Raises:
        DataError: at the end, when the size, time or identity of a file differs from that at the beginning.
    """
    files = files_of(path)
    before = _states(files)
    yield
    if files_of(path) != files:
        raise DataError(f"{path}: files were added or removed while they were read; repeat this", "path")
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
