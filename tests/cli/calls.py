"""Commands as the tests call them, and what a run leaves."""

import json
import subprocess
import sys

from typer.testing import CliRunner

from fnet.cli.app import app

FEW = "data.split={train: 0.02, validation: 0.02, test: 0.02}"
"""Leaves few of the digits, whose convolutions take long: some 36 examples a part."""
PARTS = ["data.split={train: 0.6, validation: 0.2, test: 0.2}"]
"""Of the small sets that stand in for those of TensorFlow Datasets."""

SHORT_TEXT = ["data.block=8", "data.split={train: 0.1, validation: 0.01, test: 0.01}"]

RUN_FILES = {"config.yaml", "environment.json", "metrics.jsonl", "model.safetensors"}


def call(*arguments):
    """A command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments):
    """What a command that succeeds prints."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def strictly(text):
    """Parsed JSON, in which Infinity and NaN have no place."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def records(run):
    """The lines of a run's metrics.jsonl."""
    return [strictly(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    """Everything that metrics.jsonl records of the computation, times left out."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records(run)]


def process(*arguments):
    """A command in a process of its own; SIGINT is the keyboard's, however these tests were started."""
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import fnet.__main__"
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def few(config):
    """What keeps a test with this config short."""
    if config.stem == "mnist-idx":
        return ['data.split={train: "train[:100]", validation: "train[100:140]", test: "test[:40]"}']
    if config.stem == "text-gpt":
        layers = ["model.1.positions=8", "model.2.repeat.times=1", "model.2.repeat.layers.0.transformer.width=8"]
        return [*SHORT_TEXT, "model.0.embedding.width=8", *layers]
    if config.stem.startswith("text-"):
        return SHORT_TEXT
    if config.stem == "fashion-cnn":
        return [*PARTS, "model.0.conv.filters=3", "model.4.conv.filters=3"]
    if config.stem.startswith("mnist-"):
        return PARTS
    return [FEW] if config.stem.startswith("digits-") else []
