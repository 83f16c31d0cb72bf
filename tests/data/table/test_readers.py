"""Parquet, workbooks, lines of JSON and tables of several files: their types, and the errors of damaged files."""

import gzip
import io
import json
import math
import os
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.table.reading import columns, entries, table, workbook

from fnet.core.settings import MissingExtra
from fnet.data import memory
from fnet.data.source import DataError
from fnet.data.table import readers

pytestmark = pytest.mark.usefixtures("isolated_folders")


def test_a_table_is_compared_with_memory(monkeypatch):
    content = "a,b\n" + "1,2\n" * 10_000
    packed = gzip.compress(content.encode())
    Path("p").mkdir()
    pd.DataFrame({"a": np.zeros(100_000)}).to_parquet("p/a.parquet")
    book = workbook([["a"], *([i] for i in range(10_000))])
    monkeypatch.setattr(memory, "total", lambda: 100_000)
    for data in (content, packed):
        with pytest.raises(DataError, match=r"needs .* of memory, but 100 kB are available; divide"):
            table(data)
    with pytest.raises(DataError, match=r"a table of 100,000 rows and 1 columns needs 2.4 MB of memory"):
        readers.read("p", name="parquet")
    with pytest.raises(DataError, match=r"a workbook of [0-9,]+ bytes needs .* save the sheet as .csv"):
        table(book, "xlsx")
    with pytest.raises(DataError, match=r"a table of [0-9,]+ bytes needs"):
        table('{"a": 1}\n' * 3000, "jsonl")


# Parquet


def parquet(frame, path="t", **settings):
    frame.to_parquet(path)
    return readers.read(path, name="parquet", **settings).frame


def test_types_of_parquet():
    frame = pd.DataFrame(
        {
            "i": np.array([1, -2], np.int8),
            "u": np.array([1, 2**63], np.uint64),
            "f": pd.array([1.5, None], "float32"),
            "s": [" x", None],
            "b": [True, None],
            "d": [date(2020, 1, 31), None],
            "at": pd.to_datetime(["2020-06-01T12:00", "2021-01-01T00:00"]).tz_localize("Europe/Brussels"),
            "c": pd.Categorical(["u", "v"]),
            "none": [None, None],
        },
        index=[5, 7],
    )
    read = parquet(frame)
    assert entries(read) == {
        "i": [1, -2],
        "u": [1.0, 2.0**63],
        "f": [1.5, None],
        "s": ["x", None],
        "b": [True, None],
        "d": [datetime(2020, 1, 31), None],
        "at": [datetime(2020, 6, 1, 10), datetime(2020, 12, 31, 23)],
        "c": ["u", "v"],
        "none": [None, None],
        "index": [5, 7],
    }
    kinds = [read[name].dtype.name for name in ("i", "u", "s", "d", "none")]
    assert kinds == ["int64", "float64", "str", "datetime64[us]", "float64"]
    assert entries(parquet(frame[["i", "f"]], as_text=["i", "f"]))["i"] == ["1", "-2"]


def test_columns_of_parquet_that_are_not_entries_of_a_table():
    with pytest.raises(DataError, match="the column 'a' contains values of the type list<element: int64>; save it as"):
        parquet(pd.DataFrame({"a": [[1], [2]]}))
    with pytest.raises(DataError, match="the column 'b' contains values of the type binary"):
        parquet(pd.DataFrame({"b": [b"x"]}))


def test_damaged_parquet():
    pd.DataFrame({"a": np.arange(1000), "b": ["x"] * 1000}).to_parquet("t")
    whole = Path("t").read_bytes()
    for content in (whole[:-20], whole[:100], b"PAR1", b"", b"a,b\n1,2\n", whole[:-30] + b"\xff" * 20 + whole[-10:]):
        with pytest.raises(DataError, match=r"is damaged|is empty"):
            table(content, "parquet")


def test_a_folder_of_parquet_parts_in_the_order_of_their_names():
    Path("p").mkdir()
    pd.DataFrame({"b": ["z"], "a": [3]}).to_parquet("p/part-2.parquet")
    pd.DataFrame({"a": [1, 2.5], "b": ["x", "y"]}).to_parquet("p/part-1.parquet")
    Path("p/_SUCCESS").touch()
    read = readers.read("p", name="parquet")
    assert entries(read.frame) == {"a": [1, 2.5, 3], "b": ["x", "y", "z"]}
    assert (read.splits, read.frame.index.tolist()) == ((), [0, 1, 2])
    before = readers.digest("p")
    os.rename("p/part-2.parquet", "p/part-0.parquet")
    assert readers.digest("p") != before
    pd.DataFrame({"a": [1]}).to_parquet("p/part-3.parquet")
    with pytest.raises(DataError, match=r"part-3.parquet has no column 'b', but .*part-0.parquet has; the files of a"):
        readers.read("p", name="parquet")
    Path("empty").mkdir()
    with pytest.raises(DataError, match=r"expected a file, got a folder without parquet files \(\*.parquet\)"):
        readers.read("empty", name="parquet")


# Workbooks


def test_types_of_workbooks():
    rows = [
        ["n", "x", "zip", "ok", "day", "mixed"],
        [],
        [1, 1.5, "0123", True, datetime(2020, 1, 31), 1],
        [2, "#DIV/0!", " NA", None, datetime(2021, 2, 1, 6), "one"],
        [3],
    ]
    read = table(workbook(rows, [["q"]]), "xlsx")
    assert entries(read.frame) == {
        "n": [1, 2, 3],
        "x": [1.5, None, None],
        "zip": ["0123", None, None],
        "ok": [True, None, None],
        "day": [datetime(2020, 1, 31), datetime(2021, 2, 1, 6), None],
        "mixed": ["1", "one", None],
    }
    assert read.frame.dtypes["n"] == np.int64
    assert read.notes == ("sheet 'sheet 0', the first of 2",)


def test_sheets_of_workbooks():
    content = workbook([["a"], [1]], [["b"], [2]])
    assert columns(content, "xlsx", sheet="sheet 1") == {"b": [2]}
    with pytest.raises(DataError, match="has no sheet 'sheet 2'; did you mean 'sheet") as caught:
        table(content, "xlsx", sheet="sheet 2")
    assert caught.value.setting == "sheet"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (workbook([]), "the sheet 'sheet 0' is empty"),
        (
            workbook([["a", "b"], [1, 2], [3, 4, None, 5]]),
            "row 3 has more entries than row ",
        ),
        (workbook([["a", "a"], [1, 2]]), "names 2 columns 'a'"),
        (b"a,b\n1,2\n", "is damaged or has another format than its name says: file is not a zip file"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "is an old workbook .*; save it as .xlsx"),
        (workbook([["a"], [1]])[:-30], "is damaged"),
    ],
)
def test_workbooks_that_are_not_tables(content, message):
    with pytest.raises(DataError, match=message):
        table(content, "xlsx")


def test_a_workbook_that_defines_entities_is_refused():
    source = zipfile.ZipFile(io.BytesIO(workbook([["a"], [1]])))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            entity = b'<!DOCTYPE x [<!ENTITY a "aaa">]>' if "sheet" in name else b""
            archive.writestr(name, entity + content)
    with pytest.raises(DataError, match=r"is damaged: .*sheet1.xml defines entities"):
        table(target.getvalue(), "xlsx")


def test_a_workbook_needs_its_extra(monkeypatch):
    content = workbook([["a"], [1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtra, match=r"t needs the extra 'excel': run pip install '.\[excel\]'") as caught:
        table(content, "xlsx")
    assert caught.value.exit_status == 2


# Lines of JSON


def test_types_of_json():
    rows = [
        {"n": 1, "x": 1, "s": " é ", "b": True, "m": 1},
        {"x": 2.5, "n": 2, "late": 3, "m": "one"},
        {"n": 3, "s": None, "x": math.nan, "m": False, "late": 10**30},
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows).encode()
    for content in (lines, gzip.compress(lines), lines.decode().encode("utf-16")):
        assert columns(content, "jsonl") == {
            "n": [1, 2, 3],
            "x": [1, 2.5, None],
            "s": ["é", None, None],
            "b": [True, None, None],
            "m": ["1", "one", "False"],
            "late": [None, 3, 1e30],
        }
    assert columns('{"a": 7}\n', "jsonl", as_text=["a"]) == {"a": ["7"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n[1, 2]\n', r'line 2: expected an object, such as \{"a": 1, "b": "x"\}, got a list'),
        ("3\n", "line 1: expected an object, .*, got a single value"),
        ('{"a": [1]}\n', "line 1: expected a number or text for 'a', got a list; write each of its entries as a key"),
        ('{"a": ' + '{"a": ' * 200 + "1" + "}" * 201, "line 1: expected a number or text for 'a', got an object"),
        ("[" * 100_000, "line 1 is not an object in JSON: maximum recursion depth"),
        (
            '{"a": 1, "b": 2, "a": 3}',
            "line 1 is not an object in JSON: it has the key 'a' twice; fix",
        ),
        ('{"a": 1}\n{"a": 2', "line 2 is not an object in JSON: Expecting ',' delimiter at character"),
        ('{"a": 1e5,}', "line 1 is not an object in JSON"),
        ("", "is empty"),
        ("{}\n{}\n", "is empty"),
    ],
)
def test_lines_that_are_not_json(content, message):
    with pytest.raises(DataError, match=message):
        table(content, "jsonl")


# Several files, and files that change


def test_one_file_per_split():
    Path("a.csv").write_text("n,s,m\n007,x,1\n8,y,2\n")
    Path("b.csv").write_text("m;s;n\n3.5;0;9\n")
    Path("c.csv").write_text("s,m,n\n,,\n")
    read = readers.read({"train": "a.csv", "test": "b.csv", "validation": "c.csv"}, name="csv")
    assert entries(read.frame) == {"n": ["007", "8", "9", None], "s": ["x", "y", "0", None], "m": [1, 2, 3.5, None]}
    assert read.splits == (("train", 2), ("test", 1), ("validation", 1))
    assert read.notes == ("separator ';'",)
    digests = [readers.digest({"train": "a.csv", "test": name}) for name in ("b.csv", "c.csv")]
    assert len({*digests, readers.digest({"test": "a.csv", "train": "b.csv"}), readers.digest("a.csv")}) == 4
    Path("c.csv").write_text("s,m,k\n1,2,3\n")
    with pytest.raises(DataError, match=r"c.csv has no column 'n', but .*a.csv has; the files of a table need"):
        readers.read({"train": "a.csv", "test": "c.csv"}, name="csv")


def test_a_split_of_several_parts():
    Path("p").mkdir()
    for number in (1, 2):
        pd.DataFrame({"a": [number] * number}).to_parquet(f"p/{number}.parquet")
    pd.DataFrame({"a": [9]}).to_parquet("t.parquet")
    read = readers.read({"train": "p", "test": "t.parquet"}, name="parquet")
    assert (read.frame["a"].tolist(), read.splits) == ([1, 2, 2, 9], (("train", 3), ("test", 1)))


@pytest.mark.parametrize("change", ["grow", "replace", "touch", "add"])
def test_files_that_change_while_they_are_read(change):
    Path("p").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet("p/a.parquet")

    def read():
        with readers.unchanged("p"):
            if change == "grow":
                with open("p/a.parquet", "ab") as opened:
                    opened.write(b"x")
            elif change == "replace":
                Path("b").write_bytes(Path("p/a.parquet").read_bytes())
                os.replace("b", "p/a.parquet")
            elif change == "touch":
                os.utime("p/a.parquet", (1, 1))
            else:
                Path("p/b.parquet").touch()

    with pytest.raises(DataError, match=r"changed while it was read; repeat|files were added or removed while"):
        read()


def test_reading_notices_that_a_file_grows(monkeypatch):
    content_of = readers.read_delimited

    def slow(path, *args):
        result = content_of(path, *args)
        with path.open("a") as opened:
            opened.write("3,4\n")
        return result

    monkeypatch.setattr(readers, "read_delimited", slow)
    with pytest.raises(DataError, match="t changed while it was read; repeat this when it is complete"):
        table("a,b\n1,2\n")


@pytest.mark.parametrize("address", ["https://example.com/data/t.csv", "s3://bucket/t.parquet", "file:///tmp/t.csv"])
def test_addresses_are_not_paths(address):
    with pytest.raises(DataError, match=f"'{address.replace(':///', '://')}' is an address, .*download the file first"):
        readers.read(address, name="csv")


def test_folders_are_not_tables():
    Path("folder").mkdir()
    with pytest.raises(DataError, match=r"folder: expected a file, got a folder"):
        readers.read("folder", name="csv")
