"""Images in folders, one folder per class."""

import contextlib
import functools
import hashlib
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Len

from fnet.data.cache import Chunks, cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import (
    FileSource,
    PathText,
    existing_folder,
    existing_path,
    file_errors,
    is_text,
    open_file,
    refuse_irregular,
)
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stream import Stream

EXTENSIONS = (".png", ".jpg", ".jpeg")
_SPLITS = ("train", "validation", "val", "test")

CHUNK_BYTES = 1 << 25
"""Number of bytes of pixels that are decoded together."""

_GRAY = ("1", "L", "LA", "I;16", "I")
"""Pillow's modes of gray images; the last two have 16 bits per pixel."""

_BYTES_PER_PIXEL = 8
"""Memory for a pixel while it is decoded and converted, in bytes."""

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
    the classes. Images are rotated according to their EXIF orientation, and
    16 bits per pixel become 8.

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
    root = existing_folder(path, "one folder per class")
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
    for name in classes:
        if not is_text(name):
            raise DataError(f"the name of the folder {root / name} is not valid text in UTF-8; rename it", "path")
    splits = {}
    for name, parent in parents.items():
        splits[name] = []
        for folder in _folders(parent):
            with file_errors(folder), os.scandir(folder) as entries:
                files = sorted(Path(entry.path) for entry in entries if _is_image(entry))
            if not files:
                what = f"{folder} does not contain images ({', '.join(EXTENSIONS)})"
                raise DataError(f"{what}; add some, or remove the folder", "path")
            splits[name] += [(file, classes.index(folder.name)) for file in files]
    return _Tree(tuple(classes), splits)


def _folders(parent: Path) -> list[Path]:
    with file_errors(parent):
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files_below(folder: Path) -> list[Path]:
    """Return the images in a folder at any depth, sorted; symbolic links to folders are not followed.

    Raises:
        DataError: for a folder that cannot be listed, or an image that is not a file.
    """
    with file_errors(folder), os.scandir(folder) as entries:
        inside = list(entries)
    images_here = [Path(entry.path) for entry in inside if not _is_real_folder(entry) and _is_image(entry)]
    deeper = [file for entry in inside if _is_real_folder(entry) for file in files_below(Path(entry.path))]
    return sorted(images_here + deeper)


def _is_real_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder has the name of an image.

    Raises:
        DataError: when it has, but is not a file.
        OSError: for a symbolic link that leads nowhere.
    """
    if not entry.name.lower().endswith(EXTENSIONS):
        return False
    if not entry.is_file():
        refuse_irregular(Path(entry.path), entry.stat().st_mode)
    return True


def _shape(tree: _Tree, size: list[int] | None, color: str | None) -> tuple[int, int, int]:
    """Return the shape of every example, from the settings or from the header of the first image."""
    first = next(file for inside in tree.splits.values() for file, _ in inside)
    with _large_images(), _opened(first) as image:
        height, width = size or (image.height, image.width)
        gray = image.mode in _GRAY if color is None else color == "gray"
    shape = (height, width, 1 if gray else 3)
    what = f"decoding an image of {height} x {width} pixels"
    refuse_beyond_memory(_BYTES_PER_PIXEL * math.prod(shape), what, "make data.size smaller", "size")
    return shape


def _fingerprint(root: Path, files: list[Path]) -> str:
    """Hash names, sizes and modification times, because reading the content of thousands of files is slow."""
    state = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        name = os.fsencode(file.relative_to(root))
        state.update(name + f" {status.st_size} {status.st_mtime_ns}\n".encode())
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
            with _large_images():
                chunk = files[start : start + images_per_chunk]
                pixels = np.stack(list(pool.map(lambda file: _pixels(file, shape, resize=resize), chunk)))
            yield pixels


def _pixels(file: Path, shape: tuple[int, int, int], *, resize: bool) -> Any:
    from PIL import Image, ImageOps

    height, width, channels = shape
    with _opened(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            # Pillow would map all values above 255 to white.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
    if resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif (image.height, image.width) != (height, width):
        raise DataError(
            f"{file} has {image.height} x {image.width} pixels, but the first image {height} x {width}; "
            f"set data.size: [{height}, {width}] to resize all images",
            "size",
        )
    return np.asarray(image)[..., None] if channels == 1 else np.asarray(image)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open an image whose pixels fit in memory; no other format than PNG and JPEG is tried.

    Raises:
        DataError: for a file that is damaged, too large, or not a single image in one of these formats.
    """
    from PIL import Image

    with file_errors(file), open_file(file) as opened:
        try:
            image = Image.open(opened, formats=("PNG", "JPEG"))
        except Image.UnidentifiedImageError:
            raise ValueError("it is not a PNG or JPEG image") from None
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            what = f"{file} has more than {limit:,} pixels, which Pillow refuses to decode"
            raise DataError(f"{what}; make the image smaller, or raise PIL.Image.MAX_IMAGE_PIXELS", "path") from None
        with image:
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{file} is an animation; save one of its frames as an image", "path")
            needed = _BYTES_PER_PIXEL * image.width * image.height
            what = f"decoding {file} of {image.height} x {image.width} pixels"
            refuse_beyond_memory(needed, what, "make the image smaller", "path")
            yield image


@contextlib.contextmanager
def _large_images() -> Iterator[None]:
    """Silence Pillow's warning about large images; above twice the size that it warns about, it raises an error."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
