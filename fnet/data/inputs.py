"""Examples without targets, read from a file for a trained network."""

from pathlib import Path

import numpy as np

from fnet.data import idx, images, npz
from fnet.data.arrays import first_invalid
from fnet.data.path import existing_file, existing_path
from fnet.data.source import DataError, DatasetSpec
from fnet.data.table import encode


def read(path: str, spec: DatasetSpec) -> tuple[np.ndarray, list[str]]:
    """Return examples (n, *spec.shape) as stored, before normalization, and a name for each.

    Args:
        path: a table in any format with the columns of the table that the network was trained on, a .npz or .npy array,
            an image (PNG or JPEG), a folder of images at any depth, or an IDX file of images. Images are resized, and
            their pixels are scaled so that black and white are the min and max of the training data.
        spec: description of the dataset that the network was trained on.

    Raises:
        DataError: when the file does not exist, or does not contain such examples.
    """
    location = existing_path(path)
    if not location.is_dir():
        location = existing_file(path)
    extension = location.suffix.lower()
    if encode.format_of(location) is not None:
        x, names, _ = encode.read_inputs(location, spec)
        return _checked(location, x, spec), names
    if location.is_dir() or extension in images.EXTENSIONS:
        return _images(location, spec)
    if extension in (".npz", ".npy"):
        x = npz.read(location)
    elif "-ubyte" in location.name:
        x = idx.read_images(location)
    else:
        known = ".csv, .tsv, .parquet, .xlsx, .jsonl, .npz, .npy, .png, .jpg, IDX, a folder of images"
        raise DataError(f"{path} does not have a known format; known: {known}")
    x = _checked(location, x, spec)
    return x, [str(number) for number in range(len(x))]


def _images(location: Path, spec: DatasetSpec) -> tuple[np.ndarray, list[str]]:
    """Read the images in a folder, or one image, in the shape and range of the training data."""
    files = [location]
    if location.is_dir():
        files = images.files_below(location)
        if not files:
            raise DataError(f"{location} does not contain images ({', '.join(images.EXTENSIONS)})")
    if len(spec.shape) != 3 or spec.shape[2] not in (1, 3):
        raise DataError(f"{location} contains images, but the network takes examples of shape {spec.shape}")
    if spec.range is None:
        raise DataError(
            f"{location} contains images, but the network was trained on numbers of unknown range; "
            "save the examples as .npy"
        )
    height, width, channels = spec.shape
    pixels = np.concatenate(list(images.decode(files, (height, width, channels), resize=True)))
    names = [file.relative_to(location).as_posix() if location.is_dir() else file.name for file in files]
    low, high = spec.range
    return pixels if spec.range == (0, 255) else low + pixels * np.float32((high - low) / 255), names


def _checked(location: Path, x: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    """Return an array as (n, *shape), after checking its shape, dtype and values.

    It may also be a single example, or grayscale images without the channel axis.
    """
    for shape in (spec.shape, spec.shape[:-1] if spec.shape[-1:] == (1,) else spec.shape):
        if x.shape == shape:
            x = x[None]
        if x.shape[1:] == shape:
            break
    else:
        expected = f"(n, {', '.join(map(str, spec.shape))})"
        raise DataError(f"{location}: expected an array of shape {expected}, got {x.shape}")
    if not len(x):
        raise DataError(f"{location} does not contain examples")
    if x.dtype.kind not in ("iu" if spec.tokens else "biuf"):
        raise DataError(f"{location}: expected {'whole numbers' if spec.tokens else 'numbers'}, got dtype {x.dtype}")
    invalid = first_invalid(x, has_missing=spec.has_missing)
    if invalid is not None:
        raise DataError(f"{location}: example {invalid} contains a value that is NaN or infinite")
    return x.reshape(len(x), *spec.shape)
