"""Texts and paths: their content and their errors."""

import re
from pathlib import Path

import numpy as np
import pytest
from data.own_files import TABLE, assert_refused, spec_and_arrays, write

from fnet.data import files, grammar, synthetic, tokens
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError

pytestmark = pytest.mark.usefixtures("isolated_folders")


# Text


def test_text():
    content = "héllo\r\nworld, héllo"
    write(content, "t.txt")
    spec, arrays = spec_and_arrays("text", path="t.txt", block=4)
    assert (spec.shape, spec.dtype, spec.size, spec.ordered) == ((4,), "int32", 4, True)
    assert spec.vocabulary == "".join(sorted(set(content)))
    assert (spec.targets.number, spec.targets.shape, "".join(spec.targets.names)) == (11, (4,), spec.vocabulary)
    assert str(spec.targets) == "11 classes at each of 4 positions"
    assert arrays.x.dtype == arrays.y.dtype == np.int32
    assert tokens.decode(arrays.x.reshape(-1), spec.vocabulary) == content[:16]
    assert tokens.decode(arrays.y.reshape(-1), spec.vocabulary) == content[1:17]
    assert tokens.encode("world", spec.vocabulary).tolist() == [spec.vocabulary.index(c) for c in "world"]
    assert files.format_of("t.txt") == "text"


def test_bytes():
    write("héllo", "t.txt")
    spec, arrays = spec_and_arrays("text", path="t.txt", block=5, tokens="bytes")
    assert (spec.targets.number, spec.vocabulary) == (256, tokens.BYTES)
    assert bytes(arrays.x[0].tolist()) == "héll".encode()
    assert tokens.decode(arrays.x[0], spec.vocabulary) == "héll"
    assert np.array_equal(tokens.encode("héll", spec.vocabulary), arrays.x[0])


def test_a_byte_order_mark_is_not_a_character():
    Path("t.txt").write_bytes(b"\xef\xbb\xbfabab")
    assert files.source("text", {"path": "t.txt", "block": 2}).spec().vocabulary == "ab"


def test_parts_of_a_text_are_cut_in_order():
    write("abcdefghijklmnopqrstu", "t.txt")
    spec, arrays = spec_and_arrays("text", path="t.txt", block=2)
    splits = split_and_normalize(arrays, spec, (0.8, 0.1, 0.1), "none", seed=0)
    read = [tokens.decode(part.x.reshape(-1), spec.vocabulary) for part in splits[:3]]
    assert read == ["abcdefghijklmnop", "qr", "st"]


def test_errors_in_texts():
    write("short", "t.txt")
    message = "t: expected at least 6 tokens for a block of 5 and the next token, got 5; use a smaller data.block"
    with pytest.raises(DataError, match=message) as caught:
        files.source("text", {"path": "t.txt", "block": 5}).spec()
    assert caught.value.setting == "block"
    refused_bytes = {"path": "t.txt", "block": 5, "tokens": "bytes"}
    with pytest.raises(DataError, match=message):
        files.source("text", refused_bytes).spec()
    Path("t.txt").write_bytes(b"ab\xffcd")
    with pytest.raises(DataError, match=r"t\.txt is not UTF-8: byte 2 is 0xff; convert it, or set data\.tokens: bytes"):
        files.source("text", {"path": "t.txt", "block": 2}).spec()
    with pytest.raises(DataError, match="the character 'z' at position 1 of the text is not in the vocabulary"):
        tokens.encode("az", "ab")


def test_sentences_agree_in_number():
    x, _ = synthetic.source("sentences", {"samples": 400, "block": 50}).read(seed=0)
    spec = synthetic.source("sentences", {"samples": 400, "block": 50}).spec()
    lines = tokens.decode(x.reshape(-1), spec.vocabulary).split("\n")[:-1]
    assert len(lines) > 300
    one = "a|the|this|every"
    many = "some|the|these|all"
    for line in lines:
        assert re.fullmatch(r"[a-z ]+\.", line)
        simple = re.fullmatch(rf"({one}|{many})( \w+)? (\w+) (sleeps?|runs?|sings?|waits?)( at night| \w+)?\.", line)
        if simple and simple[3] not in ("near", "that"):
            singular = dict(grammar._NOUNS).keys()
            assert (simple[3] in singular) == simple[4].endswith("s"), line
    assert set("".join(lines)) <= set(grammar.VOCABULARY)


# Paths


def test_a_missing_path_suggests_a_similar_one():
    write(TABLE, "table.csv")
    error = assert_refused(
        "csv", r"'tabel\.csv' does not exist in .*/work; did you mean 'table\.csv'\?$", path="tabel.csv", target="kind"
    )
    assert error.setting == "path"
    assert_refused(
        "csv", r"'wrok' does not exist in .* \(looking for .*/wrok/deep/t\.csv\)", path="wrok/deep/t.csv", target="y"
    )
    assert_refused("csv", "expected a file, got a folder", path=".", target="y")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.dat", r"'t\.dat': expected a known format, got the extension '\.dat'; known: \.csv, .*; or set data\."),
        ("noend", "'noend': expected a known format, got no extension"),
        ("t.png", "is a single image; give the folder"),
        ("t.webp", "is a single image; give the folder"),
        ("t.npy", r"is a single array; save examples and targets in one file: np\.savez\('data\.npz', x=x, y=y\)"),
        ("train-images-idx3-ubyte", "is a single IDX file; give the folder"),
    ],
)  # fmt: skip
def test_unknown_formats(name, message):
    write("", name)
    with pytest.raises(DataError, match=message):
        files.format_of(name)
