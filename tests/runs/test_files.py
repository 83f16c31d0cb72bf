"""Commands that only list or remove files do not load JAX."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["list", "clear"])
def test_commands_on_the_cache_load_no_jax(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = f"""
import sys
from fnet.cli.app import app

try:
    app(["data", "{command}"])
except SystemExit as ended:
    assert not ended.code, ended.code
assert "jax" not in sys.modules
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout
