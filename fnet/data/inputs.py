"""Examples without targets, read from a file for a trained network in portions that fit in memory."""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fnet.data import idx, images, npz
from fnet.data.arrays import first_invalid
from fnet.data.npy import Header
from fnet.data.path import existing_file, existing_path, file_errors, open_file
from fnet.data.pixels import Form, decode
from fnet.data.source import DataError, DatasetSpec, DataWarning
from fnet.data.table import encode, readers

ENTRIES = 1 << 21
"""Approximate number of entries of a portion."""

MAX_ROWS = 1 << 14
"""Maximum number of examples in a portion."""


class Portion(NamedTuple):
    """Some of the examples of a file.

    x: the examples (n, *shape) as stored, before normalization.
    examples: the number of each example in its file, from 0, or the name of its image.
    identifiers: the entries of every identifier column of a table, by the name of the column.
    """

    x: np.ndarray
    examples: list[str]
    identifiers: dict[str, list[str]]

    def divided(self, rows: int) -> Iterator["Portion"]:
        """Yield parts with at most this many examples."""
        for start in range(0, len(self.examples), rows):
            part = slice(start, start + rows)
            identifiers = {name: entries[part] for name, entries in self.identifiers.items()}
            yield Portion(self.x[part], self.examples[part], identifiers)


class Inputs(NamedTuple):
    """The examples of a file.

    size: number of examples.
    portions: the examples, each once, in the order of the file.
    """

    size: int
    portions: Iterator[Portion]


def open_inputs(path: str, spec: DatasetSpec) -> Inputs:
    """Open the examples in a file.

    Args:
        path: a table in any format with the columns of the table that the network was trained on, a .npz or .npy array,
            an image (PNG, JPEG, WebP, BMP, TIFF, GIF), a folder of images at any depth, or an IDX file of images; for a
            network that takes text, a .txt file with one text per line. Images are resized, and their pixels are scaled
            so that black and white are the min and max of the training data.
        spec: description of the dataset that the network was trained on.

    Raises:
        DataError: when the file does not exist, or does not contain such examples; also while the portions are read.
    """
    location = existing_path(path)
    if not location.is_dir():
        location = existing_file(path)
    extension = location.suffix.lower()
    if readers.format_of(location) is not None:
        return _table(location, spec)
    if location.is_dir() or extension in images.EXTENSIONS:
        return _images(location, spec)
    if extension in (".npz", ".npy"):
        return _arrays(location, spec)
    if "-ubyte" in location.name:
        return _in_memory(location, idx.read_images(location), spec)
    if extension == ".txt" and takes_text(spec):
        with file_errors(location), open_file(location) as file:
            return texts(file.read().decode("utf-8-sig").splitlines(), spec, str(location))
    known = [*readers.EXTENSIONS, ".npz", ".npy", *images.EXTENSIONS, *[".txt"] * takes_text(spec), "IDX"]
    raise DataError(f"{path} does not have a known format; known: {', '.join(known)}, a folder of images")


def _table(location: Path, spec: DatasetSpec) -> Inputs:
    """Open a table, whose rows are encoded as in training some at a time."""
    frame, where = encode.frame_like(location, spec), str(location)
    encode.warn_unknown(frame, spec.columns, where)

    def portions() -> Iterator[Portion]:
        for rows in _portions(len(frame), spec):
            part = frame.iloc[rows]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # about categories, which were counted in the whole table
                x = encode.encode(part, spec.columns, where, has_missing=spec.has_missing)
            yield Portion(
                _checked(location, x, spec, rows.start), _numbers(rows), encode.identifiers(part, spec.columns)
            )

    return Inputs(len(frame), portions())


def takes_text(spec: DatasetSpec) -> bool:
    """Return whether an example is a whole text, which a network classifies."""
    return spec.tokens and isinstance(spec.vocabulary, bytes) and not spec.is_language


def texts(lines: Sequence[str], spec: DatasetSpec, where: str) -> Inputs:
    """Return texts as examples: their first bytes of UTF-8, padded with zeros, as in training.

    Args:
        lines: the texts.
        spec: description of the dataset that the network was trained on, for which `takes_text`.
        where: the file, for messages.

    Raises:
        DataError: when there are none, or for text that is not valid Unicode.
    """
    (length,) = spec.shape

    def encoded() -> Iterator[Portion]:
        for rows in _portions(len(lines), spec):
            x = np.zeros((rows.stop - rows.start, length), np.uint8)
            for row, line in zip(x, lines[rows], strict=True):
                try:
                    content = line.encode()[:length]
                except UnicodeEncodeError:
                    raise DataError(f"{where}: expected UTF-8 text, got bytes that are not UTF-8") from None
                row[: len(content)] = np.frombuffer(content, np.uint8)
            yield Portion(x, _numbers(rows), {})

    if not lines:
        raise DataError(f"{where} does not contain examples")
    return Inputs(len(lines), encoded())


def image_rows(files: list[Path], location: Path, spec: DatasetSpec) -> Iterator[np.ndarray]:
    """Yield images in chunks (n, *shape), in the shape and range of the training data.

    Raises:
        DataError: when the network was not trained on images, or for a damaged file.
    """
    if len(spec.shape) != 3 or spec.shape[2] not in (1, 3):
        raise DataError(f"{location} contains images, but the network takes examples of shape {spec.shape}")
    if spec.range is None:
        raise DataError(
            f"{location} contains images, but the network was trained on numbers of unknown range; "
            "save the examples as .npy"
        )
    height, width, channels = spec.shape
    form = Form(height, width, channels, 65535 if spec.range == (0, 65535) else 255)
    low, high = spec.range
    for pixels in decode(files, form, resize=True):
        yield pixels if spec.range == (0, form.max) else low + pixels * np.float32((high - low) / 255)


def _images(location: Path, spec: DatasetSpec) -> Inputs:
    """Open the images in a folder, or one image."""
    files = [location]
    if location.is_dir():
        files = images.files_below(location)
        if not files:
            raise DataError(images.without_images(location))
    names = [file.relative_to(location).as_posix() if location.is_dir() else file.name for file in files]

    def portions() -> Iterator[Portion]:
        start = 0
        for x in image_rows(files, location, spec):
            yield Portion(x, names[start : start + len(x)], {})
            start += len(x)

    return Inputs(len(files), portions())


def _arrays(location: Path, spec: DatasetSpec) -> Inputs:
    """Open an array, which may also be a single example, or grayscale images without the channel axis."""
    header, chunks = npz.open_rows(location)
    shape = _row_shape(location, header, spec)
    if shape is None:
        return _in_memory(location, np.concatenate([np.atleast_1d(rows) for rows in chunks])[None], spec)

    def portions() -> Iterator[Portion]:
        start = 0
        for chunk in chunks:
            for rows in _portions(len(chunk), spec):
                x = _checked(location, chunk[rows], spec, start)
                yield Portion(x, _numbers(slice(start, start + len(x))), {})
                start += len(x)

    return Inputs(header.shape[0], portions())


def _in_memory(location: Path, x: np.ndarray, spec: DatasetSpec) -> Inputs:
    """Return the examples of an array (n, ...)."""
    _row_shape(location, Header(x.shape, x.dtype, False, 0), spec)
    portions = (
        Portion(_checked(location, x[rows], spec, rows.start), _numbers(rows), {}) for rows in _portions(len(x), spec)
    )
    return Inputs(len(x), portions)


def _row_shape(location: Path, header: Header, spec: DatasetSpec) -> tuple[int, ...] | None:
    """Return the shape of a row of an array, or None if the array is a single example.

    Raises:
        DataError: when the shape or dtype is not that of examples.
    """
    shapes = (spec.shape, spec.shape[:-1] if spec.shape[-1:] == (1,) else spec.shape)
    if header.shape not in shapes and header.shape[1:] not in shapes:
        expected = f"(n, {', '.join(map(str, spec.shape))})"
        raise DataError(f"{location}: expected an array of shape {expected}, got {header.shape}")
    if not math.prod(header.shape):
        raise DataError(f"{location} does not contain examples")
    if header.dtype.kind not in ("iu" if spec.tokens else "biuf"):
        expected = "whole numbers" if spec.tokens else "numbers"
        raise DataError(f"{location}: expected {expected}, got dtype {header.dtype}")
    return None if header.shape in shapes else header.shape[1:]


def _checked(location: Path, x: np.ndarray, spec: DatasetSpec, start: int) -> np.ndarray:
    """Return rows as (n, *shape), after checking their values; the first of them is example `start`."""
    invalid = first_invalid(x, has_missing=spec.has_missing)
    if invalid is not None:
        raise DataError(f"{location}: example {start + invalid} contains a value that is NaN or infinite")
    return x.reshape(len(x), *spec.shape)


def _portions(size: int, spec: DatasetSpec) -> Iterator[slice]:
    """Divide examples into consecutive portions."""
    rows = max(1, min(MAX_ROWS, ENTRIES // math.prod(spec.shape)))
    return (slice(start, min(size, start + rows)) for start in range(0, size, rows))


def _numbers(rows: slice) -> list[str]:
    return [str(number) for number in range(rows.start, rows.stop)]
