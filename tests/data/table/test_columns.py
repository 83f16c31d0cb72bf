"""Types of columns and their features, compared with values worked out by hand or by pandas and scikit-learn."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.own_files import assert_refused, read_examples, write
from sklearn.feature_extraction.text import CountVectorizer

from fnet.data import files
from fnet.data.inputs import open_inputs
from fnet.data.source import DataError, DatasetSpec, DataWarning
from fnet.data.table import encode

pytestmark = pytest.mark.usefixtures("isolated_folders")


def table(content, y=None, **settings):
    """Return the source of a table with these columns of text, whose target `y` is random numbers."""
    number = len(next(iter(content.values())))
    y = y or [f"{value:.3f}" for value in np.random.default_rng(1).normal(size=number)]
    pd.DataFrame({**content, "y": y}).to_csv("t.csv", index=False)
    return files.source("csv", {"path": "t.csv", "target": "y", **settings})


def quiet(function, *arguments):
    """Return the result of a function, and its warnings as text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments)
    return result, " | ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["1,234.50", "-2", "3e2"], [1234.5, -2, 300]),
        (["1.234,5", "-0,25", "7"], [1234.5, -0.25, 7]),
        (["1 200", "3 500 000", "12"], [1200, 3_500_000, 12]),
        (["$1,200", "$15.5", "-$3"], [1200, 15.5, -3]),
        (["12 €", "3,5 €", "-1 €"], [12, 3.5, -1]),
        (["12%", "3.5 %", "100%"], [12, 3.5, 100]),
        (["70 km/h", "5.5 km/h", "120 km/h"], [70, 5.5, 120]),
    ],
)
def test_numbers_with_separators_and_units(entries, expected):
    source = table({"a": entries, "b": ["1", "0", "0"]})
    assert [(column.name, column.type) for column in source.spec().columns] == [("a", "number"), ("b", "number")]
    np.testing.assert_allclose(source.read(0).x[:, 0], np.float32(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("entries", "settings", "expected", "remark"),
    [
        (["1.234", "999", "12.500"], {}, [1234, 999, 12500], "the points in 'a' divide thousands"),
        (["1.234 €", "999 €", "12.500 €"], {}, [1234, 999, 12500], "the points in 'a' divide thousands"),
        (["1,234", "999", "12,500"], {}, [1234, 999, 12500], ""),
        (["250.000", "99.900", "1.500"], {}, [250, 99.9, 1.5], "the points in 'a' are read as decimal points"),
        (["1.234", "999", "12.500"], {"decimal": "."}, [1.234, 999, 12.5], ""),
        (["1.234", "999", "12.500"], {"decimal": ","}, [1234, 999, 12500], ""),
        (["1.234", "9.99", "0.125"], {}, [1.234, 9.99, 0.125], ""),
    ],
)
def test_points_that_divide_thousands(entries, settings, expected, remark):
    rows = "".join(f"{entry};{number}.5\n" for number, entry in enumerate(entries))
    Path("t.csv").write_text("a;y\n" + rows)
    spec, remarks = quiet(files.source("csv", {"path": "t.csv", "target": "y", **settings}).spec)
    assert remark in remarks if remark else not remarks
    Path("new.csv").write_text(f"a;y\n{entries[0]};7.5\n")
    frame = encode.frame_like(Path("new.csv"), spec)
    assert encode.encode(frame, spec.columns, "new.csv", has_missing=False)[0] == pytest.approx(expected[:1])
    assert files.source("csv", {"path": "t.csv", "target": "y", **settings}).read(0).x[:, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "entries", [["12 kg", "300 g", "1 kg", "20 g"], ["01234", "02345", "01234", "5678"], ["A1", "B2", "A1", "B1"]]
)
def test_mixed_units_and_codes_are_categories(entries):
    column, _ = table({"a": entries, "b": ["1", "0", "0", "3"]}).spec().columns
    assert column.type == "category"
    assert set(column.categories) == set(entries)


def test_the_types_of_columns():
    rows = 12
    source = table(
        {
            "flag": ["yes", "No"] * 6,
            "when": [f"2024-0{1 + n % 3}-1{n % 5}" for n in range(rows)],
            "town": ["Ghent", "Bruges", "Leuven"] * 4,
            "person_id": [str(100 + 7 * n) for n in range(rows)],
            "number": [str(100 + 7 * n) for n in range(rows)],
            "row": [str(n) for n in range(rows)],
            "code": [f"x{n}" for n in range(rows)],
            "same": ["5"] * rows,
            "none": [""] * rows,
            "size": ["3", "40", "3", "5"] * 3,
        },
        columns={"size": "category"},
    )
    spec, text = quiet(source.spec)
    types = ["boolean", "date", "category", "identifier", "number", "identifier", "identifier", "number", "number"]
    assert [column.type for column in spec.columns] == [*types, "category"]
    widths = {column.name: column.width for column in spec.columns}
    assert widths == dict(zip(widths, [1, 5, 3, 0, 1, 0, 0, 0, 0, 3], strict=True))  # dates of one year, without time
    assert spec.columns[-1].categories == ("3", "5", "40")
    assert "the column 'none' is empty, and left out" in text
    assert "the column 'same' is constant, and left out" in text
    assert "columns 'person_id', 'row', 'code' are taken as identifiers" in text
    names = [name for column in spec.columns for name in column.features]
    assert len(names) == spec.shape[0]
    assert {"town = Ghent", "when: days", "number"} < set(names)
    assert DatasetSpec.from_plain(json.loads(json.dumps(spec.plain()))) == spec


def test_a_column_that_counts_the_rows_is_a_feature_if_it_is_the_only_one():
    spec = table({"t": [str(n) for n in range(12)]}).spec()
    assert [(column.type, column.width) for column in spec.columns] == [("number", 1)]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %b %Y", "%Y-%m-%d %H:%M:%S"])
def test_dates(form, rng):
    """The features agree with pandas' parts of dates."""
    dates = pd.Series(pd.Timestamp("2019-03-05 06:30:10") + pd.to_timedelta(rng.integers(0, 900, 40), "D"))
    dates += pd.to_timedelta(rng.integers(0, 80_000, 40), "s")
    source = table({"d": dates.dt.strftime(form).tolist()})
    (column,) = source.spec().columns
    x = dict(zip(column.parts, source.read(0).x.T, strict=True))
    dates = pd.to_datetime(dates.dt.strftime(form), format=form)
    np.testing.assert_array_equal(x["year"], dates.dt.year)
    for part, turns in (("month", (dates.dt.month - 1) / 12), ("weekday", dates.dt.day_of_week / 7)):
        np.testing.assert_allclose(x[f"{part} (sin)"], np.sin(2 * np.pi * turns), atol=1e-6)
        np.testing.assert_allclose(x[f"{part} (cos)"], np.cos(2 * np.pi * turns), atol=1e-6)
    assert ("hour (sin)" in x) == ("%H" in form)
    origin = dates.min().normalize()
    np.testing.assert_allclose(x["days"], (dates - origin).dt.total_seconds() / 86_400, rtol=1e-5)
    assert source.column("d").tolist() == dates.to_numpy().astype("datetime64[us]").tolist()


def test_dates_whose_day_and_month_could_be_exchanged_are_named():
    spec, text = quiet(table({"d": ["1/2/2020", "3/4/2020", "5/6/2021"]}).spec)
    assert spec.columns[0].form == "%d/%m/%Y"
    assert "day and month exchanged; they are read as day/month; write them as 2024-01-31" in text


def test_free_text_is_a_bag_of_words():
    texts = [
        f"the red house number {n} in the old town" if n % 3 else f"a small flat near {n}, noisy and dark"
        for n in range(20)
    ]
    source = table({"notes": texts})
    (column,) = source.spec().columns
    assert column.type == "text"
    counter = CountVectorizer(vocabulary=column.categories, token_pattern=r"[^\W_]+")
    np.testing.assert_array_equal(source.read(0).x, counter.transform(texts).toarray())
    assert {"red", "the", "noisy"} < set(column.categories)
    assert "3" not in column.categories  # occurs in a single text


def test_only_the_most_frequent_of_many_categories_are_features():
    entries = [f"c{n % 1500}" for n in range(3200)]
    spec, text = quiet(table({"c": entries, "b": ["1", "0"] * 1600}).spec)
    assert spec.columns[0].width == 1000
    assert {f"c{n}" for n in range(200)} < set(spec.columns[0].categories)  # these occur three times
    assert "'c' gives the 1000 most frequent of 1,500 categories as features; set data.columns: {c: category}" in text
    assert table({"c": entries}, columns={"c": "category"}).spec().columns[0].width == 1500


@pytest.mark.parametrize(
    ("entries", "settings", "message"),
    [
        (["1", "2", "x3", "4"], {}, "'a' contains numbers, but 'x3' for example 2; fix it, or set data.col"),
        (["2024-01-01", "2024-02-30", "2024-01-03"], {}, "'a' contains dates, but '2024-02-30' for example 1;"),
        (["u", "v", "u"], {"columns": {"a": "number"}}, "expected numbers in 'a', got 'u' for example 0"),
        (["1", "0", "2"], {"columns": {"a": "boolean"}}, "expected true or false in 'a', got '2' for example 2"),
        (["u", "v", "u"], {"columns": {"a": "date"}}, "expected dates, such as 2024-01-31, in 'a', got 'u'"),
        (["u", "v", "u"], {"columns": {"b": "date"}}, "has no column 'b'"),
        (["u", "v", "u"], {"columns": {"y": "number"}}, "'y' is the target; set data.targets instead"),
        (["u", "u", "u"], {}, "has no features: the column 'a' is constant, and left out"),
    ],
)  # fmt: skip
def test_entries_of_another_type_are_refused(entries, settings, message):
    source = table({"a": entries}, **settings)
    with pytest.raises(DataError, match=re.escape(message)):
        source.spec()


def test_duplicate_columns_are_refused():
    write("a,a,y\n1,1,0\n")
    assert_refused("csv", "names 2 columns 'a'; rename them", path="t.csv", target="y")


# Prediction


def test_prediction_encodes_like_training(tmp_path):
    columns = {
        "price": ["1.200,5 €", "3 €", "12 €"], "flag": ["yes", "no", "no"], "town": ["Ghent", "Bruges", "Ghent"],
        "born": ["3.1.2020", "15.2.2021", "28.3.2021"], "zip": ["01234", "09000", "01234"], "size": ["3", "4", "30"],
    }  # fmt: skip
    source = table(columns, columns={"size": "category"})
    spec = source.spec()
    pd.DataFrame(columns).iloc[:, ::-1].to_csv("new.csv", index=False)
    np.testing.assert_array_equal(read_examples("new.csv", spec)[0], source.read(0).x)
    for row in range(3):  # one row alone, from which no type could be inferred
        pd.DataFrame(columns).iloc[[row]].to_csv("new.csv", index=False)
        np.testing.assert_array_equal(read_examples("new.csv", spec)[0], source.read(0).x[[row]])


def test_unknown_categories_have_features_of_zero_and_dates_the_formula_of_training():
    spec = table({"town": ["Ghent", "Bruges", "Ghent"], "born": ["2020-01-01", "2020-02-03", "2021-01-01"]}).spec()
    write("town,born\nParis,2030-01-01\nGhent,2019-12-31\nRome,2021-01-01\n", "new.csv")
    (x, _), text = quiet(read_examples, "new.csv", spec)
    assert x[:, :2].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert x[:, -1].tolist() == [(pd.Timestamp(day) - pd.Timestamp("2020-01-01")).days for day in
                                 ("2030-01-01", "2019-12-31", "2021-01-01")]  # fmt: skip
    assert "2 of 3 entries of 'town', such as 'Paris', did not occur in training; their features are 0" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nx,yes\n", "expected numbers in 'a', got 'x' for example 0"),
        ("a,b\n1,maybe\n", "expected true or false in 'b', got 'maybe' for example 0"),
        ("c\n1\n", "has no columns 'a', 'b', which the network was trained on"),
    ],
)
def test_text_in_a_new_table_is_refused(content, message):
    spec = table({"a": ["1 kg", "2 kg"], "b": ["yes", "no"]}).spec()
    write(content, "new.csv")
    with pytest.raises(DataError, match=re.escape(message)):
        read_examples("new.csv", spec)


def test_identifiers_of_a_new_table_are_returned(tmp_path):
    source = table({"id": [f"k{n}" for n in range(10)], "a": [str(n % 7) for n in range(10)]})
    spec, _ = quiet(source.spec)
    write("a,id\n1,u\n2,\n", "new.csv")
    (portion,) = open_inputs("new.csv", spec).portions
    assert portion.x.tolist() == [[1], [2]]
    assert portion.identifiers == {"id": ["u", ""]}


def test_a_changed_table_is_encoded_like_the_first():
    """Another category, another class and another column change neither features nor classes in silence."""
    source = table({"town": ["Ghent", "Bruges", "Ghent", "Bruges"], "a": list("1324")}, y=list("uvuv"))
    spec = source.spec()
    write("b,a,y,town\n9,1,v,Paris\n8,2,u,Ghent\n", "new.csv")
    other = files.source("csv", {"path": "new.csv", "target": "y"}).like(spec)
    (new, arrays), text = quiet(lambda: (other.spec(), other.read(0)))
    assert (new.size, new.targets, new.columns) == (2, spec.targets, spec.columns)
    assert arrays.x.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert arrays.y.tolist() == [1, 0]
    assert "the column 'b' is ignored" in text
    write("a,y,town\n1,w,Ghent\n", "new.csv")
    with pytest.raises(DataError, match="'w' for 'y' of example 0 did not occur in training; known: u, v"):
        files.source("csv", {"path": "new.csv", "target": "y"}).like(spec).read(0)


# Warnings


def test_columns_that_determine_the_target_are_named(rng):
    x = rng.normal(size=40)
    columns = {"a": x.round(4).tolist(), "b": (3 - 2 * x).round(4).tolist(), "c": rng.normal(size=40).tolist()}
    with pytest.warns(DataWarning, match=r"'b' determines the target exactly, .*set data.drop: \[b\]"):
        table({"b": columns["b"], "c": columns["c"]}, y=columns["a"]).spec()
    kinds = ["uvw"[n % 3] for n in range(40)]
    grades = {"u": "1", "v": "5", "w": "2"}
    leaking = {"c": columns["c"], "code": [grades[kind] for kind in kinds], "word": [kind * 2 for kind in kinds]}
    with pytest.warns(DataWarning, match="columns 'code', 'word' determine the target exactly"):
        table(leaking, y=kinds).spec()
    table({"c": columns["c"], "code": [*leaking["code"][:-1], "2"]}, y=[*kinds[:-1], "v"]).spec()  # no warning


@pytest.mark.parametrize("text", ["?", "-", "--", "N.A.", "n.a.", "NA", "null"])
def test_what_people_write_for_a_missing_number_is_missing(text):
    source = table({"a": ["1", text, "3", "4"]})
    with pytest.raises(DataError, match="example 1 has no value for 'a'"):
        source.spec()
    column = table({"a": ["1", text, "3", "4"]}, missing="mean")
    assert column.spec().columns[0].type == "number"
    assert np.array_equal(column.read(0).x[:, 0], [1, np.nan, 3, 4], equal_nan=True)
