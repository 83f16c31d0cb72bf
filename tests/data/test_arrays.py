"""IDX files and NumPy archives, compared with the arrays that they were written from, and their errors."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from data.own_files import assert_refused, spec_and_arrays

from fnet.data import cache, files
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, DataWarning, Targets

MNIST = Path(__file__).parents[2] / "../shared/data/mnist-idx"
pytestmark = pytest.mark.usefixtures("isolated_folders")


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
    spec, arrays = spec_and_arrays("idx", path=".")
    assert (spec.name, spec.shape, spec.range) == ("work", (3, 4, 1), (0, 255))
    assert spec.splits == (("train", 5), ("test", 2))
    assert spec.targets.names == ("0", "1", "2", "3")
    assert np.array_equal(arrays.x[..., 0], x)
    assert np.array_equal(arrays.y, y)
    assert files.format_of(".") == "idx"


def test_a_file_that_is_not_gzipped_takes_precedence(digits):
    Path("train-images-idx3-ubyte.gz").write_bytes(b"")
    Path("train-labels-idx1-ubyte.gz").write_bytes(b"")
    idx_file("train-images.idx3-ubyte", digits[0][:3])
    idx_file("train-labels.idx1-ubyte", digits[1][:3])
    assert files.source("idx", {"path": "."}).spec().splits[0] == ("train", 3)


@pytest.mark.skipif(not MNIST.exists(), reason="the IDX files of MNIST lie outside the project")
def test_mnist():
    spec, arrays = spec_and_arrays("idx", path=str(MNIST))
    assert (spec.shape, spec.splits) == ((28, 28, 1), (("train", 60_000), ("test", 10_000)))
    assert np.bincount(arrays.y[:60_000]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert arrays.x[:60_000].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert arrays.y[[0, 1, 60_000]].tolist() == [5, 0, 7]


def truncate(name, length):
    path = Path(name)
    path.write_bytes(path.read_bytes()[:length])


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x, y: truncate(IMAGES, 30), rf"{IMAGES} is truncated: expected 40 bytes, got 30"),
        (lambda x, y: truncate(IMAGES, 7), rf"{IMAGES} is truncated inside its header"),
        (lambda x, y: os.truncate(IMAGES, 41), "is too long: expected 40 bytes, got 41"),
        (
            lambda x, y: truncate("train-images-idx3-ubyte.gz", 40),
            "train-images-idx3-ubyte.gz is damaged.*: compressed",
        ),
        (
            lambda x, y: Path("train-labels-idx1-ubyte.gz").write_bytes(b"labels"),
            r"train-labels-idx1-ubyte.gz is damaged or has another format than its name says: not a gzipped file",
        ),
        (
            lambda x, y: idx_file(IMAGES, y[5:]),
            rf"{IMAGES}: expected the magic number 0x00000803 of IDX images, got 0x00000801",
        ),
        (
            lambda x, y: idx_file(LABELS, y[5:], magic=b"\0\0\x0d\x01"),
            rf"{LABELS}: expected the magic number 0x00000801 of IDX labels, got 0x00000d01",
        ),
        (lambda x, y: idx_file(LABELS, y[4:]), rf"{IMAGES} contains 2 images, but .*{LABELS} 3 labels"),
        (lambda x, y: idx_file(IMAGES, x[5:, :2]), rf"{IMAGES} contains images of 2 x 4, but .* images of 3 x 4"),
        (lambda x, y: Path(LABELS).unlink(), f"contains {IMAGES}, but not the file of its labels"),
        (lambda x, y: Path("train-labels-idx1-ubyte.gz").rename("labels.gz"), "but not the file of its labels"),
        (lambda x, y: [path.unlink() for path in Path().glob("train*")], "does not contain train-images-idx3-ubyte"),
    ],
)  # fmt: skip
def test_damaged_idx_files(digits, damage, message):
    damage(*digits)
    assert assert_refused("idx", message, path=".").setting == "path"


def test_labels_out_of_range(digits):
    error = assert_refused(
        "idx", rf"expected labels 0 \.\.\. 2 in '{LABELS}', got 3 for example 1", path=".", classes=3
    )
    assert error.setting == "classes"
    assert_refused("idx", "is a file; give the folder", path=LABELS)


def test_a_class_only_in_test_is_refused(digits):
    spec, arrays = spec_and_arrays("idx", path=".")
    with pytest.raises(DataError, match="class '3' is in the test part but not in the training part, so it cannot be"):
        split_and_normalize(arrays, spec, ("train", 0.0, "test"), "unit", seed=0)


# Archives


def test_npz(rng):
    x, y = rng.standard_normal((6, 2, 3)), np.array([2, 0, 1, 1, 2, 0])
    np.savez("plain.npz", x=x, y=y)
    spec, arrays = spec_and_arrays("npz", path="plain.npz")
    assert (spec.name, spec.shape, spec.targets.number, spec.splits, spec.range) == ("plain", (2, 3), 3, (), None)
    assert np.array_equal(arrays.x, x.astype(np.float32))
    assert np.array_equal(arrays.y, y)
    assert files.format_of("plain.npz") == "npz"
    assert files.source("npz", {"path": "plain.npz", "classes": 5}).spec().targets.number == 5
    spec, arrays = spec_and_arrays("npz", path="plain.npz", targets="values")
    assert str(spec.targets) == "1 value"
    assert arrays.y.dtype == np.float32


def test_npz_of_images_with_splits(rng):
    x, y = rng.integers(0, 256, (6, 2, 3), np.uint8), np.array([[0.5], [1], [2], [3], [4], [5]])
    np.savez_compressed("k.npz", x_train=x[:3], y_train=y[:3], x_val=x[3:4], y_val=y[3:4], x_test=x[4:], y_test=y[4:])
    spec, arrays = spec_and_arrays("npz", path="k.npz")
    assert (spec.shape, spec.range) == ((2, 3, 1), (0, 255))
    assert spec.splits == (("train", 3), ("val", 1), ("test", 2))
    assert arrays.x.dtype == np.uint8
    assert np.array_equal(arrays.x[..., 0], x)
    assert np.array_equal(arrays.y, y)


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"X": [[1.0]], "y": [0]}, {}, "does not contain an array 'x'; it contains 'X', 'y'; set data.x"),
        ({"x": [[1.0]], "labels": [0]}, {"y": "lables"}, "an array 'lables'; it contains 'x', 'labels'; set data.y"),
        ({"x": [[1.0]], "y": [0, 1]}, {}, r"'x' has shape \(1, 1\) and 'y' \(2,\); the first axis of both must be"),
        ({"x": [["a"]], "y": [0]}, {}, "'x' has dtype <U1; save it as an array of numbers"),
        ({"x": np.array([[{}]]), "y": [0]}, {}, "'x' has dtype object; save it as an array of numbers"),
        ({"x": [[1.0], [2.0]], "y": [0, -1]}, {"classes": 2}, r"labels 0 \.\.\. 1 in 'y', got -1 for example 1"),
        ({"x": [[1.0], [2.0]], "y": ["a", "b"]}, {"classes": 2}, "in 'y', got text; leave out data.classes"),
        ({"x": [[1.0], [2.0]], "y": ["a", "b"]}, {"targets": "values"}, "numbers in 'y', got text; set data.targets"),
        ({"x": [[1.0], [2.0]], "y": ["a", ""]}, {}, "expected the name of a class in 'y', got '' for example 1"),
        ({"x": [[1.0], [2.0]], "y": ["a", "\ud800"]}, {}, "'y' contains a label that is not valid text in UTF-8"),
        ({"x": [[1.0], [2.0]], "y": [b"a", b"\xff"]}, {}, "'y' contains a label that is not valid text in UTF-8"),
        ({"x": [[1.0], [2.0]], "y": [3, 3]}, {}, "'y' is 3 for every example; classification needs at"),
        (
            {"x": [[1.0], [2.0]], "y": [3, 7], "x_test": [[1.0]], "y_test": ["a"]},
            {},
            "some of 'y', 'y_test' contain text, others numbers",
        ),
        ({"x": np.ones((2, 1)), "y": [[0, 1], [1, 2]]}, {"targets": "labels"}, "0 or 1 .* in 'y', got 2 for example 1"),
        (
            {"x": np.ones((2, 1)), "y": [[0, 1], [1, 0]]},
            {"targets": "classes"},
            r"save y\.argmax\(axis=1\); for several labels, set data\.targets: labels",
        ),
        ({"x": np.ones((2, 1)), "y": [0, 1], "target_names": ["a", "a"]}, {}, "different names in 'target_names'"),
        (
            {"x": np.ones((2, 1)), "y": [0, 2], "target_names": ["a", "b"]},
            {},
            r"2 names of classes, but 'y' contains the label 2; expected 0 \.\.\. 1",
        ),
        ({"x": np.ones((2, 1)), "y": [0, 1], "target_names": [1, 2]}, {}, "expected an array of names, one per class"),
        (
            {"x": np.ones((2, 1)), "y": [0, 1], "target_names": ["a", "b"]},
            {"classes": 3},
            "'target_names' contains 2 names, but data.classes is 3",
        ),
        ({"x": [[1j]], "y": [0]}, {}, "'x' has dtype complex128; .*the real and the imaginary part as two features"),
        ({"x": [[0.5], [1e300]], "y": [0, 1]}, {}, r"below 3\.4e38, .* in 'x', got 1e\+300 for example 1; scale them"),
        ({"x": [[0.5], [1.0]], "y": [0.5, -1e39]}, {}, r"below 3\.4e38, .* in 'y', got -1e\+39 for example 1"),
        ({"x": [[1.0]], "y": np.array([{}])}, {}, r"'y' has dtype object; .*or of text \(\.astype\(str\)\) if it"),
        ({"x": np.array(["2020-01-01"], "M8[D]"), "y": [0]}, {}, "such as days since a date"),
        ({"x": [[1.0], [2.0]], "y": [0, 4]}, {"classes": 3}, r"expected labels 0 \.\.\. 2 in 'y', got 4 for example 1"),
        ({"x": [[1.0]], "y": [0.5]}, {"targets": "classes"}, "expected whole numbers .* got 0.5 for example 0"),
        (
            {"x": [[1.0]], "y": np.ones((1, 2, 2))},
            {},
            r"expected one target or a row of targets per example, got shape \(2, 2\)",
        ),
        ({"x": [[1.0]], "y": [0], "x_test": [[1.0]]}, {}, "contains 'x_test' but not 'y_test'"),
        ({"x": [[1.0]], "y": [0], "x_test": [[1.0, 2.0]], "y_test": [0]}, {}, "examples of 'x_test' have shape"),
    ],
)  # fmt: skip
def test_errors_in_archives(arrays, settings, message):
    np.savez("a.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    assert_refused("npz", message, path="a.npz", **settings)


@pytest.mark.parametrize(
    ("labels", "settings", "names", "y"),
    [
        ([7, 3, 7, 3], {}, ("3", "7"), [1, 0, 1, 0]),
        (np.array([7, 3, 7, 3], np.uint8), {}, ("3", "7"), [1, 0, 1, 0]),
        ([1, -1, -1, 1], {}, ("-1", "1"), [1, 0, 0, 1]),
        ([10, 9, -9, 10], {}, ("-9", "9", "10"), [2, 1, 0, 2]),  # in the order of the numbers, not of their names
        ([2**62, -5, 2**62, -5], {}, ("-5", str(2**62)), [1, 0, 1, 0]),
        (np.array([2**63, 1, 1, 1], np.uint64), {}, ("1", str(2**63)), [1, 0, 0, 0]),
        ([[7], [3], [7], [3]], {}, ("3", "7"), [1, 0, 1, 0]),
        ([7.0, 3.0, 7.0, 3.0], {"targets": "classes"}, ("3", "7"), [1, 0, 1, 0]),
        ([True, False, False, True], {}, ("False", "True"), [1, 0, 0, 1]),
        (["dog", "cat", "emu", "cat"], {}, ("cat", "dog", "emu"), [1, 0, 2, 0]),
        ([b"dog", b"cat", "caf\u00e9".encode(), b"cat"], {}, ("caf\u00e9", "cat", "dog"), [2, 1, 0, 1]),
        ([1, 0, 2, 0], {}, (), [1, 0, 2, 0]),
        ([1, 0, 3, 0], {"classes": 5}, (), [1, 0, 3, 0]),
    ],
)
def test_the_different_labels_are_the_classes(labels, settings, names, y):
    np.savez("a.npz", x=np.ones((4, 1)), y=np.array(labels))
    spec, arrays = spec_and_arrays("npz", path="a.npz", **settings)
    assert spec.targets.names == names
    assert spec.targets.number == settings.get("classes", max(y) + 1)
    assert arrays.y.tolist() == y
    assert arrays.y.dtype == np.int32


def test_labels_have_the_same_class_in_every_split():
    np.savez("a.npz", x=np.ones((3, 1)), y=[9, 3, 9], x_test=np.ones((2, 1)), y_test=np.array([9, 5], np.uint8))
    spec, arrays = spec_and_arrays("npz", path="a.npz")
    assert spec.targets.names == ("3", "5", "9")
    assert arrays.y.tolist() == [2, 0, 2, 2, 1]


def assert_like(data, spec, y):
    same = data.like(spec)
    assert same.spec().targets == spec.targets
    assert same.read(0).y.tolist() == y


def test_labels_have_the_classes_of_the_trained_network():
    """The other archive contains only some of the classes."""
    np.savez("a.npz", x=np.ones((3, 1)), y=[9, 3, 5])
    spec = files.source("npz", {"path": "a.npz"}).spec()
    np.savez("b.npz", x=np.ones((2, 1)), y=[5, 9])
    data = files.source("npz", {"path": "b.npz"})
    assert data.read(0).y.tolist() == [0, 1]
    assert_like(data, spec, [1, 2])
    assert_like(data, spec._replace(targets=Targets("classes", 10)), [5, 9])
    assert_like(data, spec._replace(targets=Targets("classes", 10, tuple("abcdefghij"))), [5, 9])
    assert_like(data, spec._replace(targets=Targets("values", 1)), [[5.0], [9.0]])
    message = r"b\.npz: 'y' contains the class 5, which the network was not trained on; known: 3, 9$"
    with pytest.raises(DataError, match=message):
        data.like(spec._replace(targets=Targets("classes", 2, ("3", "9")))).spec()
    with pytest.raises(DataError, match=r"b\.npz contains 1 value, but the network was trained on 2 values"):
        data.like(spec._replace(targets=Targets("values", 2))).spec()


def test_idx_labels_have_the_classes_of_the_trained_network(rng):
    idx_file("train-images-idx3-ubyte", rng.integers(0, 256, (3, 2, 2)))
    idx_file("train-labels-idx1-ubyte", np.array([7, 7, 3]))
    data = files.source("idx", {"path": "."})
    assert_like(data, data.spec()._replace(targets=Targets("classes", 4, ("1", "3", "5", "7"))), [3, 3, 1])


def test_names_of_targets_in_an_archive():
    np.savez("a.npz", x=np.ones((3, 1)), y=[1, 0, 1], target_names=["setosa", "versicolor", "virginica"])
    spec, arrays = spec_and_arrays("npz", path="a.npz")
    assert (spec.targets.number, spec.targets.names) == (3, ("setosa", "versicolor", "virginica"))
    assert arrays.y.tolist() == [1, 0, 1]
    np.savez("a.npz", x=np.ones((2, 1)), y=[[0.5, 2], [1, 3]], target_names=["width", "height"])
    assert spec_and_arrays("npz", path="a.npz")[0].targets == Targets("values", 2, ("width", "height"))


def test_several_labels_per_example():
    y = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]])
    for stored, settings in ((y, {"targets": "labels"}), (y.astype(bool), {}), (y * 1.0, {"targets": "labels"})):
        np.savez("a.npz", x=np.ones((3, 2)), y=stored, target_names=["red", "round", "big"])
        spec, arrays = spec_and_arrays("npz", path="a.npz", **settings)
        assert spec.targets == Targets("labels", 3, ("red", "round", "big"))
        assert arrays.y.dtype == np.float32
        assert np.array_equal(arrays.y, y)
    np.savez("a.npz", x=np.ones((3, 2)), y=y)
    with pytest.warns(DataWarning, match="'y' contains only 0 and 1, read as values; set data.targets: labels"):
        assert files.source("npz", {"path": "a.npz"}).spec().targets == Targets("values", 3)


def test_many_different_numbers_are_probably_values():
    """They are a third of the examples here, and then more than half of them."""
    np.savez("a.npz", x=np.ones((90, 1)), y=1000 * (np.arange(90) % 30))
    with pytest.warns(DataWarning, match="the 30 different whole numbers in 'y', from 0 to 29000, are read as classes"):
        assert files.source("npz", {"path": "a.npz"}).spec().targets.number == 30
    np.savez("a.npz", x=np.ones((40, 1)), y=np.arange(40) % 21)
    message = "'y' contains 21 different whole numbers in 40 examples; set data.targets: values if they are numbers, or"
    assert assert_refused("npz", message, path="a.npz").setting == "targets"
    assert files.source("npz", {"path": "a.npz", "targets": "classes"}).spec().targets.number == 21
    assert files.source("npz", {"path": "a.npz", "targets": "values"}).spec().targets.kind == "values"
    np.savez("a.npz", x=np.ones((40, 1)), y=(np.arange(40) % 21).astype(str))
    assert_refused("npz", "contains 21 different texts in 40 examples; set data.targets: classes", path="a.npz")


def test_values_of_a_column_of_an_archive():
    np.savez("a.npz", x=np.ones((3, 1)), y=[0, 1, 1], patient=["b", "a", "b"], wide=np.ones((3, 2)), date=np.ones(2))
    data = files.source("npz", {"path": "a.npz"})
    assert data.column("patient").tolist() == ["b", "a", "b"]
    for name, message in (
        ("pateint", "does not contain an array 'pateint_train'; did you mean 'patient'|known"),
        ("wide", r"'wide' has dtype float64 and shape \(3, 2\); expected one number or text per example, \(3,\)"),
        ("date", r"'date' has dtype float64 and shape \(2,\)"),
    ):
        with pytest.raises(DataError, match=message):
            data.column(name)
    np.savez("b.npz", x_train=[[1], [2]], y_train=[0, 1], g_train=[5, 6], x_test=[[3]], y_test=[0], g_test=[7])
    assert files.source("npz", {"path": "b.npz"}).column("g").tolist() == [5, 6, 7]


def test_idx_labels_are_classes_by_name(rng):
    idx_file("train-images-idx3-ubyte", rng.integers(0, 256, (3, 2, 2)))
    idx_file("train-labels-idx1-ubyte", np.array([7, 3, 7]))
    spec, arrays = spec_and_arrays("idx", path=".")
    assert spec.targets == Targets("classes", 2, ("3", "7"))
    assert arrays.y.tolist() == [1, 0, 1]
    spec, arrays = spec_and_arrays("idx", path=".", classes=9)
    assert spec.targets == Targets("classes", 9, tuple("012345678"))
    assert arrays.y.tolist() == [7, 3, 7]


def test_damaged_archives(rng):
    np.savez("a.npz", x=rng.standard_normal((200, 3)), y=np.arange(200) % 2)
    whole = Path("a.npz").read_bytes()
    Path("a.npz").write_bytes(whole[:-40])
    assert_refused(
        "npz", "a.npz is damaged or has another format than its name says: file is not a zip file", path="a.npz"
    )
    Path("a.npz").write_bytes(whole[:1000] + b"\xff" + whole[1001:])
    assert_refused(
        "npz", "a.npz is damaged or has another format than its name says: bad CRC-32 for file 'x.npy'", path="a.npz"
    )


def test_a_full_disk_costs_only_the_cache(digits, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.warns(cache.CacheWarning, match="decoded data cannot be cached in /dev/null"):
        arrays = files.source("idx", {"path": "."}).read(seed=0)
    assert np.array_equal(arrays.x[..., 0], digits[0])
