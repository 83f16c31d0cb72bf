"""The tables of `fnet data show` and `fnet data list`."""

import re

import numpy as np
from report.printed import printed, rows

from fnet.core.wording import in_bytes
from fnet.data import catalog
from fnet.data.arrays import Arrays
from fnet.data.cache import Entry
from fnet.data.inspect import inspect
from fnet.data.source import DatasetSpec, Targets
from fnet.report.data import ROWS, listing_tables, tables

PARTS = (0.8, 0.1, 0.1)


def inspection(kind, name, normalization="none", **settings):
    source = catalog.source(kind, name, settings)
    return inspect(source.read(0), source.spec(), PARTS, normalization, seed=0)


def test_a_table_of_numbers():
    found = inspection("sklearn", "iris", "standard")
    cells = rows(*tables(found))
    assert ["iris: 150 examples (4,) with 3 classes"] in cells
    assert ["train", "0.8", "120"] in cells
    assert ["as stored", "train", *(f"{value:.4g}" for value in found.parts[0].stored[:4])] in cells
    assert any(row[0] == "setosa" and row[1] == "40" for row in cells)
    assert any(row[0] == "feature 4" for row in cells)


def test_the_numbers_are_those_of_the_training_part(rng):
    x = rng.standard_normal((40, 3)).astype(np.float32)
    y = rng.standard_normal((40, 1)).astype(np.float32)
    spec = DatasetSpec("made", (3,), Targets("values", 1, ("height",)), 40)
    found = inspect(Arrays(x, y), spec, (1.0, 0.0, 0.0), "none", seed=0)
    values = [f"{value:.4g}" for value in (y.min(), y.max(), y.mean(), y.std())]
    assert any(row[-4:] == values for row in rows(*tables(found)))


def test_text_is_described_by_its_vocabulary():
    text = printed(*tables(inspection("synthetic", "sentences", samples=40, block=16)))
    assert re.search(r"token indices, vocabulary of \d+", text)
    assert "as stored" not in text


def test_many_classes_are_cut_to_the_most_frequent():
    number = ROWS + 5
    y = np.concatenate([np.arange(number), np.full(10, number - 1)]).astype(np.int32)
    spec = DatasetSpec("many", (1,), Targets("classes", number), len(y))
    found = inspect(Arrays(np.zeros((len(y), 1), np.float32), y), spec, (1.0, 0.0, 0.0), "none", seed=0)
    classes = [row[0] for row in rows(*tables(found)) if row[0].isdecimal()]
    assert classes[0] == str(number - 1)
    assert len(classes) == ROWS


def test_the_list_names_shipped_prepared_and_decoded_datasets(tmp_path):
    entry = Entry(tmp_path / "abc", {"name": "photos", "format": "images"}, 2_500_000, 0.0)
    text = printed(*listing_tables(catalog.embedded(), {"mnist": "/sets/mnist"}, "/cache", [entry]))
    for name in ("digits", "sentences", "mnist", "photos", in_bytes(2_500_000)):
        assert name in text
