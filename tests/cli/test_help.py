"""The help, and what loading it costs."""

import re
import subprocess
import sys

from cli.calls import done, process


def test_help_loads_no_jax():
    program = """
import contextlib, io, sys
from fnet.cli.app import app

names = [command.name or command.callback.__name__ for command in app.registered_commands]
for arguments in [[], *([name] for name in names)]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        app([*arguments, "--help"], standalone_mode=False)
    assert "Usage:" in out.getvalue(), arguments
    assert "jax" not in sys.modules, arguments
print(*names)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert {"train", "evaluate", "gradcheck", "summary", "validate", "schema", "explain"} <= set(
        finished.stdout.split()
    )


def test_help_lists_the_commands_with_what_they_do():
    out = done("--help")
    assert all(re.search(rf"{name} +\S+", out) for name in ("train", "evaluate", "gradcheck", "summary", "explain"))


def test_a_reader_that_stops_early_is_no_error():
    """As in `fnet schema | head`."""
    schema = process("schema")
    assert schema.stdout is not None
    schema.stdout.read(1)
    schema.stdout.close()
    assert schema.wait(timeout=60) == 0
    assert schema.stderr is not None
    with schema.stderr as errors:
        assert errors.read() == ""
