"""What the tests of the config share."""

from pathlib import Path

import pytest

from fnet.config.load import load


@pytest.fixture
def load_text(tmp_path, monkeypatch):
    """Loads text as c.yaml of the working folder, so that messages start with that name."""
    monkeypatch.chdir(tmp_path)

    def load_text(text, *overrides):
        Path("c.yaml").write_text(text, encoding="utf-8")
        return load("c.yaml", overrides)

    return load_text
