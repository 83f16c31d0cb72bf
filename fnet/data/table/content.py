"""The content of a file as text: decompressed, and in UTF-8 whatever its encoding."""

import codecs
import gzip
from pathlib import Path

from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import open_file
from fnet.data.source import DataError

_BLOCK = 1 << 24

_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; rename it to .xlsx, or extract it",
    b"PAR1": "a parquet file; rename it to .parquet",
    b"\x89HDF": "an HDF5 file; save it as text",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls); save it as .xlsx or .csv",
    b"<!doctype html": "a web page; download the file itself (the 'raw' file)",
    b"<html": "a web page; download the file itself (the 'raw' file)",
}
"""How other kinds of files begin, in lowercase where they are text, and what to do with them."""

_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order marks of encodings other than UTF-8, a longer one before its beginning."""

_OTHER_THAN_LETTERS = bytes(byte for byte in range(256) if not chr(byte).isalpha() or byte > 127)


def content_of(path: Path) -> bytes:
    """Return the content of a file, decompressed if its first bytes are those of gzip.

    Raises:
        DataError: when it does not fit in memory.
        OSError, EOFError, zlib.error: for a damaged file.
    """
    with open_file(path) as opened:
        is_gzipped = opened.peek(2)[:2] == b"\x1f\x8b"
        if not is_gzipped:
            refuse_beyond_memory(2 * path.stat().st_size, f"{path}", "divide it", "path")
            return opened.read()
        content = bytearray()
        with gzip.GzipFile(fileobj=opened) as decompressed:
            while block := decompressed.read(_BLOCK):
                content += block
                what = f"{path}: the content, of which {len(content):,} bytes are decompressed,"
                refuse_beyond_memory(3 * len(content), what, "divide the file", "path")
        return bytes(content)


def in_utf8(path: Path, content: bytes, encoding: str | None) -> tuple[bytes, list[str]]:
    """Return a text in UTF-8 without a byte order mark, and notes about a detected encoding.

    A byte order mark determines the encoding. A text without one is UTF-8 if it is valid, and windows-1252 otherwise.

    Args:
        path: the file, for messages.
        content: its content.
        encoding: the encoding; None to detect it.

    Raises:
        DataError: for other kinds of files, text in an unknown encoding, or NUL characters.
    """
    start = content[:64].lower().lstrip()
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature.lower()):
            raise DataError(f"{path}: expected a table as text, got {kind}", "path")
    if encoding is not None:
        return _decoded(path, content, _known_encoding(encoding)), []
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            return _decoded(path, content, name), [f"encoding {name}"]
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.isascii():
        return _without_nul(path, content), []
    try:
        content.decode()
    except UnicodeDecodeError as error:
        position = error.start
    else:
        return _without_nul(path, content), []
    place = f"the byte 0x{content[position]:02x} in line {_line_of(content, position)}"
    fix = "save the table in UTF-8, or set data.encoding"
    if not content.decode(errors="ignore").isascii():
        raise DataError(f"{path} is UTF-8, except for {place}; {fix}", "encoding")
    if len(content.translate(None, bytes(range(128)))) > len(content.translate(None, _OTHER_THAN_LETTERS)):
        what = f"{path} is neither UTF-8 nor a western European text in windows-1252, because of {place}"
        raise DataError(f"{what}; {fix}, such as windows-1251 or gbk", "encoding")
    return _decoded(path, content, "windows-1252"), [f"encoding windows-1252, because of {place}"]


def _known_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise DataError(f"unknown encoding '{encoding}'; examples: utf-8, utf-16, windows-1252", "encoding") from None
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _decoded(path: Path, content: bytes, encoding: str) -> bytes:
    try:
        decoded = content.decode(encoding)
    except UnicodeDecodeError as error:
        place = f"the byte 0x{content[error.start]:02x} in line {_line_of(content, error.start)}"
        what = f"{path}: {place} is not text in {encoding}"
        raise DataError(f"{what}; save the table in UTF-8, or set data.encoding", "encoding") from None
    return _without_nul(path, decoded.removeprefix("\ufeff").encode())


def _without_nul(path: Path, content: bytes) -> bytes:
    """Refuse NUL characters, which readers of tables treat differently."""
    position = content.find(0)
    if position >= 0:
        what = f"line {_line_of(content, position)} contains a NUL character"
        raise DataError(f"{path}: {what}; save the table as text in UTF-8, or set data.encoding", "path")
    return content


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
