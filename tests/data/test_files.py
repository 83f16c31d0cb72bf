"""Folders of images, texts and paths: their content and their errors."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from data.own_files import TABLE, assert_refused, spec_and_arrays, write
from PIL import Image

from fnet.data import files, grammar, synthetic, tokens
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError

pytestmark = pytest.mark.usefixtures("isolated_folders")


# Images


@pytest.fixture
def pets(rng):
    """Images of asymmetric noise, which PNG stores losslessly."""
    pixels = rng.integers(0, 256, (4, 5, 6), np.uint8)
    for number, (folder, name) in enumerate((("cat", "2"), ("cat", "10"), ("dog", "1"), ("dog", "3"))):
        Path(folder).mkdir(exist_ok=True)
        Image.fromarray(pixels[number]).save(f"{folder}/{name}.png")
    Path("cat/notes.md").write_text("no image")
    Path(".hidden").mkdir()
    return pixels


def test_images(pets):
    spec, arrays = spec_and_arrays("images", path=".")
    assert (spec.name, spec.shape, spec.size, spec.range) == ("work", (5, 6, 1), 4, (0, 255))
    assert spec.targets.names == ("cat", "dog")
    assert np.array_equal(arrays.x[..., 0], pets[[1, 0, 2, 3]])  # 10.png comes before 2.png
    assert arrays.y.tolist() == [0, 0, 1, 1]
    assert files.format_of(".") == "images"


def test_images_are_resized_and_converted_to_color(pets):
    Image.new("RGB", (8, 8), (255, 128, 0)).save("dog/wide.jpg")
    Image.new("RGBA", (2, 2), (0, 255, 0, 9)).save("dog/x.PNG")
    spec, arrays = spec_and_arrays("images", path=".", size=[3, 4], color="rgb")
    assert spec.shape == (3, 4, 3)
    wide, x = arrays.x[-2:]
    assert np.abs(wide.astype(int) - [255, 128, 0]).max() <= 3
    assert (x == [0, 255, 0]).all()
    assert (arrays.x[0, ..., 0] == arrays.x[0, ..., 1]).all()
    spec, _ = spec_and_arrays("images", path=".", size=[2, 2])
    assert spec.shape == (2, 2, 1)


def test_an_image_is_rotated_according_to_its_exif_orientation(pets):
    image = Image.fromarray(pets[0].T.copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save("cat/10.png", exif=exif)
    _, arrays = spec_and_arrays("images", path=".", size=[5, 6])
    assert np.array_equal(arrays.x[0, ..., 0], np.rot90(pets[0].T, -1))


def test_folders_of_splits(pets):
    for split in ("train", "test"):
        Path(split).mkdir()
    os.system("mv cat dog train && cp -r train/cat test")
    spec, arrays = spec_and_arrays("images", path=".")
    assert spec.splits == (("train", 4), ("test", 2))
    assert arrays.y.tolist() == [0, 0, 1, 1, 0, 0]
    Path("test/cow").mkdir()
    Image.fromarray(pets[0]).save("test/cow/1.png")
    spec, arrays = spec_and_arrays("images", path=".")
    with pytest.raises(DataError, match="class 'cow' is in the test part but not in the training part"):
        split_and_normalize(arrays, spec, ("train", 0.0, "test"), "unit", seed=0)


def test_a_changed_image_is_read_again(pets):
    _, before = spec_and_arrays("images", path=".")
    Image.fromarray(pets[0] // 2).save("cat/2.png")
    os.utime("cat/2.png", (1, 1))
    _, after = spec_and_arrays("images", path=".")
    assert np.array_equal(after.x[1, ..., 0], pets[0] // 2)
    assert not np.array_equal(before.x, after.x)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "echo no >cat/3.png",
            r"cat/3\.png is damaged or has another format than its name says: it is not a PNG or JPEG image",
        ),
        (
            "head -c 60 dog/3.png >t; mv t dog/3.png",
            r"dog/3\.png is damaged or has another format than its name says: ",
        ),
        (
            "rm -r dog",
            "contains only one folder, 'cat'; put the images of each class in a folder named after the class",
        ),
        ("rm -r dog cat", "contains no folders; put the images of each class"),
        ("rm dog/*", r"dog does not contain images \(\.png, \.jpg, \.jpeg\); add some, or remove the folder"),
    ],
)
def test_errors_in_folders_of_images(pets, damage, message):
    assert os.system(damage) == 0
    assert_refused("images", message, path=".")


def test_images_of_another_size_are_refused(pets):
    Image.new("L", (6, 7)).save("dog/z.png")
    message = r"dog/z\.png has 7 x 6 pixels, but the first image 5 x 6; set data\.size: \[5, 6\] to resize all images"
    assert assert_refused("images", message, path=".").setting == "size"
    assert_refused("images", "is a file; give the folder that contains one folder per class", path="cat/2.png")


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
        ("train-images-idx3-ubyte", "is a single IDX file; give the folder"),
    ],
)  # fmt: skip
def test_unknown_formats(name, message):
    write("", name)
    with pytest.raises(DataError, match=message):
        files.format_of(name)
