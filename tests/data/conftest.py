"""What tests of the user's own files share."""

import pytest


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """A working folder and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
