"""Hostile data files: each is refused with one line, or read right, in bounded time and memory.

The files are made by code: damaged headers, sizes that disagree with the file, files that decompress to far more than
they contain, text that is not text, and FIFOs, folders and symbolic links in place of files.
"""

import contextlib
import functools
import gzip
import io
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from outcome import Outcome, report

SECONDS = 60
"""Maximum duration of a case; a table of 200,000 columns may take longer on a busy machine."""

MEMORY = 6 << 30
"""Address space of the process, in bytes."""

NPZ = "its header|header is|damaged|cannot contain"


class Slow(BaseException):
    """A case took too long; not an Exception, which could be taken for one of reading the file."""


class Case(NamedTuple):
    """A hostile file.

    name: what is wrong with it.
    write: writes it into the current directory, and returns the format of the data and its settings.
    outcome: pattern of the message with which it is refused, or a function of the description and the arrays that
        returns whether it was read right.
    """

    name: str
    write: Callable[[random.Random], tuple[str, dict[str, Any]]]
    outcome: str | Callable[[Any, Any], bool]


def cases() -> list[Case]:
    """Return all cases."""
    return [*_archives(), *_idx_files(), *_images(), *_tables(), *_texts(), *_places()]


# Archives of arrays


def _npy(shape: Any, data: bytes = b"", descr: Any = "<f4", *, header: bytes | None = None, version: int = 1) -> bytes:
    """Return a .npy file with any header."""
    text = header or f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def _archive(**members: bytes) -> tuple[str, dict[str, Any]]:
    with zipfile.ZipFile("a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return "npz", {"path": "a.npz"}


X, Y = _npy((2, 1), bytes(8)), _npy((2,), struct.pack("<2i", 0, 1), "<i4")


def _saved(**arrays: Any) -> tuple[str, dict[str, Any]]:
    settings = arrays.pop("settings", {})
    np.savez("a.npz", **arrays)
    return "npz", {"path": "a.npz", **settings}


def _damaged_zip(draw: random.Random) -> tuple[str, dict[str, Any]]:
    settings = _saved(x=np.ones((4, 3)), y=np.arange(4) % 2)
    content = bytearray(Path("a.npz").read_bytes())
    content[content.index(b"NUMPY") + draw.randrange(2, 60)] ^= 1 << draw.randrange(8)
    Path("a.npz").write_bytes(content)
    return settings


class Canary:
    """An object whose pickle creates a file when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("canary"),)


def _bomb(_: random.Random) -> tuple[str, dict[str, Any]]:
    """An honest archive of 20 GB of labels in 20 MB would be slow to write; the directory of this one claims it."""
    result = _archive(x=X, y=_npy((2,), bytes(10_000_000), "<i4"))
    content = Path("a.npz").read_bytes()
    size = struct.pack("<I", len(_npy((2,), b"", "<i4")) + 10_000_000)
    Path("a.npz").write_bytes(content.replace(size, struct.pack("<I", 4_000_000_000)))
    return result


def _encrypted(_: random.Random) -> tuple[str, dict[str, Any]]:
    result = _archive(x=X, y=Y)
    content = bytearray(Path("a.npz").read_bytes())
    for start in [match.start() for match in re.finditer(rb"PK\x01\x02", content)]:
        content[start + 8] |= 1
    Path("a.npz").write_bytes(content)
    return result


def _is(x: Any, y: Any) -> Callable[[Any, Any], bool]:
    """Return the check that the arrays are these."""

    def check(_: Any, arrays: Any) -> bool:
        return np.array_equal(np.squeeze(arrays.x), np.squeeze(x)) and np.array_equal(np.squeeze(arrays.y), y)

    return check


def _archives() -> Iterator[Case]:
    headers = {
        "of 10^12 labels": _npy((10**12,), descr="<i8"),
        "of negative length": _npy((-2,), bytes(8), "<i4"),
        "whose shape is None": _npy(None, bytes(8), "<i4"),
        "whose shape is a text": _npy("2", bytes(8), "<i4"),
        "of Booleans as shape": _npy((True, True), bytes(4), "<i4"),
        "of unbalanced brackets": _npy(0, header=b"{'descr': '<i4', 'shape': ((((" + b"(" * 200 + b"\n"),
        "of 9,000 nested lists": _npy(0, header=b"[" * 9000 + b"\n"),
        "that is no text": _npy(0, header=bytes(range(128, 250))),
        "that is longer than the file": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1),
        "of version 9": _npy((2,), bytes(8), "<i4", version=9),
        "with a structured dtype": _npy((2,), bytes(16), [("a", "<i4"), ("b", "<i4")]),
        "of a dtype that does not exist": _npy((2,), bytes(8), "<q9"),
        "with more entries than declared": _npy((2,), bytes(80), "<i4"),
        "of 2^63 entries": _npy((2**62, 2), bytes(8), "<i4"),
    }
    for name, header in headers.items():
        message = "has dtype" if "structured" in name else f"{NPZ}|does not start like"
        yield Case(f"npz header {name}", lambda _, header=header: _archive(x=X, y=header), message)
    many = _npy((10**12, 1), bytes(8)), _npy((10**12,), bytes(8), "<i8")
    yield Case(
        "npz of 10^12 examples and labels",
        lambda _: _archive(x=many[0], y=many[1]),
        "header declares 1000000000000 x 1 entries of 4 bytes",
    )
    yield Case("npz with a flipped bit in a header", _damaged_zip, "damaged")
    yield Case("npz of Python objects", lambda _: _saved(x=np.array([Canary()] * 2), y=[0, 1]), "has dtype object")
    yield Case(
        "npz that is no archive",
        lambda _: (Path("a.npz").write_bytes(b"PK\3\4" + bytes(99)), ("npz", {"path": "a.npz"}))[1],
        "damaged",
    )
    yield Case("npz member that claims 4 GB", _bomb, "damaged")
    yield Case("npz that is encrypted", _encrypted, "damaged")
    yield Case("npz with two arrays x", lambda _: _archive_twice(), "two arrays 'x'")
    yield Case("npz without examples", lambda _: _saved(x=np.ones((0, 2)), y=np.ones(0, int)), "contains no examples")
    yield Case("npz of examples without entries", lambda _: _saved(x=np.ones((3, 0)), y=[0, 1, 0]), "without entries")
    yield Case(
        "npz label 2^40",
        lambda _: _saved(x=np.ones((3, 1)), y=[0, 1, 2**40]),
        "as large as 1099511627776.*targets: values",
    )
    yield Case(
        "npz unsigned label 2^63",
        lambda _: _saved(x=np.ones((2, 1)), y=np.array([0, 2**63], np.uint64)),
        "as large as 9223372036854775808",
    )
    yield Case(
        "npz unsigned label 2^32 of 2 classes",
        lambda _: _saved(x=np.ones((2, 1)), y=np.array([0, 2**32], np.uint64), settings={"classes": 2}),
        "labels 0 ... 1 in 'y', got 4294967296",
    )
    yield Case(
        "npz label NaN",
        lambda _: _saved(x=np.ones((2, 1)), y=[0, np.nan], settings={"targets": "classes"}),
        "whole numbers .* got nan for example 1",
    )
    yield Case(
        "npz Boolean labels", lambda _: _saved(x=np.ones((3, 1)), y=[True, False, True]), _is(np.ones(3), [1, 0, 1])
    )
    yield Case(
        "npz float labels",
        lambda _: _saved(x=np.ones((3, 1)), y=[2.0, 0.0, 1.0], settings={"targets": "classes"}),
        _is(np.ones(3), [2, 0, 1]),
    )


def _archive_twice() -> tuple[str, dict[str, Any]]:
    with warnings.catch_warnings(), zipfile.ZipFile("a.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for content in (X, X, Y):
            archive.writestr("y.npy" if content is Y else "x.npy", content)
    return "npz", {"path": "a.npz"}


# IDX files


def _idx(
    images: Sequence[int], data: bytes, *, zipped: bool = False, labels: Sequence[int] = (2,)
) -> tuple[str, dict[str, Any]]:
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images) + data
    Path("train-images-idx3-ubyte" + ".gz" * zipped).write_bytes(gzip.compress(content) if zipped else content)
    content = bytes([0, 0, 8, 1]) + struct.pack(">I", *labels) + bytes(range(min(labels[0], 9)))
    Path("train-labels-idx1-ubyte").write_bytes(content)
    return "idx", {"path": "."}


def _idx_files() -> Iterator[Case]:
    most = 2**32 - 1
    yield Case("IDX without images", lambda _: _idx((0, 2, 2), b"", labels=(0,)), "contains no images")
    yield Case("IDX of images without rows", lambda _: _idx((2, 0, 2), b""), "images of 0 x 2 pixels")
    yield Case("IDX header of 2^96 bytes", lambda _: _idx((most, most, most), b"a", labels=(most,)), "truncated")
    yield Case(
        "IDX header whose product is 0 modulo 2^64",
        lambda _: _idx((2**31, 2**31, 4), b"", labels=(2**31,)),
        "truncated",
    )
    yield Case("IDX one byte too long", lambda _: _idx((2, 2, 2), bytes(9)), "too long: expected 24 bytes, got 25")
    yield Case("IDX.gz that declares 2^96 bytes", lambda _: _idx((2, most, most), b"", zipped=True), "cannot contain")
    yield Case(
        "IDX.gz of 200 MB that declares 8 bytes",
        lambda _: _idx((2, 2, 2), bytes(200_000_000), zipped=True),
        "too long: expected 24 bytes, got more",
    )
    yield Case("IDX.gz that ends early", lambda _: _idx((2, 20, 20), bytes(700), zipped=True), "truncated")


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


def _encoded(*frames: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    frames[0].save(
        file, kind, **({"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}), **options
    )
    return file.getvalue()


def _images() -> Iterator[Case]:
    from PIL import Image

    black, white = Image.new("L", (4, 4)), Image.new("L", (4, 4), 255)
    deep = Image.fromarray(np.arange(0, 64000, 4000, dtype=np.uint16).reshape(4, 4))
    expected = np.stack([np.asarray(deep) >> 8, np.full((4, 4), 7), np.full((4, 4), 7)])
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
    yield Case("GIF called .png", lambda _: _pictures(_encoded(black, white, kind="GIF")), "not a PNG or JPEG")
    yield Case(
        "PostScript called .png",
        lambda _: _pictures(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"),
        "not a PNG or JPEG",
    )
    yield Case("PNG of 16 bits", lambda _: _pictures(_encoded(deep)), _is(expected, [0, 0, 1]))
    yield Case("empty PNG", lambda _: _pictures(b""), "not a PNG or JPEG")
    yield Case(
        "folder called .png", lambda _: (_pictures(None), Path("p/a/3.png").mkdir())[0], "expected a file, got a folder"
    )
    yield Case(
        "FIFO among images", lambda _: (_pictures(None), os.mkfifo("p/b/1.png"))[0], "expected a file, got a FIFO"
    )
    yield Case(
        "socket among images", lambda _: (_pictures(None), _socket("p/b/1.png"))[0], "expected a file, got a socket"
    )
    yield Case(
        "device among images",
        lambda _: (_pictures(None), os.symlink("/dev/zero", "p/b/1.png"))[0],
        "expected a file, got a device",
    )
    yield Case(
        "loop of links among images",
        lambda _: (_pictures(None), os.symlink("1.png", "p/b/1.png"))[0],
        "cannot be read: Too many levels",
    )
    yield Case(
        "link to nothing among images",
        lambda _: (_pictures(None), os.symlink("nothing", "p/b/1.png"))[0],
        "cannot be read: No such file",
    )
    yield Case(
        "class whose name is not text",
        lambda _: (_pictures(None), os.rename(b"p/a", b"p/\xff"))[0],
        "not valid text in UTF-8",
    )
    yield Case(
        "class with escape sequences",
        lambda _: (_pictures(b"x", "z.png"), os.rename("p/a", "p/\x1b[31m\na"))[0],
        r"\\x1b\[31m\\na/z.png is damaged",
    )


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


# Tables


def _table(content: bytes | str, **settings: Any) -> tuple[str, dict[str, Any]]:
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return "csv", {"path": "t.csv", "target": "y", **settings}


def _wide(_: random.Random) -> tuple[str, dict[str, Any]]:
    number = 200_000
    lines = [",".join(f"c{i}" for i in range(number)) + ",y", "1," * number + "0", "2," * number + "1"]
    return _table("\n".join(lines))


def _tables() -> Iterator[Case]:
    long = "z" * 200_000
    yield Case(
        "CSV entry of 200,000 characters",
        lambda _: _table(f"a,b,y\n1,{long},0\n2,u,1\n", drop=["b"]),
        _is([1, 2], [0, 1]),
    )
    yield Case(
        "CSV of 200,000 columns",
        _wide,
        lambda spec, arrays: spec.shape == (200_000,) and (arrays.x == [[1], [2]]).all(),
    )
    yield Case("CSV with NUL", lambda _: _table("a,y\n1,0\n\x002,1\n"), "line 3 contains a NUL")
    yield Case("CSV that is not UTF-8", lambda _: _table(b"a,y\n\xff\xfe,0\n2,1\n"), "can't decode byte 0xff")
    yield Case("CSV in UTF-16", lambda _: _table("a,y\n1,0\n".encode("utf-16")), "can't decode byte")
    yield Case("CSV with a byte order mark", lambda _: _table("\ufeffa,y\n1,0\n2,1\n"), _is([1, 2], [0, 1]))
    yield Case("empty CSV", lambda _: _table(""), "is empty")
    yield Case("CSV with an open quote", lambda _: _table('a,y\n1,0\n2,"1\n'), "damaged|entries")
    yield Case("CSV column without a name", lambda _: _table(",a,y\n0,1,0\n1,2,1\n"), "does not name column 1")
    yield Case(
        "CSV value 1e300",
        lambda _: _table("a,y\n1,0\n1e300,1\n"),
        r"example 1 has the value 1e\+300 for 'a', which is infinite",
    )
    yield Case(
        "CSV integers of 30 digits", lambda _: _table(f"a,y\n{10**29},0\n5,1\n"), _is(np.float32([1e29, 5]), [0, 1])
    )
    yield Case(
        "CSV of names with escape sequences",
        lambda _: _table("\x1b[31ma,y\n1,0\nx,1\n2,1\n"),
        r"'\\x1b\[31ma' contains numbers",
    )
    yield Case("CSV with a line break in a name", lambda _: _table('"a\nb",y\n1,0\n,1\n'), r"no value for 'a\\nb'")


# Texts


def _text(content: bytes, **settings: Any) -> tuple[str, dict[str, Any]]:
    Path("t.txt").write_bytes(content)
    return "text", {"path": "t.txt", "block": 2, **settings}


def _texts() -> Iterator[Case]:
    yield Case("text that is not UTF-8", lambda _: _text(b"ab\xffcd"), "not UTF-8: byte 2")
    yield Case("empty text", lambda _: _text(b""), "got 0")
    yield Case("empty text as bytes", lambda _: _text(b"", tokens="bytes"), "got 0")
    yield Case("text of NUL characters", lambda _: _text(b"\0a\0ab"), lambda spec, arrays: spec.vocabulary == "\0ab")


# What a path leads to


def _places() -> Iterator[Case]:
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
            _idx((2, 2, 2), bytes(8)),
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


def failure(case: Case, seed: int) -> str | None:
    """Run one case in a folder of its own, and return how it fails, or None."""
    from fnet.data import files
    from fnet.data.source import DataError

    before, environment = os.getcwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, _limited_time(), warnings.catch_warnings():
        os.chdir(folder)
        warnings.simplefilter("error")
        try:
            kind, settings = case.write(random.Random(f"{case.name} {seed}"))
            os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
            source = files.source(kind, {**settings, "path": os.path.join(folder, settings["path"])})
            spec, arrays = source.spec(), source.read(0)
            if isinstance(case.outcome, str):
                return f"it was read: {spec.size} examples of {spec.shape} with {spec.targets}"
            return None if case.outcome(spec, arrays) else f"it was read wrong: {arrays}"
        except DataError as error:
            message = str(error)
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in message):
                return f"the message contains control characters: {message!r}"
            if Path("canary").exists():
                return "code in the file was run"
            if not isinstance(case.outcome, str) or not re.search(case.outcome, message):
                return f"unexpected message: {message[:300]}"
            return None
        except BaseException as error:
            return f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Raise an error after `SECONDS`."""

    def stop(*_: Any) -> None:
        raise Slow(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(seed: int) -> list[Outcome]:
    """Return the outcome of all cases, which run in one process with limited memory."""
    command = [sys.executable, __file__, "--run", str(seed)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    names, failures = [case.name for case in cases()], child.stdout.splitlines()
    if child.returncode:
        failures.append(f"the process ended with status {child.returncode}")
    print("\n".join(failures), end="\n" if failures else "")
    return [Outcome("hostile data files", len(names), len(failures), seed)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attack as a command, and return its exit status."""
    return report(attack, __doc__, argv)


def _run(seed: int) -> None:
    import pandas  # noqa: F401 (imported before memory and time are limited)

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for case in cases():
        reason = failure(case, seed)
        if reason is not None:
            print(f"{case.name}: {reason}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        sys.exit(_run(int(sys.argv[2])))
    sys.exit(main())
