"""MNIST's own format: big-endian arrays of bytes with a header, one file for images and one for their labels."""

import gzip
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge

from fnet.data.cache import cached
from fnet.data.path import File, PathText, digest, existing, naming
from fnet.data.source import Arrays, DataError, Spec, Targets

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_DIMENSIONS = {"images": 3, "labels": 1}


class _Split(NamedTuple):
    """The two files of a split, and the shape of its images with their number."""

    name: str
    images: Path
    labels: Path
    shape: tuple[int, ...]


def idx(path: PathText, classes: Annotated[int, Ge(2)] | None = None) -> File:
    """Gray images in MNIST's IDX format, gzipped or not: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-...

    The files that start with train and t10k (or test) are the source's own splits train and test.

    Args:
        path: the folder that holds the files.
        classes: their number; by default one more than the greatest label.
    """

    def spec() -> Spec:
        splits = _splits(path)
        number = _classes(splits, classes)
        _, height, width = splits[0].shape
        return Spec(
            existing(path).resolve().name,
            (height, width, 1),
            Targets("classes", number, tuple(map(str, range(number)))),
            sum(split.shape[0] for split in splits),
            (0.0, 255.0),
            splits=tuple((split.name, split.shape[0]) for split in splits),
        )

    def load() -> Arrays:
        splits = _splits(path)
        content = {split.name: [digest(split.images), digest(split.labels)] for split in splits}
        arrays = cached(
            {"name": existing(path).resolve().name, "format": "idx", "content": content}, lambda: _decode(splits)
        )
        return Arrays(arrays["x"], arrays["y"])

    return File(spec, load)


def read_images(path: Path) -> np.ndarray:
    """The images (n, height, width, 1) of one file, uint8.

    Raises:
        DataError: for a file that is damaged, or holds something else.
    """
    return _body(path, "images", _header(path, "images"))[..., None]


def _splits(path: str) -> list[_Split]:
    """The files in a folder, with headers that fit each other."""
    folder = existing(path)
    if not folder.is_dir():
        raise DataError(f"'{path}' is a file; give the folder that holds images and labels", "path")
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix != ".gz"):  # one that is not gzipped wins
        match = _NAME.fullmatch(file.name)
        if match:
            found.setdefault("train" if match[1] == "train" else "test", {})[match[2]] = file
    if "train" not in found:
        raise DataError(f"{folder} holds no train-images-idx3-ubyte, with or without .gz", "path")
    splits = []
    for name, files in sorted(found.items(), reverse=True):
        for kind in ("images", "labels"):
            if kind not in files:
                there = next(iter(files.values())).name
                raise DataError(f"{folder} holds {there} but no file of the {kind} that belong to it", "path")
        images, labels = (_header(files[kind], kind) for kind in ("images", "labels"))
        if images[0] != labels[0]:
            raise DataError(
                f"{files['images']} holds {images[0]} images, but {files['labels']} {labels[0]} labels", "path"
            )
        if splits and splits[0].shape[1:] != images[1:]:
            height, width = splits[0].shape[1:]
            what = f"images of {images[1]} x {images[2]}, but {splits[0].images} of {height} x {width}"
            raise DataError(f"{files['images']} holds {what}", "path")
        splits.append(_Split(name, files["images"], files["labels"], images))
    return splits


def _header(path: Path, kind: str) -> tuple[int, ...]:
    """The shape that a file states: after two zero bytes come the type, the number of dimensions, and each of them."""
    dimensions = _DIMENSIONS[kind]
    with naming(path), _open(path) as file:
        header = file.read(4 + 4 * dimensions)
    wanted = bytes([0, 0, 8, dimensions])
    if header[:4] != wanted:
        raise DataError(
            f"{path}: wrong magic number 0x{header[:4].hex()}; IDX {kind} begin with 0x{wanted.hex()}", "path"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path} is truncated within its header", "path")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    expected = len(header) + int(np.prod(shape))
    if path.suffix != ".gz" and path.stat().st_size != expected:
        raise DataError(_wrong_length(path, path.stat().st_size, expected), "path")
    return shape


def _body(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    with naming(path), _open(path) as file:
        data = file.read()
    start = 4 + 4 * _DIMENSIONS[kind]
    if len(data) != start + np.prod(shape):
        raise DataError(_wrong_length(path, len(data), start + int(np.prod(shape))), "path")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _wrong_length(path: Path, length: int, expected: int) -> str:
    return f"{path} is {'truncated' if length < expected else 'too long'}: {length} bytes, its header says {expected}"


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _classes(splits: list[_Split], classes: int | None) -> int:
    """The number of classes; labels are few bytes and are read for it."""
    greatest = 0
    for split in splits:
        labels = _body(split.labels, "labels", split.shape[:1])
        if classes is not None and (labels >= classes).any():
            row = int(np.argmax(labels >= classes))
            raise DataError(f"{split.labels}: label {row} is {labels[row]}, outside 0 ... {classes - 1}", "classes")
        greatest = max(greatest, int(labels.max(initial=0)))
    return classes or max(2, greatest + 1)


def _decode(splits: list[_Split]) -> dict[str, np.ndarray]:
    x = np.concatenate([_body(split.images, "images", split.shape) for split in splits])[..., None]
    y = np.concatenate([_body(split.labels, "labels", split.shape[:1]) for split in splits])
    return {"x": x, "y": y.astype(np.int32)}
