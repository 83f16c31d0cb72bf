"""Fixtures for the tests of the config."""

from pathlib import Path

import pytest

from fnet.config.load import load, resolve


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    """Return a function that writes c.yaml to the current directory, so that messages start with this name."""
    monkeypatch.chdir(tmp_path)

    def config_file(text):
        Path("c.yaml").write_text(text, encoding="utf-8")
        return "c.yaml"

    return config_file


@pytest.fixture
def load_text(config_file):
    """Return a function that builds the experiment of a config."""
    return lambda text, *overrides: load(config_file(text), overrides)


@pytest.fixture
def resolve_text(config_file):
    """Return a function that resolves a config."""
    return lambda text, *overrides: resolve(config_file(text), overrides)
