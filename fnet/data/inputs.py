"""Examples without targets, from a file, in the form that a trained network takes."""

from pathlib import Path

import numpy as np

from fnet.core.wording import suggestion
from fnet.data import csv, idx, images
from fnet.data.path import existing, naming
from fnet.data.source import DataError, Spec, first_unusable


def read(path: str, spec: Spec) -> tuple[np.ndarray, list[str]]:
    """Examples (n, *spec.shape) as they are stored, not yet normalized, and a name for each.

    Args:
        path: of a .csv table with the columns of the one that the network was trained on, a .npz or .npy array, an
            image (PNG or JPEG), a folder of images at any depth, or an IDX file of images. Images are resized, and
            from black to white they are given the range that the network was trained on.
        spec: of the examples that the network was trained on.

    Raises:
        DataError: when there is no such file, or it does not hold such examples.
    """
    found = existing(path)
    ending = found.suffix.lower()
    if found.is_dir() or ending in images.ENDINGS:
        return _images(found, spec)
    if ending == ".csv":
        if not spec.features:
            raise DataError(f"{path} is a table, and the network was not trained on one, but on {spec.shape} numbers")
        x = csv.rows(found, spec.features, gaps=spec.gaps)
    elif ending in (".npz", ".npy"):
        x = _array(found)
    elif "-ubyte" in found.name:
        x = idx.read_images(found)
    else:
        raise DataError(f"{path} is of no known format; known: .csv, .npz, .npy, .png, .jpg, IDX, a folder of images")
    x = _shaped(found, x, spec)
    return x, [str(number) for number in range(len(x))]


def _images(found: Path, spec: Spec) -> tuple[np.ndarray, list[str]]:
    if len(spec.shape) != 3 or spec.shape[2] not in (1, 3):
        raise DataError(f"{found} holds images, and the network takes examples of shape {spec.shape}")
    files = [found]
    if found.is_dir():
        files = sorted(file for file in found.rglob("*") if file.suffix.lower() in images.ENDINGS)
        if not files:
            raise DataError(f"{found} holds no image ({', '.join(images.ENDINGS)})")
    if spec.range is None:
        raise DataError(
            f"{found} holds images, and the network was trained on numbers whose range is not known; "
            "give such numbers, as .npy"
        )
    height, width, channels = spec.shape
    pixels = np.concatenate(list(images.decode(files, (height, width, channels), resize=True)))
    names = [file.relative_to(found).as_posix() if found.is_dir() else file.name for file in files]
    low, high = spec.range
    return pixels if spec.range == (0, 255) else low + pixels * np.float32((high - low) / 255), names


def _array(found: Path) -> np.ndarray:
    with naming(found):
        opened = np.load(found, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return opened
        with opened:
            key = "x" if "x" in opened else opened.files[0] if len(opened.files) == 1 else None
            if key is None:
                raise DataError(f"{found} holds no array 'x'{suggestion('x', opened.files)}")
            return opened[key]


def _shaped(found: Path, x: np.ndarray, spec: Spec) -> np.ndarray:
    """The array as (n, *shape), where it is one example, or gray images without their channel, too."""
    for shape in (spec.shape, spec.shape[:-1] if spec.shape[-1:] == (1,) else spec.shape):
        if x.shape == shape:
            x = x[None]
        if x.shape[1:] == shape:
            break
    else:
        raise DataError(f"{found} holds an array {x.shape}; expected (n, {', '.join(map(str, spec.shape))})")
    if not len(x):
        raise DataError(f"{found} holds no examples")
    kinds = "iu" if spec.dtype == "int32" else "biuf"
    if x.dtype.kind not in kinds:
        raise DataError(f"{found} holds {x.dtype}; expected {'whole numbers' if spec.dtype == 'int32' else 'numbers'}")
    unusable = first_unusable(x, gaps=spec.gaps)
    if unusable is not None:
        raise DataError(f"{found}: example {unusable} holds a value that is NaN or infinite")
    return x.reshape(len(x), *spec.shape)
