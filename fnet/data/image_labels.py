"""Tables of the file names of images and their targets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.path import existing_file
from fnet.data.pixels import EXTENSIONS
from fnet.data.source import DataError, TargetKind, Targets
from fnet.data.table import readers
from fnet.data.table.columns import column_of
from fnet.data.table.targets import targets, targets_like

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 3
"""Number of missing files that an error names."""


class Labeled(NamedTuple):
    """Images that a table names.

    files: all files, in the order of the table.
    y: (n,) class indices, or (n, number) values or labels.
    targets: description of the targets.
    sizes: empty, because a table does not divide the images into splits.
    notes: remarks on the targets.
    frame: the table, for the values of its other columns.
    place: file of the table.
    """

    files: list[Path]
    y: np.ndarray
    targets: Targets
    sizes: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    frame: "pd.DataFrame"
    place: Path

    def column(self, name: str) -> np.ndarray:
        """Return the values (n,) of a column of the table.

        Raises:
            DataError: when there is no such column.
        """
        _refuse_without(self.frame, self.place, name, "split", "")
        return column_of(self.frame, name).to_numpy()


def read_labeled(
    folder: Path,
    path: str,
    file: str,
    target: str | Sequence[str],
    kind: TargetKind | None,
    trained: Targets | None = None,
) -> Labeled:
    """Read a table of images and their targets, which have the same kinds as those of any other table.

    Args:
        folder: the folder that the names of the files are relative to.
        path: the table.
        file: column with the names of the files, which are text: 01 keeps its zero.
        target: column with the targets, or several.
        kind: classes, values or labels; None to infer it.
        trained: targets of a trained network, whose classes and labels are used.

    Raises:
        DataError: for a damaged table, a file that does not exist or is listed twice, or a missing target.
    """
    place = existing_file(path)
    table = readers.read(str(place), name=readers.format_of(place) or "csv", as_text=[file])
    frame = table.frame
    columns = [target] if isinstance(target, str) else list(target)
    for name, setting in ((file, "file"), *((column, "target") for column in columns)):
        _refuse_without(frame, place, name, setting, f"; set data.{setting}")
    if not len(frame):
        raise DataError(f"{place} does not contain examples", "labels")
    kind = kind if trained is None else trained.kind
    may_be_empty = kind == "labels" and len(columns) == 1  # no entry means no label
    required = frame[[file] if may_be_empty else [file, *columns]].isna().to_numpy()
    if required.any():
        row, column = np.argwhere(required)[0]
        what = f"example {row} has no value for '{[file, *columns][column]}'"
        raise DataError(f"{place}: {what}; fill it in", "labels")
    files = _files(folder, place, column_of(frame, file).tolist())
    if trained is not None:
        return Labeled(
            files, targets_like(frame, columns, trained, str(place), table.decimal), trained, (), (), frame, place
        )
    y, description, notes = targets(frame, columns, kind, str(place), table.decimal)
    return Labeled(files, y, description, (), tuple(notes), frame, place)


def _refuse_without(frame: "pd.DataFrame", place: Path, name: str, setting: str, fix: str) -> None:
    if name not in frame.columns:
        raise DataError(f"{place} has no column '{name}'{suggestion(name, map(str, frame.columns))}{fix}", setting)


def _files(folder: Path, place: Path, names: Sequence[str]) -> list[Path]:
    """Return the path of each image; a name without extension is completed by that of a file in the folder."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{place} names the image '{name}' {times} times; an image must have one line", "labels")
    files, missing = [], []
    for name in names:
        path = folder / name
        if not path.is_file() and path.suffix.lower() not in EXTENSIONS:
            path = next((p for e in EXTENSIONS if (p := path.with_name(path.name + e)).is_file()), path)
        files.append(path)
        if not path.is_file():
            missing.append(name)
    if missing:
        shown = ", ".join(f"'{name}'" for name in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        what = f"{len(missing):,} of the {len(names):,} images in {place} are not files in {folder}: {shown}"
        raise DataError(f"{what}; set data.path to the folder that the names are relative to", "path")
    return files
