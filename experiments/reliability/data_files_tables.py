"""Hostile tables: text, parquet files, workbooks and lines of JSON that are damaged, enormous, or something else."""

import functools
import gzip
import io
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data_files_arrays import Case, arrays_are


def _table(content: bytes | str, **settings: Any) -> tuple[str, dict[str, Any]]:
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return "csv", {"path": "t.csv", "target": "y", **settings}


def _wide(_: random.Random) -> tuple[str, dict[str, Any]]:
    number = 200_000
    lines = [",".join(f"c{i}" for i in range(number)) + ",y", "1," * number + "0", "2," * number + "1"]
    return _table("\n".join(lines))


def tables() -> Iterator[Case]:
    long = "z" * 200_000
    yield Case(
        "CSV entry of 200,000 characters",
        lambda _: _table(f"a,b,y\n1,{long},0\n2,u,1\n", drop=["b"]),
        arrays_are([1, 2], [0, 1]),
    )
    yield Case(
        "CSV of 200,000 columns",
        _wide,
        lambda spec, arrays: spec.shape == (200_000,) and (arrays.x == [[1], [2]]).all(),
    )
    yield Case("CSV with NUL", lambda _: _table("a,y\n1,0\n\x002,1\n"), "line 3 contains a NUL")
    yield Case("CSV that is no text", lambda _: _table(b"a,y\n\xff\xfe\x81,0\n2,1\n"), "neither UTF-8 nor")
    yield Case(
        "CSV that is not UTF-8", lambda _: _table(b"a,y\n\xff\xfe,0\n2,1\n", encoding="utf-8"), "byte 0xff in line 2"
    )
    yield Case("CSV in UTF-16", lambda _: _table("a,y\n1,0\n2,1\n".encode("utf-16")), arrays_are([1, 2], [0, 1]))
    yield Case("CSV in half of UTF-16", lambda _: _table("a,y\n1,0\n".encode("utf-16")[:-1]), "not text in utf-16")
    yield Case("CSV that mixes encodings", lambda _: _table("é,y\n1,0\n".encode() + b"\xe9,1\n"), "is UTF-8, except")
    yield Case("CSV with a byte order mark", lambda _: _table("\ufeffa,y\n1,0\n2,1\n"), arrays_are([1, 2], [0, 1]))
    yield Case("empty CSV", lambda _: _table(""), "is empty")
    yield Case("CSV with an open quote", lambda _: _table('a,y\n1,0\n2,"1\n'), "opened in line 3 is not closed")
    yield Case("CSV column without a name", lambda _: _table("a,,y\n0,1,0\n1,2,1\n"), "does not name column 2")
    yield Case("CSV without names", lambda _: _table("1.5,2.5\n1,0\n"), "got the numbers 1.5, 2.5; add a line of names")
    yield Case("CSV that is a web page", lambda _: _table("<!doctype html><p>a,y"), "got a web page")
    yield Case("CSV of 2 million quotes", lambda _: _table('a,y\n1,0\n2,1\n"' + '""' * 10**6), "is not closed")
    yield Case(
        "CSV value 1e300",
        lambda _: _table("a,y\n1,0\n1e300,1\n"),
        r"example 1 has the value 1e\+300 for 'a', which is infinite",
    )
    yield Case(
        "CSV integers of 30 digits",
        lambda _: _table(f"a,y\n{10**29},0\n5,1\n"),
        arrays_are(np.float32([1e29, 5]), [0, 1]),
    )
    yield Case(
        "CSV of names with escape sequences",
        lambda _: _table("\x1b[31ma,y\n1,0\nx,1\n2,1\n"),
        r"'\\x1b\[31ma' contains numbers",
    )
    yield Case("CSV with a line break in a name", lambda _: _table('"a\nb",y\n1,0\n,1\n'), r"no value for 'a\\nb'")
    yield from gzipped_tables()
    yield from parquet_files()
    yield from workbooks()
    yield from json_lines()


def _written(kind: str, path: str, content: bytes | str) -> tuple[str, dict[str, Any]]:
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return kind, {"path": path, "target": "y"}


@functools.cache
def _zeros() -> bytes:
    """Return a gzip file of 4 GB of zeros after a table, in 64 members of one gzip file."""
    return gzip.compress(b"a,y\n1,0\n") + gzip.compress(bytes(1 << 26), 1) * 64


def gzipped_tables() -> Iterator[Case]:
    packed = gzip.compress(b"a,y\n1,0\n2,1\n")
    yield Case("CSV.gz", lambda _: _written("csv", "t.csv.gz", packed), arrays_are([1, 2], [0, 1]))
    yield Case("CSV.gz that ends early", lambda _: _written("csv", "t.csv.gz", packed[:-6]), "damaged")
    yield Case(
        "CSV.gz with a damaged checksum",
        lambda _: _written("csv", "t.csv.gz", packed[:-8] + b"abcd" + packed[-4:]),
        "damaged",
    )
    yield Case(
        "CSV.gz of 4 GB of zeros",
        lambda _: _written("csv", "t.csv.gz", _zeros()),
        "needs .* of memory, .* divide the file|does not fit in memory|NUL",
    )


def parquet_files() -> Iterator[Case]:
    import pandas as pd

    file = io.BytesIO()
    pd.DataFrame({"a": np.arange(9.0), "y": [0, 1, 1] * 3}).to_parquet(file)
    whole = file.getvalue()
    lists = io.BytesIO()
    pd.DataFrame({"a": [[1], [2]], "y": [0, 1]}).to_parquet(lists)

    def flipped(draw: random.Random) -> tuple[str, dict[str, Any]]:
        content = bytearray(whole)
        content[-8:-4] = struct.pack("<I", draw.randrange(len(whole), 2**32))
        return _written("parquet", "t.parquet", bytes(content))

    for name, content in {
        "that is empty": b"",
        "that ends early": whole[: len(whole) // 2],
        "without its beginning": whole[20:],
        "of a magic number only": b"PAR1",
        "that is text": b"a,y\n1,0\n",
    }.items():
        yield Case(f"parquet {name}", lambda _, content=content: _written("parquet", "t.parquet", content), "damaged")
    yield Case("parquet of a header beyond its size", flipped, "damaged")
    yield Case(
        "parquet of lists", lambda _: _written("parquet", "t.parquet", lists.getvalue()), "values of the type list"
    )


def _workbook(**changes: bytes) -> bytes:
    """Return a workbook of two examples, in which some files have other content."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (("a", "y"), (1, 0), (2, 1)):
        sheet.append(row)
    saved, changed = io.BytesIO(), io.BytesIO()
    book.save(saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, changes.get(Path(name).stem, source.read(name)))
    return changed.getvalue()


_ENTITIES = b"".join(b'<!ENTITY a%d "%s">' % (i + 1, b"&a%d;" % i * 10) for i in range(9))
_LAUGHS = b'<!DOCTYPE x [<!ENTITY a0 "ha">' + _ENTITIES + b"]><x>&a9;</x>"
"""A document whose entities expand to 2 GB."""


def workbooks() -> Iterator[Case]:
    def claims(_: random.Random) -> tuple[str, dict[str, Any]]:
        content = bytearray(_workbook(sheet1=bytes(1 << 20)))
        size = struct.pack("<I", 1 << 20)
        for start in range(len(content) - 4):
            if content[start : start + 4] == size:
                content[start : start + 4] = struct.pack("<I", 2**32 - 2)
        return _written("xlsx", "t.xlsx", bytes(content))

    outcomes: dict[str, tuple[bytes, Any]] = {
        "workbook": (_workbook(), arrays_are([1, 2], [0, 1])),
        "workbook that is text": (b"a,y\n1,0\n", "is damaged .*not a zip file"),
        "workbook that ends early": (_workbook()[:-40], "damaged"),
        "workbook that is an archive of something else": (_zipped(a=b"b"), "damaged"),
        "workbook that is an old one": (b"\xd0\xcf\x11\xe0" + bytes(600), "is an old workbook"),
        "workbook whose sheet is not XML": (_workbook(sheet1=b"<<<"), "damaged"),
        "workbook whose sheet is 200 MB of zeros": (_workbook(sheet1=bytes(200_000_000)), "damaged"),
        "workbook of entities that expand to 2 GB": (_workbook(sheet1=_LAUGHS), "defines entities"),
        "workbook without sheets": (_workbook(workbook=b"<workbook/>"), "damaged|does not contain a sheet"),
    }
    for name, (content, outcome) in outcomes.items():
        yield Case(name, lambda _, content=content: _written("xlsx", "t.xlsx", content), outcome)
    yield Case("workbook whose sheet claims 4 GB", claims, "damaged|needs .* of memory")


def _zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def json_lines() -> Iterator[Case]:
    nested = '{"a":' * 200 + "1" + "}" * 200
    outcomes: dict[str, tuple[str, Any]] = {
        "JSON lines": ('{"a": 1, "y": 0}\n\n{"y": 1, "a": 2}', arrays_are([1, 2], [0, 1])),
        "JSON lines of lists": ("[1, 0]\n[2, 1]\n", "line 1: expected an object, .* got a list"),
        "JSON in one list": ('[{"a": 1, "y": 0},\n{"a": 2, "y": 1}]', "line 1 is not an object in JSON"),
        "JSON lines of an array": ('{"a": [1, 2], "y": 0}', "for 'a', got a list"),
        "JSON lines of 200 levels": (f'{{"a": {nested}, "y": 0}}', "for 'a', got an object"),
        "JSON lines of 10^6 levels": ('{"a":' * 10**6, "not an object in JSON"),
        "JSON lines with NaN": ('{"a": NaN, "y": 0}\n{"a": 1, "y": 1}', "example 0 has no value for 'a'"),
        "JSON lines with Infinity": ('{"a": Infinity, "y": 0}\n{"a": 1, "y": 1}', "infinite"),
        "JSON lines with a key twice": ('{"a": 1, "y": 0, "a": 2}', "has the key 'a' twice"),
        "JSON lines that end early": ('{"a": 1, "y": 0}\n{"a": 2, "y', "line 2 is not an object in JSON"),
        "JSON lines with NUL": ('{"a": "\0", "y": 0}', "contains a NUL"),
        "JSON lines with a number of 10^5 digits": (f'{{"a": {"1" * 10**5}, "y": 0}}', "not an object in JSON"),
        "JSON lines without values": ("{}\n{}", "is empty"),
        "JSON lines with a key of control characters": ('{"\\u001b[31m": [], "y": 0}', r"for '\\x1b\[31m', got a list"),
    }
    for name, (content, outcome) in outcomes.items():
        yield Case(name, lambda _, content=content: _written("jsonl", "t.jsonl", content), outcome)
