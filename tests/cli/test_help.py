"""Help, version and shell completion, and the imports that they avoid."""

import re
import subprocess
import sys
from importlib import metadata

from cli.calls import output_of, start_process

import fnet

COMMANDS = {
    "init",
    "train",
    "evaluate",
    "predict",
    "gradcheck",
    "trace",
    "summary",
    "validate",
    "explain",
    "schema",
    "guide",
}


def test_help_loads_no_jax():
    program = """
import contextlib, io, sys
from fnet.cli.app import app

names = [command.name or command.callback.__name__ for command in app.registered_commands]
for arguments in [[], ["data"], *([name] for name in names)]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        app([*arguments, "--help"], standalone_mode=False)
    assert "Usage:" in out.getvalue(), arguments
    assert "jax" not in sys.modules, arguments
print(*names)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert set(finished.stdout.split()) == COMMANDS


def test_help_lists_the_commands_with_descriptions():
    out = output_of("--help")
    assert all(re.search(rf"{name} +\S+", out) for name in (*COMMANDS, "data", "--install-completion"))


def test_version():
    version = metadata.version("fnet")
    assert output_of("--version") == f"fnet {version}\n"
    assert fnet.__version__ == version


def test_a_shell_completes_commands_and_topics():
    """Bash asks the program for completions, using environment variables."""

    def completions(words):
        environment = {
            "_FNET_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        program = "import sys; sys.argv[0] = 'fnet'; from fnet.cli.app import app; app(prog_name='fnet')"
        finished = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment
        )
        return finished.stdout.split()

    assert completions("fnet tra") == ["train", "trace"]
    assert completions("fnet guide conf") == ["config"]


def test_a_reader_that_stops_early_is_not_an_error():
    """As in `fnet schema | head`."""
    schema = start_process("schema")
    assert schema.stdout is not None
    schema.stdout.read(1)
    schema.stdout.close()
    assert schema.wait(timeout=60) == 0
    assert schema.stderr is not None
    with schema.stderr as errors:
        assert errors.read() == ""
