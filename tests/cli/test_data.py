"""`fnet data`: its output within 80 columns, its JSON, and the picture that it writes."""

import re
from pathlib import Path

import numpy as np
import pytest
from cli.calls import call, parse_json
from PIL import Image

from fnet.data import cache
from fnet.data.inspect import range_of

EMBEDDED = {
    "digits": "data: digits\nmodel: [flatten, {dense: 10}]\n",
    "iris": "data: iris\nmodel: [{dense: 3}]\n",
    "sine": "data: sine\nmodel: [{dense: 1}]\n",
    "chocolate": "data: chocolate\nmodel: [{dense: 1}]\n",
    "sentences": "data: sentences\nmodel: [{embedding: {size: 27, width: 2}}, {dense: 27}]\n",
}


@pytest.fixture(autouse=True)
def _isolated_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def data(*arguments):
    """Return the output of `fnet data`, after checking that everything but paths fits in 80 columns."""
    result = call("data", *arguments)
    assert result.exit_code == 0, result.output
    if "--json" not in arguments:
        assert all(len(line) <= 80 for line in result.stdout.splitlines() if "/" not in line)
    return result.stdout


def error_message(*arguments):
    """Return the message with which `fnet data` refuses a request."""
    result = call("data", *arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize("name", EMBEDDED)
def test_show(name):
    Path(f"{name}.yaml").write_text(EMBEDDED[name])
    out = data("show", f"{name}.yaml")
    assert out.startswith(f"{name}: ")
    assert out.endswith(f"the picture is in {name}-data.png\n")
    with Image.open(f"{name}-data.png") as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    inspection = parse_json(data("show", f"{name}.yaml", "--json"))
    assert sum(part["examples"] for part in inspection["parts"].values()) == inspection["examples"]


def test_the_reported_values_are_those_of_the_data():
    Path("iris.yaml").write_text(EMBEDDED["iris"])
    inspection = parse_json(data("show", "iris.yaml", "--json"))
    assert not Path("iris-data.png").exists()
    train = inspection["parts"]["train"]
    assert train["classes"] == [40, 40, 40]
    assert train["stored"]["min"] == pytest.approx(0.1)
    assert train["normalized"]["mean"] == pytest.approx(0, abs=1e-6)
    assert train["normalized"]["std"] == pytest.approx(1, rel=1e-5)
    assert len(train["features"]) == 4
    data("show", "iris.yaml", "--json", "--png", "here.png")
    assert Path("here.png").is_file()


def test_ranges(rng):
    x = rng.integers(0, 256, (900, 30, 20), np.uint8)
    values = range_of(x)
    assert values[:2] == (x.min(), x.max())
    assert values.mean == pytest.approx(x.mean())
    assert values.std == pytest.approx(x.std())


def test_a_wrong_config_gets_a_suggestion():
    Path("iris.yaml").write_text(EMBEDDED["iris"].replace("iris", "irsi"))
    assert "did you mean 'iris'?" in error_message("show", "iris.yaml")


def test_list_and_clear():
    out = data("list")
    assert "sentences" in out
    assert "no decoded data in" in out
    for name in ("tfds mnist train", "photos"):
        cache.cached({"name": name}, lambda: {"x": np.zeros(50_000)})
    assert re.search(r"400\.\d kB", data("list"))
    listing = parse_json(data("list", "--json"))
    assert {entry["name"] for entry in listing["decoded"]} == {"tfds mnist train", "photos"}
    assert "digits" in listing["embedded"]["sklearn"]
    message = error_message("clear", "mnits")
    assert "fnet/data does not contain decoded data of 'mnits'" in message
    assert "did you mean 'mnist'?" in message
    assert re.match(r"removed 400\.\d kB of decoded data from", data("clear", "mnist"))
    assert [entry.key["name"] for entry in cache.entries()] == ["photos"]
    assert len(parse_json(data("clear", "--json"))["removed"]) == 1
    assert cache.entries() == []


def test_names_from_files_are_printed_without_control_characters(rng):
    """Names of classes, of a table and of its target contain escape sequences, line breaks and Rich's markup."""
    for folder in ("c\x1b[31mat", "d\nog", "[red]x"):
        Path("photos\x1b[2J", folder).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(rng.integers(0, 256, (4, 4), np.uint8)).save(f"photos\x1b[2J/{folder}/{number}.png")
    Path("t\x1b[2J.csv").write_text('a,"y\x1b[31m"\n' + "".join(f"{i},{i * i % 11 / 3}\n" for i in range(30)))
    Path("photos.yaml").write_text('data: {path: "photos\\e[2J"}\nmodel: [flatten, {dense: 3}]\n')
    Path("table.yaml").write_text('data: {path: "t\\e[2J.csv", target: "y\\e[31m"}\nmodel: [{dense: 1}]\n')
    out = data("show", "photos.yaml") + data("show", "table.yaml") + data("list")
    assert all(character.isprintable() or character == "\n" for character in out)
    for name in (r"photos\x1b[2J: 15 examples", r"c\x1b[31mat", r"d\nog", "[red]x", r"y\x1b[31m", r"csv t\x1b[2J"):
        assert name in out
    assert re.match(r"removed .* of decoded data", data("clear", r"csv t\x1b[2J"))
