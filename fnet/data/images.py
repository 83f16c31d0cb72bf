"""Images in folders, one folder a class."""

import functools
import hashlib
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Len

from fnet.data.cache import Portions, cached
from fnet.data.path import File, PathText, existing, naming
from fnet.data.source import Arrays, DataError, Spec, Targets

ENDINGS = (".png", ".jpg", ".jpeg")
_SPLITS = ("train", "validation", "val", "test")

AT_ONCE = 1 << 25
"""Bytes of pixels that are decoded before they are written."""

Pixels = Annotated[int, Ge(1)]


class _Tree(NamedTuple):
    """The images of a folder: classes, and by split the file and class number of every image."""

    classes: tuple[str, ...]
    splits: dict[str, list[tuple[Path, int]]]


def images(
    path: PathText,
    size: Annotated[list[Pixels], Len(2, 2)] | None = None,
    color: Literal["gray", "rgb"] | None = None,
) -> File:
    """PNG and JPEG images in folders, whose names are the classes: cat/1.png, dog/1.jpg.

    If the folders in `path` are called train, validation (or val) and test, the folders of the classes are inside
    those, and they are the source's own splits. Images are turned as their camera says.

    Args:
        path: the folder of the folders.
        size: height and width to resize all images to; by default that of the first, which all must have.
        color: gray for one channel, rgb for three; by default gray if the first image is.
    """

    def spec() -> Spec:
        tree = _tree(path)
        height, width, channels = _shape(tree, size, color)
        sizes = tuple((name, len(files)) for name, files in tree.splits.items())
        return Spec(
            existing(path).resolve().name,
            (height, width, channels),
            Targets("classes", len(tree.classes), tree.classes),
            sum(number for _, number in sizes),
            (0.0, 255.0),
            splits=sizes if "" not in tree.splits else (),
        )

    def load() -> Arrays:
        tree = _tree(path)
        shape = _shape(tree, size, color)
        files = [file for inside in tree.splits.values() for file, _ in inside]
        key = {
            "name": existing(path).resolve().name,
            "format": "images",
            "content": _fingerprint(existing(path), files),
            "shape": shape,
            "resize": size is not None,
        }
        decoding = functools.partial(decode, files, shape, resize=size is not None)
        x = cached(key, lambda: {"x": Portions((len(files), *shape), np.dtype(np.uint8), decoding)})["x"]
        y = np.array([label for inside in tree.splits.values() for _, label in inside], np.int32)
        return Arrays(x, y)

    return File(spec, load)


def _tree(path: str) -> _Tree:
    root = existing(path)
    if not root.is_dir():
        raise DataError(f"'{path}' is a file; give the folder that holds one folder a class", "path")
    inside = [folder.name for folder in _folders(root)]
    named = [name for name in _SPLITS if name in inside]
    divided = "train" in named and len(named) == len(inside)
    places = {name: root / name for name in named} if divided else {"": root}
    classes = sorted({folder.name for place in places.values() for folder in _folders(place)})
    if len(classes) < 2:
        what = f"only one folder, '{classes[0]}'" if classes else "no folders"
        raise DataError(f"{root} holds {what}; images of each class belong in a folder named after it", "path")
    splits = {}
    for name, place in places.items():
        splits[name] = []
        for folder in _folders(place):
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
            if not files:
                raise DataError(f"{folder} holds no image ({', '.join(ENDINGS)}); add some, or remove it", "path")
            splits[name] += [(file, classes.index(folder.name)) for file in files]
    return _Tree(tuple(classes), splits)


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _shape(tree: _Tree, size: list[int] | None, color: str | None) -> tuple[int, int, int]:
    """Of every example: as it is set, else as the header of the first image says."""
    from PIL import Image

    first = next(file for inside in tree.splits.values() for file, _ in inside)
    with naming(first), Image.open(first) as image:
        height, width = size or (image.height, image.width)
        gray = image.mode in ("1", "L", "LA") if color is None else color == "gray"
    return height, width, 1 if gray else 3


def _fingerprint(root: Path, files: list[Path]) -> str:
    """Of names, sizes and times of change: the content of thousands of files is not read for it."""
    state = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        state.update(f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()


def decode(files: list[Path], shape: tuple[int, int, int], *, resize: bool) -> Iterator[np.ndarray]:
    """The pixels of images, uint8, some at a time: (some, height, width, channels).

    Args:
        files: PNG or JPEG.
        shape: height, width and channels of each.
        resize: whether images of another size are resized, or refused.

    Raises:
        DataError: for a file that is damaged, or of another size.
    """
    at_once = max(1, AT_ONCE // math.prod(shape))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), at_once):
            pixels = pool.map(lambda file: _pixels(file, shape, resize=resize), files[start : start + at_once])
            yield np.stack(list(pixels))


def _pixels(file: Path, shape: tuple[int, int, int], *, resize: bool) -> Any:
    from PIL import Image, ImageOps

    height, width, channels = shape
    with naming(file), Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
    if resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif (image.height, image.width) != (height, width):
        raise DataError(
            f"{file} has {image.height} x {image.width} pixels, the first image {height} x {width}; "
            f"set data.size: [{height}, {width}] to resize all",
            "size",
        )
    return np.asarray(image)[..., None] if channels == 1 else np.asarray(image)
