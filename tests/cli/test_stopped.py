"""Runs that are stopped: by Ctrl-C, termination, a closed terminal or a closed pipe. Exit statuses 130, 143, 129, 0."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli.calls import RUN_FILES, call, output_of, parse_json, records, start_process
from shipped import IRIS, XOR

import fnet.__main__
from fnet.cli.train import train
from fnet.report.progress import TrainingProgress
from fnet.runs import files
from fnet.train.loop import Epoch, Segment


@pytest.fixture(autouse=True)
def _default_handler():
    """The tests may run where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def raise_in_epoch(monkeypatch, number, *signals):
    """Send signals while the progress of an epoch is shown."""
    progress = TrainingProgress.__call__

    def show(self, event):
        if isinstance(event, Epoch) and event.epoch == number:
            for each in signals:
                signal.raise_signal(each)
        progress(self, event)

    monkeypatch.setattr(TrainingProgress, "__call__", show)


def test_an_interrupted_run_saves_its_parameters(tmp_path):
    train = start_process("train", XOR, "train.epochs=1000000", f"out={tmp_path}")
    run = tmp_path / "xor-mlp-1"
    deadline = time.monotonic() + 60
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 2):
        assert train.poll() is None, train.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    train.send_signal(signal.SIGINT)
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
    result = call("train", IRIS, "train.epochs=6", f"out={tmp_path}")
    assert result.exit_code == 130
    *epochs, end = records(tmp_path / "iris-logistic-1")
    assert f"interrupted after {len(epochs)} of 6 epochs" in result.stdout
    logged = {record["epoch"]: record["validation_loss"] for record in epochs}
    assert end["validation_loss"] == pytest.approx(logged.get(end["kept_epoch"], end["validation_loss"]), rel=1e-6)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "the terminal was closed")],
)
def test_termination_saves_the_parameters_and_scores_nothing(number, status, word, monkeypatch, request, tmp_path):
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup, which ignores SIGHUP
    request.addfinalizer(lambda: signal.signal(number, before))
    raise_in_epoch(monkeypatch, 3, number)
    monkeypatch.setattr("fnet.runs.run.scores_of", lambda *_: pytest.fail("scored"))
    result = call("train", IRIS, "train.epochs=6", f"out={tmp_path}")
    run = tmp_path / "iris-logistic-1"
    assert (result.exit_code, result.stderr) == (status, "")
    assert f"{word} after 3 of 6 epochs; the parameters are of epoch 3\n" in result.stdout
    assert f"the run is in {run}: " in result.stdout
    name = signal.Signals(number).name
    assert records(run)[-1] == {"event": "end", "stopped": "interrupted", "kept_epoch": 3, "signal": name}
    assert {path.name for path in run.iterdir()} == RUN_FILES
    assert parse_json(output_of("evaluate", run, "--json"))["examples"]["test"] == 15


def test_the_handlers_of_the_program_are_restored(tmp_path):
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in signals]
    output_of("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert [signal.getsignal(number) for number in signals] == before


def test_an_interrupt_while_modules_are_imported_ends_with_one_line(monkeypatch, capsys):
    class Finder:
        def find_spec(self, name, *_):
            if name == "fnet.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "fnet.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(SystemExit) as exit:
        fnet.__main__.main()
    assert exit.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_second_interrupt_stops_without_scores(monkeypatch, tmp_path):
    raise_in_epoch(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    result = call("train", IRIS, "train.epochs=6", f"out={tmp_path}")
    run = tmp_path / "iris-logistic-1"
    assert result.exit_code == 130
    assert result.stderr == f"interrupted; the parameters were saved; the run is in {run}\n"
    assert records(run)[-1] == {"event": "end", "stopped": "interrupted", "kept_epoch": 2, "signal": "SIGINT"}
    assert {path.name for path in run.iterdir()} == RUN_FILES


def test_an_interrupt_while_a_complete_run_is_scored_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr("fnet.runs.run.scores_of", lambda *_: signal.raise_signal(signal.SIGINT))
    result = call("train", IRIS, "train.epochs=2", f"out={tmp_path}")
    run = tmp_path / "iris-logistic-1"
    assert result.exit_code == 130
    assert result.stderr == f"interrupted; the parameters were saved; the run is in {run}\n"
    assert records(run)[-1] == {"event": "end", "stopped": "done", "kept_epoch": 2, "signal": "SIGINT"}


@pytest.mark.parametrize(
    ("where", "message", "events"),
    [
        ("fnet.runs.run.load_data", "interrupted\n", []),
        (
            "fnet.train.segments.compile_for",
            "interrupted; the parameters were not saved; the run is in {run}\n",
            ["end"],
        ),
    ],
)
def test_an_interrupt_before_training_ends_with_one_line(where, message, events, monkeypatch, tmp_path):
    run = tmp_path / "iris-logistic-1"
    monkeypatch.setattr(where, lambda *_: signal.raise_signal(signal.SIGINT))
    result = call("train", IRIS, f"out={tmp_path}")
    assert (result.exit_code, result.stderr) == (130, message.format(run=run))
    assert [record["event"] for record in (records(run) if events else [])] == events
    assert run.exists() == bool(events)


def test_an_interrupt_while_modules_are_imported_waits_for_the_import(monkeypatch):
    """An exception raised within the import of a module in C++ aborts the process."""
    imported = []

    def interrupted_import():
        signal.raise_signal(signal.SIGINT)
        imported.append(True)

    monkeypatch.setattr("fnet.cli.train.start_jax", interrupted_import)
    result = call("train", IRIS)
    assert (result.exit_code, result.stderr, imported) == (130, "interrupted\n", [True])


def test_a_program_without_standard_streams_trains(tmp_path):
    """`fnet train CONFIG <&- >&- 2>&-`, as a service may start it."""
    start = [
        sys.executable,
        "-c",
        "import os; [os.close(n) for n in (0, 1, 2)]; os.execv(os.sys.executable, os.sys.argv[1:])",
    ]
    fnet_train = [sys.executable, "-m", "fnet", "train", IRIS, "train.epochs=1", f"out={tmp_path}"]
    assert subprocess.run([*start, *map(str, fnet_train)], timeout=120).returncode == 0
    assert [record["event"] for record in records(tmp_path / "iris-logistic-1")] == ["epoch", "end"]


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_pipe_does_not_stop_a_run(closed, monkeypatch, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, closed, pipe)
        append = files.append

        def append_and_print(path, record):
            print("a line", file=sys.stderr)
            append(path, record)

        monkeypatch.setattr(files, "append", append_and_print)
        with pytest.raises(SystemExit) as ended:
            train(str(IRIS), ["train.epochs=3", f"out={tmp_path}"])
        monkeypatch.undo()
    run = tmp_path / "iris-logistic-1"
    assert not ended.value.code
    assert [record["event"] for record in records(run)] == ["epoch", "epoch", "epoch", "end"]
    assert {path.name for path in run.iterdir()} == RUN_FILES
