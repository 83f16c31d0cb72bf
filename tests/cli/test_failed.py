"""Failed runs and bugs: exit statuses 3 and 70."""

import errno
import os
import re
import shutil
import tempfile

import jax
import numpy as np
import pytest
from cli.calls import RUN_FILES, call, output_of, parse_json, records
from shipped import DIABETES, IRIS, XOR

import fnet
from fnet.runs import files

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


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_for(name, mkstemp):
    """Return the function that creates temporary files, but finds the disk full for a file of this name."""

    def create(*args, prefix, **settings):
        return full() if prefix == f".{name}-" else mkstemp(*args, prefix=prefix, **settings)

    return create


@pytest.mark.filterwarnings("always::fnet.runs.log.LogWarning")
def test_training_continues_when_its_log_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "append", full)
    result = call("train", IRIS, "train.epochs=3", f"out={tmp_path}")
    run = tmp_path / "iris-logistic-1"
    assert result.exit_code == 3
    assert result.stderr == (
        f"warning: {run}/metrics.jsonl cannot be written: No space left on device; training continues, and records are "
        "lost until it can be\n"
        f"error: {run}/metrics.jsonl misses 4 records: No space left on device; the other files are complete\n"
    )
    assert f"the run is in {run}: config.yaml, environment.json, model.safetensors" in result.stdout
    assert set(parse_json(output_of("evaluate", run, "--json"))["scores"]) == {"train", "validation", "test"}


def test_parameters_that_do_not_fit_on_the_disk_are_saved_elsewhere(monkeypatch, tmp_path):
    """The first model file, in the run's folder, finds the disk full."""
    run, write, attempts = tmp_path / "iris-logistic-1", files.write, []

    def write_elsewhere(path, content):
        if path.name == "model.safetensors":
            attempts.append(path)
        return full() if attempts == [path] else write(path, content)

    monkeypatch.setattr("fnet.runs.model_file.write", write_elsewhere)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    result = call("train", IRIS, "train.epochs=2", f"out={tmp_path}")
    assert result.exit_code == 3
    (rescued,) = (tmp_path / "elsewhere").glob("*/model.safetensors")
    assert result.stderr == (
        f"error: {run}/model.safetensors cannot be written: No space left on device; the parameters are in {rescued}, "
        f"but were not scored; move them to {run}\n"
    )
    assert fnet.load(rescued)[1]["dense_1"]["w"].shape == (4, 3)
    assert [record["event"] for record in records(run)] == ["epoch", "epoch", "failed"]


def test_parameters_that_fit_nowhere_are_lost(monkeypatch, tmp_path):
    run = tmp_path / "iris-logistic-1"
    monkeypatch.setattr("fnet.runs.model_file.write", full)
    result = call("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: {run}/model.safetensors cannot be written: No space left on device; the parameters are lost; {run} "
        "keeps config.yaml, environment.json, metrics.jsonl; free space and train again\n"
    )
    evaluation = call("evaluate", run)
    assert evaluation.exit_code == 2
    assert f"{run} is not a finished run: it failed: {run}/model.safetensors cannot be written" in evaluation.stderr


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_disk_that_is_full_before_training_leaves_no_folder(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkstemp", full_for(name, tempfile.mkstemp))
    result = call("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: {tmp_path}/iris-logistic-1/{name} cannot be written: No space left on device; nothing was trained; "
        "free space, or choose another folder with out=FOLDER\n"
    )
    assert not any(tmp_path.iterdir())


def test_a_model_that_will_not_fit_on_the_disk_is_not_trained(monkeypatch, tmp_path):
    """The 15 parameters of iris-logistic are 60 bytes."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 41, 59))
    result = call("train", IRIS, f"out={tmp_path}")
    assert result.exit_code == 3
    assert "model.safetensors needs 60 bytes, and 59 bytes are free; nothing was trained" in result.stderr
    assert not any(tmp_path.iterdir())


# 3: not enough memory


@pytest.mark.filterwarnings("default::fnet.runs.memory.MemoryWarning")
def test_a_network_that_does_not_fit_into_memory_is_refused_before_training(tmp_path):
    """30e9 + 10e9 parameters of 4 bytes, with gradients and the two moments of adam; a batch of 32 * 1e10 outputs."""
    need = (
        r"training needs at least 1.9 TB of memory \(parameters 160 GB, gradients 160 GB, optimizer 320 GB, "
        r"data 5.4 kB, activations 1.3 TB\), but this machine has [\d.]+ GB; make the layers smaller\n"
    )
    result = call("train", XOR, "model.0.dense=10000000000", f"out={tmp_path}")
    assert result.exit_code == 3
    assert re.fullmatch("error: " + need, result.stderr)
    assert not any(tmp_path.iterdir())
    result = call("validate", XOR, "model.0.dense=10000000000")
    assert (result.exit_code, result.stdout) == (0, f"{XOR}: ok; training needs at least 1.9 TB of memory\n")
    assert re.fullmatch("warning: " + need, result.stderr)


def test_an_allocation_that_fails_is_not_a_bug(monkeypatch, tmp_path):
    """Where the estimate does not see it: JAX raises when the array is allocated."""
    monkeypatch.setattr("fnet.runs.memory.check", lambda need: None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**18, 0, 10**18))
    result = call("train", XOR, "model=[{dense: 3000000}, {dense: 3000000}, {dense: 1}]", f"out={tmp_path}")
    assert result.exit_code == 3
    assert re.fullmatch(
        "error: there is not enough memory: .*Out of memory allocating.* bytes.*; make the network or the batch "
        "smaller\n",
        result.stderr,
    )
    assert records(tmp_path / "xor-mlp-1")[-1]["event"] == "failed"


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
