"""Images of every kind of pixels, compared with pixels that are known."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data.own_files import assert_refused, read_examples, spec_and_arrays
from PIL import Image

from fnet.data import files, pixels
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataWarning

pytestmark = pytest.mark.usefixtures("isolated_folders")


def png(pixels, color_type):
    """Encode unsigned pixels of 8 or 16 bits as PNG."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    parts = [(b"IHDR", struct.pack(">2I5B", width, height, 8 * pixels.itemsize, color_type, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(data)) + k + data + struct.pack(">I", zlib.crc32(k + data)) for k, data in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def read_first(image, name="1.png", options=None, **settings):
    """Read an image, or the bytes of one, as the first of two classes; the other contains a copy."""
    for folder in ("p/a", "p/b"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for old in Path(folder).iterdir():
            old.unlink()
        if isinstance(image, bytes):
            Path(folder, name).write_bytes(image)
        else:
            image.save(f"{folder}/{name}", **options or {})
    spec, arrays = spec_and_arrays("images", path="p", **settings)
    assert arrays.x.dtype == (np.uint8 if spec.range == (0, 255) else np.uint16)
    return spec, arrays.x[0]


DEEP = np.array([[0, 1, 128, 129], [255, 256, 32768, 65407], [12345, 65534, 65535, 385]], np.uint16)


@pytest.mark.parametrize("kind", ["png", "tif", "big-endian tif"])
def test_gray_images_keep_16_bits(kind):
    if kind == "big-endian tif":
        image = Image.frombytes("I;16B", (4, 3), DEEP.astype(">u2").tobytes())
    else:
        image = Image.fromarray(DEEP)
    spec, x = read_first(image, f"1.{kind[-3:]}")
    assert (spec.shape, spec.range) == ((3, 4, 1), (0, 65535))
    assert np.array_equal(x[..., 0], DEEP)
    data = files.source("images", {"path": "p"})
    normalized = split_and_normalize(data.read(0), spec, (1.0, 0.0, 0.0), "unit", seed=0).train.x[0, ..., 0]
    np.testing.assert_allclose(normalized, DEEP / 65535, rtol=1e-6)


def test_16_bits_are_rounded_where_the_first_image_has_8():
    for folder in ("cat", "dog"):
        Path(folder).mkdir()
        Image.new("L", (4, 3), 9).save(f"{folder}/1.png")
        Image.fromarray(DEEP).save(f"{folder}/2.png")
    _, arrays = spec_and_arrays("images", path=".")
    assert np.array_equal(arrays.x[1, ..., 0], np.rint(DEEP * (255 / 65535)))
    Path("cat/1.png").rename("cat/3.png")
    spec, arrays = spec_and_arrays("images", path=".")
    assert (arrays.x[1] == 9 * 257).all()  # the same gray, now of 16 bits
    x, _ = read_examples("cat", spec)
    assert np.array_equal(x, arrays.x[:2])
    _, arrays = spec_and_arrays("images", path=".", color="rgb")
    assert np.array_equal(arrays.x[0], np.rint(DEEP * (255 / 65535))[..., None] * [1, 1, 1])


def test_16_bits_are_resized_without_rounding_to_8():
    _, x = read_first(
        Image.fromarray(np.array([[1000, 1000, 3000, 3000]], np.uint16).repeat(2, 0) + 30000), size=[1, 2]
    )
    assert x[0, :, 0].tolist() == pytest.approx([31250, 32750], abs=300)
    assert (x % 257).any()


def test_dark_images_of_16_bits_are_a_warning():
    dark = np.full((2, 2), 4095, np.uint16)
    Image.fromarray(dark).save("1.png")
    with pytest.warns(DataWarning, match=r"1\.png is 4,095 of 65,535; .*set data\.normalize: standard"):
        pixels.form(Path("1.png"), None, None)
    Image.fromarray(dark + 1).save("1.png")
    pixels.form(Path("1.png"), None, None)


def test_colors_of_16_bits_become_8():
    """Pillow takes the upper 8 bits, which differ from the rounded value by at most 1."""
    colors = np.stack([DEEP, DEEP[::-1], DEEP // 3], axis=-1)
    spec, x = read_first(png(colors, 2))
    assert (spec.shape, spec.range) == ((3, 4, 3), (0, 255))
    assert np.abs(x - colors * (255 / 65535)).max() <= 1


def blended(colors, alpha):
    """Blend colors with white: c a + 255 (1 - a)."""
    a = np.asarray(alpha, float)[..., None] / 255
    return np.asarray(colors) * a + 255 * (1 - a)


def test_transparent_pixels_are_blended_with_white(rng):
    rgba = rng.integers(0, 256, (3, 4, 4), np.uint8)
    rgba[0, :, 3] = [0, 1, 254, 255]
    for name in ("1.png", "1.webp", "1.tif"):
        spec, x = read_first(
            Image.fromarray(rgba), name, {"lossless": True, "exact": True} if name == "1.webp" else None
        )
        assert spec.shape == (3, 4, 3)
        assert np.abs(x - blended(rgba[..., :3], rgba[..., 3])).max() <= 1, name
    assert (x[0, 0] == 255).all()
    la = rgba[..., 2:]
    spec, x = read_first(Image.fromarray(la, "LA"))
    assert spec.shape == (3, 4, 1)
    assert np.abs(x - blended(la[..., :1], la[..., 1])).max() <= 1


def test_a_transparent_color_becomes_white():
    gray = np.array([[0, 7, 200, 7]], np.uint8)
    _, x = read_first(Image.fromarray(gray), options={"transparency": 7})
    assert x[0, :, 0].tolist() == [0, 255, 200, 255]
    _, x = read_first(Image.fromarray(gray.astype(np.uint16) * 200), options={"transparency": 1400})
    assert x[0, :, 0].tolist() == [0, 65535, 40000, 65535]
    palette = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8), "P")
    palette.putpalette([9, 8, 7, 1, 2, 3, 200, 100, 0])
    for name in ("1.png", "1.gif"):
        _, x = read_first(palette, name, {"transparency": 1})
        assert x[0].tolist() == [[9, 8, 7], [255, 255, 255], [200, 100, 0], [255, 255, 255]]


@pytest.mark.parametrize("name", ["1.png", "1.bmp", "1.tif", "1.gif"])
def test_a_palette_without_colors_is_gray(name):
    index = np.array([[0, 1, 2, 2]], np.uint8)
    for palette, channels in (([0, 0, 0, 30, 30, 30, 5, 5, 5], 1), ([0, 0, 0, 30, 30, 31, 5, 5, 5], 3)):
        image = Image.fromarray(index, "P")
        image.putpalette(palette)
        spec, x = read_first(image, name)
        assert spec.shape == (1, 4, channels)
        assert np.array_equal(x[0], np.reshape(palette, (3, 3))[index[0], :channels])


def test_black_and_white():
    _, x = read_first(Image.fromarray(np.array([[True, False, True]])))
    assert x[0, :, 0].tolist() == [255, 0, 255]


def test_cmyk():
    """R = 255 (1 - C) (1 - K), and likewise G of M and B of Y; JPEG loses up to 3 of 255, and rounding 1."""
    inks = np.zeros((8, 32, 4), np.uint8)
    for number, ink in enumerate([(0, 255, 255, 0), (200, 30, 90, 0), (0, 0, 0, 64), (40, 120, 10, 128)]):
        inks[:, 8 * number : 8 * number + 8] = ink
    c = inks / 255.0
    expected = 255 * (1 - c[..., :3]) * (1 - c[..., 3:])
    for name in ("1.jpg", "1.tif"):
        spec, x = read_first(Image.frombytes("CMYK", (32, 8), inks.tobytes()), name, {"quality": 100})
        assert spec.shape == (8, 32, 3)
        assert np.abs(x - expected).max() <= 4
    assert b"Adobe" in jpeg_of(inks)


def jpeg_of(inks):
    Image.frombytes("CMYK", (32, 8), inks.tobytes()).save("cmyk.jpg")
    return Path("cmyk.jpg").read_bytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.tif"])
def test_the_size_is_that_of_the_rotated_image(name, orientation):
    """All eight orientations, as functions of the stored pixels."""
    upright = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.T,
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].T,
        8: lambda x: np.rot90(x),
    }[orientation]
    stored = np.kron([[10, 60, 120], [160, 200, 250]], np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    spec, x = read_first(Image.fromarray(stored), name, {"exif": exif, **({"quality": 100} if name == "1.jpg" else {})})
    assert spec.shape == (*upright(stored).shape, 1)
    assert np.abs(x[..., 0].astype(int) - upright(stored)).max() <= 2


@pytest.mark.parametrize("name", ["1.webp", "1.bmp", "1.tif", "1.TIFF", "1.gif", "1.png"])
def test_formats_without_loss(rng, name):
    colors = rng.integers(0, 256, (3, 5, 3), np.uint8) // 64 * 64
    spec, x = read_first(Image.fromarray(colors), name, {"lossless": True} if name == "1.webp" else None)
    assert spec.shape == (3, 5, 3)
    assert np.array_equal(x, colors)
    assert read_examples(f"p/a/{name}", spec)[0].shape == (1, 3, 5, 3)


def test_pixels_that_are_not_colors_are_refused():
    Path("p/a").mkdir(parents=True)
    Path("p/b").mkdir()
    Image.new("F", (2, 2)).save("p/a/1.tif")
    Image.new("L", (2, 2)).save("p/b/1.tif")
    assert_refused("images", r"1\.tif: expected gray or RGB pixels of 8 or 16 bits, .* mode F; convert them", path="p")
