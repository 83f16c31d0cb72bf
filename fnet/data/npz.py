"""NumPy archives of named arrays (.npz)."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Le, MinLen

from fnet.core.wording import suggestion
from fnet.data.arrays import as_float32
from fnet.data.cache import Chunks, cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.npy import Header, read_array, read_header, read_rows, refuse_objects, refuse_other_size
from fnet.data.path import MAX_COMPRESSION, FileSource, PathText, digest, existing_file, file_errors, open_file
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

INFERRED_CLASSES = 1000
"""Maximum number of classes that is inferred from labels if there are fewer examples; `classes` sets any number."""

_OTHERS = ("validation", "val", "test")
_Key = Annotated[str, MinLen(1)]


class _Split(NamedTuple):
    """A split and the keys of its two arrays."""

    name: str
    x: str
    y: str


def npz(
    path: PathText,
    x: _Key = "x",
    y: _Key = "y",
    targets: Literal["classes", "values"] | None = None,
    classes: Annotated[int, Ge(2), Le(2**31 - 1)] | None = None,
) -> FileSource:
    """Arrays of a .npz file: examples x (n, ...) and targets y (n,) or (n, values).

    x_validation and x_test, with their y, are splits in addition to train, whose arrays may also be called x_train and
    y_train. Bytes (uint8) of shape (n, height, width) or (n, height, width, channels) are images.

    Args:
        path: the file.
        x: key of the examples.
        y: key of the targets.
        targets: classes or values; by default classes if the targets are integers or Booleans, one per example.
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


def read(archive: Path, key: str | None = None) -> np.ndarray:
    """Return an array of a .npz file: that of a key, by default x, or the only array; or the array of a .npy file.

    Raises:
        DataError: when there is no such array, or the file is damaged.
    """
    with file_errors(archive), open_file(archive) as file:
        if file.peek(6).startswith(b"\x93NUMPY"):
            header = read_header(file)
            refuse_other_size(header, archive.stat().st_size)
            return read_array(file, header)
    headers = _headers(archive)
    if key is None:
        key = next(iter(headers)) if len(headers) == 1 else "x"
    if key not in headers:
        raise DataError(f"{archive} does not contain an array '{key}'{suggestion(key, headers)}")
    with _member(archive, key) as member:
        return read_array(member, read_header(member))


def open_rows(archive: Path) -> tuple[Header, Iterator[np.ndarray]]:
    """Return the header of an array of examples, and its rows in chunks.

    Args:
        archive: a .npy file, or a .npz file, of which the array x or the only array is read.

    Raises:
        DataError: as for `read`, also while the rows are read.
    """

    def rows_of_file() -> Iterator[np.ndarray]:
        with file_errors(archive), open_file(archive) as file:
            yield from read_rows(file, read_header(file))

    with file_errors(archive), open_file(archive) as file:
        if file.peek(6).startswith(b"\x93NUMPY"):
            header = read_header(file)
            refuse_other_size(header, archive.stat().st_size)
            refuse_objects(header)
            return header, rows_of_file()
    headers = _headers(archive)
    key = _key_of_examples(archive, headers)
    with file_errors(archive):
        refuse_objects(headers[key])
    return headers[key], _rows(archive, key)


def _key_of_examples(archive: Path, headers: Mapping[str, Header]) -> str:
    key = next(iter(headers)) if len(headers) == 1 else "x"
    if key not in headers:
        raise DataError(f"{archive} does not contain an array '{key}'{suggestion(key, headers)}")
    return key


def _headers(archive: Path) -> dict[str, Header]:
    """Return the header of each array by its key, after checking that the sizes in it are those of the file.

    Raises:
        DataError: for a damaged archive.
    """
    headers = {}
    with file_errors(archive), open_file(archive) as file, zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            key = info.filename.removesuffix(".npy")
            if key == info.filename:
                continue
            if key in headers:
                raise ValueError(f"it contains two arrays '{key}'")
            if info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > MAX_COMPRESSION * (
                info.compress_size + 1
            ):
                raise ValueError(f"{info.compress_size:,} bytes cannot contain '{key}' of {info.file_size:,} bytes")
            with opened.open(info) as member:
                try:
                    headers[key] = read_header(member)
                    refuse_other_size(headers[key], info.file_size)
                except ValueError as error:
                    raise ValueError(f"'{key}': {error}") from None
    return headers


def _splits(archive: Path, headers: dict[str, Header], x: str, y: str) -> list[_Split]:
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


def _check_split(archive: Path, headers: dict[str, Header], split: _Split) -> None:
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
    for key, header in ((split.x, examples), (split.y, labels)):
        if 0 in header.shape:
            what = "no examples" if not header.shape[0] else "examples without entries"
            raise DataError(f"{archive}: '{key}' has shape {header.shape}: it contains {what}", "path")
    refuse_beyond_memory(2 * labels.size, f"{archive}: the array '{split.y}'", "divide the file", "path")


def _targets(
    archive: Path, headers: dict[str, Header], splits: list[_Split], kind: str | None, classes: int | None
) -> Targets:
    """Describe the targets; the number of classes is read from the labels."""
    key = splits[0].y
    shape, dtype = headers[key].shape[1:], headers[key].dtype
    one_each = shape in ((), (1,))
    if kind is None:
        kind = "classes" if classes or (dtype.kind in "bui" and one_each) else "values"
    if kind == "classes" and not one_each:
        what = f"'{key}' has dtype {dtype} and shape {shape} per example"
        raise DataError(f"{archive}: {what}; classes are whole numbers, one per example", "targets")
    if kind == "classes":
        number = 1 + max(_max_label(archive, split.y, classes) for split in splits)
        examples = sum(headers[split.y].shape[0] for split in splits)
        if classes is None and number > max(INFERRED_CLASSES, examples):
            what = f"the labels in '{key}' are as large as {number - 1}, but there are only {examples} examples"
            fix = f"renumber them from 0, set data.targets: values, or set data.classes: {number}"
            raise DataError(f"{archive}: {what}; {fix}", "targets")
        return Targets("classes", classes or max(2, number))
    if len(shape) > 1:
        raise DataError(f"{archive}: expected one target or a row of targets per example, got shape {shape}", "y")
    return Targets("values", shape[0] if shape else 1)


def _max_label(archive: Path, key: str, classes: int | None) -> int:
    """Return the maximum label of a split.

    Raises:
        DataError: for a label out of range.
    """
    start, max_label = 0, 0
    for rows in _rows(archive, key):
        labels = rows.reshape(-1)
        fraction = ~(np.isfinite(labels) & (labels == np.trunc(labels)))
        wrong = fraction | (labels < 0) | (False if classes is None else labels >= classes)
        if wrong.any():
            row = int(np.argmax(wrong))
            expected = "whole numbers of at least 0" if classes is None else f"labels 0 ... {classes - 1}"
            received = f"{labels[row]} for example {start + row}"
            raise DataError(
                f"{archive}: expected {expected} in '{key}', got {received}", "targets" if fraction[row] else "classes"
            )
        start, max_label = start + len(labels), max(max_label, int(labels.max()))
    return max_label


def _decode(archive: Path, spec: DatasetSpec, x: str, y: str) -> dict[str, np.ndarray | Chunks]:
    splits = _splits(archive, _headers(archive), x, y)
    labels = [rows for split in splits for rows in _rows(archive, split.y)]
    if spec.targets.kind == "classes":
        targets = np.concatenate([rows.reshape(-1).astype(np.int32) for rows in labels])
    else:
        targets = np.concatenate([as_float32(rows.reshape(len(rows), -1)) for rows in labels])
    dtype = np.dtype(np.uint8 if spec.range else np.float32)

    def examples() -> Iterator[np.ndarray]:
        for split in splits:
            for rows in _rows(archive, split.x):
                stored = rows.reshape(-1, *spec.shape)
                yield stored if spec.range else as_float32(stored)

    return {"x": Chunks((spec.size, *spec.shape), dtype, examples), "y": targets}


def _rows(archive: Path, key: str) -> Iterator[np.ndarray]:
    """Read an array of the archive in chunks of rows."""
    with _member(archive, key) as member:
        yield from read_rows(member, read_header(member))


@contextlib.contextmanager
def _member(archive: Path, key: str) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(file_errors(archive))
        opened = zipfile.ZipFile(stack.enter_context(open_file(archive)))
        yield stack.enter_context(opened.open(f"{key}.npy"))
