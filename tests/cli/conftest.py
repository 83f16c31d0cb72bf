"""Surroundings of every test of the command line."""

import pytest
from cli.calls import surroundings


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory, quick_compilation):
    """Fast compilation, and a cache for each module."""
    with surroundings(tmp_path_factory.mktemp("cache")):
        yield
