"""The command line: exit statuses, what is printed where, and what is left in the run's folder."""

import errno
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import fnet
from fnet.cli import app
from fnet.reference.rule import Rule
from fnet.report.console import TrainingProgress
from fnet.train import folder as folder_module
from fnet.train.loop import Segment

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
IRIS, DIABETES, XOR, DIGITS = (
    Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    for name in ("iris-logistic", "diabetes-linear", "xor-mlp", "digits-mlp")
)
SHIPPED = pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
FEW = "data.split={train: 0.02, validation: 0.02, test: 0.02}"
"""Leaves few of the digits, whose convolutions take long: some 36 examples a part."""

RUN_FILES = {"config.yaml", "environment.json", "metrics.jsonl", "model.safetensors"}


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory):
    """Fast compilation, whose programs run slower; a cache of this module's own. What changes is put back."""
    names = (
        "jax_disable_most_optimizations",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_raise_persistent_cache_errors",
    )
    before = {name: jax.config.values[name] for name in names}
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    signal.signal(signal.SIGTERM, handler)
    for name, value in before.items():
        jax.config.update(name, value)


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
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from fnet.cli import main; main()"
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
    if config.stem.startswith(("mnist-", "fashion-")):
        return ["data.split={train: 0.6, validation: 0.2, test: 0.2}"]
    return [FEW] if config.stem.startswith("digits-") else []


# 0: done


@SHIPPED
def test_training_writes_a_run_that_evaluates_to_what_was_logged(config, tmp_path):
    out = done("train", config, "train.epochs=2", f"out={tmp_path}", *few(config))
    run = tmp_path / f"{config.stem}-1"
    assert f"the run is in {run}" in out
    assert {path.name for path in run.iterdir()} == RUN_FILES

    *epochs, end = records(run)
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert (end["event"], end["stopped"]) == ("end", "done")
    kept = epochs[end["kept_epoch"] - 1]
    assert end["validation_loss"] == pytest.approx(kept["validation_loss"], rel=1e-6)

    result = strictly(done("evaluate", run, "--json"))
    assert set(result["examples"]) == set(result["scores"]) == {"train", "validation", "test"}
    scores = {f"{part}_{name}": value for part, values in result["scores"].items() for name, value in values.items()}
    assert scores == {key: end[key] for key in scores}


@SHIPPED
def test_gradients_of_every_shipped_config_agree(config):
    found = strictly(done("gradcheck", config, "--json", "--samples", "1", "--examples", "4", *few(config)))
    assert found["ok"] is True
    (report,) = found["checks"]
    rows = [row for row in report["rows"] if row["part"] == "total"]
    names = [row["name"] for row in rows]
    assert names[:2] == ["outputs", "loss"]
    assert names[2:]
    assert all("/" in name or name == "input" for name in names[2:])
    assert all(row["ok"] for row in report["rows"])
    assert all(row["checked"] + row["kinks"] for row in report["rows"][2:] if row["name"] not in ("outputs", "loss"))


@SHIPPED
def test_every_shipped_config_is_valid_and_resolves_to_a_valid_one(config, tmp_path):
    assert done("validate", config) == f"{config}: ok\n"
    resolved = tmp_path / config.name
    resolved.write_text(done("validate", config, "--resolved"))
    assert done("validate", resolved, "--resolved") == resolved.read_text()


@SHIPPED
def test_every_shipped_config_is_summed_up(config):
    total, *layers = strictly(done("summary", config, "--json"))
    assert layers
    assert total["path"] == []
    assert total["parameters"] == sum(layer["parameters"] for layer in layers if len(layer["path"]) == 1)
    assert f"{total['parameters']:,}" in done("summary", config)


def test_the_summary_counts_as_one_does_by_hand():
    """digits-mlp: 64 pixels to 64 units, to 10."""
    total, *layers = strictly(done("summary", DIGITS, "--json"))
    assert [layer["parameters"] for layer in layers] == [0, 64 * 64 + 64, 0, 64 * 10 + 10]
    assert [layer["out_shape"] for layer in layers] == [[64], [64], [64], [10]]
    assert total["parameters"] == 4810


def test_gradcheck_says_so_in_words_too():
    out = done("gradcheck", XOR)
    assert "xor-mlp: binary_cross_entropy of 64 examples, at initialisation" in out
    assert "every value and gradient agrees" in out
    assert "dense_2/w" in out


def test_evaluate_shows_which_classes_are_confused(tmp_path):
    done("train", IRIS, "train.epochs=2", f"out={tmp_path}")
    out = done("evaluate", tmp_path / "iris-logistic-1")
    assert re.search(r"test +│ +15 ", out)
    assert "on the test part:" in out
    assert "true class by row" in out
    assert all(name in out for name in ("setosa", "versicolor", "virginica"))


def test_validating_reads_no_data(monkeypatch):
    monkeypatch.setattr("fnet.data.catalog.read", lambda *_: pytest.fail("the data were read"))
    done("validate", DIGITS)


def test_the_schema_is_json():
    assert strictly(done("schema"))["title"] == "fnet config"


def test_explain_prints_type_default_and_meaning():
    out = done("explain", "dense.units")
    assert all(word in out for word in ("dense.units", "whole number, at least 1", "required", "number of outputs"))
    assert "optimizer" in done("explain")


def test_overrides_reach_the_run(tmp_path):
    done("train", IRIS, "train.epochs=1", "optimizer.learning_rate=1e-2", "name=mine", f"out={tmp_path}")
    text = (tmp_path / "mine-1" / "config.yaml").read_text()
    assert "learning_rate: 0.01\n" in text
    assert "epochs: 1\n" in text


def test_the_number_of_a_run_is_one_more_than_the_greatest(tmp_path):
    for taken in ("iris-logistic-7", "iris-logistic-2", "iris-logistic-x", "iris-logistic-mlp-9"):
        (tmp_path / taken).mkdir()
    done("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    done("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert {"iris-logistic-8", "iris-logistic-9"} == {run.parent.name for run in tmp_path.glob("*/model.safetensors")}


def test_the_environment_of_a_run_is_recorded(tmp_path):
    done("train", IRIS, "train.epochs=1", "seed=5", f"out={tmp_path}")
    found = strictly((tmp_path / "iris-logistic-1" / "environment.json").read_text())
    assert found["seed"] == 5
    assert found["versions"]["jax"] == jax.__version__
    assert found["devices"]
    assert re.fullmatch(r"[0-9a-f]{64}", found["data"])


def test_steps_are_logged_as_often_as_asked(tmp_path):
    done("train", XOR, "train.epochs=2", "train.batch_size=50", "train.log_every=3", f"out={tmp_path}")
    steps = [record["step"] for record in records(tmp_path / "xor-mlp-1") if record["event"] == "step"]
    assert steps == [3, 6, 9, 12, 15]


def test_early_stopping_says_which_epoch_it_kept(tmp_path):
    arguments = ("train.epochs=200", "train.early_stopping.patience=1", "optimizer.learning_rate=5")
    out = done("train", IRIS, *arguments, f"out={tmp_path}")
    end = records(tmp_path / "iris-logistic-1")[-1]
    assert end["stopped"] == "early"
    assert re.search(rf"stopped early after {end['kept_epoch'] + 1} of 200 epochs; kept epoch {end['kept_epoch']}", out)


# Runs can be repeated


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """The runs of three processes: two of one config, and one of what the first resolved it to."""
    out = tmp_path_factory.mktemp("repeated")
    runs = [out / f"xor-mlp-{number}" for number in (1, 2, 3)]
    overrides = ["train.epochs=3", "train.log_every=1", "seed=3", f"out={out}"]
    for arguments in ([XOR, *overrides], [XOR, *overrides], [runs[0] / "config.yaml"]):
        train = process("train", *arguments)
        _, errors = train.communicate(timeout=120)
        assert train.returncode == 0, errors
    return runs


def test_two_processes_with_one_config_give_the_same_losses_to_the_bit(repeated):
    first, second, _ = repeated
    assert len(losses(first)) == 3 * 13 + 3 + 1
    assert losses(second) == losses(first)
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_the_resolved_config_of_a_run_gives_the_same_losses(repeated):
    first, _, third = repeated
    assert losses(third) == losses(first)
    assert (third / "config.yaml").read_text() == (first / "config.yaml").read_text()


def test_another_seed_gives_other_losses(tmp_path):
    for seed in (3, 4):
        done("train", XOR, "train.epochs=1", f"seed={seed}", f"out={tmp_path}")
    assert losses(tmp_path / "xor-mlp-1") != losses(tmp_path / "xor-mlp-2")


# 1: a gradient is wrong


def without_bias(rule):
    """Drops the gradient of the bias."""

    def backward(*arguments):
        dx, gradients = rule.backward(*arguments)
        return dx, {name: gradient for name, gradient in gradients.items() if name != "b"}

    return Rule(rule.forward, backward)


def with_the_wrong_sign(rule):
    """Negates the derivative."""

    def backward(*arguments):
        dx, gradients = rule.backward(*arguments)
        return -dx, gradients

    return Rule(rule.forward, backward)


def plant(monkeypatch, bug):
    """Puts a mistake into the hand-written backward; returns the rows of xor-mlp that must not agree."""
    if bug == "bias":
        module = importlib.import_module("fnet.reference.dense")
        monkeypatch.setattr(module, "dense", without_bias(module.dense))
        return {"dense_1/b", "dense_2/b"}
    if bug == "sign":
        module = importlib.import_module("fnet.reference.activation")
        monkeypatch.setattr(module, "tanh", with_the_wrong_sign(module.tanh))
        return {"input", "dense_1/w", "dense_1/b"}
    module = importlib.import_module("fnet.reference.network")
    original = module.backward
    monkeypatch.setattr(module, "backward", lambda net, given, cache, g: original(net, given, cache, g * len(g)))
    return {"input", "dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"}


@pytest.mark.parametrize("bug", ["bias", "sign", "mean"])
def test_gradcheck_finds_a_planted_mistake(monkeypatch, bug):
    wrong = plant(monkeypatch, bug)
    result = call("gradcheck", XOR, "--json")
    assert result.exit_code == 1
    found = strictly(result.stdout)
    assert found["ok"] is False
    (report,) = found["checks"]
    assert {row["name"] for row in report["rows"] if not row["ok"]} == wrong
    assert all(name in report["verdict"] for name in wrong)


def test_gradcheck_shows_a_planted_mistake(monkeypatch):
    plant(monkeypatch, "bias")
    result = call("gradcheck", XOR)
    assert result.exit_code == 1
    assert "WRONG" in result.stdout
    assert "2 of 7 rows differ: dense_1/b, dense_2/b" in result.stdout
    assert "Traceback" not in result.stderr


# 2: the request is wrong


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with bad configs, and things that are no run."""
    monkeypatch.chdir(tmp_path)
    net = "model: [flatten, {dense: 10}]\n"
    Path("typo.yaml").write_text("data: digits\n" + net + "train:\n  epoch: 3\n")
    Path("two.yaml").write_text("data: digit\nmodel: [flaten]\n")
    Path("tiny.yaml").write_text("data: {name: digits, split: {train: 1e-9}}\n" + net)
    Path("init.yaml").write_text("data: digits\nmodel: [flatten, {dense: {units: 10, init: no.such}}]\n")
    Path("name.yaml").write_text("data: digits\nname: a/b\n" + net)
    Path("good.yaml").write_text("data: digits\n" + net)
    Path("a_file").write_text("not a run\n")
    Path("empty").mkdir()
    Path("garbled").mkdir()
    Path("garbled/model.safetensors").write_bytes(b"\x08" * 100)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train missing.yaml", r"^missing\.yaml: no such file$"),
        ("train empty", r"^empty: a folder, not a config file$"),
        ("train typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch' in 'train'; did you mean 'epochs'\?$"),
        ("train good.yaml train.epochs=0", r"^train\.epochs=0: train\.epochs: expected a value of at least 1"),
        ("train good.yaml train.epochs", r"^train\.epochs: expected key=value"),
        ("train tiny.yaml", r"^tiny\.yaml:1:\d+: data\.split\.train: the part would be empty: 1e-09 of the 1797"),
        ("train init.yaml", r"^.*unknown initialiser 'no\.such'"),
        ("train name.yaml", r"^name\.yaml:2:7: "),
        ("validate typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch'"),
        ("summary typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch'"),
        ("summary init.yaml", r"^.*unknown initialiser 'no\.such'"),
        ("gradcheck two.yaml", r"^two\.yaml:1:7: .*\ntwo\.yaml:2:9: unknown layer 'flaten'"),
        ("evaluate missing", r"^error: missing is not a finished run: there is no such folder$"),
        ("evaluate empty", r"^error: empty is not a finished run: it holds no model\.safetensors$"),
        ("evaluate a_file", r"^error: a_file is not a finished run: it is (a file|no folder)"),
        ("evaluate garbled", r"^error: garbled/model\.safetensors cannot be read: "),
        ("explain epoch", r"^error: nothing is called 'epoch'; did you mean 'epochs'"),
    ],
)
def test_a_wrong_request_gets_a_short_message_and_leaves_nothing(folder, arguments, message):
    before = sorted(folder.rglob("*"))
    result = call(*arguments.split())
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr, re.MULTILINE), result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert "Traceback" not in result.output
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("out", ["a_file", "a_file/inside"])
def test_a_file_in_place_of_the_output_folder_is_refused_before_any_training(folder, out):
    before = sorted(folder.rglob("*"))
    result = call("train", "good.yaml", f"out={out}")
    assert result.exit_code == 2
    assert re.search(rf"^error: the output folder '{out}' cannot be written: .*out=", result.stderr)
    assert "Traceback" not in result.stderr
    assert "epoch" not in result.stdout
    assert sorted(folder.rglob("*")) == before
    assert Path("a_file").read_text() == "not a run\n"


@pytest.mark.parametrize("arguments", [["train"], ["trian", "good.yaml"], ["train", "good.yaml", "--epochs=3"]])
def test_a_wrong_command_line_is_explained(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_request_prints_no_traceback_in_a_process_of_its_own(folder):
    finished = subprocess.run(
        [sys.executable, "-m", "fnet.cli", "validate", folder / "typo.yaml"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert re.fullmatch(r"\S+typo\.yaml:4:3: unknown key 'epoch' .*\n", finished.stderr)


# 3: the run failed


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A run of gradient descent whose steps are far too long, and its folder."""
    out = tmp_path_factory.mktemp("diverged")
    result = call("train", DIABETES, "optimizer.learning_rate=1e6", "train.epochs=50", f"out={out}")
    return result, out / "diabetes-linear-1"


def test_a_run_that_diverges_says_at_which_step_and_why(diverged):
    result, run = diverged
    assert result.exit_code == 3
    pattern = (
        r"^error: the run failed at step \d+ \(epoch \d+\): .*after growing from .* to .*learning rate .*too large"
    )
    assert re.search(pattern, result.stderr)
    assert f"the last good parameters are kept in {run}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_that_diverges_keeps_finite_parameters(diverged):
    _, run = diverged
    assert {path.name for path in run.iterdir()} == RUN_FILES
    _, params, _ = fnet.load(run)
    assert jax.tree.leaves(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_run_that_diverges_logs_it_in_valid_json(diverged):
    _, run = diverged
    last = records(run)[-1]
    assert last["event"] == "failed"
    assert "learning rate" in last["reason"]


def test_a_full_disk_is_no_bug(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fnet.train.folder.append", full)
    result = call("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert result.exit_code == 3
    assert re.match(r"error: .*No space left on device", result.stderr)
    assert "Traceback" not in result.stderr


# 70: a bug of ours


def test_a_bug_shows_its_traceback_and_asks_for_a_report(monkeypatch):
    def buggy():
        raise RuntimeError("planted")

    monkeypatch.setattr("fnet.config.explain.json_schema", buggy)
    result = call("schema")
    assert result.exit_code == 70
    assert "Traceback (most recent call last)" in result.stderr
    assert "RuntimeError: planted" in result.stderr
    assert "bug of fnet's: please report it" in result.stderr
    assert result.stdout == ""


# 130: interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_it_has_learnt(number, tmp_path):
    train = process("train", XOR, "train.epochs=1000000", f"out={tmp_path}")
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
    assert re.search(r"interrupted after \d+ of 1000000 epochs; kept epoch \d+", out)
    assert {path.name for path in run.iterdir()} == RUN_FILES
    net, params, state = fnet.load(run)
    outputs, _ = net.apply(params, state, np.zeros((3, 2), np.float32), train=False)
    assert np.isfinite(outputs).all()
    scores = strictly(done("evaluate", run, "--json"))["scores"]
    assert scores["test"]["loss"] == pytest.approx(end["test_loss"], rel=1e-5)


@pytest.mark.parametrize("event", ["epoch", "segment"])
def test_an_interrupt_leaves_a_log_that_fits_what_is_kept(event, monkeypatch, tmp_path):
    """In the third epoch, while its line is written or after its steps: every epoch that is counted has its line, and
    what is kept is of the epoch that is named, or of one that was not completed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    append, progress = folder_module.append, TrainingProgress.__call__

    def append_when_interrupted(path, record):
        if event == "epoch" and record.get("epoch") == 3:
            signal.raise_signal(signal.SIGINT)
        append(path, record)

    def show_when_interrupted(self, shown):
        if event == "segment" and isinstance(shown, Segment) and shown.epoch == 3:
            signal.raise_signal(signal.SIGINT)
        progress(self, shown)

    monkeypatch.setattr(folder_module, "append", append_when_interrupted)
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


# Help


def test_help_loads_no_jax():
    program = """
import contextlib, io, sys
from fnet.cli import app

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
