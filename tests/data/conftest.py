"""Fixtures for tests of the user's own files."""

import pytest


@pytest.fixture
def isolated_folders(tmp_path, monkeypatch):
    """Run the test in a temporary current directory, with a temporary cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
