"""Errors about files that cannot be read, and about unknown and missing keys."""

import re

import pytest
from config.messages import LAYERS, NET, assert_refused

from fnet.config.errors import ConfigError
from fnet.config.load import load

# Files


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"^nowhere/to_be.yaml: no such file$"):
        load("nowhere/to_be.yaml")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(tmp_path))}: expected a config file, got a folder$"):
        load(str(tmp_path))


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"data: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: expected text in UTF-8; save the file with that encoding$"):
        load(str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "c.yaml:1:1", "expected a mapping, got an empty file; the smallest config has the keys data and model"),
        ("# nothing yet\n", "c.yaml:1:1", "expected a mapping, got an empty file"),
        ("- digits\n", "c.yaml:1:1", "expected a mapping, got a list"),
        ("digits\n", "c.yaml:1:1", "expected a mapping, got 'digits'"),
        (NET + "name: a: b\n", "c.yaml:5:8", "not YAML: mapping values are not allowed here"),
        (NET + "train:\n\tepochs: 3\n", "c.yaml:6:1", "a tab; YAML indents with spaces"),
        (NET + "name: @home\n", "c.yaml:5:7", "not YAML: found character '@' that cannot start any token"),
        (NET + "seed: 1\nseed: 2\n", "c.yaml:6:1", "duplicate key 'seed', first at"),
        (NET + "train:\n  epochs: 1\n  epochs: 2\n", "c.yaml:7:3", "duplicate key 'epochs', first at"),
        (
            "data: digits\nmodel: [flatten, {dense: {units: 10, units: 3}}]\n",
            "c.yaml:2:38",
            "duplicate key 'units', first at",
        ),
        ("data: digits\nmodel: *layers\n", "c.yaml:2:8", "undefined alias 'layers'"),
        (NET + "---\nseed: 1\n", "c.yaml:5:1", "expected a single document"),
    ],
)
def test_a_file_that_is_not_a_yaml_mapping_is_refused(load_text, text, where, what):
    assert_refused(load_text, where, what, text)


@pytest.mark.parametrize(
    ("text", "opening"),
    [(NET + "name: 'digits\nseed: 3\n", "5:7"), ("data: digits\nmodel: [flatten, {dense: 10}\nseed: 3\n", "2:8")],
    ids=["quote", "bracket"],
)
def test_an_unclosed_quote_or_bracket_is_reported_where_it_opens(load_text, text, opening):
    with pytest.raises(ConfigError, match=rf"^c\.yaml:.*{opening}"):
        load_text(text)


# Keys


@pytest.mark.parametrize(
    ("added", "where", "what"),
    [
        ("sede: 1\n", "c.yaml:5:1", "unknown key 'sede' at the top level; did you mean 'seed'?"),
        ("zzzz: 1\n", "c.yaml:5:1", "unknown key 'zzzz' at the top level; known: data, loss, model"),
        ("epochs: 3\n", "c.yaml:5:1", "unknown key 'epochs' at the top level; it belongs under 'train'"),
        ("schedule: cosine\n", "c.yaml:5:1", "unknown key 'schedule' at the top level; it belongs under 'optimizer'"),
        ("lerning_rate: 1\n", "c.yaml:5:1", "'lerning_rate' at the top level; did you mean 'optimizer.learning_rate'?"),
        ("train:\n  epoch: 3\n", "c.yaml:6:3", "unknown key 'epoch' in 'train'; did you mean 'epochs'?"),
        ("train:\n  zzz: 3\n", "c.yaml:6:3", "unknown key 'zzz' in 'train'; known: batch_size, early_stopping, epochs"),
        ("train: {l2: 1e-3}\n", "c.yaml:5:9", "unknown key 'l2' in 'train'; it belongs under 'regularization'"),
        (
            "train: {early_stopping: {patiense: 3}}\n",
            "c.yaml:5:26",
            "in 'train.early_stopping'; did you mean 'patience'?",
        ),
        ("optimizer: {lerning_rate: 1}\n", "c.yaml:5:13", "in 'optimizer' (adam); did you mean 'learning_rate'?"),
        ("optimizer: {name: sgd, zzqq: 1}\n", "c.yaml:5:24", "unknown key 'zzqq' in 'optimizer' (sgd); known: "),
        (
            "optimizer: {momentum: 0.9}\n",
            "c.yaml:5:13",
            "'momentum' is not a setting of 'optimizer' (adam), only of sgd",
        ),
        (
            "optimizer: {schedule: {name: constant, warmup_steps: 3}}\n",
            "c.yaml:5:40",
            "'warmup_steps' is not a setting of 'optimizer.schedule' (constant), only of cosine, linear",
        ),
        (
            "optimizer: {schedule: {name: cosine, warmup_step: 3}}\n",
            "c.yaml:5:38",
            "unknown key 'warmup_step' in 'optimizer.schedule' (cosine); did you mean 'warmup_steps'?",
        ),
        (
            "optimizer: {schedule: {name: cosine, zzz: 3}}\n",
            "c.yaml:5:38",
            "unknown key 'zzz' in 'optimizer.schedule' (cosine); known: final_fraction, name, warmup_steps",
        ),
        ("train: {seed: 3}\n", "c.yaml:5:9", "unknown key 'seed' in 'train'; it belongs at the top level"),
        ("3: 4\n", "c.yaml:5:1", "3"),
    ],
)
def test_an_unknown_key_is_reported_with_help(load_text, added, where, what):
    assert_refused(load_text, where, what, NET + added)


def test_a_dotted_key_in_the_file_is_explained_without_suggesting_itself(load_text):
    with pytest.raises(ConfigError, match=r"^c\.yaml:5:1: .*'train\.epochs'") as caught:
        load_text(NET + "train.epochs: 3\n")
    assert "did you mean 'train.epochs'" not in str(caught.value)
    assert "'train'" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "column", "what"),
    [
        ("{name: digits, splits: {train: 0.5}}", 22, "unknown key 'splits' in 'data' (digits); did you mean 'split'?"),
        ("{name: digits, zzz: 3}", 22, "unknown key 'zzz' in 'data' (digits); known: augment, name, "),
        ("{name: digits, noise: 0.1}", 22, "'noise' is not a setting of 'data' (digits), only of xor, circle"),
        ("{name: xor, bits: 3}", 19, "'bits' is not a setting of 'data' (xor), only of parity"),
        ("{name: digits, split: {trian: 0.5}}", 30, "unknown key 'trian' in 'data.split'; did you mean 'train'?"),
    ],
)
def test_an_unknown_key_of_the_data_is_reported(load_text, data, column, what):
    assert_refused(load_text, f"c.yaml:1:{column}", what, f"data: {data}\n{LAYERS}")


@pytest.mark.parametrize(
    ("item", "where", "what"),
    [
        ("dense: {units: 10, initt: zeros}", "c.yaml:4:24", "unknown key 'initt' in 'dense'; did you mean 'init'?"),
        ("dense: {units: 10, zzz: 3}", "c.yaml:4:24", "unknown key 'zzz' in 'dense'; known: bias, init, name, units"),
        ("[{dense: {units: 10, zzz: 3}}]", "c.yaml:4:26", "unknown key 'zzz' in 'dense'; known: bias"),
        (
            "serial: {layers: [{dense: {units: 10, zzz: 3}}]}",
            "c.yaml:4:43",
            "unknown key 'zzz' in 'dense'; known: bias",
        ),
        ("relu: {slope: 0.1}", "c.yaml:4:12", "unknown key 'slope' in 'relu'"),
    ],
)
def test_an_unknown_setting_of_a_layer_is_reported(load_text, item, where, what):
    assert_refused(load_text, where, what, f"data: digits\nmodel:\n  - flatten\n  - {item}\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("data: digits\n", ["c.yaml:1:1: 'model' is required, but not given"]),
        (LAYERS, ["c.yaml:1:1: 'data' is required, but not given"]),
        (
            "seed: 3\n",
            ["c.yaml:1:1: 'data' is required, but not given", "c.yaml:1:1: 'model' is required, but not given"],
        ),
        ("data: {source: sklearn}\n" + LAYERS, ["c.yaml:1:7: 'data.name' is required, but not given"]),
        ("data: {split: {train: 0.5}}\n" + LAYERS, ["c.yaml:1:7: 'data.name' is required, but not given"]),
        ("data: {}\n" + LAYERS, ["c.yaml:1:7: 'data.name' is required, but not given"]),
        (
            NET + "optimizer: {schedule: {warmup_steps: 3}}\n",
            ["c.yaml:5:23: 'name' is required in 'optimizer.schedule', but not given"],
        ),
        ("data: digits\nmodel: [flatten, dense]\n", ["c.yaml:2:18: dense: units: required, but not given"]),
        (
            "data: digits\nmodel: [flatten, {dense: {bias: false}}]\n",
            ["c.yaml:2:26: dense: units: required, but not given"],
        ),
    ],
)
def test_missing_keys_are_named(load_text, text, what):
    with pytest.raises(ConfigError, match="required") as caught:
        load_text(text)
    assert list(caught.value.lines) == what
