"""Configs for the user's own files: short forms, the source's own splits, and errors."""

import re
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from fnet.config.errors import ConfigError
from fnet.config.experiment import dump
from fnet.runs.data import load_data


@pytest.fixture(autouse=True)
def _data(config_file, tmp_path, monkeypatch, rng):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [f"{value:.3f},{'ab'[int(value > 0)]}" for value in rng.standard_normal(40)]
    Path("t.csv").write_text("\n".join(["x,kind", *rows]))
    x, y = rng.integers(0, 256, (30, 4, 4), np.uint8), np.arange(30) % 3
    np.savez("digits.npz", x=x[:20], y=y[:20], x_test=x[20:], y_test=y[20:])
    Path("t.txt").write_text("to be or not to be, that is the question")


TABLE = "data: {path: t.csv, target: kind}\nmodel: [{dense: 1}]\n"
IMAGES = "data: {path: digits.npz}\nmodel: [flatten, {dense: 3}]\n"
TEXT = "data: {path: t.txt, block: 4}\nmodel: [{embedding: {size: 14, width: 2}}, {dense: 14}]\n"


def test_the_file_extension_determines_the_format(resolve_text, tmp_path):
    config = resolve_text(TABLE).config
    data = config.data
    assert (data.source, data.name, data.normalize) == ("files", "csv", "standard")
    assert config.loss.name == "binary_cross_entropy"
    written = YAML(typ="safe").load(dump(config))["data"]
    assert written["path"] == str(tmp_path / "t.csv")
    assert written["split"] == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert resolve_text(dump(config)).config == config


def test_a_test_split_of_the_source_is_the_test_part(load_text):
    experiment = load_text(IMAGES)
    assert experiment.data.parts == (0.9, 0.1, "test")
    splits, _ = load_data(experiment)
    assert [part.size for part in splits[:3]] == [18, 2, 10]
    assert splits.test.y.tolist() == [i % 3 for i in range(20, 30)]
    assert splits.train.x.max() == 1


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("{train: train, test: test}", [20, 0, 10]),
        ("{validation: 0.25, test: test}", [15, 5, 10]),
        ('{train: "train[:12]", validation: "train[12:]", test: test}', [12, 8, 10]),
        ("{train: train+test}", [30, 0, 0]),
        ("{train: 0.5, validation: 0.2, test: 0.3}", [15, 6, 9]),
    ],
)
@pytest.mark.filterwarnings("ignore:data.split. fractions mix the examples")
def test_parts_by_name(load_text, split, sizes):
    experiment = load_text(IMAGES.replace("npz}", f"npz, split: {split}}}"))
    splits, _ = load_data(experiment)
    assert [part.size for part in splits[:3]] == sizes


def test_a_language_model(load_text):
    experiment = load_text(TEXT)
    assert experiment.data.normalization == "none"
    assert experiment.loss_settings["name"] == "cross_entropy"
    splits, _ = load_data(experiment)
    assert splits.train.x.dtype == splits.train.y.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("t.csv", "tt.csv"), "c.yaml:1:14: data.path: 'tt.csv' does not exist in {here}; did you mean"),
        (TABLE.replace("kind", "knid"), "c.yaml:1:29: data: {here}/t.csv has no column 'knid'; did you mean 'kind'?"),
        (TABLE.replace(", target: kind", ""), "c.yaml:1:7: 'data.target' is required, but not given"),
        (TABLE.replace("kind", "kind, missing: men"), "expected 'refuse', 'mean' or 'drop', got 'men'; did you"),
        (TABLE.replace("path", "pth"), "c.yaml:1:7: 'data.name' is required, but not given"),
        (TABLE.replace("t.csv", "c.yaml"), "c.yaml:1:14: data.path: 'c.yaml': expected a known format, got the"),
        (TABLE.replace("kind", "kind, block: 3"), "'block' is not a setting of 'data' (csv), only of sentences, text"),
        (IMAGES.replace("npz}", "npz, split: {test: t}}"), ":1:40: data.split.test: the source has no split 't'"),
        (IMAGES.replace("npz}", "npz, classes: 2}"), ":1:35: data: {here}/digits.npz: expected labels 0 ... 1"),
        (IMAGES.replace("npz}", "npz, split: {test: true}}"), "data.split.test: expected a number or text"),
        (TEXT.replace("4}", "64}", 1), "c.yaml:1:28: data: t: expected at least 65 tokens for a block of 64"),
        (TEXT.replace("4}", "4, normalize: unit}", 1), "c.yaml:1:42: data.normalize: expected none, because "
         "tokens have no scale, got 'unit'; remove the key"),
        (TEXT.replace("dense: 14", "dense: 3"), "dense_1: expected outputs of shape (4, 14) for cross_entropy, because "
         "t has 14 classes at each of 4 positions; got outputs of shape (4, 3); end the network with dense: 14"),
    ],
)  # fmt: skip
def test_errors_are_reported_with_their_position(load_text, tmp_path, text, message):
    with pytest.raises(ConfigError, match=re.escape(message.format(here=tmp_path))):
        load_text(text)
