"""Invalid requests: exit status 2 and a short message."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli.calls import call, start_process


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Enter a directory with invalid configs, and files and folders that are not runs."""
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
        ("train ''", r"^expected the path of a config file, got empty text$"),
        (
            "evaluate garbled/model.safetensors",
            r"^error: garbled/model\.safetensors is not a finished run: it is a file",
        ),
        (
            "train good.yaml train.epochs=1 train.steps=2",
            r"^train\.steps=2: excludes train\.epochs=1; remove one of them$",
        ),
        (
            "train good.yaml 'model=[flatten, {frozen: {dense: 10}}]'",
            r"unknown key 'dense' in 'frozen'; known: layers, name$",
        ),
        ("train empty", r"^empty: expected a config file, got a folder$"),
        ("train typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch' in 'train'; did you mean 'epochs'\?$"),
        ("train good.yaml train.epochs=0", r"^train\.epochs=0: train\.epochs: expected a value of at least 1"),
        ("train good.yaml train.epochs", r"^train\.epochs: expected key=value"),
        ("train tiny.yaml", r"^tiny\.yaml:1:\d+: data\.split\.train: the part would be empty: 1e-09 of the 1797"),
        ("train init.yaml", r"^.*cannot import the function 'no\.such'"),
        ("train name.yaml", r"^name\.yaml:2:7: "),
        ("validate typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch'"),
        ("summary typo.yaml", r"^typo\.yaml:4:3: unknown key 'epoch'"),
        ("summary init.yaml", r"^.*cannot import the function 'no\.such'"),
        ("gradcheck two.yaml", r"^two\.yaml:1:7: .*\ntwo\.yaml:2:9: unknown layer 'flaten'"),
        ("evaluate missing", r"^error: missing is not a finished run: there is no such folder$"),
        ("evaluate empty", r"^error: empty is not a finished run: it does not contain model\.safetensors$"),
        ("evaluate a_file", r"^error: a_file is not a finished run: it is (a file|no folder)"),
        ("evaluate garbled", r"^error: garbled/model\.safetensors is damaged or not a safetensors file: "),
        ("explain epoch", r"^error: unknown key or name 'epoch'; did you mean 'epochs'"),
    ],
)
def test_an_invalid_request_gets_a_short_message_and_leaves_nothing(folder, arguments, message):
    before = sorted(folder.rglob("*"))
    result = call(*shlex.split(arguments))
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr, re.MULTILINE), result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert "Traceback" not in result.output
    assert sorted(folder.rglob("*")) == before


def test_text_from_a_file_is_printed_without_control_characters(folder):
    (folder / "odd.yaml").write_text('data: digits\nmodel: [flatten, {dense: 10}]\n"\\e[31m\\u202e[red]\\n": 3\n')
    result = call("validate", "odd.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith(r"odd.yaml:3:1: unknown key '\x1b[31m\u202e[red]\n' at the top level; known:")
    assert len(result.stderr.splitlines()) == 1


def test_rich_markup_in_a_name_is_text(folder):
    (folder / "odd.yaml").write_text("data: digits\nmodel: [flatten, {dense: {units: 10, name: '[red]a[b]'}}]\n")
    result = call("summary", "odd.yaml")
    assert result.exit_code == 0, result.output
    assert "[red]a[b]" in result.stdout


def test_text_on_the_terminal_has_no_markup_and_no_control_characters(folder):
    """A data file and an output folder whose names are markup, and a data file whose name is not printable."""
    rows = "a,y\n" + "".join(f"{n},{'pq'[n % 2]}\n" for n in range(20))
    (folder / "e\x1b[31m\u202e.csv").write_text(rows)
    (folder / "odd.yaml").write_text(
        'data: {path: "e\\e[31m\\u202e.csv", target: y}\nmodel: [{dense: 2}]\ntrain: {epochs: 1}\n'
    )
    result = call("train", "odd.yaml", "out='[/x]'")
    assert result.exit_code == 0, result.output
    assert "the run is in [/x]/odd-1: " in result.stdout
    assert r"odd: e\x1b[31m\u202e, 20 examples" in result.stdout
    assert all(character.isprintable() or character == "\n" for character in result.stdout)
    resolved = call("validate", "odd.yaml", "--resolved").stdout
    assert all(character.isprintable() or character == "\n" for character in resolved)
    (folder / "resolved.yaml").write_text(resolved)
    assert call("validate", "resolved.yaml").exit_code == 0


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
def test_an_invalid_command_line_is_explained(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_invalid_request_prints_no_traceback_in_a_separate_process(folder):
    finished = subprocess.run(
        [sys.executable, "-m", "fnet", "validate", folder / "typo.yaml"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert re.fullmatch(r"\S+typo\.yaml:4:3: unknown key 'epoch' .*\n", finished.stderr)


def test_a_warning_is_one_line(tmp_path, monkeypatch):
    """A run continues when decoded data cannot be cached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    Path("points.csv").write_text("x,y\n" + "".join(f"{n},{n * n % 7 + 0.5}\n" for n in range(20)))
    Path("c.yaml").write_text("data: {path: points.csv, target: y}\nmodel: [{dense: 1}]\nloss: mse\n")
    training = start_process("train", "c.yaml", "train.epochs=1")
    _, errors = training.communicate(timeout=120)
    assert training.returncode == 0, errors
    assert re.fullmatch(
        r"warning: decoded data cannot be cached in /dev/null.*; free space .* to another folder\n", errors
    )
