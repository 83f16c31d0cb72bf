"""NumPy archives of named arrays (.npz)."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, MinLen

from fnet.core.wording import suggestion
from fnet.data.cache import Chunks, cached
from fnet.data.path import FileSource, PathText, digest, existing_file, file_errors
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

CHUNK_BYTES = 1 << 25
"""Number of bytes of examples that are read together."""

_OTHERS = ("validation", "val", "test")
_Key = Annotated[str, MinLen(1)]


class _Split(NamedTuple):
    """A split and the keys of its two arrays."""

    name: str
    x: str
    y: str


class _Header(NamedTuple):
    """Header of an array; fortran: whether its entries are in column-major order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def npz(
    path: PathText,
    x: _Key = "x",
    y: _Key = "y",
    targets: Literal["classes", "values"] | None = None,
    classes: Annotated[int, Ge(2)] | None = None,
) -> FileSource:
    """Arrays of a .npz file: examples x (n, ...) and targets y (n,) or (n, values).

    x_validation and x_test, with their y, are splits in addition to train, whose arrays may also be called x_train and
    y_train.
    Bytes (uint8) of shape (n, height, width) or (n, height, width, channels) are images.

    Args:
        path: the file.
        x: key of the examples.
        y: key of the targets.
        targets: classes or values; by default classes if the targets are whole numbers, one per example.
        classes: number of classes; by default the maximum label plus 1.
    """

    def spec() -> DatasetSpec:
        archive = existing_file(path)
        headers = _headers(archive)
        splits = _splits(archive, headers, x, y)
        first = splits[0]
        shape, dtype = headers[first.x].shape[1:], headers[first.x].dtype
        images = dtype == np.uint8 and len(shape) in (2, 3)
        sizes = tuple((split.name, headers[split.x].shape[0]) for split in splits)
        return DatasetSpec(
            archive.stem,
            (*shape, 1) if images and len(shape) == 2 else shape,
            _targets(archive, headers, splits, targets, classes),
            sum(size for _, size in sizes),
            (0.0, 255.0) if images else None,
            splits=sizes if len(sizes) > 1 else (),
        )

    def rows() -> Stream:
        archive, description = existing_file(path), spec()
        key = {
            "name": archive.stem,
            "format": "npz",
            "content": digest(archive),
            "keys": [x, y],
            "targets": description.targets._asdict(),
        }
        arrays = cached(key, lambda: _decode(archive, description, x, y))
        return Stream(arrays["x"], arrays["y"])

    return FileSource(spec, rows)


def _headers(archive: Path) -> dict[str, _Header]:
    """Return the header of each array by its key."""
    headers = {}
    with file_errors(archive), zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            with opened.open(name) as member:
                headers[name.removesuffix(".npy")] = _header(member)
    return headers


def _header(member: Any) -> _Header:
    version = np.lib.format.read_magic(member)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
    shape, fortran, dtype = read(member)
    return _Header(shape, dtype, fortran)


def _splits(archive: Path, headers: dict[str, _Header], x: str, y: str) -> list[_Split]:
    """Find the splits in the archive, train first, and check that their shapes and types agree."""
    for key, setting in ((x, "x"), (y, "y")):
        if key not in headers and f"{key}_train" not in headers:
            raise DataError(f"{archive} does not contain an array '{key}'{suggestion(key, headers)}", setting)
    train = _Split("train", *(key if key in headers else f"{key}_train" for key in (x, y)))
    others = [_Split(name, f"{x}_{name}", f"{y}_{name}") for name in _OTHERS if f"{x}_{name}" in headers]
    for split in (train, *others):
        _check_split(archive, headers, split)
        shape, expected = headers[split.x].shape[1:], headers[train.x].shape[1:]
        if shape != expected:
            what = f"examples of '{split.x}' have shape {shape}, but those of '{train.x}' have shape {expected}"
            raise DataError(f"{archive}: {what}", "path")
    return [train, *others]


def _check_split(archive: Path, headers: dict[str, _Header], split: _Split) -> None:
    """Check that a split has examples and targets, both numbers, and the same number of each."""
    if split.y not in headers:
        raise DataError(f"{archive} contains '{split.x}' but not '{split.y}'", "y")
    examples, labels = headers[split.x], headers[split.y]
    for key, header in ((split.x, examples), (split.y, labels)):
        if header.dtype.kind not in "buif":
            raise DataError(f"{archive}: '{key}' has dtype {header.dtype}; save it as an array of numbers", "path")
    if not examples.shape or not labels.shape or examples.shape[0] != labels.shape[0]:
        what = f"'{split.x}' has shape {examples.shape} and '{split.y}' {labels.shape}"
        raise DataError(f"{archive}: {what}; the first axis of both must be the number of examples", "path")


def _targets(
    archive: Path, headers: dict[str, _Header], splits: list[_Split], kind: str | None, classes: int | None
) -> Targets:
    """Describe the targets; the number of classes is read from the labels."""
    key = splits[0].y
    shape, dtype = headers[key].shape[1:], headers[key].dtype
    whole = dtype.kind in "bui" and shape in ((), (1,))
    if kind is None:
        kind = "classes" if whole or classes else "values"
    if kind == "classes" and not whole:
        what = f"'{key}' has dtype {dtype} and shape {shape} per example"
        raise DataError(f"{archive}: {what}; classes are whole numbers, one per example", "targets")
    if kind == "classes":
        max_label = max(_max_label(archive, split.y, classes) for split in splits)
        return Targets("classes", classes or max(2, max_label + 1))
    if len(shape) > 1:
        raise DataError(f"{archive}: expected one target or a row of targets per example, got shape {shape}", "y")
    return Targets("values", shape[0] if shape else 1)


def _max_label(archive: Path, key: str, classes: int | None) -> int:
    """Return the maximum label of a split.

    Raises:
        DataError: for a label out of range.
    """
    with file_errors(archive), np.load(archive, allow_pickle=False) as opened:
        labels = opened[key].reshape(-1).astype(np.int64)
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "labels of at least 0" if classes is None else f"labels 0 ... {classes - 1}"
        raise DataError(f"{archive}: expected {expected} in '{key}', got {labels[row]} in row {row}", "classes")
    return int(labels.max(initial=0))


def _decode(archive: Path, spec: DatasetSpec, x: str, y: str) -> dict[str, np.ndarray | Chunks]:
    splits = _splits(archive, _headers(archive), x, y)
    with file_errors(archive), np.load(archive, allow_pickle=False) as opened:
        labels = np.concatenate([opened[split.y] for split in splits])
    if spec.targets.kind == "classes":
        labels = labels.reshape(-1).astype(np.int32)
    else:
        labels = labels.reshape(len(labels), -1).astype(np.float32)
    dtype = np.dtype(np.uint8 if spec.range else np.float32)
    return {"x": Chunks((spec.size, *spec.shape), dtype, lambda: _examples(archive, splits, spec)), "y": labels}


def _examples(archive: Path, splits: list[_Split], spec: DatasetSpec) -> Iterator[np.ndarray]:
    """Read the examples of the splits in chunks; an array in column-major order is read as a whole."""
    with file_errors(archive), zipfile.ZipFile(archive) as opened:
        for split in splits:
            with opened.open(f"{split.x}.npy") as member:
                header = _header(member)
                if header.fortran or not math.prod(header.shape[1:]):
                    member.seek(0)
                    yield np.lib.format.read_array(member, allow_pickle=False).reshape(-1, *spec.shape)
                else:
                    yield from (rows.reshape(-1, *spec.shape) for rows in _chunks(member, header, split.x))


def _chunks(member: Any, header: _Header, key: str) -> Iterator[np.ndarray]:
    """Read rows from a file that is positioned after its header.

    Raises:
        EOFError: when the file ends too early.
    """
    size, row = header.shape[0], math.prod(header.shape[1:]) * header.dtype.itemsize
    rows_per_chunk = max(1, CHUNK_BYTES // row)
    for start in range(0, size, rows_per_chunk):
        stop = min(size, start + rows_per_chunk)
        data = member.read((stop - start) * row)
        if len(data) != (stop - start) * row:
            raise EOFError(f"'{key}' ends within the examples {start} ... {stop - 1} of {size}")
        yield np.frombuffer(data, header.dtype).reshape(stop - start, -1)
