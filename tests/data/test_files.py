"""The user's own files, against data made by hand with other libraries; and everything that can be wrong with them."""

import gzip
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fnet.data import cache, files, grammar, synthetic, text
from fnet.data.prepare import prepare
from fnet.data.source import DataError

MNIST = Path(__file__).parents[2] / "../shared/data/mnist-idx"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def both(name, **settings):
    """What a format says of the data and what it gives; the second request, from the cache, gives the same."""
    spec = files.spec(name, settings)
    arrays, again = files.load(name, settings), files.load(name, settings)
    assert np.array_equal(arrays.x, again.x, equal_nan=True)
    assert np.array_equal(arrays.y, again.y)
    assert arrays.x.shape == (spec.size, *spec.shape)
    assert arrays.y.shape == (spec.size, *(spec.targets.shape if spec.targets.kind == "classes" else (1,)))
    if spec.splits:
        assert sum(size for _, size in spec.splits) == spec.size
    return spec, arrays


def refused(name, message, **settings):
    """Both requests are refused, or at least the second, with this text."""

    def request():
        files.spec(name, settings)
        files.load(name, settings)

    with pytest.raises(DataError, match=message) as caught:
        request()
    assert not list(cache.folder().glob("*"))
    return caught.value


# IDX


def idx_file(name, array, *, magic=None, zipped=False):
    data = magic or bytes([0, 0, 8, array.ndim])
    data += struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    Path(f"{name}.gz" if zipped else name).write_bytes(gzip.compress(data) if zipped else data)


@pytest.fixture
def digits(rng):
    x, y = rng.integers(0, 256, (7, 3, 4)), np.array([0, 1, 2, 1, 0, 2, 3])
    for name, rows, zipped in (("train", slice(0, 5), True), ("t10k", slice(5, 7), False)):
        idx_file(f"{name}-images-idx3-ubyte", x[rows], zipped=zipped)
        idx_file(f"{name}-labels-idx1-ubyte", y[rows], zipped=zipped)
    return x, y


def test_idx(digits):
    x, y = digits
    spec, arrays = both("idx", path=".")
    assert (spec.name, spec.shape, spec.range) == ("work", (3, 4, 1), (0, 255))
    assert spec.splits == (("train", 5), ("test", 2))
    assert spec.targets.names == ("0", "1", "2", "3")
    assert np.array_equal(arrays.x[..., 0], x)
    assert np.array_equal(arrays.y, y)
    assert files.format_of(".") == "idx"


def test_idx_prefers_a_file_that_is_not_zipped(digits):
    Path("train-images-idx3-ubyte.gz").write_bytes(b"")
    Path("train-labels-idx1-ubyte.gz").write_bytes(b"")
    idx_file("train-images.idx3-ubyte", digits[0][:3])
    idx_file("train-labels.idx1-ubyte", digits[1][:3])
    assert files.spec("idx", {"path": "."}).splits[0] == ("train", 3)


@pytest.mark.skipif(not MNIST.exists(), reason="the IDX files of MNIST lie outside the project")
def test_mnist():
    spec, arrays = both("idx", path=str(MNIST))
    assert (spec.shape, spec.splits) == ((28, 28, 1), (("train", 60_000), ("test", 10_000)))
    assert np.bincount(arrays.y[:60_000]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert arrays.x[:60_000].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert arrays.y[[0, 1, 60_000]].tolist() == [5, 0, 7]


def cut(name, length):
    path = Path(name)
    path.write_bytes(path.read_bytes()[:length])


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x, y: cut(IMAGES, 30), rf"{IMAGES} is truncated: 30 bytes, its header says 40"),
        (lambda x, y: cut(IMAGES, 7), rf"{IMAGES} is truncated within its header"),
        (lambda x, y: os.truncate(IMAGES, 41), "is too long: 41 bytes, its header says 40"),
        (lambda x, y: cut("train-images-idx3-ubyte.gz", 40), "train-images-idx3-ubyte.gz is damaged.*: compressed"),
        (
            lambda x, y: Path("train-labels-idx1-ubyte.gz").write_bytes(b"labels"),
            r"train-labels-idx1-ubyte.gz is damaged or not what its name says: not a gzipped file",
        ),
        (
            lambda x, y: idx_file(IMAGES, y[5:]),
            rf"{IMAGES}: wrong magic number 0x00000801; IDX images begin with 0x00000803",
        ),
        (lambda x, y: idx_file(LABELS, y[5:], magic=b"\0\0\x0d\x01"), rf"{LABELS}: wrong magic number 0x00000d01"),
        (lambda x, y: idx_file(LABELS, y[4:]), rf"{IMAGES} holds 2 images, but .*{LABELS} 3 labels"),
        (lambda x, y: idx_file(IMAGES, x[5:, :2]), rf"{IMAGES} holds images of 2 x 4, but .* of 3 x 4"),
        (lambda x, y: Path(LABELS).unlink(), f"holds {IMAGES} but no file of the labels that belong to it"),
        (lambda x, y: Path("train-labels-idx1-ubyte.gz").rename("labels.gz"), "but no file of the labels"),
        (lambda x, y: [path.unlink() for path in Path().glob("train*")], "holds no train-images-idx3-ubyte"),
    ],
)  # fmt: skip
def test_damaged_idx_files(digits, damage, message):
    damage(*digits)
    assert refused("idx", message, path=".").setting == "path"


def test_labels_beyond_the_range(digits):
    error = refused("idx", rf"{LABELS}: label 1 is 3, outside 0 \.\.\. 2", path=".", classes=3)
    assert error.setting == "classes"
    refused("idx", "is a file; give the folder", path=LABELS)


def test_a_class_only_in_test_is_refused(digits):
    spec, arrays = both("idx", path=".")
    with pytest.raises(DataError, match="class '3' is in the test part but not in the training part, so that nothing"):
        prepare(arrays, spec, ("train", 0.0, "test"), "unit", seed=0)


# Archives


def test_npz(rng):
    x, y = rng.standard_normal((6, 2, 3)), np.array([2, 0, 1, 1, 2, 0])
    np.savez("plain.npz", x=x, y=y)
    spec, arrays = both("npz", path="plain.npz")
    assert (spec.name, spec.shape, spec.targets.number, spec.splits, spec.range) == ("plain", (2, 3), 3, (), None)
    assert np.array_equal(arrays.x, x.astype(np.float32))
    assert np.array_equal(arrays.y, y)
    assert files.format_of("plain.npz") == "npz"
    assert files.spec("npz", {"path": "plain.npz", "classes": 5}).targets.number == 5
    spec, arrays = both("npz", path="plain.npz", targets="values")
    assert str(spec.targets) == "1 value"
    assert arrays.y.dtype == np.float32


def test_npz_of_images_with_splits(rng):
    x, y = rng.integers(0, 256, (6, 2, 3), np.uint8), np.array([[0.5], [1], [2], [3], [4], [5]])
    np.savez_compressed("k.npz", x_train=x[:3], y_train=y[:3], x_val=x[3:4], y_val=y[3:4], x_test=x[4:], y_test=y[4:])
    spec, arrays = both("npz", path="k.npz")
    assert (spec.shape, spec.range) == ((2, 3, 1), (0, 255))
    assert spec.splits == (("train", 3), ("val", 1), ("test", 2))
    assert arrays.x.dtype == np.uint8
    assert np.array_equal(arrays.x[..., 0], x)
    assert np.array_equal(arrays.y, y)


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"X": [[1.0]], "y": [0]}, {}, "holds no array 'x'; did you mean 'X'|holds no array 'x'; known: X, y"),
        ({"x": [[1.0]], "labels": [0]}, {"y": "lables"}, "holds no array 'lables'; did you mean 'labels'"),
        ({"x": [[1.0]], "y": [0, 1]}, {}, r"'x' has shape \(1, 1\) and 'y' \(2,\); both must begin with the number"),
        ({"x": [["a"]], "y": [0]}, {}, "'x' holds <U1, not numbers"),
        ({"x": np.array([[{}]]), "y": [0]}, {}, "'x' holds object, not numbers"),
        ({"x": [[1.0], [2.0]], "y": [0, -1]}, {}, "'y' has the label -1 in row 1, outside 0"),
        ({"x": [[1.0], [2.0]], "y": [0, 4]}, {"classes": 3}, r"'y' has the label 4 in row 1, outside 0 \.\.\. 2"),
        ({"x": [[1.0]], "y": [0.5]}, {"targets": "classes"}, "'y' holds float64 of shape .*; classes are whole"),
        ({"x": [[1.0]], "y": np.ones((1, 2, 2))}, {}, r"targets of shape \(2, 2\); expected one number, or a row"),
        ({"x": [[1.0]], "y": [0], "x_test": [[1.0]]}, {}, "holds 'x_test' but no 'y_test'"),
        ({"x": [[1.0]], "y": [0], "x_test": [[1.0, 2.0]], "y_test": [0]}, {}, "examples of 'x_test' have shape"),
    ],
)  # fmt: skip
def test_wrong_archives(arrays, settings, message):
    np.savez("a.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    refused("npz", message, path="a.npz", **settings)


def test_damaged_archives(rng):
    np.savez("a.npz", x=rng.standard_normal((200, 3)), y=np.zeros(200, int))
    whole = Path("a.npz").read_bytes()
    Path("a.npz").write_bytes(whole[:-40])
    refused("npz", "a.npz is damaged or not what its name says: file is not a zip file", path="a.npz")
    Path("a.npz").write_bytes(whole[:1000] + b"\xff" + whole[1001:])
    refused("npz", "a.npz is damaged or not what its name says: bad CRC-32 for file 'x.npy'", path="a.npz")


# Tables

TABLE = """height,color,old,weight,kind
1.5,red,True,3,cat
2.5,blue,False,4,dog
0.5,"re,d",True,5,cat
"""


def write(content, name="t.csv"):
    Path(name).write_text(content, encoding="utf-8")


def test_csv():
    write(TABLE)
    spec, arrays = both("csv", path="t.csv", target="kind")
    assert (spec.name, spec.shape, spec.targets.names) == ("t", (6,), ("cat", "dog"))
    assert arrays.y.tolist() == [0, 1, 0]
    # height; blue, "re,d", red; old; weight
    assert arrays.x.tolist() == [[1.5, 0, 0, 1, 1, 3], [2.5, 1, 0, 0, 0, 4], [0.5, 0, 1, 0, 1, 5]]
    assert files.format_of("t.csv") == "csv"


@pytest.mark.parametrize(
    ("settings", "names", "y"),
    [
        ({"target": "height"}, ("height",), [[1.5], [2.5], [0.5]]),
        ({"target": "weight"}, ("3", "4", "5"), [0, 1, 2]),
        ({"target": "weight", "targets": "values"}, ("weight",), [[3], [4], [5]]),
        ({"target": "old"}, ("False", "True"), [1, 0, 1]),
        ({"target": "height", "targets": "classes"}, ("0.5", "1.5", "2.5"), [1, 2, 0]),
    ],
)
def test_targets_of_a_table(settings, names, y):
    write(TABLE)
    spec, arrays = both("csv", path="t.csv", **settings)
    assert spec.targets.names == names
    assert spec.targets.kind == ("values" if isinstance(y[0], list) else "classes")
    assert arrays.y.tolist() == y


def test_more_than_twenty_whole_numbers_are_values():
    write("x,age\n" + "\n".join(f"1,{age}" for age in range(21)))
    assert files.spec("csv", {"path": "t.csv", "target": "age"}).targets.kind == "values"


def test_columns_of_a_table_can_be_dropped_or_made_categories():
    write(TABLE.replace(",", ";").replace("re;d", "red"))
    settings = {"drop": ["height", "old"], "categorical": ["weight"], "separator": ";"}
    _, arrays = both("csv", path="t.csv", target="kind", **settings)
    assert arrays.x.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]


GAPS = "a,b,y\n1,u,0\n,v,1\n3,,0\n5,u,1\n"


def test_missing_values_are_refused_with_row_and_column():
    write(GAPS)
    error = refused(
        "csv", "t.csv: row 2 has no value for 'a'; fill it in, or set data.missing: drop or", path="t.csv", target="y"
    )
    assert error.setting == "missing"


def test_missing_values_drop_their_rows():
    write(GAPS)
    _, arrays = both("csv", path="t.csv", target="y", missing="drop")
    assert arrays.x.tolist() == [[1, 1], [5, 1]]
    write("a,y\n,0\n1,\n")
    with pytest.raises(DataError, match="holds no examples without missing values"):
        files.spec("csv", {"path": "t.csv", "target": "y", "missing": "drop"})


@pytest.mark.parametrize("kind", ["none", "standard", "unit"])
def test_missing_values_get_the_mean_of_the_training_part(kind):
    write(GAPS)
    spec, arrays = both("csv", path="t.csv", target="y", missing="mean")
    assert spec.gaps
    np.testing.assert_array_equal(arrays.x, [[1, 1, 0], [np.nan, 0, 1], [3, np.nan, np.nan], [5, 1, 0]])
    spec = spec._replace(ordered=True)
    splits = prepare(arrays, spec, (0.5, 0.0, 0.5), kind, seed=0)
    filled = np.array([[1, 1, 0], [1, 0, 1], [3, 0.5, 0.5], [5, 1, 0]])
    expected = prepare(arrays._replace(x=filled), spec._replace(gaps=False), (0.5, 0.0, 0.5), kind, seed=0)
    for part in ("train", "test"):
        np.testing.assert_allclose(getattr(splits, part).x, getattr(expected, part).x, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("a,y\n1,0\n1,2,3\n", {}, r"t.csv: line 3 has 3 entries, the first line names 2 columns$"),
        ("a,b,y\n1,2,0\n1\n", {}, r"t.csv: line 3 has 1 entries, the first line names 3 columns$"),
        ("a;y\n1;0,5\n", {}, r"names 1 columns; is data.separator right\? It is ','"),
        ("a,kind\n1,u\n2,v\n", {"target": "knid"}, "t.csv has no column 'knid'; did you mean 'kind'"),
        ("a,y\n1,0\n2,1\n", {"drop": ["b"]}, "t.csv has no column 'b'; known: a, y"),
        ("a,y\n1,0\n2,1\n", {"drop": ["y"]}, "'y' is to be learnt and dropped at once"),
        ("a,y\n1,0\n2,1\n", {"drop": ["a"]}, "has no column beside 'y' to learn from"),
        ("a,a,y\n1,1,0\n", {}, "has two columns 'a'; rename one"),
        ("a,y\n1,0\n2,\n", {"missing": "mean"}, "row 2 has no value for 'y'; fill it in, or set data.missing: drop$"),
        ("a,y\n1,0\ninf,1\n", {}, "t.csv: row 2 has an infinite value for 'a'"),
        ("a,y\n1,0.5\n1,-inf\n", {}, "t.csv: row 2 has an infinite value for 'y'"),
        ("a,y\n1,0\nl2,1\n3,0\n", {}, r"'a' holds numbers, but 'l2' in row 2; mend it, or set data.categorical: \[a\]"),
        ("a,y\n1,0\n2,0\n", {}, "'y' is '0' in every row; there is nothing to learn"),
        ("a,y\n1,u\n2,v\n", {"targets": "values"}, "'y' holds text, which is no value to learn"),
        ("a,y\n", {}, "t.csv holds no examples"),
        ("", {}, "t.csv is empty"),
    ],
)
def test_wrong_tables(content, settings, message):
    write(content)
    refused("csv", message, path="t.csv", **({"target": "y"} | settings))


def test_a_column_of_identifiers_is_refused():
    write("id,y\n" + "\n".join(f"name{i},{i % 2}" for i in range(1001)))
    refused("csv", r"column 'id' holds 1001 different texts.*data.drop: \[id\]", path="t.csv", target="y")


def test_a_table_that_is_no_text():
    Path("t.csv").write_bytes(b"a,y\n\xff,1\n")
    refused("csv", "t.csv is damaged or not what its name says: .*can't decode byte 0xff", path="t.csv", target="y")


# Images


@pytest.fixture
def pets(rng):
    """Noise, in which nothing is symmetric; PNG keeps it to the bit."""
    pixels = rng.integers(0, 256, (4, 5, 6), np.uint8)
    for number, (folder, name) in enumerate((("cat", "2"), ("cat", "10"), ("dog", "1"), ("dog", "3"))):
        Path(folder).mkdir(exist_ok=True)
        Image.fromarray(pixels[number]).save(f"{folder}/{name}.png")
    Path("cat/notes.md").write_text("no image")
    Path(".hidden").mkdir()
    return pixels


def test_images(pets):
    spec, arrays = both("images", path=".")
    assert (spec.name, spec.shape, spec.size, spec.range) == ("work", (5, 6, 1), 4, (0, 255))
    assert spec.targets.names == ("cat", "dog")
    assert np.array_equal(arrays.x[..., 0], pets[[1, 0, 2, 3]])  # 10.png comes before 2.png
    assert arrays.y.tolist() == [0, 0, 1, 1]
    assert files.format_of(".") == "images"


def test_images_are_resized_and_coloured(pets):
    Image.new("RGB", (8, 8), (255, 128, 0)).save("dog/wide.jpg")
    Image.new("RGBA", (2, 2), (0, 255, 0, 9)).save("dog/x.PNG")
    spec, arrays = both("images", path=".", size=[3, 4], color="rgb")
    assert spec.shape == (3, 4, 3)
    wide, x = arrays.x[-2:]
    assert np.abs(wide.astype(int) - [255, 128, 0]).max() <= 3
    assert (x == [0, 255, 0]).all()
    assert (arrays.x[0, ..., 0] == arrays.x[0, ..., 1]).all()
    spec, _ = both("images", path=".", size=[2, 2])
    assert spec.shape == (2, 2, 1)


def test_an_image_is_turned_as_its_camera_says(pets):
    image = Image.fromarray(pets[0].T.copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save("cat/10.png", exif=exif)
    _, arrays = both("images", path=".", size=[5, 6])
    assert np.array_equal(arrays.x[0, ..., 0], np.rot90(pets[0].T, -1))


def test_folders_of_splits(pets):
    for split in ("train", "test"):
        Path(split).mkdir()
    os.system("mv cat dog train && cp -r train/cat test")
    spec, arrays = both("images", path=".")
    assert spec.splits == (("train", 4), ("test", 2))
    assert arrays.y.tolist() == [0, 0, 1, 1, 0, 0]
    Path("test/cow").mkdir()
    Image.fromarray(pets[0]).save("test/cow/1.png")
    spec, arrays = both("images", path=".")
    with pytest.raises(DataError, match="class 'cow' is in the test part but not in the training part"):
        prepare(arrays, spec, ("train", 0.0, "test"), "unit", seed=0)


def test_a_changed_image_is_read_again(pets):
    _, before = both("images", path=".")
    Image.fromarray(pets[0] // 2).save("cat/2.png")
    os.utime("cat/2.png", (1, 1))
    _, after = both("images", path=".")
    assert np.array_equal(after.x[1, ..., 0], pets[0] // 2)
    assert not np.array_equal(before.x, after.x)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "echo no >cat/3.png",
            r"cat/3\.png is damaged or not what its name says: cannot identify image file",
        ),
        ("head -c 60 dog/3.png >t; mv t dog/3.png", r"dog/3\.png is damaged or not what its name says: "),
        ("rm -r dog", "holds only one folder, 'cat'; images of each class belong in a folder named after it"),
        ("rm -r dog cat", "holds no folders; images of each class belong"),
        ("rm dog/*", r"dog holds no image \(\.png, \.jpg, \.jpeg\); add some, or remove it"),
    ],
)
def test_wrong_folders_of_images(pets, damage, message):
    assert os.system(damage) == 0
    refused("images", message, path=".")


def test_images_of_another_size_are_refused(pets):
    Image.new("L", (6, 7)).save("dog/z.png")
    message = r"dog/z\.png has 7 x 6 pixels, the first image 5 x 6; set data\.size: \[5, 6\] to resize all"
    assert refused("images", message, path=".").setting == "size"
    refused("images", "is a file; give the folder that holds one folder a class", path="cat/2.png")


# Text


def test_text():
    content = "héllo\r\nworld, héllo"
    write(content, "t.txt")
    spec, arrays = both("text", path="t.txt", block=4)
    assert (spec.shape, spec.dtype, spec.size, spec.ordered) == ((4,), "int32", 4, True)
    assert spec.vocabulary == "".join(sorted(set(content)))
    assert (spec.targets.number, spec.targets.shape, "".join(spec.targets.names)) == (11, (4,), spec.vocabulary)
    assert str(spec.targets) == "11 classes at each of 4 positions"
    assert arrays.x.dtype == arrays.y.dtype == np.int32
    assert text.decode(arrays.x.reshape(-1), spec.vocabulary) == content[:16]
    assert text.decode(arrays.y.reshape(-1), spec.vocabulary) == content[1:17]
    assert text.encode("world", spec.vocabulary).tolist() == [spec.vocabulary.index(c) for c in "world"]
    assert files.format_of("t.txt") == "text"


def test_bytes():
    write("héllo", "t.txt")
    spec, arrays = both("text", path="t.txt", block=5, tokens="bytes")
    assert (spec.targets.number, spec.vocabulary) == (256, text.BYTES)
    assert bytes(arrays.x[0].tolist()) == "héll".encode()
    assert text.decode(arrays.x[0], spec.vocabulary) == "héll"
    assert np.array_equal(text.encode("héll", spec.vocabulary), arrays.x[0])


def test_a_byte_order_mark_is_no_character():
    Path("t.txt").write_bytes(b"\xef\xbb\xbfabab")
    assert files.spec("text", {"path": "t.txt", "block": 2}).vocabulary == "ab"


def test_parts_of_a_text_are_cut_off_in_order():
    write("abcdefghijklmnopqrstu", "t.txt")
    spec, arrays = both("text", path="t.txt", block=2)
    splits = prepare(arrays, spec, (0.8, 0.1, 0.1), "none", seed=0)
    read = [text.decode(part.x.reshape(-1), spec.vocabulary) for part in splits[:3]]
    assert read == ["abcdefghijklmnop", "qr", "st"]


def test_wrong_texts():
    write("short", "t.txt")
    message = "t has 5 tokens, and a block of 5 with the token that follows it needs 6; make data.block smaller"
    with pytest.raises(DataError, match=message) as caught:
        files.spec("text", {"path": "t.txt", "block": 5})
    assert caught.value.setting == "block"
    refused_bytes = {"path": "t.txt", "block": 5, "tokens": "bytes"}
    with pytest.raises(DataError, match=message):
        files.spec("text", refused_bytes)
    Path("t.txt").write_bytes(b"ab\xffcd")
    with pytest.raises(DataError, match=r"t\.txt is not UTF-8: byte 2 is 0xff; convert it, or set data\.tokens: bytes"):
        files.spec("text", {"path": "t.txt", "block": 2})
    with pytest.raises(DataError, match="'z', at place 1 of the text, is not in the vocabulary"):
        text.encode("az", "ab")


def test_sentences_agree_in_number():
    x, _ = synthetic.load("sentences", {"samples": 400, "block": 50}, seed=0)
    spec = synthetic.spec("sentences", {"samples": 400, "block": 50})
    lines = text.decode(x.reshape(-1), spec.vocabulary).split("\n")[:-1]
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


def test_what_a_path_may_have_meant():
    write(TABLE, "table.csv")
    error = refused(
        "csv", r"there is no 'tabel\.csv' in .*/work; did you mean 'table\.csv'\?$", path="tabel.csv", target="kind"
    )
    assert error.setting == "path"
    refused(
        "csv", r"there is no 'wrok' in .*, in which .*/wrok/deep/t\.csv would be", path="wrok/deep/t.csv", target="y"
    )
    refused("csv", "is a folder; this format is one file", path=".", target="y")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.dat", r"the ending '\.dat' does not tell what 't\.dat' holds; known: \.csv, .*; or set data\.name"),
        ("noend", "without an ending, nothing tells what 'noend' holds"),
        ("t.png", "is one image; give the folder"),
        ("train-images-idx3-ubyte", "is one IDX file; give the folder"),
    ],
)  # fmt: skip
def test_unknown_endings(name, message):
    write("", name)
    with pytest.raises(DataError, match=message):
        files.format_of(name)


def test_a_full_disk_costs_only_the_cache(digits, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.warns(cache.CacheWarning, match="decoded data cannot be kept in /dev/null"):
        arrays = files.load("idx", {"path": "."})
    assert np.array_equal(arrays.x[..., 0], digits[0])
