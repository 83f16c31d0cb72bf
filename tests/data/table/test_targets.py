"""Targets of tables: several values, labels, classes by name."""

import re

import numpy as np
import pytest
from data.own_files import write

from fnet.data import files
from fnet.data.source import DataError, DataWarning

pytestmark = pytest.mark.usefixtures("isolated_folders")


def targets_of(lines, target="y", **settings):
    """Return the description and the array of the targets of a table with these lines, with a column `a`."""
    header, *rows = lines
    write("\n".join([f"a;{header}", *(f"{n * n % 17};{row}" for n, row in enumerate(rows))]))
    source = files.source("csv", {"path": "t.csv", "target": target, "separator": ";", **settings})
    return source.spec().targets, source.read(0).y


@pytest.mark.parametrize(
    ("lines", "settings", "kind", "names", "y"),
    [
        (["y", "3", "7", "3", "7"], {}, "classes", ("3", "7"), [0, 1, 0, 1]),
        (["y", "10", "9", "10", "9"], {}, "classes", ("9", "10"), [1, 0, 1, 0]),
        (["y", "0,5", "12,25", "-1,0"], {}, "values", ("y",), [[0.5], [12.25], [-1]]),
        (["y", "1.200,5 €", "7 €", "9,25 €"], {}, "values", ("y",), [[1200.5], [7], [9.25]]),
        (["y", "1.500", "2.750", "3.000"], {"decimal": ","}, "values", ("y",), [[1500], [2750], [3000]]),
        (["y", "no", "yes", "no"], {}, "classes", ("no", "yes"), [0, 1, 0]),
        (["y;z", "1.5;7", "2.5;8"], {"target": ["z", "y"]}, "values", ("z", "y"), [[7, 1.5], [8, 2.5]]),
        (["y;z", "1;0", "0;0", "1;1"], {"target": ["y", "z"]}, "labels", ("y", "z"), [[1, 0], [0, 0], [1, 1]]),
        (["y;z", "1;0", "0;0", "1;1"], {"target": ["y", "z"], "targets": "values"}, "values", ("y", "z"),
         [[1, 0], [0, 0], [1, 1]]),
        (["y;z", "True;no", "False;no", "True;yes"], {"target": ["y", "z"]}, "labels", ("y", "z"),
         [[1, 0], [0, 0], [1, 1]]),
        (["y", '"b;a|c, d"', "", "c"], {"targets": "labels"}, "labels", ("a", "b", "c", "d"),
         [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]]),
    ],
)  # fmt: skip
def test_targets(lines, settings, kind, names, y):
    description, values = targets_of(lines, **settings)
    assert (description.kind, description.names, description.number) == (kind, names, len(names))
    assert values.tolist() == y
    assert values.dtype == (np.int32 if kind == "classes" else np.float32)


def test_values_that_float32_cannot_represent_keep_their_differences():
    lines = ["y;z", *(f"{1_000_000_000 + n};0.{n}" for n in range(5))]
    _, y = targets_of(lines, target=["y", "z"])
    assert (y[:, 0] - 1e9).tolist() == [0, 1, 2, 3, 4]
    assert targets_of(lines, target="z")[1].dtype == np.float32


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (["y", "u", "u"], {}, "'y' is 'u' in every row; classification needs at least two classes"),
        (["y", *(f"name{n}" for n in range(12))], {}, "'y' is different in every row, so its classes cannot"),
        (["y;z", "1;u", "2;v"], {"target": ["y", "z"]}, "'z' contains text, but several targets are numbers"),
        (["y;z", "1;2", "2;3"], {"target": ["y", "z"], "targets": "classes"}, "expected one column of classes, got 2"),
        (["y;z", "1;2", "0;1"], {"target": ["y", "z"], "targets": "labels"},
         "expected 0 and 1, or true and false, in 'z', got '2' for example 0"),
        (["y", "1", "u", "2"], {"targets": "values"}, "expected numbers in 'y', got 'u' for example 1"),
        (["y", "2024-01-05", "2024-02-05"], {"targets": "values"}, "expected numbers in 'y', got dates; predict"),
        (["y;z", "1;2", "0;1"], {"target": ["y", "y"]}, "data.target names the column 'y' twice"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_learned_are_refused(lines, settings, message):
    with pytest.raises(DataError, match=re.escape(message)):
        targets_of(lines, **settings)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (["y", "5", "5", "5"], {"targets": "values"}, "the target 'y' is 5 in every row"),
        (["y", "u", "u,v", "u"], {"targets": "labels"}, "the label 'u' is 1 in every row"),
        (["y", "1.500", "99.000", "7"], {}, "the points in 'y' divide thousands"),
        (["y", "New York", "new-york", "Rome", "Rome"], {}, "the classes 'New York', 'new-york' of 'y' differ only in"),
        (["row_id", *map(str, range(500, 540, 3))], {"target": "row_id"}, "'row_id' has another value in every row"),
    ],
)
def test_targets_that_are_not_worth_learning_are_named(lines, settings, message):
    with pytest.warns(DataWarning, match=message):
        targets_of(lines, **settings)


def test_splits_are_files(tmp_path):
    write("a,b,y\n1,u,0\n2,v,1\n,u,1\n", "one.csv")
    write("a,b,y\n5,w,1\n", "two.csv")
    settings = {"path": {"train": "one.csv", "test": "two.csv"}, "target": "y", "missing": "drop"}
    source = files.source(files.format_of(settings["path"]), settings)
    spec = source.spec()
    assert spec.splits == (("train", 2), ("test", 1))
    assert source.read(0).x.tolist() == [[1, 1, 0, 0], [2, 0, 1, 0], [5, 0, 0, 1]]
    assert source.column("b").tolist() == ["u", "v", "w"]


def test_a_column_that_groups_the_examples_is_not_a_feature():
    write("patient,a,y\np1,1,0\n,2,1\np1,5,0\np2,3,1\n")
    source = files.source("csv", {"path": "t.csv", "target": "y", "group": "patient"})
    assert source.spec().shape == (1,)
    assert source.column("patient").tolist() == ["p1", None, "p1", "p2"]
    assert source.column("a").tolist() == [1, 2, 5, 3]
    with pytest.raises(DataError, match="has no column 'pateint'; did you mean 'patient'") as caught:
        source.column("pateint")
    assert caught.value.setting == "split"
