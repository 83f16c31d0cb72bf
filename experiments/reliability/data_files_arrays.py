"""Hostile arrays: .npz archives and IDX files whose headers lie, contradict each other or contain code."""

import gzip
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


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


def arrays_are(x: Any, y: Any) -> Callable[[Any, Any], bool]:
    """Return the check that the arrays are these."""

    def check(_: Any, arrays: Any) -> bool:
        return np.array_equal(np.squeeze(arrays.x), np.squeeze(x)) and np.array_equal(np.squeeze(arrays.y), y)

    return check


# Archives

NPZ = "its header|header is|damaged|cannot contain"


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


def archives() -> Iterator[Case]:
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
        arrays_are(np.ones(3), [0, 1, 2]),
    )
    yield Case(
        "npz unsigned label 2^63",
        lambda _: _saved(x=np.ones((2, 1)), y=np.array([0, 2**63], np.uint64)),
        arrays_are(np.ones(2), [0, 1]),
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
        "npz of names with escape sequences",
        lambda _: _saved(x=np.ones((2, 1)), y=["\x1b[31mred", ""]),
        "the name of a class in 'y', got '' for example 1",
    )
    yield Case(
        "npz of names of classes that are objects",
        lambda _: _saved(x=np.ones((2, 1)), y=[0, 1], target_names=np.array([Canary()] * 2)),
        "'target_names' has dtype object",
    )
    yield Case(
        "npz Boolean labels",
        lambda _: _saved(x=np.ones((3, 1)), y=[True, False, True]),
        arrays_are(np.ones(3), [1, 0, 1]),
    )
    yield Case(
        "npz float labels",
        lambda _: _saved(x=np.ones((3, 1)), y=[2.0, 0.0, 1.0], settings={"targets": "classes"}),
        arrays_are(np.ones(3), [2, 0, 1]),
    )


def _archive_twice() -> tuple[str, dict[str, Any]]:
    with warnings.catch_warnings(), zipfile.ZipFile("a.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for content in (X, X, Y):
            archive.writestr("y.npy" if content is Y else "x.npy", content)
    return "npz", {"path": "a.npz"}


# IDX files


def write_idx(
    images: Sequence[int], data: bytes, *, zipped: bool = False, labels: Sequence[int] = (2,)
) -> tuple[str, dict[str, Any]]:
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images) + data
    Path("train-images-idx3-ubyte" + ".gz" * zipped).write_bytes(gzip.compress(content) if zipped else content)
    content = bytes([0, 0, 8, 1]) + struct.pack(">I", *labels) + bytes(range(min(labels[0], 9)))
    Path("train-labels-idx1-ubyte").write_bytes(content)
    return "idx", {"path": "."}


def idx_files() -> Iterator[Case]:
    most = 2**32 - 1
    yield Case("IDX without images", lambda _: write_idx((0, 2, 2), b"", labels=(0,)), "contains no images")
    yield Case("IDX of images without rows", lambda _: write_idx((2, 0, 2), b""), "images of 0 x 2 pixels")
    yield Case("IDX header of 2^96 bytes", lambda _: write_idx((most, most, most), b"a", labels=(most,)), "truncated")
    yield Case(
        "IDX header whose product is 0 modulo 2^64",
        lambda _: write_idx((2**31, 2**31, 4), b"", labels=(2**31,)),
        "truncated",
    )
    yield Case("IDX one byte too long", lambda _: write_idx((2, 2, 2), bytes(9)), "too long: expected 24 bytes, got 25")
    yield Case(
        "IDX.gz that declares 2^96 bytes", lambda _: write_idx((2, most, most), b"", zipped=True), "cannot contain"
    )
    yield Case(
        "IDX.gz of 200 MB that declares 8 bytes",
        lambda _: write_idx((2, 2, 2), bytes(200_000_000), zipped=True),
        "too long: expected 24 bytes, got more",
    )
    yield Case("IDX.gz that ends early", lambda _: write_idx((2, 20, 20), bytes(700), zipped=True), "truncated")
