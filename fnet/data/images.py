"""Images in folders, one folder per class, or in any folder with a table of file names and labels."""

import dataclasses
import functools
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Len, MinLen

from fnet.data import pixels
from fnet.data.cache import Chunks, cached
from fnet.data.image_labels import Labeled, read_labeled
from fnet.data.path import (
    FileSource,
    PathText,
    existing_folder,
    existing_path,
    file_errors,
    is_text,
    refuse_irregular,
)
from fnet.data.pixels import EXTENSIONS
from fnet.data.source import DataError, DatasetSpec, DataWarning, TargetKind, Targets
from fnet.data.stream import Stream

_SPLITS = ("train", "validation", "val", "test")

_Pixels = Annotated[int, Ge(1)]
_Name = Annotated[str, MinLen(1)]


class _Tree(NamedTuple):
    """Images in folders of classes.

    files: all files, split by split.
    y: (n,) class indices.
    targets: the classes.
    sizes: name and number of images of each split; empty if there are none.
    notes: empty, because folders are always classes.
    """

    files: list[Path]
    y: np.ndarray
    targets: Targets
    sizes: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()


def images(
    path: PathText,
    size: _Pixels | Annotated[list[_Pixels], Len(2, 2)] | None = None,
    color: Literal["gray", "rgb"] | None = None,
    labels: PathText | None = None,
    file: _Name = "file",
    target: _Name | Annotated[list[_Name], MinLen(1)] = "label",
    targets: TargetKind | None = None,
) -> FileSource:
    """Images in folders, whose names are the classes (cat/1.png, dog/1.jpg), or a folder with a table of labels.

    PNG, JPEG, WebP, BMP, TIFF and GIF files with a single image are read. Folders called train, validation (or val) and
    test in `path` are the source's own splits, and contain the folders of the classes. Images are rotated according to
    their EXIF orientation, transparent pixels are blended with white, and colors are converted to RGB. Gray images keep
    16 bits per pixel if the first image has them; colors have 8 bits per channel.

    Args:
        path: the folder that contains the folders, or the files that the table of labels names.
        size: edge of a square, or height and width, to resize all images to, without keeping their aspect ratio; by
            default all images must have the size of the first.
        color: gray for one channel, rgb for three; by default gray if the first image is gray.
        labels: a table with one row per image, such as a .csv file, in place of folders of classes.
        file: column of the table with names of files in `path`, with or without extension.
        target: column of the table with the targets, or a list of columns.
        targets: classes, values or labels; by default as for csv.
    """

    height_and_width = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])

    def find(trained: Targets | None = None) -> _Tree | Labeled:
        if labels is not None:
            folder = existing_folder(path, "the images")
            return read_labeled(folder, labels, file, target, targets, trained)
        if (file, target, targets) != ("file", "label", None):
            setting = "file" if file != "file" else "target" if target != "label" else "targets"
            raise DataError(f"data.{setting} applies to a table of labels; set data.labels to the table", setting)
        return _tree(path, trained)

    def form(first: Path) -> pixels.Form:
        return pixels.form(first, height_and_width, color)

    def values(name: str) -> np.ndarray:
        found = find()
        assert isinstance(found, Labeled)
        return found.column(name)

    def encoded_like(spec: DatasetSpec) -> FileSource:
        height, width, channels = spec.shape
        trained = pixels.Form(height, width, channels, 65535 if spec.range == (0, 65535) else 255)
        return _source(path, lambda: find(spec.targets), lambda _: trained, resize=size is not None)

    source = _source(path, find, form, resize=size is not None)
    return dataclasses.replace(source, values=None if labels is None else values, encoded_like=encoded_like)


def _source(
    path: str, find: Callable[[], _Tree | Labeled], form_of: Callable[[Path], pixels.Form], *, resize: bool
) -> FileSource:
    """Return the source of images.

    Args:
        path: the folder.
        find: returns the files and their targets.
        form_of: returns the form of all images, given the first.
        resize: whether images of another size are resized to that of the form.
    """

    def spec() -> DatasetSpec:
        found = find()
        for note in found.notes:
            warnings.warn(f"{path}: {note}", DataWarning, stacklevel=3)
        form = form_of(found.files[0])
        return DatasetSpec(
            existing_path(path).resolve().name,
            form.shape,
            found.targets,
            len(found.files),
            (0.0, float(form.max)),
            splits=found.sizes,
        )

    def rows() -> Stream:
        found = find()
        form = form_of(found.files[0])
        key = {
            "name": existing_path(path).resolve().name,
            "format": "images",
            "content": _fingerprint(existing_path(path), found.files),
            "form": form,
            "resize": resize,
        }
        decoding = functools.partial(pixels.decode, found.files, form, resize=resize)
        x = cached(key, lambda: {"x": Chunks((len(found.files), *form.shape), form.dtype, decoding)})["x"]
        return Stream(x, found.y)

    return FileSource(spec, rows)


def _tree(path: str, trained: Targets | None) -> _Tree:
    root = existing_folder(path, "one folder per class")
    names = [folder.name for folder in _folders(root)]
    splits_present = [name for name in _SPLITS if name in names]
    has_splits = "train" in splits_present and len(splits_present) == len(names)
    parents = {name: root / name for name in splits_present} if has_splits else {"": root}
    classes = sorted({folder.name for parent in parents.values() for folder in _folders(parent)})
    if trained is not None and classes:
        for name in classes:
            if name not in trained.names:
                what = f"contains the class '{name}', which the network was not trained on"
                raise DataError(f"{root} {what}; known: {', '.join(trained.names[:10])}", "path")
        classes = list(trained.names)
    if len(classes) < 2:
        flat = not classes and any(entry.suffix.lower() in EXTENSIONS for entry in root.iterdir())
        what = "images, but no folders" if flat else f"only one folder, '{classes[0]}'" if classes else "no folders"
        fix = "put the images of each class in a folder named after the class"
        table = "set data.labels to a table with the columns file and label"
        raise DataError(f"{root} contains {what}; {fix}, or {table}", "path")
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
                raise DataError(f"{without_images(folder)}; add some, or remove the folder", "path")
            splits[name] += [(file, classes.index(folder.name)) for file in files]
    everything = [image for inside in splits.values() for image in inside]
    sizes = tuple((name, len(inside)) for name, inside in splits.items()) if has_splits else ()
    y = np.array([label for _, label in everything], np.int32)
    return _Tree([file for file, _ in everything], y, Targets("classes", len(classes), tuple(classes)), sizes)


def without_images(folder: Path) -> str:
    """Say that a folder does not contain images, and the extensions of the files that it contains."""
    with file_errors(folder):
        others = sorted({entry.suffix.lower() or "no extension" for entry in folder.iterdir() if entry.is_file()})
    received = f", but files with {', '.join(others[:5])}" if others else ""
    return f"{folder} does not contain images ({', '.join(EXTENSIONS)}){received}"


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


def _fingerprint(root: Path, files: list[Path]) -> str:
    """Hash names, sizes and modification times, because reading the content of thousands of files is slow."""
    state = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        name = os.fsencode(os.path.relpath(file, root))
        state.update(name + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()
