"""Reading examples for a trained network from files in every format."""

import gzip
import json
import struct

import numpy as np
import pytest
from data.own_files import read_examples
from PIL import Image

from fnet.data.source import Column, DataError, DatasetSpec, Targets
from fnet.data.table.table import csv

DIGITS = DatasetSpec("digits", (4, 3, 1), Targets("classes", 2), 9, (0.0, 16.0))
NUMBERS = DatasetSpec("numbers", (3,), Targets("classes", 2), 9)


@pytest.fixture
def table(tmp_path):
    """A table to train on, as a data source."""
    path = tmp_path / "train.csv"
    path.write_text("age,color,kind\n1,red,a\n2,blue,b\n4,red,a\n")
    return csv(str(path), "kind")


def test_a_table_is_encoded_like_the_training_table(table, tmp_path):
    """The same lines, with columns in another order and without the target, give the same features."""
    (tmp_path / "new.csv").write_text("color;age\nred;1\nblue;2\nred;4\n")
    x, names = read_examples(str(tmp_path / "new.csv"), table.spec())
    np.testing.assert_array_equal(x, table.read(0).x)
    assert names == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("agee,color\n1,red\n", "no column 'age', which the network was trained on; did you mean 'agee'?"),
        ("age,color\nten,red\n", "expected numbers in 'age', got 'ten' for example 0"),
        ("age,color\n1,red\n,red\n", "example 1 has no value for 'age'; fill it in"),
        ("age,color\n1,red\n2\n", "line 3 has 1 entries, but the first line names 2 columns"),
        ("age,color\n", "does not contain examples"),
    ],
)
def test_an_incompatible_table_is_refused(table, tmp_path, lines, message):
    (tmp_path / "new.csv").write_text(lines)
    with pytest.raises(DataError) as caught:
        read_examples(str(tmp_path / "new.csv"), table.spec())
    assert message in str(caught.value)


def test_a_missing_number_is_left_to_the_normalizer_if_training_had_missing_numbers(table, tmp_path):
    (tmp_path / "new.csv").write_text("age,color\n,red\n3,\n")
    x, _ = read_examples(str(tmp_path / "new.csv"), table.spec()._replace(has_missing=True))
    np.testing.assert_array_equal(x, [[np.nan, 0, 1], [3, np.nan, np.nan]])


def test_equals_signs_in_names_and_categories_are_unambiguous(tmp_path):
    """Names such as a=b are not confused with the category b of a column a."""
    (tmp_path / "train.csv").write_text("a=b,a,c,a=b=c,y\n1,b,x=y,u,0\n2,b=c,x,v,1\n3,b,x=y,u,0\n")
    data = csv(str(tmp_path / "train.csv"), "y")
    spec = data.spec()
    assert spec.columns == (
        Column("a=b"),
        Column("a", "category", ("b", "b=c")),
        Column("c", "category", ("x", "x=y")),
        Column("a=b=c", "category", ("u", "v")),
    )
    assert DatasetSpec.from_plain(json.loads(json.dumps(spec.plain()))) == spec
    x, _ = read_examples(str(tmp_path / "train.csv"), spec)
    np.testing.assert_array_equal(x, data.read(0).x)
    np.testing.assert_array_equal(x, [[1, 1, 0, 0, 1, 1, 0], [2, 0, 1, 1, 0, 0, 1], [3, 1, 0, 0, 1, 1, 0]])


def test_categories_that_are_numbers_are_known_beside_missing_values(tmp_path):
    """A missing value makes pandas read whole numbers as floats."""
    (tmp_path / "train.csv").write_text("size,weight,y\n3,1,0\n,2,1\n4,3,0\n")
    spec = csv(str(tmp_path / "train.csv"), "y", columns={"size": "category"}, missing="mean").spec()
    assert spec.columns == (Column("size", "category", ("3", "4")), Column("weight"))
    (tmp_path / "new.csv").write_text("size,weight\n4,1\n3,2\n")
    x, _ = read_examples(str(tmp_path / "new.csv"), spec)
    np.testing.assert_array_equal(x, [[0, 1, 1], [1, 0, 2]])


@pytest.mark.parametrize("save", ["npy", "npz", "one", "flat"])
def test_arrays(tmp_path, rng, save):
    x = rng.uniform(size=(5, 4, 3, 1)).astype(np.float32)
    path = tmp_path / ("a.npz" if save == "npz" else "a.npy")
    match save:
        case "npy":
            np.save(path, x)
        case "npz":
            np.savez(path, x=x, y=np.zeros(5))
        case "one":
            np.save(path, x[2])
        case "flat":
            np.save(path, x[..., 0])
    result, names = read_examples(str(path), DIGITS)
    np.testing.assert_array_equal(result, x[2:3] if save == "one" else x)
    assert len(names) == len(result)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5)), "expected an array of shape (n, 3), got (2, 5)"),
        (np.array([[1.0, np.nan, 2.0]]), "example 0 contains a value that is NaN or infinite"),
        (np.array([["a", "b", "c"]]), "expected numbers"),
        (np.zeros((0, 3)), "does not contain examples"),
    ],
)
def test_incompatible_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as caught:
        read_examples(str(tmp_path / "a.npy"), NUMBERS)
    assert message in str(caught.value)


def test_an_archive_without_x_is_refused_with_the_names_in_it(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((1, 3)), Z=np.zeros(1))
    with pytest.raises(DataError, match="does not contain an array 'x'; known: X, Z"):
        read_examples(str(tmp_path / "a.npz"), NUMBERS)


def test_images_are_resized_and_scaled_to_the_range_of_training(tmp_path):
    """White becomes the max of the training data, here 16, and a uniform image stays uniform."""
    (tmp_path / "deep").mkdir()
    Image.new("L", (3, 4), 255).save(tmp_path / "b.png")
    Image.new("RGB", (30, 40), (51, 51, 51)).save(tmp_path / "deep" / "a.png")
    x, names = read_examples(str(tmp_path), DIGITS)
    assert names == ["b.png", "deep/a.png"]
    np.testing.assert_allclose(x, np.broadcast_to([[[[16.0]]], [[[3.2]]]], (2, 4, 3, 1)), rtol=1e-6)
    one, names = read_examples(str(tmp_path / "b.png"), DIGITS._replace(range=(0.0, 255.0)))
    assert one.dtype == np.uint8
    assert names == ["b.png"]


def test_an_idx_file(tmp_path, rng):
    pixels = rng.integers(0, 256, (2, 4, 3), np.uint8)
    with gzip.open(tmp_path / "new-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">I3I", 0x803, 2, 4, 3) + pixels.tobytes())
    x, _ = read_examples(str(tmp_path / "new-images-idx3-ubyte.gz"), DIGITS)
    np.testing.assert_array_equal(x[..., 0], pixels)


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("a.csv", NUMBERS, "is a table, but the network was trained on arrays of shape (3,)"),
        ("a.doc", NUMBERS, "does not have a known format; known: .csv"),
        ("a.png", NUMBERS, "contains images, but the network takes examples of shape (3,)"),
        ("a.png", DIGITS._replace(range=None), "numbers of unknown range; save the examples as .npy"),
        ("a.png", DIGITS, "is damaged"),
        (".", DIGITS, "does not contain images (.png, .jpg, .jpeg, .webp, "),
        (".", NUMBERS, "does not contain images (.png, .jpg, .jpeg, .webp, "),
    ],
)
def test_other_files_are_refused(tmp_path, name, spec, message):
    if name != ".":
        (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        read_examples(str(tmp_path / name), spec)
    assert message in str(caught.value)
