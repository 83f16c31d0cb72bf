"""`fnet train` with cross-validation: one run per fold, and the table of means and standard deviations."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from cli.calls import RUN_FILES, call, output_of, parse_json, records, records_without_times
from shipped import IRIS

from fnet.config.load import load
from fnet.runs import folds as runs_folds
from fnet.runs.folds import cross_validate

SHORT = ["train.epochs=2", "name=cv"]
FOLDS = "data.split={cross_validation: 3, test: 0.2}"


@pytest.fixture
def trained(tmp_path):
    """Return the folder of a cross-validation, and what the command printed."""
    return tmp_path / "cv-1", output_of("train", IRIS, *SHORT, FOLDS, f"out={tmp_path}")


def test_each_fold_is_an_ordinary_run(trained, tmp_path):
    run, out = trained
    assert {path.name for path in run.iterdir()} == {"config.yaml", "environment.json", "folds.json"} | {
        f"fold-{number}" for number in (1, 2, 3)
    }
    result = parse_json((run / "folds.json").read_text())
    assert result["total"] == 3
    for number, fold in enumerate(result["folds"], start=1):
        folder = run / fold["folder"]
        assert (fold["fold"], folder.name) == (number, f"fold-{number}")
        assert {path.name for path in folder.iterdir()} == RUN_FILES
        assert fold["examples"] == {"train": 80, "validation": 40, "test": 30}
        end = records(folder)[-1]
        assert fold["scores"]["validation"]["loss"] == end["validation_loss"]
        assert f"fold {number}/3: 80 training and 40 validation examples; validation loss " in out
    for part in ("train", "validation", "test"):
        for metric in ("loss", "accuracy"):
            values = [fold["scores"][part][metric] for fold in result["folds"]]
            summary = result["scores"][part][metric]
            np.testing.assert_allclose([summary["mean"], summary["std"]], [np.mean(values), np.std(values, ddof=1)])
    mean, std = result["scores"]["validation"]["accuracy"].values()
    assert "mean ± standard deviation over 3 folds:" in out
    assert re.search(rf"validation .* {100 * mean:.1f}% ± {100 * std:.1f}%", out)

    output_of("train", run / "fold-2" / "config.yaml", f"out={tmp_path}")
    assert records_without_times(tmp_path / "cv-2") == records_without_times(run / "fold-2")
    assert (tmp_path / "cv-2" / "model.safetensors").read_bytes() == (run / "fold-2" / "model.safetensors").read_bytes()
    scores = parse_json(output_of("evaluate", run / "fold-2", "--json"))["scores"]
    assert scores["validation"]["loss"] == pytest.approx(result["folds"][1]["scores"]["validation"]["loss"], rel=1e-5)

    environment = [parse_json((folder / "environment.json").read_text()) for folder in (run, run / "fold-1")]
    assert environment[0]["data"] == environment[1]["data"]
    for command in (("evaluate", run), ("predict", run, "x.csv")):
        result = call(*command)
        assert result.exit_code == 2
        message = f"error: {run} is not a finished run: it is the folder of a cross-validation; name one of its folds, "
        assert result.stderr == f"{message}such as {run}/fold-1\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_the_completed_folds(number, status, tmp_path, monkeypatch):
    """The signal arrives in the third fold."""
    original = runs_folds.run
    started = []

    def run(experiment, on_event, stop):
        started.append(experiment)

        def interrupt(event):
            if len(started) == 3:
                signal.raise_signal(number)
            on_event(event)

        return original(experiment, interrupt, stop)

    monkeypatch.setattr(runs_folds, "run", run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    result = call("train", IRIS, *SHORT, "data.split={cross_validation: 4}", f"out={tmp_path}")
    signal.signal(signal.SIGINT, before)
    assert result.exit_code == status
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert f"{word}; 2 of 4 folds are complete in {tmp_path}/cv-1: fold-1, fold-2\n" in result.stdout
    assert "mean ± standard deviation over 2 folds:" in result.stdout
    folds = parse_json((tmp_path / "cv-1" / "folds.json").read_text())
    assert [fold["folder"] for fold in folds["folds"]] == ["fold-1", "fold-2"]
    assert (tmp_path / "cv-1" / "fold-3" / "model.safetensors").exists()
    assert not (tmp_path / "cv-1" / "fold-4").exists()
    ends = [records(tmp_path / "cv-1" / f"fold-{number}")[-1]["stopped"] for number in (1, 2, 3)]
    assert ends == ["done", "done", "interrupted"]


def test_a_fold_without_a_class_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """The only example of a class is in the validation part of one fold."""
    monkeypatch.chdir(tmp_path)
    np.savez("t.npz", x=np.ones((9, 2)), y=[0, 0, 0, 0, 1, 1, 1, 1, 2])
    Path("c.yaml").write_text("data: {path: t.npz, split: {cross_validation: 3}}\nmodel: [{dense: classes}]\n")
    result = call("train", "c.yaml")
    assert result.exit_code == 2
    assert "class '2' is in the validation part but not in the training part" in result.stderr
    assert not Path("runs").exists()


def test_cross_validation_in_python(tmp_path):
    """Without a config; each fold is normalized with the statistics of its own training part."""
    experiment = load(str(IRIS), [*SHORT, "data.split={cross_validation: 2}", f"out={tmp_path}"])
    completed = []
    result = cross_validate(experiment, completed.append)
    assert result.folds == tuple(completed)
    assert result.estimates().keys() == {"train", "validation"}
    assert str(result) == f"2 of 2 folds are complete in {tmp_path}/cv-1: fold-1, fold-2"
