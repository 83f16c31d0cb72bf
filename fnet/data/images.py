"""Images in folders, one folder per class."""

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

from fnet.data.cache import Chunks, cached
from fnet.data.path import FileSource, PathText, existing_path, file_errors
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

EXTENSIONS = (".png", ".jpg", ".jpeg")
_SPLITS = ("train", "validation", "val", "test")

CHUNK_BYTES = 1 << 25
"""Number of bytes of pixels that are decoded together."""

Pixels = Annotated[int, Ge(1)]


class _Tree(NamedTuple):
    """The images in a folder: the classes, and the file and class index of every image by split."""

    classes: tuple[str, ...]
    splits: dict[str, list[tuple[Path, int]]]


def images(
    path: PathText,
    size: Annotated[list[Pixels], Len(2, 2)] | None = None,
    color: Literal["gray", "rgb"] | None = None,
) -> FileSource:
    """PNG and JPEG images in folders, whose names are the classes: cat/1.png, dog/1.jpg.

    Folders called train, validation (or val) and test in `path` are the source's own splits, and contain the folders of
    the classes. Images are rotated according to their EXIF orientation.

    Args:
        path: the folder that contains the folders.
        size: height and width to resize all images to; by default all images must have the size of the first.
        color: gray for one channel, rgb for three; by default gray if the first image is gray.
    """

    def spec() -> DatasetSpec:
        tree = _tree(path)
        height, width, channels = _shape(tree, size, color)
        sizes = tuple((name, len(files)) for name, files in tree.splits.items())
        return DatasetSpec(
            existing_path(path).resolve().name,
            (height, width, channels),
            Targets("classes", len(tree.classes), tree.classes),
            sum(number for _, number in sizes),
            (0.0, 255.0),
            splits=sizes if "" not in tree.splits else (),
        )

    def rows() -> Stream:
        tree = _tree(path)
        shape = _shape(tree, size, color)
        files = [file for inside in tree.splits.values() for file, _ in inside]
        key = {
            "name": existing_path(path).resolve().name,
            "format": "images",
            "content": _fingerprint(existing_path(path), files),
            "shape": shape,
            "resize": size is not None,
        }
        decoding = functools.partial(decode, files, shape, resize=size is not None)
        x = cached(key, lambda: {"x": Chunks((len(files), *shape), np.dtype(np.uint8), decoding)})["x"]
        y = np.array([label for inside in tree.splits.values() for _, label in inside], np.int32)
        return Stream(x, y)

    return FileSource(spec, rows)


def _tree(path: str) -> _Tree:
    root = existing_path(path)
    if not root.is_dir():
        raise DataError(f"'{path}' is a file; give the folder that contains one folder per class", "path")
    names = [folder.name for folder in _folders(root)]
    splits_present = [name for name in _SPLITS if name in names]
    has_splits = "train" in splits_present and len(splits_present) == len(names)
    parents = {name: root / name for name in splits_present} if has_splits else {"": root}
    classes = sorted({folder.name for parent in parents.values() for folder in _folders(parent)})
    if len(classes) < 2:
        what = f"only one folder, '{classes[0]}'" if classes else "no folders"
        raise DataError(
            f"{root} contains {what}; put the images of each class in a folder named after the class", "path"
        )
    splits = {}
    for name, parent in parents.items():
        splits[name] = []
        for folder in _folders(parent):
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)
            if not files:
                what = f"{folder} does not contain images ({', '.join(EXTENSIONS)})"
                raise DataError(f"{what}; add some, or remove the folder", "path")
            splits[name] += [(file, classes.index(folder.name)) for file in files]
    return _Tree(tuple(classes), splits)


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _shape(tree: _Tree, size: list[int] | None, color: str | None) -> tuple[int, int, int]:
    """Return the shape of every example, from the settings or from the header of the first image."""
    from PIL import Image

    first = next(file for inside in tree.splits.values() for file, _ in inside)
    with file_errors(first), Image.open(first) as image:
        height, width = size or (image.height, image.width)
        gray = image.mode in ("1", "L", "LA") if color is None else color == "gray"
    return height, width, 1 if gray else 3


def _fingerprint(root: Path, files: list[Path]) -> str:
    """Hash names, sizes and modification times, because reading the content of thousands of files is slow."""
    state = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        state.update(f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()


def decode(files: list[Path], shape: tuple[int, int, int], *, resize: bool) -> Iterator[np.ndarray]:
    """Decode images in chunks, uint8 (chunk, height, width, channels).

    Args:
        files: PNG or JPEG files.
        shape: height, width and channels of each image.
        resize: whether images of a different size are resized rather than refused.

    Raises:
        DataError: for a file that is damaged, or for an image of a different size.
    """
    images_per_chunk = max(1, CHUNK_BYTES // math.prod(shape))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), images_per_chunk):
            pixels = pool.map(lambda file: _pixels(file, shape, resize=resize), files[start : start + images_per_chunk])
            yield np.stack(list(pixels))


def _pixels(file: Path, shape: tuple[int, int, int], *, resize: bool) -> Any:
    from PIL import Image, ImageOps

    height, width, channels = shape
    with file_errors(file), Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
    if resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif (image.height, image.width) != (height, width):
        raise DataError(
            f"{file} has {image.height} x {image.width} pixels, but the first image {height} x {width}; "
            f"set data.size: [{height}, {width}] to resize all images",
            "size",
        )
    return np.asarray(image)[..., None] if channels == 1 else np.asarray(image)
