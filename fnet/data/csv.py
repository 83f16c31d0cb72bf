"""Tables of comma-separated values: a line an example, a column a feature, one column the target."""

import csv as lines
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Len, MinLen

from fnet.core.wording import suggestion
from fnet.data.cache import cached
from fnet.data.path import File, PathText, digest, file, naming
from fnet.data.source import Arrays, DataError, Spec, Targets

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 1000
"""Of one column: each is a feature."""

FEW = 20
"""So many different whole numbers, at most, are classes when the config does not say."""

_HOLDS = ["x", "y", "names", "features"]

Column = Annotated[str, MinLen(1)]


def csv(
    path: PathText,
    target: Column,
    targets: Literal["classes", "values"] | None = None,
    categorical: list[Column] | None = None,
    drop: list[Column] | None = None,
    missing: Literal["refuse", "mean", "drop"] = "refuse",
    separator: Annotated[str, Len(1, 1)] = ",",
) -> File:
    """A table in a .csv file, whose first line names the columns.

    Columns of text are one-hot, a feature for each text in alphabetical order; all others are numbers. There is no
    header that says all this: the file is read once, and then comes from the cache of decoded arrays.

    Args:
        path: the file.
        target: the column to learn.
        targets: whether it holds classes or values; by default classes if it holds text, true and false, or at most 20
            different whole numbers.
        categorical: columns of numbers that are to be one-hot too.
        drop: columns to leave out.
        missing: what to do with an empty entry (or NA, NaN, null): refuse the file, put the column's mean over the
            training part there, or drop the line.
        separator: the character between entries.
    """
    settings = {
        "target": target,
        "targets": targets,
        "categorical": sorted(categorical or ()),
        "drop": sorted(drop or ()),
        "missing": missing,
        "separator": separator,
    }

    def table() -> tuple[Path, "dict[str, np.ndarray]"]:
        found = file(path)
        key = {"name": found.stem, "format": "csv", "content": digest(found), "settings": settings, "holds": _HOLDS}
        return found, dict(cached(key, lambda: _decode(found, **settings)))

    def spec() -> Spec:
        found, arrays = table()
        x, names = arrays["x"], tuple(arrays["names"].tolist())
        kind = Targets("classes", len(names), names) if len(names) > 1 else Targets("values", 1, names)
        features = tuple(arrays["features"].tolist())
        return Spec(found.stem, x.shape[1:], kind, len(x), gaps=missing == "mean", features=features)

    def load() -> Arrays:
        _, arrays = table()
        return Arrays(arrays["x"], arrays["y"])

    return File(spec, load)


def _decode(
    path: Path,
    target: str,
    targets: str | None,
    categorical: list[str],
    drop: list[str],
    missing: str,
    separator: str,
) -> dict[str, np.ndarray]:
    import pandas as pd

    header = _checked_lines(path, separator)
    for setting, columns in (("target", [target]), ("categorical", categorical), ("drop", drop)):
        for column in columns:
            if column not in header:
                raise DataError(f"{path} has no column '{column}'{suggestion(column, header)}", setting)
    if target in drop:
        raise DataError(f"the column '{target}' is to be learned and dropped at once", "drop")
    with naming(path):
        table = pd.read_csv(path, sep=separator, index_col=False, skip_blank_lines=True).drop(columns=drop)
    if missing == "drop":
        table = table.dropna()
    gaps = table.isna() if missing == "refuse" else table[[target]].isna()
    if gaps.to_numpy().any():
        row, column = np.argwhere(gaps.to_numpy())[0]
        mend = "fill it in, or set data.missing: drop" + (" or mean" if missing == "refuse" else "")
        raise DataError(f"{path}: row {_row(table, row)} has no value for '{gaps.columns[column]}'; {mend}", "missing")
    if table.empty:
        raise DataError(f"{path} holds no examples" + (" without missing values" if missing == "drop" else ""), "path")
    y, names = _target(path, table, target, targets)
    columns = [_features(path, table, name, one_hot=name in categorical) for name in table.columns if name != target]
    if not columns:
        raise DataError(f"{path} has no column beside '{target}' to learn from", "drop")
    x = np.concatenate([values for values, _ in columns], axis=1)
    features = [feature for _, features in columns for feature in features]
    return {"x": x, "y": y, "names": np.array(names), "features": np.array(features)}


def rows(path: Path, features: tuple[str, ...], *, gaps: bool) -> np.ndarray:
    """The examples (n, features) of another table, encoded as that was whose features these are.

    Columns that are no feature, such as the target, are left out. Entries are parted by what the first line has most
    of: a comma, a semicolon, a tab or a bar.

    Args:
        path: the file.
        features: their names, as `Spec.features`.
        gaps: whether a value may be missing; it is NaN then.

    Raises:
        DataError: for a column that is not there, a text where a number should be, a category that training has never
            seen, or a missing value.
    """
    import pandas as pd

    with naming(path), path.open(encoding="utf-8-sig") as opened:
        names = opened.readline()
        separator = max(",;\t|", key=names.count)
    header = _checked_lines(path, separator)
    with naming(path):
        table = pd.read_csv(path, sep=separator, index_col=False, skip_blank_lines=True)
    x = np.empty((len(table), len(features)), np.float32)
    categories: dict[str, dict[str, int]] = {}
    for number, feature in enumerate(features):
        column, is_category, category = feature.rpartition("=")
        if feature in header or not is_category:
            x[:, number] = _numbers(path, table, feature, header, gaps)
        else:
            categories.setdefault(column, {})[category] = number
    for column, known in categories.items():
        values = _column(path, table, column, header, gaps)
        missing, places = values.isna().to_numpy(), values.astype(str).map(known).to_numpy(np.float64)
        unseen = np.isnan(places) & ~missing
        if unseen.any():
            row = int(np.argmax(unseen))
            what = f"row {_row(table, row)} has '{values.iloc[row]}' for '{column}', which training has not seen"
            raise DataError(f"{path}: {what}; it has seen {', '.join(known)}")
        numbers = list(known.values())
        x[:, numbers] = np.where(missing[:, None], np.nan, places[:, None] == numbers)
    return x


def _column(path: Path, table: "pd.DataFrame", name: str, header: list[str], gaps: bool) -> "pd.Series":
    if name not in header:
        raise DataError(f"{path} has no column '{name}', which the network was trained with{suggestion(name, header)}")
    missing = table[name].isna().to_numpy()
    if missing.any() and not gaps:
        raise DataError(f"{path}: row {_row(table, int(np.argmax(missing)))} has no value for '{name}'; fill it in")
    return table[name]  # pyright: ignore[reportReturnType] (the names of columns differ)


def _numbers(path: Path, table: "pd.DataFrame", name: str, header: list[str], gaps: bool) -> np.ndarray:
    import pandas as pd

    column = _column(path, table, name, header, gaps)
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)
    wrong = ~np.isfinite(numbers) & column.notna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{path}: row {_row(table, row)} has '{column.iloc[row]}' for '{name}'; expected a number")
    return numbers


def _checked_lines(path: Path, separator: str) -> list[str]:
    """The names of the columns, after counting the entries of every line: pandas fills up short ones in silence."""
    with naming(path), path.open(newline="", encoding="utf-8-sig") as opened:
        rows = lines.reader(opened, delimiter=separator)
        header = next(rows, [])
        for name in header:
            if header.count(name) > 1:
                raise DataError(f"{path} has two columns '{name}'; rename one", "path")
        for row in rows:
            if row and len(row) != len(header):
                more = f"; is data.separator right? It is '{separator}'" if len(header) == 1 else ""
                what = f"line {rows.line_num} has {len(row)} entries, the first line names {len(header)} columns{more}"
                raise DataError(f"{path}: {what}", "path")
    if not header:
        raise DataError(f"{path} is empty", "path")
    return header


def _target(path: Path, table: "pd.DataFrame", name: str, kind: str | None) -> tuple[np.ndarray, list[str]]:
    """The targets, and the names of their classes, or of the one value."""
    column = table[name]
    text = column.dtype.kind not in "buif"
    if not text:
        _refuse_infinite(path, table, name)
    different = np.unique(column.astype(str) if text else column.to_numpy())
    whole = not text and bool(np.all(column == np.round(column)))
    if kind is None:
        kind = "classes" if text or column.dtype.kind == "b" or (whole and len(different) <= FEW) else "values"
    if kind == "values":
        if text:
            raise DataError(
                f"{path}: '{name}' holds text, which is no value to learn; set data.targets: classes", "targets"
            )
        return column.to_numpy(np.float32)[:, None], [name]
    if len(different) < 2:
        raise DataError(f"{path}: '{name}' is '{different[0]}' in every row; there is nothing to learn", "target")
    labels = np.searchsorted(different, column.astype(str) if text else column.to_numpy())
    return labels.astype(np.int32), [
        str(int(label)) if whole and column.dtype.kind != "b" else str(label) for label in different
    ]


def _features(path: Path, table: "pd.DataFrame", name: str, *, one_hot: bool) -> tuple[np.ndarray, list[str]]:
    """A column as features (n, 1), or (n, categories), and their names; a missing value is NaN."""
    import pandas as pd

    column = table[name]
    if column.dtype.kind in "buif" and not one_hot:
        _refuse_infinite(path, table, name)
        return column.to_numpy(np.float32)[:, None], [name]
    if not one_hot:
        _refuse_stray_text(path, table, name)
    categories = sorted(column.dropna().unique())
    if len(categories) > MOST_CATEGORIES:
        what = f"the column '{name}' holds {len(categories)} different texts, each of which would be a feature"
        raise DataError(f"{path}: {what}; leave it out with data.drop: [{name}]", "drop")
    coded = pd.Categorical(column, categories=categories)
    features = (np.asarray(coded.codes)[:, None] == np.arange(len(categories))).astype(np.float32)
    features[column.isna()] = np.nan
    return features, [f"{name}={category}" for category in categories]


def _refuse_infinite(path: Path, table: "pd.DataFrame", name: str) -> None:
    infinite = np.isinf(table[name].to_numpy(np.float64))
    if infinite.any():
        row = _row(table, int(np.argmax(infinite)))
        raise DataError(f"{path}: row {row} has an infinite value for '{name}'; remove or replace it", "path")


def _refuse_stray_text(path: Path, table: "pd.DataFrame", name: str) -> None:
    """A column of numbers with a slip of the pen would become thousands of categories in silence."""
    import pandas as pd

    column = table[name].dropna()
    numbers = np.isfinite(np.asarray(pd.to_numeric(column, errors="coerce"), np.float64))
    if numbers.size and 0.5 < numbers.mean() < 1:
        row = int(np.flatnonzero(~numbers)[0])
        raise DataError(
            f"{path}: '{name}' holds numbers, but '{column.iloc[row]}' in row {_row(column, row)}; mend it, or set "
            f"data.categorical: [{name}]",
            "categorical",
        )


def _row(table: "pd.DataFrame | pd.Series", position: int) -> int:
    """The number of a row as a reader counts them, from 1 below the names of the columns."""
    return int(table.index[position]) + 1
