"""Hostile images and texts, and paths that lead to something other than a file."""

import functools
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data_files_arrays import Case, arrays_are, write_idx

# Images


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def _bomb_png() -> bytes:
    """Return a black PNG of 60,000 pixels square with one bit per pixel: 450 MB in 440 kB."""
    packer, rows = zlib.compressobj(6), bytes(7501) * 100
    data = b"".join(packer.compress(rows) for _ in range(600)) + packer.flush()
    return _png_of(data)


def _png_of(data: bytes) -> bytes:
    """Return a PNG of 60,000 pixels square, of one bit each, with any data."""
    header = struct.pack(">2I5B", 60_000, 60_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _pictures(content: bytes | None, name: str = "3.png", **settings: Any) -> tuple[str, dict[str, Any]]:
    """Write two classes of images, and one more file in the first."""
    from PIL import Image

    for folder in ("a", "b"):
        Path("p", folder).mkdir(parents=True)
        Image.new("L", (4, 4), 7).save(f"p/{folder}/9.png")
    if content is not None:
        Path("p", "a", name).write_bytes(content)
    return "images", {"path": "p", **settings}


def _pictures_and(change: Callable[[], object], content: bytes | None = None) -> tuple[str, dict[str, Any]]:
    """Write two classes of images, and one more file in the first if it has content, and change the folder."""
    data = _pictures(content, "z.png")
    change()
    return data


def _encoded(*frames: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    frames = [frame.copy() for frame in frames]  # Pillow leaves settings of one format in an image that it saves
    frames[0].save(
        file, kind, **({"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}), **options
    )
    return file.getvalue()


def _endless_tiff(content: bytes) -> bytes:
    """Return a TIFF file of one page whose list of pages returns to the first."""
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    end = start + 2 + 12 * entries
    return content[:end] + struct.pack("<I", start) + content[end + 4 :]


def images() -> Iterator[Case]:
    from PIL import Image

    black, white = Image.new("L", (4, 4)), Image.new("L", (4, 4), 255)
    deep = Image.fromarray(np.arange(0, 64000, 4000, dtype=np.uint16).reshape(4, 4))
    expected = np.stack([np.asarray(deep), np.full((4, 4), 7 * 257), np.full((4, 4), 7 * 257)])
    yield Case(
        "PNG of 60,000 pixels square", lambda _: _pictures(_bomb_png()), "3.png has more than 178,956,970 pixels"
    )
    yield Case(
        "PNG header of 60,000 pixels square",
        lambda _: _pictures(_png_of(zlib.compress(bytes(9)))),
        "3.png has more than 178,956,970 pixels",
    )
    yield Case(
        "PNG of 60,000 pixels square, resized", lambda _: _pictures(_bomb_png(), size=[2, 2]), "178,956,970 pixels"
    )
    yield Case(
        "images to be resized to 10^6 pixels square",
        lambda _: _pictures(None, size=[10**6, 10**6]),
        "make data.size smaller",
    )
    yield Case("PNG that ends early", lambda _: _pictures(_encoded(white)[:-30], "z.png"), "z.png is damaged")
    yield Case(
        "PNG with a damaged chunk",
        lambda _: _pictures(_encoded(white).replace(b"IDAT", b"IDAX"), "z.png"),
        "z.png is damaged",
    )
    yield Case("PNG of several frames", lambda _: _pictures(_encoded(black, white)), "3.png is an animation")
    yield Case(
        "GIF of several frames", lambda _: _pictures(_encoded(black, white, kind="GIF")), "3.png is an animation"
    )
    yield Case(
        "PostScript called .png",
        lambda _: _pictures(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"),
        "not a PNG, JPEG, ",
    )
    yield Case("PNG of 16 bits", lambda _: _pictures(_encoded(deep)), arrays_are(expected, [0, 0, 1]))
    yield Case(
        "TIFF of several pages",
        lambda _: _pictures(_encoded(black, white, kind="TIFF")),
        "3.png contains several pages",
    )
    yield Case(
        "TIFF of floating-point numbers",
        lambda _: _pictures(_encoded(Image.new("F", (4, 4)), kind="TIFF"), "3.tif"),
        "3.tif: expected gray or RGB pixels of 8 or 16 bits, got pixels of Pillow's mode F",
    )
    yield Case(
        "TIFF whose second page is the first",
        lambda _: _pictures(_endless_tiff(_encoded(white, kind="TIFF"))),
        arrays_are(np.stack([np.full((4, 4), value) for value in (255, 7, 7)]), [0, 0, 1]),
    )
    for kind in ("WEBP", "BMP", "TIFF", "GIF"):
        yield Case(
            f"{kind} that ends early",
            lambda _, kind=kind: _pictures(_encoded(Image.new("L", (4, 4), 3), kind=kind)[:-8], f"3.{kind.lower()}"),
            "3.[a-z]+ is damaged",
        )
    yield Case("empty PNG", lambda _: _pictures(b""), "not a PNG, JPEG, ")
    yield Case(
        "folder called .png",
        lambda _: _pictures_and(lambda: Path("p/a/3.png").mkdir()),
        "expected a file, got a folder",
    )
    yield Case(
        "FIFO among images", lambda _: _pictures_and(lambda: os.mkfifo("p/b/1.png")), "expected a file, got a FIFO"
    )
    yield Case(
        "socket among images", lambda _: _pictures_and(lambda: _socket("p/b/1.png")), "expected a file, got a socket"
    )
    yield Case(
        "device among images",
        lambda _: _pictures_and(lambda: os.symlink("/dev/zero", "p/b/1.png")),
        "expected a file, got a device",
    )
    yield Case(
        "loop of links among images",
        lambda _: _pictures_and(lambda: os.symlink("1.png", "p/b/1.png")),
        "cannot be read: Too many levels",
    )
    yield Case(
        "link to nothing among images",
        lambda _: _pictures_and(lambda: os.symlink("nothing", "p/b/1.png")),
        "cannot be read: No such file",
    )
    yield Case(
        "class whose name is not text",
        lambda _: _pictures_and(lambda: os.rename(b"p/a", b"p/\xff")),
        "not valid text in UTF-8",
    )
    yield Case(
        "class with escape sequences",
        lambda _: _pictures_and(lambda: os.rename("p/a", "p/\x1b[31m\na"), b"x"),
        r"\\x1b\[31m\\na/z.png is damaged",
    )


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


# Texts


def _text(content: bytes, **settings: Any) -> tuple[str, dict[str, Any]]:
    Path("t.txt").write_bytes(content)
    return "text", {"path": "t.txt", "block": 2, **settings}


def texts() -> Iterator[Case]:
    yield Case("text that is not UTF-8", lambda _: _text(b"ab\xffcd"), "not UTF-8: byte 2")
    yield Case("empty text", lambda _: _text(b""), "got 0")
    yield Case("empty text as bytes", lambda _: _text(b"", tokens="bytes"), "got 0")
    yield Case("text of NUL characters", lambda _: _text(b"\0a\0ab"), lambda spec, arrays: spec.vocabulary == "\0ab")


# What a path leads to


def places() -> Iterator[Case]:
    formats = {"csv": ("csv", {"target": "y"}), "npz": ("npz", {}), "txt": ("text", {})}
    for ending, (name, settings) in formats.items():
        path = f"f.{ending}"
        kinds: dict[str, tuple[Callable[[str], object], str]] = {
            "FIFO": (os.mkfifo, "expected a file, got a FIFO"),
            "socket": (_socket, "expected a file, got a socket"),
            "device": (lambda path: os.symlink("/dev/zero", path), "expected a file, got a device"),
            "folder": (os.mkdir, "expected a file, got a folder"),
            "loop of links": (lambda path: os.symlink(path, path), "cannot be opened: Too many levels"),
            "link to nothing": (lambda path: os.symlink("nothing", path), "a symbolic link to 'nothing'"),
        }
        for kind, (make, message) in kinds.items():
            yield Case(
                f"{kind} as {ending}",
                lambda _, make=make, path=path, name=name, settings=settings: (
                    make(path),
                    (name, {"path": path, **settings}),
                )[1],
                message,
            )
    yield Case(
        "FIFO as IDX",
        lambda _: (
            write_idx((2, 2, 2), bytes(8)),
            os.remove("train-images-idx3-ubyte"),
            os.mkfifo("train-images-idx3-ubyte"),
        )[0],
        "got a FIFO",
    )
    yield Case("file as folder of images", lambda _: (Path("p").touch(), ("images", {"path": "p"}))[1], "is a file")
    yield Case("path with NUL", lambda _: ("npz", {"path": "a\0.npz"}), "is not a path")
    yield Case(
        "path of 10,000 characters", lambda _: ("npz", {"path": "a" * 10_000}), "cannot be opened: File name too long"
    )
