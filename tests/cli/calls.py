"""Helpers that call the command line and read the files of a run."""

import contextlib
import json
import signal
import subprocess
import sys

import jax
import pytest
from typer.testing import CliRunner

from fnet.cli.app import app

TINY_SPLIT = "data.split={train: 0.02, validation: 0.02, test: 0.02}"
"""Override that reduces the digits, whose convolutions are slow, to about 36 examples per part."""
SMALL_SPLIT = ["data.split={train: 0.6, validation: 0.2, test: 0.2}"]
"""Overrides for the small datasets that replace those of TensorFlow Datasets in tests."""

SHORT_TEXT = ["data.block=8", "data.split={train: 0.1, validation: 0.01, test: 0.01}"]

RUN_FILES = {"config.yaml", "environment.json", "metrics.jsonl", "model.safetensors"}


@contextlib.contextmanager
def isolated_environment(cache):
    """Place the caches of commands in a folder, and restore afterwards what commands change in this process.

    All tests share the compiled programs.
    """
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_raise_persistent_cache_errors",
    )
    before = {name: jax.config.values[name] for name in names}
    handler = signal.getsignal(signal.SIGTERM)
    (cache / "fnet").mkdir()
    (cache / "fnet" / "compiled").symlink_to(before["jax_compilation_cache_dir"], target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield
    signal.signal(signal.SIGTERM, handler)
    for name, value in before.items():
        jax.config.update(name, value)


def call(*arguments):
    """Run a command in this process, and return its result."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def output_of(*arguments):
    """Run a command that must succeed, and return its standard output."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def parse_json(text):
    """Parse JSON; NaN and infinity are errors."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def records(run):
    """Return the records of a run's metrics.jsonl."""
    return [parse_json(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def records_without_times(run):
    """Return the records of a run's metrics.jsonl without the times."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records(run)]


def start_process(*arguments):
    """Start a command in a separate process, with the default SIGINT handler even if the tests run without it."""
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{handler}; from fnet.__main__ import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def short_overrides(config):
    """Return the overrides that make a test with this config fast."""
    if config.stem == "mnist-idx":
        return ['data.split={train: "train[:100]", validation: "train[100:140]", test: "test[:40]"}']
    if config.stem == "text-gpt":
        layers = ["model.1.positions=8", "model.2.repeat.times=1", "model.2.repeat.layers.0.transformer.width=8"]
        return [*SHORT_TEXT, "model.0.embedding.width=8", *layers]
    if config.stem.startswith("text-"):
        return SHORT_TEXT
    if config.stem == "fashion-cnn":
        return [*SMALL_SPLIT, "model.0.conv.filters=3", "model.4.conv.filters=3"]
    if config.stem.startswith("mnist-"):
        return SMALL_SPLIT
    return [TINY_SPLIT] if config.stem.startswith("digits-") else []
