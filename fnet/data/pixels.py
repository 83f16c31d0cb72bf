"""Pixels of image files: their size and number of channels, and decoding them in chunks."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import file_errors, open_file
from fnet.data.source import DataError, DataWarning

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Formats of images that are read, under Pillow's names, and the extensions of their files."""

EXTENSIONS = tuple(extension for extensions in FORMATS.values() for extension in extensions)

CHUNK_BYTES = 1 << 25
"""Number of bytes of pixels that are decoded together."""

BACKGROUND = 255
"""What transparent pixels become: white."""

_FRAMES = ("PNG", "WEBP", "TIFF", "GIF")
"""Formats whose files may contain several images; in a JPEG, the others are previews."""

_GRAY = ("1", "L", "LA")
_COLOR = ("P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of gray images with 16 bits per pixel; it reduces color images of 16 bits per channel to 8 itself."""

_DARK = 16
"""Part of the range of 16 bits that the first image should use, so that `unit` does not map it to nearly 0."""

_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
"""The values of the EXIF orientation with which width and height change places."""

_BYTES_PER_PIXEL = 24
"""Memory for a pixel while it is decoded and converted, in bytes."""


class Form(NamedTuple):
    """What all images are converted to.

    height, width: size in pixels.
    channels: 1 for gray, 3 for color.
    max: value of white, 255 or 65535.
    """

    height: int
    width: int
    channels: int
    max: int = 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixels of an image."""
        return self[:3]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the pixels."""
        return np.dtype(np.uint8 if self.max == 255 else np.uint16)


def form(file: Path, size: tuple[int, int] | None, color: Literal["gray", "rgb"] | None) -> Form:
    """Return the form of the images of which this is the first: its own, after its EXIF rotation, unless it is set.

    Args:
        file: the first image, of which only the header is read, unless it is rotated or has 16 bits.
        size: height and width that the images are resized to.
        color: gray or rgb.

    Raises:
        DataError: for a file that is damaged, or images too large for the memory of this machine.
    """
    from PIL import ImageOps

    with _large_images(), _opened(file) as opened:
        turned = size is None and opened.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        image = ImageOps.exif_transpose(opened) if turned else opened
        height, width = size or (image.height, image.width)
        gray = _is_gray(opened) if color is None else color == "gray"
        deep = gray and _is_deep(opened)
        if deep and int(np.asarray(image).max()) < 65536 // _DARK:
            brightest = f"the brightest pixel of {file} is {int(np.asarray(image).max()):,} of 65,535"
            fix = "with data.normalize: unit, its values are nearly 0; set data.normalize: standard"
            warnings.warn(f"{brightest}; {fix}", DataWarning, stacklevel=3)
    result = Form(height, width, 1 if gray else 3, 65535 if deep else 255)
    what = f"decoding an image of {height} x {width} pixels"
    needed = _BYTES_PER_PIXEL * math.prod(result.shape)
    refuse_beyond_memory(needed, what, "make data.size smaller", "size")
    return result


def _is_gray(image: Any) -> bool:
    """Return whether an image is gray: also one whose palette contains no colors."""
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GRAY or _is_deep(image)


def _is_deep(image: Any) -> bool:
    """Return whether an image that was just opened is gray with 16 bits per pixel."""
    return image.mode in _DEEP or (image.mode == "I" and image.format == "PNG")


def decode(files: list[Path], form: Form, *, resize: bool) -> Iterator[np.ndarray]:
    """Decode images in chunks, (chunk, height, width, channels) of the form's dtype.

    Images are rotated according to their EXIF orientation, and transparent pixels are blended with white.

    Args:
        files: images in one of `FORMATS`.
        form: size, channels and depth of each image.
        resize: whether images of a different size are resized, each edge on its own, rather than refused.

    Raises:
        DataError: for a file that is damaged, or for an image of a different size.
    """
    images_per_chunk = max(1, CHUNK_BYTES // (math.prod(form.shape) * form.dtype.itemsize))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), images_per_chunk):
            with _large_images():
                chunk = files[start : start + images_per_chunk]
                pixels = np.stack(list(pool.map(lambda file: _pixels(file, form, resize=resize), chunk)))
            yield pixels


def _pixels(file: Path, form: Form, *, resize: bool) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(file) as opened:
        deep = _is_deep(opened)
        image = ImageOps.exif_transpose(opened)
        if deep:
            # Pillow would map all values above 255 to white, and cannot resize 16 bits in every version.
            values = np.asarray(image).astype(np.float32)
            values[values == image.info.get("transparency", -1)] = 65535
            image = Image.fromarray(values * np.float32(form.max / 65535))
        else:
            image = _on_background(image).convert("L" if form.channels == 1 else "RGB")
    if resize:
        image = image.resize((form.width, form.height), Image.Resampling.BILINEAR)
    elif (image.height, image.width) != (form.height, form.width):
        raise DataError(
            f"{file} has {image.height} x {image.width} pixels, but the first image {form.height} x {form.width}; "
            f"set data.size: [{form.height}, {form.width}] to resize all images",
            "size",
        )
    pixels = np.asarray(image)
    if deep:
        pixels = np.clip(np.rint(pixels), 0, form.max).astype(form.dtype)
    elif form.max > 255:
        pixels = pixels.astype(form.dtype) * (form.max // 255)
    return np.broadcast_to(pixels.reshape(form.height, form.width, -1), form.shape)


def _on_background(image: Any) -> Any:
    """Return an image without transparency, blended with white; the color of a transparent pixel is arbitrary."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (BACKGROUND,) * 3 + (255,)), image)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open an image whose pixels fit in memory; no other format than `FORMATS` is tried.

    Raises:
        DataError: for a file that is damaged, too large, or not a single image in one of these formats.
    """
    from PIL import Image

    with file_errors(file), open_file(file) as opened:
        try:
            image = Image.open(opened, formats=tuple(FORMATS))
        except Image.UnidentifiedImageError:
            *first, last = FORMATS
            raise ValueError(f"it is not a {', '.join(first)} or {last} image") from None
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            what = f"{file} has more than {limit:,} pixels, which Pillow refuses to decode"
            raise DataError(f"{what}; make the image smaller, or raise PIL.Image.MAX_IMAGE_PIXELS", "path") from None
        with image:
            if image.format in _FRAMES and getattr(image, "n_frames", 1) > 1:
                what = "contains several pages; save one" if image.format == "TIFF" else "is an animation; save one"
                part = "pages" if image.format == "TIFF" else "frames"
                raise DataError(f"{file} {what} of its {part} as an image", "path")
            if image.mode not in _GRAY + _COLOR and not _is_deep(image):
                what = f"{file}: expected gray or RGB pixels of 8 or 16 bits, got pixels of Pillow's mode {image.mode}"
                raise DataError(f"{what}; convert them, or save them as an array (.npz)", "path")
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
