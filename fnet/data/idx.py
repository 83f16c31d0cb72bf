"""MNIST's original format: arrays of bytes with a big-endian header, one file of images and one of labels."""

import contextlib
import gzip
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, NamedTuple, cast

import numpy as np
from annotated_types import Ge

from fnet.data import labels
from fnet.data.cache import cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import (
    MAX_COMPRESSION,
    FileSource,
    PathText,
    digest,
    existing_folder,
    existing_path,
    file_errors,
    open_file,
)
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_DIMENSIONS = {"images": 3, "labels": 1}


class _Split(NamedTuple):
    """The two files of a split; shape: (n, height, width) of its images."""

    name: str
    images: Path
    labels: Path
    shape: tuple[int, ...]


def idx(path: PathText, classes: Annotated[int, Ge(2)] | None = None) -> FileSource:
    """Grayscale images in MNIST's IDX format, gzipped or not: train-images-idx3-ubyte, train-labels-idx1-ubyte, ...

    Files that start with train belong to the source's own split train; t10k or test, to its split test.

    Args:
        path: the folder that contains the files.
        classes: number of classes, with labels from 0; by default, the different labels are the classes.
    """
    return _source(path, classes)


def _source(path: str, classes: int | None, trained: Targets | None = None) -> FileSource:
    """Return the source of a folder, with the classes of a trained network if they are given."""

    def spec() -> DatasetSpec:
        splits = _splits(path)
        targets, _ = _classes(splits, classes, trained)
        _, height, width = splits[0].shape
        return DatasetSpec(
            existing_path(path).resolve().name,
            (height, width, 1),
            targets,
            sum(split.shape[0] for split in splits),
            (0.0, 255.0),
            splits=tuple((split.name, split.shape[0]) for split in splits),
        )

    def rows() -> Stream:
        splits = _splits(path)
        content = {split.name: [digest(split.images), digest(split.labels)] for split in splits}
        key = {"name": existing_path(path).resolve().name, "format": "idx", "content": content}
        arrays = cached(key, lambda: _decode(splits))
        return Stream(arrays["x"], labels.indices(arrays["y"], _classes(splits, classes, trained)[1]))

    return FileSource(spec, rows, encoded_like=lambda spec: _source(path, classes, spec.targets))


def read_images(path: Path) -> np.ndarray:
    """Return the images of one file, uint8 (n, height, width, 1).

    Raises:
        DataError: for a file that is damaged, or does not contain images.
    """
    return _body(path, "images", _header(path, "images"))[..., None]


def _splits(path: str) -> list[_Split]:
    """Find the files of each split in a folder, train first, and check that their headers agree."""
    folder = existing_folder(path, "images and labels")
    splits = [_split(folder, name, files) for name, files in sorted(_files(folder).items(), reverse=True)]
    if not splits or splits[0].name != "train":
        raise DataError(f"{folder} does not contain train-images-idx3-ubyte, with or without .gz", "path")
    first = splits[0]
    for split in splits[1:]:
        if split.shape[1:] != first.shape[1:]:
            sizes = [f"{height} x {width}" for _, height, width in (split.shape, first.shape)]
            what = f"{split.images} contains images of {sizes[0]}, but {first.images} images of {sizes[1]}"
            raise DataError(f"{what}; all images must have the same size", "path")
    return splits


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files of images and labels by split; a file that is not gzipped takes precedence."""
    files: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix != ".gz"):
        match = _NAME.fullmatch(file.name)
        if match:
            files.setdefault("train" if match[1] == "train" else "test", {})[match[2]] = file
    return files


def _split(folder: Path, name: str, files: dict[str, Path]) -> _Split:
    """Read the headers of a split's files, and check that they have the same number of rows."""
    for kind in ("images", "labels"):
        if kind not in files:
            other = next(iter(files.values())).name
            raise DataError(f"{folder} contains {other}, but not the file of its {kind}", "path")
    images, labels = (_header(files[kind], kind) for kind in ("images", "labels"))
    if images[0] != labels[0]:
        raise DataError(
            f"{files['images']} contains {images[0]} images, but {files['labels']} {labels[0]} labels", "path"
        )
    return _Split(name, files["images"], files["labels"], images)


def _header(path: Path, kind: str) -> tuple[int, ...]:
    """Return the shape in a file's header: two zero bytes, the type, the number of axes, then the length of each."""
    dimensions = _DIMENSIONS[kind]
    with file_errors(path), _open(path) as file:
        header = file.read(4 + 4 * dimensions)
    magic = bytes([0, 0, 8, dimensions])
    if header[:4] != magic:
        what = f"expected the magic number 0x{magic.hex()} of IDX {kind}, got 0x{header[:4].hex()}"
        raise DataError(f"{path}: {what}", "path")
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path} is truncated inside its header", "path")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    if 0 in shape:
        what = f"no {kind}" if not shape[0] else f"images of {shape[1]} x {shape[2]} pixels"
        raise DataError(f"{path} contains {what}, according to its header", "path")
    size, expected = path.stat().st_size, len(header) + math.prod(shape)
    if path.suffix != ".gz" and size != expected:
        raise DataError(_wrong_length(path, size, expected), "path")
    if expected > MAX_COMPRESSION * size:
        what = f"its header declares {expected:,} bytes, which {size:,} compressed bytes cannot contain"
        raise DataError(f"{path} is damaged: {what}", "path")
    return shape


def _body(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read the entries of a file, and never more of a compressed file than its header declares."""
    start = 4 + 4 * _DIMENSIONS[kind]
    expected = start + math.prod(shape)
    refuse_beyond_memory(2 * expected, f"{path}", "divide the file", "path")
    with file_errors(path), _open(path) as file:
        data = file.read(expected)
        more = file.read(1)
    if len(data) != expected or more:
        raise DataError(_wrong_length(path, len(data) + len(more), expected), "path")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _wrong_length(path: Path, length: int, expected: int) -> str:
    received = f"{length:,}" if length < expected or path.suffix != ".gz" else "more"
    fault = "truncated" if length < expected else "too long"
    return f"{path} is {fault}: expected {expected:,} bytes, got {received}"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with open_file(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield cast(IO[bytes], decompressed)
        else:
            yield file


def _classes(splits: list[_Split], number: int | None, trained: Targets | None) -> tuple[Targets, labels.Classes]:
    """Describe the classes, and return the label of each; without a setting, they are the labels that occur."""
    parts = {split.labels.name: [_body(split.labels, "labels", split.shape[:1])] for split in splits}
    place = splits[0].labels.parent
    if trained is not None:
        return labels.as_trained(parts, place, trained)
    if number is None:
        targets, known = labels.classes(parts, place, stated=True)
    else:
        targets, known = labels.stated_classes(parts, place, number)
    return targets._replace(names=targets.names or tuple(map(str, range(targets.number)))), known


def _decode(splits: list[_Split]) -> dict[str, np.ndarray]:
    x = np.concatenate([_body(split.images, "images", split.shape) for split in splits])[..., None]
    y = np.concatenate([_body(split.labels, "labels", split.shape[:1]) for split in splits])
    return {"x": x, "y": y.astype(np.int32)}
