"""Surroundings of every test of the command line."""

import pytest
from cli.calls import surroundings


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory):
    """A cache of decoded data for each module."""
    with surroundings(tmp_path_factory.mktemp("cache")):
        yield
