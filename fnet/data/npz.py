"""NumPy archives of named arrays (.npz)."""

import contextlib
import dataclasses
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Le, MinLen

from fnet.core.wording import suggestion
from fnet.data import labels
from fnet.data.cache import Chunks, cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.npy import Header, read_array, read_header, read_rows, refuse_objects, refuse_other_size
from fnet.data.path import MAX_COMPRESSION, FileSource, PathText, digest, existing_file, file_errors, is_text, open_file
from fnet.data.source import DataError, DatasetSpec, DataWarning, TargetKind, Targets
from fnet.data.stream import Stream

NAMES = "target_names"
"""Key of an array with the names of the classes, values or labels."""

_OTHERS = ("validation", "val", "test")
_FIXES = {
    "O": "save it as an array of numbers (.astype(float)), or of text (.astype(str)) if it contains names of classes; "
    "objects, of which reading could run code, are not read",
    "c": "save it as an array of numbers: the real and the imaginary part as two features",
    "U": "save it as an array of numbers, or save the data as a table (.csv), whose columns may contain text",
    "S": "save it as an array of numbers, or save the data as a table (.csv), whose columns may contain text",
    "M": "save it as an array of numbers, such as days since a date",
    "m": "save it as an array of numbers, such as seconds",
    "V": "save it as an array of numbers, one array per field",
}
"""How to replace an array of a dtype that is not one of numbers, by the kind of the dtype."""

_Key = Annotated[str, MinLen(1)]


class _Split(NamedTuple):
    """A split and the keys of its two arrays."""

    name: str
    x: str
    y: str


_Describe = Callable[[Path, dict[str, Header], list[_Split]], tuple[Targets, labels.Classes]]


def npz(
    path: PathText,
    x: _Key = "x",
    y: _Key = "y",
    targets: TargetKind | None = None,
    classes: Annotated[int, Ge(2), Le(2**31 - 1)] | None = None,
) -> FileSource:
    """Arrays of a .npz file: examples x (n, ...) and targets y (n,) or (n, values).

    x_validation and x_test, with their y, are splits in addition to train, whose arrays may also be called x_train and
    y_train. Bytes (uint8) of shape (n, height, width) or (n, height, width, channels) are images. Labels of classes may
    be any whole numbers, Booleans or texts. An array target_names contains names of the classes, values or labels.

    Args:
        path: the file.
        x: key of the examples.
        y: key of the targets.
        targets: classes, values, or labels, of which each is 0 or 1; by default classes if the targets are integers,
            Booleans or texts, one per example, labels if they are several Booleans, and otherwise values.
        classes: number of classes, with labels from 0; by default, the different labels are the classes.
    """

    def describe(archive: Path, headers: dict[str, Header], splits: list[_Split]) -> tuple[Targets, labels.Classes]:
        return _targets(archive, headers, splits, targets, classes)

    def describe_like(trained: Targets) -> _Describe:
        def describe(archive: Path, headers: dict[str, Header], splits: list[_Split]) -> tuple[Targets, labels.Classes]:
            parts = {split.y: _flat_rows(archive, split.y) for split in splits}
            if trained.kind == "classes" and all(headers[key].shape[1:] in ((), (1,)) for key in parts):
                return labels.as_trained(parts, archive, trained)
            own, _ = _targets(archive, headers, splits, trained.kind, None)
            labels.refuse_other_targets(own, trained, archive)
            return trained, ()

        return describe

    def encoded_like(trained: DatasetSpec) -> FileSource:
        return _source(path, x, y, describe_like(trained.targets), ["like", trained.targets._asdict()])

    source = _source(path, x, y, describe, ["classes", classes])
    return dataclasses.replace(source, encoded_like=encoded_like)


def _source(path: str, x: str, y: str, describe: _Describe, stated: list[object]) -> FileSource:
    """Return the source of an archive.

    Args:
        path: the file.
        x: key of the examples.
        y: key of the targets.
        describe: describes the targets, and returns the labels of the classes.
        stated: what the targets depend on besides the file.
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
            describe(archive, headers, splits)[0],
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
            "stated": stated,
        }

        def decode() -> dict[str, np.ndarray | Chunks]:
            headers = _headers(archive)
            splits = _splits(archive, headers, x, y)
            return _decode(archive, splits, description, describe(archive, headers, splits)[1])

        arrays = cached(key, decode)
        return Stream(arrays["x"], arrays["y"])

    def values(name: str) -> np.ndarray:
        archive = existing_file(path)
        headers = _headers(archive)
        splits = _splits(archive, headers, x, y)
        keys = [name if name in headers else f"{name}_train", *(f"{name}_{split.name}" for split in splits[1:])]
        for key, split in zip(keys, splits, strict=True):
            if key not in headers:
                raise DataError(f"{archive} does not contain an array '{key}'{suggestion(key, headers)}", "split")
            expected = headers[split.x].shape[:1]
            if headers[key].shape != expected or headers[key].dtype.kind not in "buifUSM":
                what = f"'{key}' has dtype {headers[key].dtype} and shape {headers[key].shape}"
                raise DataError(f"{archive}: {what}; expected one number or text per example, {expected}", "split")
        return np.concatenate([read(archive, key) for key in keys])

    return FileSource(spec, rows, values)


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
    for key, setting, what in ((x, "x", "examples"), (y, "y", "targets")):
        if key not in headers and f"{key}_train" not in headers:
            keys = ", ".join(f"'{name}'" for name in headers) or "no arrays"
            fix = f"set data.{setting} to the key of the {what}"
            raise DataError(f"{archive} does not contain an array '{key}'; it contains {keys}; {fix}", setting)
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
    examples, targets = headers[split.x], headers[split.y]
    for key, header, kinds in ((split.x, examples, "buif"), (split.y, targets, "buifUS")):
        if header.dtype.kind not in kinds:
            fix = _FIXES.get(header.dtype.kind, "save it as an array of numbers")
            raise DataError(f"{archive}: '{key}' has dtype {header.dtype}; {fix}", "path")
    if not examples.shape or not targets.shape or examples.shape[0] != targets.shape[0]:
        what = f"'{split.x}' has shape {examples.shape} and '{split.y}' {targets.shape}"
        raise DataError(f"{archive}: {what}; the first axis of both must be the number of examples", "path")
    for key, header in ((split.x, examples), (split.y, targets)):
        if 0 in header.shape:
            what = "no examples" if not header.shape[0] else "examples without entries"
            raise DataError(f"{archive}: '{key}' has shape {header.shape}: it contains {what}", "path")
    refuse_beyond_memory(2 * targets.size, f"{archive}: the array '{split.y}'", "divide the file", "path")


def _targets(
    archive: Path, headers: dict[str, Header], splits: list[_Split], kind: TargetKind | None, classes: int | None
) -> tuple[Targets, labels.Classes]:
    """Describe the targets, and return the label of each class; which classes there are is read from the labels."""
    key = splits[0].y
    shape, dtype = headers[key].shape[1:], headers[key].dtype
    if len(shape) > 1:
        raise DataError(f"{archive}: expected one target or a row of targets per example, got shape {shape}", "y")
    one_each, number = shape in ((), (1,)), shape[0] if shape else 1
    for split in splits[1:]:
        if math.prod(headers[split.y].shape[1:]) != number:
            what = f"targets of '{split.y}' have shape {headers[split.y].shape[1:]}, but those of '{key}' {shape}"
            raise DataError(f"{archive}: {what}", "path")
    chosen = kind
    if chosen is None:
        chosen = "classes" if classes or (dtype.kind in "buiUS" and one_each) else "values"
        chosen = "labels" if dtype.kind == "b" and not one_each and not classes else chosen
    if chosen == "classes" and not one_each:
        what = f"'{key}' has dtype {dtype} and shape {shape} per example"
        fix = "for rows with a single 1, save y.argmax(axis=1); for several labels, set data.targets: labels"
        raise DataError(f"{archive}: {what}; classes are one label per example; {fix}", "targets")
    names = _names(archive, headers)
    parts = {split.y: _flat_rows(archive, split.y) for split in splits}
    if chosen == "classes":
        if classes is None:
            return labels.classes(parts, archive, names, stated=kind is not None)
        targets, _ = labels.stated_classes(parts, archive, classes)
        if names and len(names) != classes:
            raise DataError(
                f"{archive}: '{NAMES}' contains {len(names)} names, but data.classes is {classes}", "classes"
            )
        return targets._replace(names=names), ()
    if dtype.kind in "US":
        raise DataError(f"{archive}: expected numbers in '{key}', got text; set data.targets: classes", "targets")
    if chosen == "labels":
        return labels.labels({split.y: _rows(archive, split.y) for split in splits}, archive, number, names), ()
    if names and len(names) != number:
        raise DataError(f"{archive}: '{NAMES}' contains {len(names)} names, but an example has {number} values", "path")
    if kind is None and number > 1 and all(((rows == 0) | (rows == 1)).all() for rows in _rows(archive, key)):
        fix = "set data.targets: labels for independent labels, or save y.argmax(axis=1) for one class per example"
        warnings.warn(f"{archive}: '{key}' contains only 0 and 1, read as values; {fix}", DataWarning, stacklevel=3)
    return Targets("values", number, names), ()


def _names(archive: Path, headers: dict[str, Header]) -> tuple[str, ...]:
    """Return the names of the classes, values or labels, if the archive contains them."""
    if NAMES not in headers:
        return ()
    header = headers[NAMES]
    if header.dtype.kind not in "US" or len(header.shape) != 1:
        what = f"'{NAMES}' has dtype {header.dtype} and shape {header.shape}"
        raise DataError(f"{archive}: {what}; expected an array of names, one per class, value or label", "path")
    with file_errors(archive):
        names = tuple(name.decode() if isinstance(name, bytes) else name for name in read(archive, NAMES).tolist())
    if len(set(names)) < len(names) or not all(name and is_text(name) for name in names):
        raise DataError(f"{archive}: expected different names in '{NAMES}', of which none is empty", "path")
    return names


def _decode(
    archive: Path, splits: list[_Split], spec: DatasetSpec, classes: labels.Classes
) -> dict[str, np.ndarray | Chunks]:
    def single(key: str) -> Iterator[np.ndarray]:
        start = 0
        for rows in _rows(archive, key):
            yield labels.single_precision(rows, start, key, archive)
            start += len(rows)

    if spec.targets.kind == "classes":
        flat = (rows for split in splits for rows in _flat_rows(archive, split.y))
        targets = np.concatenate([labels.indices(rows, classes) for rows in flat])
    else:
        targets = np.concatenate([rows.reshape(len(rows), -1) for split in splits for rows in single(split.y)])
    dtype = np.dtype(np.uint8 if spec.range else np.float32)

    def examples() -> Iterator[np.ndarray]:
        for split in splits:
            for rows in _rows(archive, split.x) if spec.range else single(split.x):
                yield rows.reshape(-1, *spec.shape)

    return {"x": Chunks((spec.size, *spec.shape), dtype, examples), "y": targets}


def _flat_rows(archive: Path, key: str) -> Iterator[np.ndarray]:
    """Read an array of one entry per example in chunks (n,)."""
    return (rows.reshape(-1) for rows in _rows(archive, key))


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
