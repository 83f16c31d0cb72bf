"""Tables of the file names of images and their labels."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnet.core.wording import suggestion
from fnet.data import labels
from fnet.data.path import existing_file, file_errors, open_file
from fnet.data.pixels import EXTENSIONS
from fnet.data.source import DataError, TargetKind, Targets

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = re.compile(r"\s*[|;,]\s*")
"""What separates several labels in one entry."""

_SHOWN = 3
"""Number of missing files that an error names."""


class Labeled(NamedTuple):
    """Images that a table names.

    files: all files, in the order of the table.
    y: (n,) class indices, or (n, number) values or labels.
    targets: description of the targets.
    table: the table, for the values of its other columns.
    place: file of the table.
    """

    files: list[Path]
    y: np.ndarray
    targets: Targets
    table: "pd.DataFrame"
    place: Path

    sizes: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(
        cls,
        folder: Path,
        path: str,
        file: str,
        target: str | Sequence[str],
        kind: TargetKind | None,
        trained: Targets | None = None,
    ) -> "Labeled":
        """Read a table.

        Args:
            folder: the folder that the names of the files are relative to.
            path: the table.
            file: column with the names of the files.
            target: column with the targets, or several.
            kind: classes, values or labels; None to infer it.
            trained: targets of a trained network, whose classes and labels are used.

        Raises:
            DataError: for a damaged table, a file that does not exist or is listed twice, or a missing label.
        """
        place = existing_file(path)
        table = _table(place, file)
        columns = [target] if isinstance(target, str) else list(target)
        for name, setting in ((file, "file"), *((column, "target") for column in columns)):
            if name not in table.columns:
                near = suggestion(name, map(str, table.columns))
                raise DataError(f"{place} has no column '{name}'{near}; set data.{setting}", setting)
        if kind == "labels" and len(columns) == 1 and table[columns[0]].dtype.kind not in "buif":
            table[columns[0]] = table[columns[0]].fillna("")
        used = table[[file, *columns]]
        if used.isna().to_numpy().any():
            row, column = np.argwhere(used.isna().to_numpy())[0]
            what = f"example {row} has no value for '{used.columns[column]}'"
            raise DataError(f"{place}: {what}; fill it in", "labels")
        if not len(table):
            raise DataError(f"{place} does not contain examples", "labels")
        files = _files(folder, place, [str(name) for name in table[file]])
        targets, y = _targets(place, columns, [_array(table[name]) for name in columns], kind, trained)
        return cls(files, y, targets, table, place)

    def column(self, name: str) -> np.ndarray:
        """Return the values (n,) of a column of the table."""
        if name not in self.table.columns:
            near = suggestion(name, map(str, self.table.columns))
            raise DataError(f"{self.place} has no column '{name}'{near}", "split")
        return self.table[name].to_numpy()


def _table(place: Path, file: str) -> "pd.DataFrame":
    """Read a table separated by commas, semicolons or tabs; names of files keep their zeros."""
    import pandas as pd

    with file_errors(place), open_file(place) as opened:
        first = opened.readline().decode("utf-8-sig")
        opened.seek(0)
        separator = max(",;\t", key=first.count)
        return pd.read_csv(opened, sep=separator, encoding="utf-8-sig", skipinitialspace=True, dtype={file: "str"})


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


def _targets(
    place: Path, names: Sequence[str], columns: Sequence[np.ndarray], kind: TargetKind | None, trained: Targets | None
) -> tuple[Targets, np.ndarray]:
    """Return the description of the targets and the targets."""
    is_text = [column.dtype.kind == "U" for column in columns]
    if trained is not None:
        kind = trained.kind
        if kind == "classes" and len(columns) == 1:
            targets, known = labels.as_trained({names[0]: [columns[0]]}, place, trained)
            return targets, labels.indices(columns[0], known)
    if kind is None:
        kind = _kind(columns)
    if kind == "classes":
        if len(columns) > 1:
            what = f"the {len(columns)} columns {', '.join(names)} cannot be one class"
            raise DataError(f"{place}: {what}; set data.targets: labels or values", "targets")
        targets, known = labels.classes({names[0]: [columns[0]]}, place, stated=True)
        classes = targets.names or tuple(map(str, range(targets.number)))
        return targets._replace(names=classes), labels.indices(columns[0], known)
    if kind == "labels" and len(columns) == 1 and is_text[0]:
        parts = [set(filter(None, _SEPARATORS.split(text))) for text in columns[0].tolist()]
        found = sorted(set().union(*parts)) if trained is None else trained.names
        unknown = sorted(set().union(*parts) - set(found))
        if unknown:
            what = f"'{names[0]}' contains the label '{unknown[0]}', which the network was not trained on"
            raise DataError(f"{place}: {what}; known: {', '.join(found[:10])}", "path")
        return Targets("labels", len(found), tuple(found)), np.array(
            [[n in p for n in found] for p in parts], np.float32
        )
    if any(is_text):
        name, fix = names[is_text.index(True)], "" if kind == "labels" else "; set data.targets: classes"
        raise DataError(f"{place}: expected numbers in '{name}', got text{fix}", "targets")
    y = np.stack(columns, axis=1)
    if kind == "labels":
        return labels.labels({", ".join(names): [y]}, place, len(names), names), y.astype(np.float32)
    return Targets("values", len(names), tuple(names)), labels.single_precision(y, 0, ", ".join(names), place)


def _kind(columns: Sequence[np.ndarray]) -> TargetKind:
    """Return classes for one column of text, Booleans or few whole numbers, labels for several of Booleans."""
    if len(columns) > 1:
        return "labels" if all(column.dtype.kind == "b" for column in columns) else "values"
    (column,) = columns
    if column.dtype.kind in "Ub":
        return "classes"
    whole = bool(np.isfinite(column).all() and (column == np.trunc(column)).all())
    return "classes" if whole and len(np.unique(column)) <= labels.FEW_CLASSES else "values"


def _array(column: Any) -> np.ndarray:
    """Return a column as an array of numbers, Booleans or text."""
    return column.to_numpy() if column.dtype.kind in "buif" else column.astype(str).to_numpy().astype(np.str_)
