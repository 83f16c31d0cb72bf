"""Requests for data from files, as the tests of every format make them."""

from pathlib import Path

import numpy as np
import pytest

from fnet.data import cache, files
from fnet.data.source import DataError

TABLE = """height,color,old,weight,kind
1.5,red,True,3,cat
2.5,blue,False,4,dog
0.5,"re,d",True,5,cat
"""


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


def write(content, name="t.csv"):
    Path(name).write_text(content, encoding="utf-8")
