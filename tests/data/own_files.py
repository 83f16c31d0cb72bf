"""Helpers for tests that read data from files."""

from pathlib import Path

import numpy as np
import pytest

from fnet.data import cache
from fnet.data.files import source
from fnet.data.inputs import open_inputs
from fnet.data.source import DataError

TABLE = """height,color,old,weight,kind
1.5,red,True,3,cat
2.5,blue,False,4,dog
0.5,"re,d",True,5,cat
"""


def spec_and_arrays(name, **settings):
    """Return the description and arrays of a dataset; check that they agree, and that the cache returns the same."""
    data = source(name, settings)
    spec = data.spec()
    arrays, again = data.read(seed=0), data.read(seed=0)
    assert np.array_equal(arrays.x, again.x, equal_nan=True)
    assert np.array_equal(arrays.y, again.y)
    assert arrays.x.shape == (spec.size, *spec.shape)
    assert arrays.y.shape == (
        spec.size,
        *(spec.targets.shape if spec.targets.kind == "classes" else (spec.targets.number,)),
    )
    if spec.splits:
        assert sum(size for _, size in spec.splits) == spec.size
    return spec, arrays


def assert_refused(name, message, **settings):
    """Check that describing or reading the data raises an error with this message; return the error."""

    def describe_and_read():
        data = source(name, settings)
        data.spec()
        data.read(seed=0)

    with pytest.raises(DataError, match=message) as caught:
        describe_and_read()
    assert not list(cache.folder().glob("*"))
    return caught.value


def write(content, name="t.csv"):
    Path(name).write_text(content, encoding="utf-8")


def read_examples(path, spec):
    """Return all examples in a file, and the number or name of each."""
    size, portions = open_inputs(path, spec)
    parts = list(portions)
    x = np.concatenate([part.x for part in parts])
    assert len(x) == size
    return x, [name for part in parts for name in part.examples]
