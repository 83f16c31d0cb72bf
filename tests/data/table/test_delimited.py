"""Tables as text: types, encodings and separators, compared with other readers, and the errors of damaged files."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from data.table.reading import columns, entries, table
from hypothesis import example, given
from hypothesis import strategies as st

from fnet.data.source import DataError

pytestmark = pytest.mark.usefixtures("isolated_folders")

TEXT = """n,x,s,b,d,big
1,1.5,"a, ""b"" é",True,2020-01-31,1
-2,,"two
lines",False,2021-02-01,100000000000000000000
3,1e3, c ,True,2022-03-02,3
"""
EXPECTED = {
    "n": [1, -2, 3],
    "x": [1.5, None, 1000.0],
    "s": ['a, "b" é', "two\nlines", "c"],
    "b": [True, False, True],
    "d": ["2020-01-31", "2021-02-01", "2022-03-02"],
    "big": [1.0, 1e20, 3.0],
}


def test_types_of_columns():
    frame = table(TEXT).frame
    assert entries(frame) == EXPECTED
    assert [dtype.name for dtype in frame.dtypes] == ["int64", "float64", "str", "bool", "str", "float64"]
    assert frame.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("encoding", "notes"),
    [
        ("utf-8", ()),
        ("utf-8-sig", ()),
        ("utf-16", ("encoding utf-16",)),
        ("utf-32", ("encoding utf-32",)),
        ("windows-1252", ("encoding windows-1252, because of the byte 0xe9 in line 2",)),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_encodings_are_detected(encoding, notes, compress):
    read = table(compress(TEXT.encode(encoding)))
    assert entries(read.frame) == EXPECTED
    assert read.notes == notes


def test_a_text_in_another_encoding_needs_the_setting():
    content = "naam,y\nжук,1\nкот,2\n".encode("windows-1251")
    with pytest.raises(DataError, match=r"neither UTF-8 nor a western .* byte 0xe6 in line 2; .*set data.encoding"):
        table(content)
    assert columns(content, encoding="windows-1251") == {"naam": ["жук", "кот"], "y": [1, 2]}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_are_detected_over_the_first_lines(separator, end):
    rows = [["a,x", "b;y", "c|z"], ["1;2", "p,q,r", "3"], ["x|y", "u", "4"], ["", "v w", "5"]]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    read = table(text.getvalue())
    assert entries(read.frame) == {"a,x": ["1;2", "x|y", None], "b;y": ["p,q,r", "u", "v w"], "c|z": [3, 4, 5]}
    names = {";": "';'", "|": "'|'", "\t": "tab"}
    assert read.notes == ((f"separator {names[separator]}",) if separator in names else ())


def test_a_separator_in_text_is_not_the_separator_of_the_table():
    content = "name, first;age\nPeeters, An;31\nJanssens;45\nMaes, Tom;28\n"
    assert columns(content) == {"name, first": ["Peeters, An", "Janssens", "Maes, Tom"], "age": [31, 45, 28]}
    assert columns("sep=|\na,b|c\n1,2|3\n") == {"a,b": ["1,2"], "c": [3]}


def test_decimal_commas_in_tables_of_semicolons():
    read = table("a;b;c\n1,5;1.234,5;x, y\n-2;2,5;z\n")
    assert entries(read.frame) == {"a": [1.5, -2], "b": ["1.234,5", "2,5"], "c": ["x, y", "z"]}
    assert read.notes == ("separator ';'", "decimal comma")
    assert columns("a;b\n1,234,567;1,5\n2;3\n") == {"a": ["1,234,567", "2"], "b": ["1,5", "3"]}
    assert columns("a;b\n1,5;2\n", decimal=".") == {"a": ["1,5"], "b": [2]}
    assert columns('a,b\n"1,5",2\n', decimal=",") == {"a": [1.5], "b": [2]}


def test_numbers_with_leading_zeros_are_text():
    content = "zip,n,x\n1234,10,0.5\n" + "9999,1,1\n" * 300 + "00123,2,-0.25\n"
    read = columns(content)
    assert (read["zip"][0], read["zip"][-1]) == ("1234", "00123")
    assert (read["n"][-1], read["x"][-1]) == (2, -0.25)
    assert columns("a,b,c\n1,2,1.50\n,3,x\n", as_text=["a", "c"]) == {"a": ["1", None], "b": [2, 3], "c": ["1.50", "x"]}


def test_dates_are_text_wherever_they_begin():
    read = columns("d,t,y\n" + ",,1\n" * 300 + "2020-01-31,12:30,2\n2020-01-31 10:00,1,3\n")
    assert read["d"][-2:] == ["2020-01-31", "2020-01-31 10:00"]
    assert read["t"][-2:] == ["12:30", "1"]


def test_blank_lines_and_separators_at_the_end():
    assert columns("\n\na,b\n\n1,2\n\n\n3,4") == {"a": [1, 3], "b": [2, 4]}
    assert columns("a,b\n1,2,\n3,4,\n") == columns("a,b,\n1,2,\n3,4,\n") == {"a": [1, 3], "b": [2, 4]}
    assert columns(",b\n0,2\n1,4\n") == {"index": [0, 1], "b": [2, 4]}


def test_long_lines_and_entries():
    long = "z" * 5_000_000
    assert columns(f'a,b\n1,{long}\n2,"{long}\n"\n') == {"a": [1, 2], "b": [long, long]}


def test_wide_tables_are_read_like_narrow_ones():
    rows = np.random.default_rng(0).normal(size=(3, 700)).round(3)
    text = "\n".join([",".join(f"c{i}" for i in range(700)), *(",".join(map(str, row)) for row in rows)])
    np.testing.assert_array_equal(table(text).frame.to_numpy(), rows)


ENTRY = st.one_of(
    st.sampled_from(["", "NA", "1", "-2.5", "1e5", "True", "0.1", "a b", 'say "x"', "x,y", "x;y", "two\nlines", "é"]),
    st.integers().map(str),
    st.floats(allow_nan=False).map(str),
)


@given(st.lists(st.tuples(ENTRY, ENTRY, ENTRY), min_size=1, max_size=8))
@example([("1", "NA", "2.5"), ("", "b", "3")])
def test_entries_are_those_of_other_readers(rows):
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b", "c"), *rows])
    frame = table(text.getvalue(), encoding="utf-8", separator=",").frame
    expected = pd.read_csv(io.StringIO(text.getvalue()), dtype=str, skip_blank_lines=True)
    for name in expected:
        for value, entry in zip(frame[name], expected[name], strict=True):
            assert pd.isna(value) == pd.isna(entry)
            if isinstance(value, str):
                assert value == entry
            elif not pd.isna(value):
                assert value == (entry == "True" if isinstance(value, bool) else float(entry))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 entries, but the first line names 2 columns; quote entries that"),
        ("a,b\n1,2\n3\n", "line 3 has 1 entries, but .* 2 columns; .*check data.separator, which is ','"),
        ("a\tb\n1\t2\n3\n", "line 3 has 1 entries.* contain a tab"),
        ("Report 2024\n\na,b\n1,2\n", "line 3 has 2 entries, but the first line names 1 column; remove lines above"),
        ('a,b\n\n"x\ny",2\n1\n', "line 5 has 1 entries"),
        ("a,b\n1,2,\n3,4,5\n", "example 1 has an entry '5' in a column without a name"),
        ('a,b\n1,2\n3,"4\n5,6\n', "a quote that is opened in line 3 is not closed"),
        ("a,b,a\n1,2,3\n", "names 2 columns 'a'; rename them"),
        ("a,,c\n1,2,3\n", "the first line does not name column 2"),
        ("1.5,2.5\n3,4\n", "names of the columns in the first line, got the numbers 1.5, 2.5; add a line"),
        ("5,0,0\n3,0,1\n", "got the numbers 5, 0, 0"),
        ("a,b\n1,\0\n", "line 2 contains a NUL character; save the table as text in UTF-8"),
        ("a,b\né,1\n".encode() + b"\xe9,2\n", "is UTF-8, except for the byte 0xe9 in line 3"),
        (b"a,b\n1,\x81\xe9\n", "the byte 0x81 in line 2 is not text in windows-1252; .*set data.encoding"),
        (b"PK\x03\x04abc", "got a zip archive or an Excel workbook; rename it to .xlsx"),
        (b"PAR1abc", "got a parquet file; rename it"),
        ("\n <!DOCTYPE html><html>", "got a web page; download the file itself"),
        ("\n\n", "is empty"),
        (gzip.compress(TEXT.encode())[:-9], "damaged"),
        (gzip.compress(TEXT.encode())[:40] + b"abc" + gzip.compress(TEXT.encode())[43:], "damaged"),
    ],
)  # fmt: skip
def test_texts_that_are_not_tables_are_refused_with_the_line_and_a_fix(content, message):
    with pytest.raises(DataError, match=message):
        table(content)


@pytest.mark.parametrize("encoding", ["klingon", "base64", "nul\0"])
def test_encodings_that_do_not_exist(encoding):
    with pytest.raises(DataError, match=r"unknown encoding .*; examples: utf-8") as caught:
        table("a,b\n1,2\n", encoding=encoding)
    assert caught.value.setting == "encoding"


def test_booleans():
    assert table("b\nTRUE\nfalse\n").frame["b"].tolist() == [True, False]
