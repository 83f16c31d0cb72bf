"""CSV tables, compared with features encoded by hand, and their errors."""

import numpy as np
import pytest
from data.own_files import TABLE, assert_refused, spec_and_arrays, write

from fnet.data import files
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError

pytestmark = pytest.mark.usefixtures("isolated_folders")


def test_csv():
    write(TABLE)
    spec, arrays = spec_and_arrays("csv", path="t.csv", target="kind")
    assert (spec.name, spec.shape, spec.targets.names) == ("t", (6,), ("cat", "dog"))
    assert arrays.y.tolist() == [0, 1, 0]
    # height; blue, "re,d", red; old; weight
    assert arrays.x.tolist() == [[1.5, 0, 0, 1, 1, 3], [2.5, 1, 0, 0, 0, 4], [0.5, 0, 1, 0, 1, 5]]
    assert files.format_of("t.csv") == "csv"


@pytest.mark.parametrize(
    ("settings", "names", "y"),
    [
        ({"target": "height"}, ("height",), [[1.5], [2.5], [0.5]]),
        ({"target": "weight"}, ("weight",), [[3], [4], [5]]),
        ({"target": "weight", "targets": "classes"}, ("3", "4", "5"), [0, 1, 2]),
        ({"target": "old"}, ("False", "True"), [1, 0, 1]),
        ({"target": "height", "targets": "classes"}, ("0.5", "1.5", "2.5"), [1, 2, 0]),
    ],
)
def test_targets_of_a_table(settings, names, y):
    write(TABLE)
    spec, arrays = spec_and_arrays("csv", path="t.csv", **settings)
    assert spec.targets.names == names
    assert spec.targets.kind == ("values" if isinstance(y[0], list) else "classes")
    assert arrays.y.tolist() == y


def test_more_than_twenty_whole_numbers_are_values():
    for number, kind in ((20, "classes"), (21, "values")):
        write("x,age\n" + "\n".join(f"{age % 2}.5,{age // 2}" for age in range(2 * number)))
        assert files.source("csv", {"path": "t.csv", "target": "age"}).spec().targets.kind == kind


def test_whole_numbers_that_hardly_repeat_are_values():
    """Ten prices are not ten classes, though there are fewer than twenty of them."""
    write("x,price\n" + "\n".join(f"{n % 3},{300 + n // 2 * 7}" for n in range(12)))
    assert files.source("csv", {"path": "t.csv", "target": "price"}).spec().targets.kind == "classes"
    write("x,price\n" + "\n".join(f"{n % 3},{300 + n * 7}" for n in range(12)))
    assert files.source("csv", {"path": "t.csv", "target": "price"}).spec().targets.kind == "values"


def test_columns_of_a_table_can_be_dropped_or_categorical():
    write(TABLE.replace(",", ";").replace("re;d", "red"))
    settings = {"drop": ["height", "old"], "columns": {"weight": "category"}, "separator": ";"}
    _, arrays = spec_and_arrays("csv", path="t.csv", target="kind", **settings)
    assert arrays.x.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]


WITH_MISSING = "a,b,y\n1,u,0\n,v,1\n3,,0\n5,u,1\n"


def test_missing_values_are_refused_with_row_and_column():
    write(WITH_MISSING)
    error = assert_refused(
        "csv",
        "t.csv: example 1 has no value for 'a'; fill it in, or set data.missing: drop or",
        path="t.csv",
        target="y",
    )
    assert error.setting == "missing"


def test_missing_values_drop_their_rows():
    write(WITH_MISSING + "7,v,0\n")
    _, arrays = spec_and_arrays("csv", path="t.csv", target="y", missing="drop")
    assert arrays.x.tolist() == [[1, 1, 0], [5, 1, 0], [7, 0, 1]]
    assert files.source("csv", {"path": "t.csv", "target": "y", "missing": "drop"}).column("b").tolist() == [
        "u",
        "u",
        "v",
    ]
    write("a,y\n,0\n1,\n")
    with pytest.raises(DataError, match="does not contain examples without missing values"):
        files.source("csv", {"path": "t.csv", "target": "y", "missing": "drop"}).spec()


@pytest.mark.parametrize("kind", ["none", "standard", "unit"])
def test_missing_values_get_the_mean_of_the_training_part(kind):
    write(WITH_MISSING)
    spec, arrays = spec_and_arrays("csv", path="t.csv", target="y", missing="mean")
    assert spec.has_missing
    np.testing.assert_array_equal(arrays.x, [[1, 1, 0], [np.nan, 0, 1], [3, np.nan, np.nan], [5, 1, 0]])
    spec = spec._replace(ordered=True)
    splits = split_and_normalize(arrays, spec, (0.5, 0.0, 0.5), kind, seed=0)
    filled = np.array([[1, 1, 0], [1, 0, 1], [3, 0.5, 0.5], [5, 1, 0]])
    expected = split_and_normalize(
        arrays._replace(x=filled), spec._replace(has_missing=False), (0.5, 0.0, 0.5), kind, seed=0
    )
    for part in ("train", "test"):
        np.testing.assert_allclose(getattr(splits, part).x, getattr(expected, part).x, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("a,y\n1,0\n1,2,3\n", {}, r"t.csv: line 3 has 3 entries, but the first line names 2 columns; quote entries"),
        ("a,b,y\n1,2,0\n1\n", {}, r"t.csv: line 3 has 1 entries, but the first line names 3 columns; quote"),
        ("a;y\n1;0,5\n2;3,5\n", {"separator": ","}, r"names 1 column; .*check data.separator, which is ','"),
        ("a,kind\n1,u\n2,v\n", {"target": "knid"}, "t.csv has no column 'knid'; did you mean 'kind'"),
        ("a,y\n1,0\n2,1\n", {"drop": ["b"]}, "t.csv has no column 'b'; known: a, y"),
        ("a,y\n1,0\n2,1\n", {"drop": ["y"]}, "'y' is both the target and dropped"),
        ("a,y\n1,0\n2,1\n", {"drop": ["a"]}, "has no columns besides the target 'y'"),
        ("a,a,y\n1,1,0\n", {}, "names 2 columns 'a'; rename them"),
        (
            "a,y\n1,0\n2,\n",
            {"missing": "mean"},
            "example 1 has no value for 'y'; fill it in, or set data.missing: drop$",
        ),
        ("a,y\n1,0\ninf,1\n", {}, "t.csv: example 1 has the value inf for 'a', which is infinite"),
        ("a,y\n1,0.5\n1,-inf\n", {}, "t.csv: example 1 has the value -inf for 'y', which is infinite"),
        (
            "a,y\n1,0\nl2,1\n3,0\n",
            {},
            r"'a' contains numbers, but 'l2' for example 1; fix it, or set data.columns: \{a: category\}",
        ),
        ("a,y\n1,0\n2,0\n", {}, "'y' is '0' in every row; classification needs at least two"),
        ("a,y\n1,u\n2,v\n", {"targets": "values"}, "expected numbers in 'y', got text; set data.targets: classes"),
        ("a,y\n", {}, "t.csv does not contain examples"),
        ("", {}, "t.csv is empty"),
    ],
)
def test_errors_in_tables(content, settings, message):
    write(content)
    assert_refused("csv", message, path="t.csv", **({"target": "y"} | settings))


def test_a_table_of_identifiers_only_is_refused():
    write("id,y\n" + "\n".join(f"name{i},{i % 2}" for i in range(30)))
    message = r"has no features: the column 'id' is taken as an identifier.*set data.columns: \{id: category\}"
    assert_refused("csv", message, path="t.csv", target="y")
