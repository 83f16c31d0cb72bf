"""NumPy's archives of named arrays."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, MinLen

from fnet.core.wording import suggestion
from fnet.data.cache import Portions, cached
from fnet.data.path import File, PathText, digest, file, naming
from fnet.data.source import Arrays, DataError, Spec, Targets

AT_ONCE = 1 << 25
"""Bytes of examples that are read before they are written."""

_OTHERS = ("validation", "val", "test")
_Key = Annotated[str, MinLen(1)]


class _Split(NamedTuple):
    """A split: the keys of its two arrays."""

    name: str
    x: str
    y: str


class _Header(NamedTuple):
    """What the archive says of an array; whether its entries lie in the order of Fortran."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def npz(
    path: PathText,
    x: _Key = "x",
    y: _Key = "y",
    targets: Literal["classes", "values"] | None = None,
    classes: Annotated[int, Ge(2)] | None = None,
) -> File:
    """Arrays of a .npz file: examples x (n, ...) and targets y (n,) or (n, values).

    x_validation and x_test with their y, where the file has them, are splits of their own beside train, which may be
    called x_train too. Bytes (uint8) of shape (n, height, width) or (n, height, width, channels) are images.

    Args:
        path: the file.
        x: the key of the examples.
        y: the key of the targets.
        targets: whether they are classes or values; by default classes if they are whole numbers, one an example.
        classes: their number; by default one more than the greatest label.
    """

    def spec() -> Spec:
        archive = file(path)
        headers = _headers(archive)
        splits = _splits(archive, headers, x, y)
        first = splits[0]
        shape, dtype = headers[first.x].shape[1:], headers[first.x].dtype
        images = dtype == np.uint8 and len(shape) in (2, 3)
        sizes = tuple((split.name, headers[split.x].shape[0]) for split in splits)
        return Spec(
            archive.stem,
            (*shape, 1) if images and len(shape) == 2 else shape,
            _targets(archive, headers, splits, targets, classes),
            sum(size for _, size in sizes),
            (0.0, 255.0) if images else None,
            splits=sizes if len(sizes) > 1 else (),
        )

    def load() -> Arrays:
        archive, known = file(path), spec()
        key = {
            "name": archive.stem,
            "format": "npz",
            "content": digest(archive),
            "keys": [x, y],
            "targets": str(known.targets),
        }
        arrays = cached(key, lambda: _decode(archive, known, x, y))
        return Arrays(arrays["x"], arrays["y"])

    return File(spec, load)


def _headers(archive: Path) -> dict[str, _Header]:
    found = {}
    with naming(archive), zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            with opened.open(name) as member:
                found[name.removesuffix(".npy")] = _header(member)
    return found


def _header(member: Any) -> _Header:
    version = np.lib.format.read_magic(member)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
    shape, fortran, dtype = read(member)
    return _Header(shape, dtype, fortran)


def _splits(archive: Path, headers: dict[str, _Header], x: str, y: str) -> list[_Split]:
    """The splits that the archive holds, train first, in shapes and types that fit each other."""
    for key, setting in ((x, "x"), (y, "y")):
        if key not in headers and f"{key}_train" not in headers:
            raise DataError(f"{archive} holds no array '{key}'{suggestion(key, headers)}", setting)
    ending = "" if x in headers else "_train"
    splits = [_Split("train", x + ending, y if y in headers else f"{y}_train")]
    splits += [_Split(name, f"{x}_{name}", f"{y}_{name}") for name in _OTHERS if f"{x}_{name}" in headers]
    for split in splits:
        if split.y not in headers:
            raise DataError(f"{archive} holds '{split.x}' but no '{split.y}'", "y")
        examples, labels = headers[split.x], headers[split.y]
        for key, header in ((split.x, examples), (split.y, labels)):
            if header.dtype.kind not in "buif":
                raise DataError(
                    f"{archive}: '{key}' holds {header.dtype}, not numbers; save it as an array of numbers", "path"
                )
        if not examples.shape or not labels.shape or examples.shape[0] != labels.shape[0]:
            what = f"'{split.x}' has shape {examples.shape} and '{split.y}' {labels.shape}"
            raise DataError(f"{archive}: {what}; both must begin with the number of examples", "path")
        first = headers[splits[0].x]
        if examples.shape[1:] != first.shape[1:]:
            raise DataError(
                f"{archive}: examples of '{split.x}' have shape {examples.shape[1:]}, those of '{splits[0].x}' "
                f"{first.shape[1:]}",
                "path",
            )
    return splits


def _targets(
    archive: Path, headers: dict[str, _Header], splits: list[_Split], kind: str | None, classes: int | None
) -> Targets:
    """What there is to learn; for the number of classes the labels are read."""
    shape, dtype = headers[splits[0].y].shape[1:], headers[splits[0].y].dtype
    whole = dtype.kind in "bui" and shape in ((), (1,))
    if kind is None:
        kind = "classes" if whole or classes else "values"
    if kind == "values":
        if len(shape) > 1:
            raise DataError(f"{archive}: targets of shape {shape}; expected one number, or a row of them", "y")
        return Targets("values", shape[0] if shape else 1)
    if not whole:
        what = f"'{splits[0].y}' holds {dtype} of shape {shape} an example"
        raise DataError(f"{archive}: {what}; classes are whole numbers, one an example", "targets")
    greatest = 1
    with naming(archive), np.load(archive, allow_pickle=False) as opened:
        for split in splits:
            labels = opened[split.y].reshape(-1).astype(np.int64)
            wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
            if wrong.any():
                row = int(np.argmax(wrong))
                limit = "" if classes is None else f" ... {classes - 1}"
                raise DataError(
                    f"{archive}: '{split.y}' has the label {labels[row]} in row {row}, outside 0{limit}", "classes"
                )
            greatest = max(greatest, int(labels.max(initial=1)))
    return Targets("classes", classes or greatest + 1)


def _decode(archive: Path, spec: Spec, x: str, y: str) -> dict[str, np.ndarray | Portions]:
    splits = _splits(archive, _headers(archive), x, y)
    with naming(archive), np.load(archive, allow_pickle=False) as opened:
        labels = np.concatenate([opened[split.y] for split in splits])
    if spec.targets.kind == "classes":
        labels = labels.reshape(-1).astype(np.int32)
    else:
        labels = labels.reshape(len(labels), -1).astype(np.float32)
    dtype = np.dtype(np.uint8 if spec.range else np.float32)
    return {"x": Portions((spec.size, *spec.shape), dtype, lambda: _examples(archive, splits, spec)), "y": labels}


def _examples(archive: Path, splits: list[_Split], spec: Spec) -> Iterator[np.ndarray]:
    """The examples of the splits, some at a time; of an array in the order of Fortran all at once."""
    with naming(archive), zipfile.ZipFile(archive) as opened:
        for split in splits:
            with opened.open(f"{split.x}.npy") as member:
                shape, dtype, fortran = _header(member)
                row = math.prod(shape[1:]) * dtype.itemsize
                if fortran or not row:
                    member.seek(0)
                    yield np.lib.format.read_array(member, allow_pickle=False).reshape(-1, *spec.shape)
                    continue
                at_once = max(1, AT_ONCE // row)
                for start in range(0, shape[0], at_once):
                    rows = min(at_once, shape[0] - start)
                    data = member.read(rows * row)
                    if len(data) != rows * row:
                        raise EOFError(
                            f"'{split.x}' ends within the examples {start} ... {start + rows - 1} of {shape[0]}"
                        )
                    yield np.frombuffer(data, dtype).reshape(rows, *spec.shape)
