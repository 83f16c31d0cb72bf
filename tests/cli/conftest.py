"""Fixtures for the tests of the command line."""

import pytest
from cli.calls import isolated_environment


@pytest.fixture(scope="module", autouse=True)
def _isolated_environment(tmp_path_factory):
    """Use a separate cache of decoded data for each module."""
    with isolated_environment(tmp_path_factory.mktemp("cache")):
        yield
