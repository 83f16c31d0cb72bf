"""Failed runs, bugs and interrupts: exit statuses 3, 70 and 130."""

import errno
import os
import re
import signal
import time

import jax
import numpy as np
import pytest
from cli.calls import RUN_FILES, call, output_of, parse_json, records, start_process
from shipped import DIABETES, IRIS, XOR

import fnet
from fnet.report.progress import TrainingProgress
from fnet.runs import files
from fnet.train.loop import Segment

# 3: the run failed


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """Return the result and folder of a run whose learning rate is far too large."""
    out = tmp_path_factory.mktemp("diverged")
    result = call("train", DIABETES, "optimizer.learning_rate=1e6", "train.epochs=50", f"out={out}")
    return result, out / "diabetes-linear-1"


def test_a_run_that_diverges_names_the_step_and_the_cause(diverged):
    result, run = diverged
    assert result.exit_code == 3
    pattern = (
        r"^error: the run failed at step \d+ \(epoch \d+\): .*after growing from .* to .*learning rate .*too large"
    )
    assert re.search(pattern, result.stderr)
    assert f"the last good parameters are in {run}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_that_diverges_saves_finite_parameters(diverged):
    _, run = diverged
    assert {path.name for path in run.iterdir()} == RUN_FILES
    _, params, _ = fnet.load(run)
    assert jax.tree.leaves(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_run_that_diverges_logs_the_failure_in_valid_json(diverged):
    _, run = diverged
    last = records(run)[-1]
    assert last["event"] == "failed"
    assert "learning rate" in last["reason"]


def test_a_full_disk_is_not_a_bug(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fnet.runs.files.append", full)
    result = call("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert result.exit_code == 3
    assert re.match(r"error: .*No space left on device", result.stderr)
    assert "Traceback" not in result.stderr


# 70: a bug in fnet


def test_a_bug_shows_its_traceback_and_asks_for_a_report(monkeypatch):
    def buggy():
        raise RuntimeError("planted")

    monkeypatch.setattr("fnet.config.json_schema.json_schema", buggy)
    result = call("schema")
    assert result.exit_code == 70
    assert "Traceback (most recent call last)" in result.stderr
    assert "RuntimeError: planted" in result.stderr
    assert "bug in fnet: please report it" in result.stderr
    assert result.stdout == ""


# 130: interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_parameters(number, tmp_path):
    train = start_process("train", XOR, "train.epochs=1000000", f"out={tmp_path}")
    run = tmp_path / "xor-mlp-1"
    deadline = time.monotonic() + 60
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 2):
        assert train.poll() is None, train.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    train.send_signal(number)
    out, errors = train.communicate(timeout=60)
    assert train.returncode == 130, errors
    assert "Traceback" not in errors

    end = records(run)[-1]
    assert (end["event"], end["stopped"]) == ("end", "interrupted")
    assert re.search(r"interrupted after \d+ of 1000000 epochs; the parameters are of epoch \d+", out)
    assert {path.name for path in run.iterdir()} == RUN_FILES
    net, params, state = fnet.load(run)
    outputs, _ = net.apply(params, state, np.zeros((3, 2), np.float32), train=False)
    assert np.isfinite(outputs).all()
    scores = parse_json(output_of("evaluate", run, "--json"))["scores"]
    assert scores["test"]["loss"] == pytest.approx(end["test_loss"], rel=1e-5)


@pytest.mark.parametrize("event", ["epoch", "segment"])
def test_the_log_of_an_interrupted_run_matches_the_saved_parameters(event, monkeypatch, tmp_path):
    """An interrupt in the third epoch, after its steps or while its record is written.

    Every completed epoch has a record, and the saved parameters are those of the named epoch, unless it was not
    completed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    append, progress = files.append, TrainingProgress.__call__

    def append_when_interrupted(path, record):
        if event == "epoch" and record.get("epoch") == 3:
            signal.raise_signal(signal.SIGINT)
        append(path, record)

    def show_when_interrupted(self, shown):
        if event == "segment" and isinstance(shown, Segment) and shown.epoch == 3:
            signal.raise_signal(signal.SIGINT)
        progress(self, shown)

    monkeypatch.setattr(files, "append", append_when_interrupted)
    monkeypatch.setattr(TrainingProgress, "__call__", show_when_interrupted)
    try:
        result = call("train", IRIS, "train.epochs=6", f"out={tmp_path}")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    *epochs, end = records(tmp_path / "iris-logistic-1")
    assert f"interrupted after {len(epochs)} of 6 epochs" in result.stdout
    logged = {record["epoch"]: record["validation_loss"] for record in epochs}
    assert end["validation_loss"] == pytest.approx(logged.get(end["kept_epoch"], end["validation_loss"]), rel=1e-6)
