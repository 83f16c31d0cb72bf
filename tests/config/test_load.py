"""What `load` accepts, what it makes of it, and what it says of everything else."""

import re
import sys
from pathlib import Path

import pytest

from fnet.config.errors import ConfigError
from fnet.config.load import dump, load
from fnet.data import catalog, synthetic
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

NET = """\
data: digits
model:
  - flatten
  - dense: 10
"""
"""A good config of four lines; what a test adds starts at line 5."""

LAYERS = "model: [flatten, {dense: 10}]\n"
PLANE = "data: xor\nmodel: [{dense: 1}]\n"


def saying(where, what):
    """The pattern of a message that starts with its place and goes on to say something."""
    return f"^{re.escape(where)}: .*{re.escape(what)}"


def refused(load_text, where, what, text, *overrides):
    """Checks that there is one problem, at this place, which says this."""
    with pytest.raises(ConfigError, match=saying(where, what)) as caught:
        load_text(text, *overrides)
    assert len(caught.value.lines) == 1, str(caught.value)


def at(data, path):
    for part in path:
        data = data[part]
    return data


# Files


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"^nowhere/to_be.yaml: no such file$"):
        load("nowhere/to_be.yaml")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(tmp_path))}: a folder, not a config file$"):
        load(str(tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"data: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: not a text file in UTF-8$"):
        load(str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "c.yaml:1:1", "is empty; the smallest one has the keys data and model"),
        ("# nothing yet\n", "c.yaml:1:1", "is empty"),
        ("- digits\n", "c.yaml:1:1", "holds no mapping of keys to values"),
        ("digits\n", "c.yaml:1:1", "holds no mapping of keys to values"),
        (NET + "name: a: b\n", "c.yaml:5:8", "not YAML: mapping values are not allowed here"),
        (NET + "train:\n\tepochs: 3\n", "c.yaml:6:1", "a tab; YAML indents with spaces"),
        (NET + "name: @home\n", "c.yaml:5:7", "not YAML: found character '@' that cannot start any token"),
        (NET + "seed: 1\nseed: 2\n", "c.yaml:6:1", 'duplicate key "seed"'),
        (NET + "train:\n  epochs: 1\n  epochs: 2\n", "c.yaml:7:3", 'duplicate key "epochs"'),
        ("data: digits\nmodel: [flatten, {dense: {units: 10, units: 3}}]\n", "c.yaml:2:38", 'duplicate key "units"'),
        ("data: digits\nmodel: *layers\n", "c.yaml:2:8", "undefined alias 'layers'"),
        (NET + "---\nseed: 1\n", "c.yaml:5:1", "expected a single document"),
    ],
)
def test_what_is_not_a_mapping_in_yaml_is_refused(load_text, text, where, what):
    refused(load_text, where, what, text)


@pytest.mark.parametrize(
    ("text", "opening"),
    [(NET + "name: 'digits\nseed: 3\n", "5:7"), ("data: digits\nmodel: [flatten, {dense: 10}\nseed: 3\n", "2:8")],
    ids=["quote", "bracket"],
)
def test_what_is_never_closed_is_reported_where_it_opens(load_text, text, opening):
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
        ("optimizer: {momentum: 0.9}\n", "c.yaml:5:13", "'momentum' is no setting of 'optimizer' (adam), but of sgd"),
        (
            "optimizer: {schedule: {name: constant, warmup_steps: 3}}\n",
            "c.yaml:5:40",
            "'warmup_steps' is no setting of 'optimizer.schedule' (constant), but of cosine, linear",
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
def test_an_unknown_key_is_reported_with_what_was_meant(load_text, added, where, what):
    refused(load_text, where, what, NET + added)


def test_a_dotted_key_in_the_file_is_explained_and_not_suggested_to_itself(load_text):
    with pytest.raises(ConfigError, match=r"^c\.yaml:5:1: .*'train\.epochs'") as caught:
        load_text(NET + "train.epochs: 3\n")
    assert "did you mean 'train.epochs'" not in str(caught.value)
    assert "'train'" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "column", "what"),
    [
        ("{name: digits, splits: {train: 0.5}}", 22, "unknown key 'splits' in 'data' (digits); did you mean 'split'?"),
        ("{name: digits, zzz: 3}", 22, "unknown key 'zzz' in 'data' (digits); known: augment, name, "),
        ("{name: digits, noise: 0.1}", 22, "'noise' is no setting of 'data' (digits), but of xor, circle"),
        ("{name: xor, bits: 3}", 19, "'bits' is no setting of 'data' (xor), but of parity"),
        ("{name: digits, split: {trian: 0.5}}", 30, "unknown key 'trian' in 'data.split'; did you mean 'train'?"),
    ],
)
def test_an_unknown_key_of_the_data_is_reported(load_text, data, column, what):
    refused(load_text, f"c.yaml:1:{column}", what, f"data: {data}\n{LAYERS}")


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
    refused(load_text, where, what, f"data: digits\nmodel:\n  - flatten\n  - {item}\n")


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
def test_what_is_missing_is_named(load_text, text, what):
    with pytest.raises(ConfigError, match="required") as caught:
        load_text(text)
    assert list(caught.value.lines) == what


# Values


@pytest.mark.parametrize(
    ("added", "where", "what"),
    [
        (
            "optimizer:\n  learning_rate: fast\n",
            "c.yaml:6:18",
            "optimizer.learning_rate: expected a number, got 'fast'",
        ),
        ("optimizer: {learning_rate: '0.1'}\n", "c.yaml:5:28", "expected a number, got '0.1'"),
        ("optimizer: {learning_rate: true}\n", "c.yaml:5:28", "expected a number, got true"),
        ("optimizer: {learning_rate: [0.1]}\n", "c.yaml:5:28", "expected a number, got a list"),
        ("optimizer: {learning_rate: 0}\n", "c.yaml:5:28", "expected a value greater than 0, got 0"),
        ("optimizer: {learning_rate: .nan}\n", "c.yaml:5:28", "expected a finite number"),
        ("optimizer: {learning_rate: .inf}\n", "c.yaml:5:28", "expected a finite number"),
        (
            "optimizer: {name: sgd, momentum: 1}\n",
            "c.yaml:5:34",
            "optimizer.momentum: expected a value less than 1, got 1",
        ),
        ("optimizer: {name: sgd, nesterov: yes}\n", "c.yaml:5:34", "expected true or false, got 'yes'"),
        ("optimizer: {clip_norm: 0}\n", "c.yaml:5:24", "optimizer.clip_norm: expected a value greater than 0"),
        ("optimizer: [adam]\n", "c.yaml:5:12", "optimizer: expected a mapping of settings, got a list"),
        ("optimizer: {schedule: 3}\n", "c.yaml:5:23", "optimizer.schedule: expected a mapping of settings, got 3"),
        (
            "train:\n  batch_size: -32\n",
            "c.yaml:6:15",
            "train.batch_size: expected a value of at least 1 or 'all', got -32",
        ),
        ("train: {batch_size: 0}\n", "c.yaml:5:21", "expected a value of at least 1 or 'all', got 0"),
        ("train: {batch_size: al}\n", "c.yaml:5:21", "expected a whole number or 'all', got 'al'"),
        ("train: {batch_size: 32.0}\n", "c.yaml:5:21", "expected a whole number or 'all', got 32.0"),
        ("train: {epochs: 2.5}\n", "c.yaml:5:17", "train.epochs: expected a whole number, got 2.5"),
        ("train: {epochs: {of: 3}}\n", "c.yaml:5:17", "train.epochs: expected a whole number, got a mapping"),
        ("train: 3\n", "c.yaml:5:8", "train: expected a mapping of settings, got 3"),
        ("train: {early_stopping: true}\n", "c.yaml:5:25", "expected a mapping of settings, got true"),
        ("train: {early_stopping: {patience: 0}}\n", "c.yaml:5:36", "patience: expected a value of at least 1, got 0"),
        ("seed: -1\n", "c.yaml:5:7", "seed: expected a value of at least 0, got -1"),
        ("seed: 4294967296\n", "c.yaml:5:7", "seed: expected a value less than 4294967296"),
        ("seed: !odd 3\n", "c.yaml:5:7", "seed: expected a whole number"),
        ("name: 3\n", "c.yaml:5:7", "name: expected text, got 3"),
        ("out: 3\n", "c.yaml:5:6", "out: expected text, got 3"),
        ("regularization: {l1: -1}\n", "c.yaml:5:22", "regularization.l1: expected a value of at least 0, got -1"),
        ("regularization: {l1: big}\n", "c.yaml:5:22", "regularization.l1: expected a number, got 'big'"),
        (f"seed: '{'x' * 200}'\n", "c.yaml:5:7", "seed: expected a whole number, got 'xxxxxxxx"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_bounds_is_reported(load_text, added, where, what):
    refused(load_text, where, what, NET + added)


def test_a_long_value_is_shortened_in_the_message(load_text):
    with pytest.raises(ConfigError, match=r"x\.\.\.$") as caught:
        load_text(NET + f"seed: '{'x' * 10_000}'\n")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data", "column", "what"),
    [
        (
            "{name: digits, split: {train: 0.9, validation: 0.2}}",
            29,
            "data.split: the parts sum to 1.2, which is more than 1",
        ),
        ("{name: digits, split: {train: 1.5}}", 37, "data.split.train: expected a value of at most 1, got 1.5"),
        ("{name: digits, split: {train: 0}}", 37, "data.split.train: expected a value greater than 0, got 0"),
        ("{name: digits, split: {test: -0.1}}", 36, "data.split.test: expected a value of at least 0, got -0.1"),
        ("{name: digits, split: 0.8}", 29, "data.split: expected a mapping of settings, got 0.8"),
        ("{name: digits, normalize: standart}", 33, "or 'none', got 'standart'; did you mean 'standard'?"),
        ("{name: xor, samples: 1}", 28, "data.samples: expected a value of at least 2, got 1"),
        ("{name: xor, noise: 2}", 26, "data.noise: expected a value of at most 1, got 2"),
        ("[digits]", 7, "data: expected a"),
        ("3", 7, "data: expected a"),
    ],
)
def test_a_wrong_value_of_the_data_is_reported(load_text, data, column, what):
    refused(load_text, f"c.yaml:1:{column}", what, f"data: {data}\n{LAYERS}")


@pytest.mark.parametrize(
    ("item", "where", "what"),
    [
        ("dense: -1", "c.yaml:4:12", "dense: units: expected a value of at least 1, got -1"),
        ("dense: ten", "c.yaml:4:12", "dense: units: expected a whole number, got 'ten'"),
        ("dense: 1.5", "c.yaml:4:12", "dense: units: expected a whole number, got 1.5"),
        ("dense: true", "c.yaml:4:12", "dense: units: expected a whole number, got true"),
        ("dense: {units: 10, bias: no}", "c.yaml:4:30", "dense: bias: expected true or false, got 'no'"),
        ("dense: {units: 10, init: glorot_unifrom}", "c.yaml:4:30", "did you mean 'glorot_uniform'?"),
        ("dense: {units: 10, init: zz}", "c.yaml:4:30", "unknown initialiser 'zz'; known: glorot_normal"),
        ("dense: {units: 10, init: no_such.module}", "c.yaml:4:30", "unknown initialiser 'no_such.module'"),
        ("leaky_relu: -1", "c.yaml:4:17", "leaky_relu: slope: expected a value of at least 0, got -1"),
        ("gelu: exakt", "c.yaml:4:11", "expected 'tanh' or 'exact', got 'exakt'; did you mean 'exact'?"),
        ("flatten: 3", "c.yaml:4:5", "flatten takes no value on its own, got 3"),
        ("10", "c.yaml:4:5", "expected a layer, such as relu or {dense: 64}, got 10"),
        ("~", "c.yaml:4:5", "expected a layer, such as relu or {dense: 64}, got nothing"),
        ("{dense: 10, relu: }", "c.yaml:4:5", "got a mapping with the keys dense, relu"),
        ("{}", "c.yaml:4:5", "empty"),
        ("3: 4", "c.yaml:4:5", "expected the name of a layer, got 3"),
        ("serial: {layers: 3}", "c.yaml:4:22", "serial: layers: expected a list of layers"),
        ("[relu, [{dense: -3}]]", "c.yaml:4:21", "dense: units: expected a value of at least 1, got -3"),
        ("serial: [relu, {dense: -3}]", "c.yaml:4:28", "dense: units: expected a value of at least 1, got -3"),
        ("dense: {units: 10, name: a/b}", "c.yaml:4:12", "a layer's name may not be empty or hold '/', got 'a/b'"),
    ],
)
def test_a_wrong_value_of_a_layer_is_reported(load_text, item, where, what):
    refused(load_text, where, what, f"data: digits\nmodel:\n  - flatten\n  - {item}\n")


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("[]", "model: expected at least one layer"),
        ("relu", "model: expected a list, got 'relu'"),
        ("{dense: 10}", "model: expected a list, got a mapping"),
        (
            "[{flatten: {name: a}}, {dense: {units: 10, name: a}}]",
            "two layers of one container are named 'a'; give one of them another name",
        ),
    ],
)
def test_a_model_that_is_no_list_of_layers_is_reported(load_text, model, what):
    refused(load_text, "c.yaml:2:8", what, f"data: digits\nmodel: {model}\n")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("data: digits\nmodel:\nseed: 3\n", 2, "model: expected a list, got nothing"),
        ("data:\n" + LAYERS, 1, "data: expected a"),
        (NET + "train:\nseed: 3\n", 5, "train: expected a mapping of settings, got nothing"),
        (NET + "train:\n  epochs:\nseed: 3\n", 6, "train.epochs: expected a whole number, got nothing"),
    ],
)
def test_an_empty_value_is_reported_on_the_line_of_its_key(load_text, text, line, what):
    with pytest.raises(ConfigError, match=rf"^c\.yaml:{line}:\d+: .*{re.escape(what)}"):
        load_text(text)


@pytest.mark.parametrize(
    "text",
    [
        NET + "name: ''\n",
        NET + "out: ''\n",
        NET + "train: {3: 4}\n",
        "data: digits\nmodel: [flatten, {dense: {units: 10, name: ''}}]\n",
    ],
)
def test_every_message_says_what_was_expected(load_text, text):
    with pytest.raises(ConfigError, match=r"^c\.yaml:\d+:\d+: ") as caught:
        load_text(text)
    assert "something else" not in str(caught.value)


def test_a_name_that_would_lead_out_of_the_run_folder_is_refused(load_text):
    refused(load_text, "c.yaml:5:7", "name", NET + "name: a/b\n")


# Names


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("data: digit\n" + LAYERS, "c.yaml:1:7", "unknown data set 'digit'; did you mean 'digits'?"),
        ("data: qqqq\n" + LAYERS, "c.yaml:1:7", "unknown data set 'qqqq'; known: breast_cancer, chocolate"),
        ("data: {name: digit}\n" + LAYERS, "c.yaml:1:14", "unknown data set 'digit'; did you mean 'digits'?"),
        ("data: {name: 3}\n" + LAYERS, "c.yaml:1:14", "3"),
        ("data: {source: sklern, name: digits}\n" + LAYERS, "c.yaml:1:16", "source 'sklern'; did you mean 'sklearn'?"),
        ("data: {source: qqq, name: digits}\n" + LAYERS, "c.yaml:1:16", "source 'qqq'; known: files, sklearn, "),
        ("data: {source: sklearn, name: digit}\n" + LAYERS, "c.yaml:1:31", "'digit'; did you mean 'digits'?"),
        ("data: {source: synthetic, name: spirl}\n" + LAYERS, "c.yaml:1:33", "'spirl'; did you mean 'spiral'?"),
        ("data: {source: synthetic, name: digits}\n" + LAYERS, "c.yaml:1:33", "'digits'"),
        (
            "data: digits\nmodel: [flaten, {dense: 10}]\n",
            "c.yaml:2:9",
            "unknown layer 'flaten'; did you mean 'flatten'?",
        ),
        ("data: digits\nmodel: [flatten, {dens: 10}]\n", "c.yaml:2:18", "unknown layer 'dens'; did you mean 'dense'?"),
        ("data: digits\nmodel: [flatten, [tanh, {Dense: 10}]]\n", "c.yaml:2:25", "'Dense'; did you mean 'dense'?"),
        ("data: digits\nmodel: [qqqq, {dense: 10}]\n", "c.yaml:2:9", "unknown layer 'qqqq'; known: "),
        ("data: digits\nmodel: [no.such.layer]\n", "c.yaml:2:9", "unknown layer 'no.such.layer': No module named 'no'"),
        ("data: digits\nmodel: [os.no_such]\n", "c.yaml:2:9", "unknown layer 'os.no_such'"),
        ("data: digits\nmodel: [os.path.join]\n", "c.yaml:2:9", "os.path.join"),
        ("data: digits\nmodel: [os.sep]\n", "c.yaml:2:9", "os.sep"),
        (NET + "optimizer: adm\n", "c.yaml:5:12", "unknown optimizer 'adm'; did you mean 'adam'?"),
        (NET + "optimizer: Adam\n", "c.yaml:5:12", "unknown optimizer 'Adam'; did you mean 'adam'?"),
        (NET + "optimizer: {name: zzz}\n", "c.yaml:5:19", "unknown optimizer 'zzz'; known: adadelta, adagrad, adam"),
        (NET + "optimizer: {schedule: cosin}\n", "c.yaml:5:23", "unknown schedule 'cosin'; did you mean 'cosine'?"),
        (NET + "optimizer: {schedule: {name: qq}}\n", "c.yaml:5:30", "unknown schedule 'qq'; known: constant, cosine"),
        (NET + "loss: cross_entrpy\n", "c.yaml:5:7", "unknown loss 'cross_entrpy'; did you mean 'cross_entropy'?"),
        (NET + "loss: qqq\n", "c.yaml:5:7", "unknown loss 'qqq'; known: "),
    ],
)
def test_an_unknown_name_is_reported_with_a_suggestion(load_text, text, where, what):
    refused(load_text, where, what, text)


# What does not fit together


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            "data: digits\nmodel:\n  - flatten\n  - dense: 64\n  - relu\n  - dense: 12\n",
            "c.yaml:6:5",
            "dense_2 gives 12, but digits has 10 classes, so with cross_entropy the network must give 10 outputs; "
            "make it dense: 10",
        ),
        (
            "data: digits\nmodel: [flatten, [{dense: 3}]]\n",
            "c.yaml:2:18",
            "serial_1 gives 3, but digits has 10 classes",
        ),
        (
            "data: digits\nmodel:\n  - dense: 10\n",
            "c.yaml:3:5",
            "dense_1 gives outputs of shape (8, 8, 10), but digits has 10 classes, so with cross_entropy the network "
            "must give 10 outputs; put a flatten before the last dense",
        ),
        (
            "data: diabetes\nmodel: [{dense: 2}]\n",
            "c.yaml:2:9",
            "diabetes has 1 value, so with mse the network must give 1 output;",
        ),
        ("data: xor\nmodel: [{dense: 3}]\n", "c.yaml:2:9", "dense_1 gives 3, but xor has 2 classes"),
        (
            "data: xor\nmodel: [{dense: 2}]\nloss: binary_cross_entropy\n",
            "c.yaml:2:9",
            "must give 1 output; make it dense: 1",
        ),
        (
            "data: xor\nmodel: [{dense: 1}]\nloss: cross_entropy\n",
            "c.yaml:2:9",
            "must give 2 outputs; make it dense: 2",
        ),
        (NET + "loss: mse\n", "c.yaml:5:7", "mse is for regression, but digits has 10 classes; use cross_entropy"),
        (
            NET + "loss: binary_cross_entropy\n",
            "c.yaml:5:7",
            "binary_cross_entropy is for two classes, or many labels, but digits has 10 classes; use cross_entropy",
        ),
        (PLANE + "loss: mse\n", "c.yaml:3:7", "xor has 2 classes; use binary_cross_entropy or cross_entropy"),
        ("data: diabetes\nmodel: [{dense: 1}]\nloss: cross_entropy\n", "c.yaml:3:7", "diabetes has 1 value; use mse"),
        (
            NET + "train: {early_stopping: {monitor: val_loss}}\n",
            "c.yaml:5:35",
            "nothing records 'val_loss' in this run; did you mean 'validation_loss'?",
        ),
        (
            NET + "train: {early_stopping: {monitor: validation_mean_absolute_error}}\n",
            "c.yaml:5:35",
            "known: train_accuracy, train_loss, validation_accuracy, validation_loss",
        ),
        (
            "data: {name: digits, split: {validation: 0}}\n" + LAYERS + "train:\n  early_stopping: {patience: 2}\n",
            "c.yaml:4:19",
            "nothing records 'validation_loss' in this run",
        ),
        (
            NET + "optimizer:\n  schedule: {name: cosine, warmup_steps: 5000}\n",
            "c.yaml:6:13",
            "warmup_steps: 5000 leave nothing of a run of 900 steps; make the warm-up shorter",
        ),
        (
            NET + "optimizer:\n  schedule: {name: linear, warmup_steps: 900}\n",
            "c.yaml:6:13",
            "warmup_steps: 900 leave nothing of a run of 900 steps",
        ),
        (
            NET + "optimizer: {name: sgd, nesterov: true, momentum_form: average}\n",
            "c.yaml:5:12",
            "optimizer: nesterov belongs to momentum_form: trace",
        ),
    ],
)
def test_what_does_not_fit_together_is_reported(load_text, text, where, what):
    refused(load_text, where, what, text)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            "data: digits\nmodel: [flatten, {dense: 10}, softmax]\n",
            "c.yaml:2:31",
            "softmax_1: cross_entropy takes logits",
        ),
        (
            "data: digits\nmodel: [flatten, [{dense: 10}, softmax]]\n",
            "c.yaml:2:32",
            "serial_1/softmax_1: cross_entropy takes logits",
        ),
        ("data: xor\nmodel: [{dense: 1}, sigmoid]\n", "c.yaml:2:21", "sigmoid_1: binary_cross_entropy takes logits"),
        (
            "data: digits\nmodel: [flatten, {dense: 10}, sigmoid]\n",
            "c.yaml:2:31",
            "sigmoid_1: cross_entropy takes logits",
        ),
        ("data: xor\nmodel: [{dense: 1}, softmax]\n", "c.yaml:2:21", "softmax_1: binary_cross_entropy takes logits"),
    ],
)
def test_a_final_softmax_or_sigmoid_in_front_of_a_loss_that_takes_logits_is_refused(load_text, text, where, what):
    refused(load_text, where, what, text)
    with pytest.raises(ConfigError, match=r"; remove it$"):
        load_text(text)


def test_a_sigmoid_inside_the_network_or_at_the_end_of_a_regression_is_fine(load_text):
    load_text("data: digits\nmodel: [flatten, {dense: 4}, sigmoid, softmax, {dense: 10}]\n")
    load_text("data: sine\nmodel: [{dense: 1}, sigmoid]\n")


@pytest.fixture
def own_layer(tmp_path, monkeypatch):
    """A module with a layer that takes examples of two axes, on the path."""
    (tmp_path / "layers_of_a_user.py").write_text(
        '''
import fnet

@fnet.constructor
def table(repeats: int = 1, *, name: str | None = None):
    """y = z, for tables.

    Args:
        repeats: how often.
        name: replaces the counted name.
    """
    def shape(in_shape):
        if len(in_shape) != 2:
            raise fnet.ShapeError(f"expects (batch, rows, columns), got {in_shape}")
        return in_shape

    return fnet.Parts(shape, fnet.no_parameters, lambda params, state, x, **_: (x, {}))
'''
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "layers_of_a_user.table"
    sys.modules.pop("layers_of_a_user", None)


def test_a_layer_that_cannot_take_its_input_is_reported_at_its_place(load_text, own_layer):
    text = f"data: digits\nmodel:\n  - flatten\n  - [relu, {own_layer}]\n  - dense: 10\n"
    refused(
        load_text,
        "c.yaml:4:12",
        "serial_1/table_1: expects (batch, rows, columns), got (64,); digits has examples (8, 8, 1)",
        text,
    )


def test_the_settings_of_a_users_own_layer_are_checked_like_any_other(load_text, own_layer):
    text = f"data: digits\nmodel:\n  - {own_layer}: {{repeets: 3}}\n  - dense: 10\n"
    with pytest.raises(ConfigError, match=r"^c\.yaml:3:\d+: unknown key 'repeets' .*did you mean 'repeats'\?"):
        load_text(text)


# Several at once


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_file(load_text):
    text = """\
zzz: 1
train:
  epochs: 0
  batch: 3
optimizer:
  name: sgd
  lerning_rate: 1
model:
  - flaten
  - dense: -3
data: digit
seed: x
"""
    with pytest.raises(ConfigError, match="zzz") as caught:
        load_text(text)
    assert [line.split(":")[1:3] for line in caught.value.lines] == [
        ["1", "1"],
        ["3", "11"],
        ["4", "3"],
        ["7", "3"],
        ["9", "5"],
        ["10", "12"],
        ["11", "7"],
        ["12", "7"],
    ]
    assert str(caught.value) == "\n".join(caught.value.lines)


def test_everything_that_does_not_fit_is_reported_at_once(load_text):
    text = """\
data: digits
model: [flatten, {dense: 12}]
train: {early_stopping: {monitor: accuracy}}
optimizer: {schedule: {name: cosine, warmup_steps: 99999}}
"""
    with pytest.raises(ConfigError, match="dense_1 gives 12") as caught:
        load_text(text)
    assert [line.split(":")[1] for line in caught.value.lines] == ["2", "3", "4"]


# What is right


def test_the_smallest_config_has_defaults_for_everything_else(load_text):
    experiment = load_text("data: digits\nmodel: [flatten, {dense: 64}, relu, {dense: 10}]\n")
    config = experiment.config
    assert (config.name, config.seed, config.out, config.loss.name) == ("c", 0, "runs", "cross_entropy")
    assert (config.data.source, config.data.name, config.data.normalize) == ("sklearn", "digits", "unit")
    assert (config.data.split.train, config.data.split.validation, config.data.split.test) == (0.8, 0.1, 0.1)
    assert (config.optimizer.name, config.optimizer.schedule.name) == ("adam", "constant")
    assert (config.train.epochs, config.train.batch_size, config.train.early_stopping) == (20, 32, None)
    assert experiment.net.shape(experiment.spec.shape) == (10,)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("data: digits\n" + LAYERS, "data: {source: sklearn, name: digits}\n" + LAYERS),
        ("data: {name: digits}\n" + LAYERS, "data: {source: sklearn, name: digits}\n" + LAYERS),
        (PLANE, "data: {source: synthetic, name: xor, samples: 500, noise: 0.0}\nmodel: [{dense: {units: 1}}]\n"),
        (NET + "optimizer: sgd\n", NET + "optimizer: {name: sgd, learning_rate: 0.1}\n"),
        (NET + "optimizer: {learning_rate: 0.1}\n", NET + "optimizer: {name: adam, learning_rate: 0.1}\n"),
        (NET + "optimizer: {schedule: cosine}\n", NET + "optimizer: {schedule: {name: cosine, warmup_steps: 0}}\n"),
        (NET, "data: digits\nmodel: [{flatten: }, {dense: {units: 10, bias: true, init: glorot_uniform}}]\n"),
        (NET, "data: digits\nmodel: [{flatten: {}}, {dense: {units: 10}}]\n"),
        (
            "data: digits\nmodel: [[flatten, {leaky_relu: 0.1}], [[{dense: 10}]]]\n",
            "data: digits\nmodel:\n  - serial: [flatten, {leaky_relu: {slope: 0.1}}]\n"
            "  - serial: {layers: [[{dense: 10}]]}\n",
        ),
        (NET, NET.replace("\n", "\r\n")),
        (NET, "\ufeff" + NET),
    ],
)
def test_a_short_form_means_the_long_one(load_text, short, long):
    assert load_text(short).config == load_text(long).config


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_can_be_named_alone(load_text, name):
    experiment = load_text(NET + f"optimizer: {name}\n")
    assert experiment.config.optimizer.name == name
    assert experiment.optimizer(10).init({}) is not None


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_named_alone(load_text, name):
    experiment = load_text(NET + f"optimizer: {{schedule: {name}}}\n")
    assert experiment.config.optimizer.schedule.name == name
    assert experiment.optimizer(10).init({}) is not None


@pytest.mark.parametrize("name", [*catalog.SOURCES["sklearn"], *catalog.SOURCES["synthetic"]])
def test_every_embedded_data_set_can_be_named_alone(load_text, name):
    units = {"digits": 10, "iris": 3, "wine": 3}.get(name, 1)
    model = f"[flatten, {{dense: {units}}}]"
    if name == "sentences":
        characters = len(synthetic.GENERATORS[name].vocabulary or "")
        model = f"[{{embedding: {{size: {characters}, width: 4}}}}, {{dense: {characters}}}]"
    experiment = load_text(f"data: {name}\nmodel: {model}\n")
    assert experiment.config.data.name == experiment.spec.name == name
    assert name in catalog.SOURCES[experiment.config.data.source]


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        (NET, "cross_entropy"),
        ("data: iris\nmodel: [{dense: 3}]\n", "cross_entropy"),
        ("data: breast_cancer\nmodel: [{dense: 2}]\n", "cross_entropy"),
        ("data: breast_cancer\nmodel: [{dense: 1}]\n", "binary_cross_entropy"),
        (PLANE, "binary_cross_entropy"),
        ("data: diabetes\nmodel: [{dense: 1}]\n", "mse"),
        ("data: sine\nmodel: [{dense: 1}]\n", "mse"),
    ],
)
def test_the_loss_follows_from_the_task(load_text, text, loss):
    assert load_text(text).config.loss.name == loss


@pytest.mark.parametrize(
    ("text", "normalization"), [(NET, "unit"), ("data: iris\nmodel: [{dense: 3}]\n", "standard"), (PLANE, "none")]
)
def test_the_normalization_follows_from_the_data(load_text, text, normalization):
    assert load_text(text).config.data.normalize == normalization


@pytest.mark.parametrize(
    ("written", "rate"), [("1e-3", 1e-3), ("1e3", 1e3), ("1.5E-2", 0.015), ("1", 1.0), ("0.1", 0.1)]
)
def test_numbers_are_those_of_yaml_1_2(load_text, written, rate):
    assert load_text(NET + f"optimizer: {{learning_rate: {written}}}\n").config.optimizer.learning_rate == rate


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "n", "12:30", "2024-01-01"])
def test_words_that_older_yaml_reads_as_something_else_are_text(load_text, word):
    assert load_text(NET + f"name: {word}\n").config.name == word


def test_anchors_may_be_used(load_text):
    text = "data: digits\nmodel: [flatten, &hidden {dense: 8}, relu, *hidden, {dense: 10}]\n"
    assert load_text(text).config.model[1] == load_text(text).config.model[3]


def test_the_schedule_spans_the_steps_of_the_run(load_text):
    """1797 examples, 0.8 of them 1438, in batches of 32 are 45 steps an epoch: a warm-up of 89 fits into two."""
    text = NET + "optimizer: {schedule: {name: cosine, warmup_steps: 89}}\n"
    load_text(text, "train.epochs=2")
    with pytest.raises(ConfigError, match="a run of 45 steps"):
        load_text(text, "train.epochs=1")


# The resolved config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_resolved_config_loads_to_the_same(config, tmp_path):
    first = load(str(config)).config
    (tmp_path / "config.yaml").write_text(dump(first))
    again = load(str(tmp_path / "config.yaml")).config
    assert again == first
    assert again.name == config.stem
    assert dump(again) == dump(first)


@pytest.mark.parametrize(
    "text",
    [
        NET + "optimizer: {name: lion, learning_rate: 1e-12, schedule: {name: step, every: 0.1}, clip_value: 3}\n",
        NET + "train: {batch_size: all, early_stopping: {patience: 2}, log_every: 7}\nname: no\nout: 'a: b'\n",
        "data: digits\nmodel: [{flatten: {name: '1e3'}}, [{gelu: exact}, {elu: 1}], {dense: {units: 10, name: yes}}]\n",
    ],
)
def test_a_resolved_config_with_rare_values_loads_to_the_same(load_text, text):
    first = load_text(text).config
    assert load_text(dump(first)).config == first


def test_the_resolved_config_holds_every_setting(load_text):
    text = dump(load_text(NET + "optimizer: {name: sgd, schedule: cosine}\ntrain: {early_stopping: {}}\n").config)
    settings = "name seed data source split train validation test normalize model units bias init loss optimizer "
    settings += (
        "learning_rate momentum nesterov momentum_form schedule warmup_steps final_fraction clip_norm clip_value "
    )
    settings += "regularization l1 l2 epochs batch_size early_stopping monitor patience log_every out"
    missing = [key for key in settings.split() if not re.search(rf"\b{key}:", text)]
    assert not missing


# Settings given on the command line

DEEP = """\
data: digits
model:
  - flatten
  - dense: 64
  - relu
  - [tanh, {dense: {units: 8, bias: false}}]
  - serial: {layers: [{dense: 7}]}
  - dense: 10
train: {epochs: 2}
"""


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=3", ["train", "epochs"], 3),
        ("train.batch_size=all", ["train", "batch_size"], "all"),
        ("train={batch_size: 7}", ["train", "batch_size"], 7),
        ("train.early_stopping.patience=2", ["train", "early_stopping", "patience"], 2),
        ("train.early_stopping={}", ["train", "early_stopping", "monitor"], "validation_loss"),
        ("optimizer.learning_rate=1e-2", ["optimizer", "learning_rate"], 0.01),
        ("optimizer=sgd", ["optimizer", "learning_rate"], 0.1),
        ("optimizer.name=sgd", ["optimizer", "name"], "sgd"),
        ("optimizer.schedule=cosine", ["optimizer", "schedule", "name"], "cosine"),
        ("optimizer.schedule.name=cosine", ["optimizer", "schedule", "warmup_steps"], 0),
        ("data.split.train=0.7", ["data", "split", "train"], 0.7),
        ("data.split.train=0.7", ["data", "name"], "digits"),
        ("data.normalize=none", ["data", "normalize"], "none"),
        ("regularization.l2=1e-3", ["regularization", "l2"], 0.001),
        ("seed=7", ["seed"], 7),
        ("name=no", ["name"], "no"),
        ("out=/some/where=else", ["out"], "/some/where=else"),
        ("loss=null", ["loss", "name"], "cross_entropy"),
        ("model.1.dense.units=5", ["model", 1, "dense", "units"], 5),
        ("model.1.dense=5", ["model", 1, "dense", "units"], 5),
        ("model.1.dense.bias=false", ["model", 1, "dense", "units"], 64),
        ("model.2=tanh", ["model", 2], "tanh"),
        ("model.2={leaky_relu: 0.1}", ["model", 2, "leaky_relu", "slope"], 0.1),
        ("model.2.relu.name=r", ["model", 2, "relu", "name"], "r"),
        ("model.3.1.dense.units=5", ["model", 3, 1, "dense"], {"units": 5, "bias": False, "init": "glorot_uniform"}),
        ("model.4.serial.layers.0.dense=5", ["model", 4, 0, "dense", "units"], 5),
        ("model=[flatten, {dense: 10}]", ["model", 0], "flatten"),
    ],
)
def test_any_value_can_be_overridden(load_text, override, path, value):
    config = load_text(DEEP, override).config
    assert at(config.model_dump(), path) == value


def test_an_override_changes_nothing_else(load_text):
    before, after = load_text(DEEP).config, load_text(DEEP, "optimizer.learning_rate=0.5").config
    assert before.optimizer.learning_rate != 0.5
    same = after.optimizer.model_copy(update={"learning_rate": before.optimizer.learning_rate})
    assert after.model_copy(update={"optimizer": same}) == before


def test_overrides_apply_in_order(load_text):
    config = load_text(DEEP, "train.epochs=5", "optimizer=sgd", "train.epochs=6", "optimizer.momentum=0.9").config
    assert (config.train.epochs, config.optimizer.name, config.optimizer.momentum) == (6, "sgd", 0.9)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("train.epochs", "expected key=value, such as train.epochs=3"),
        ("=3", "expected key=value, such as train.epochs=3"),
        ("train.epochs=", "train.epochs: expected a whole number, got nothing"),
        ("train.epochs=three", "train.epochs: expected a whole number, got 'three'"),
        ("train.epochs=0", "train.epochs: expected a value of at least 1, got 0"),
        ("train.epoch=3", "unknown key 'epoch' in 'train'; did you mean 'epochs'?"),
        ("trian.epochs=3", "unknown key 'trian' at the top level; did you mean 'train'?"),
        ("epochs=3", "unknown key 'epochs' at the top level; it belongs under 'train'"),
        ("zzz=3", "unknown key 'zzz' at the top level; known: data"),
        ("train=3", "train: expected a mapping of settings, got 3"),
        ("optimizer.momentum=0.9", "'momentum' is no setting of 'optimizer' (adam), but of sgd"),
        ("optimizer.lerning_rate=1", "unknown key 'lerning_rate' in 'optimizer' (adam); did you mean 'learning_rate'?"),
        ("optimizer=adm", "unknown optimizer 'adm'; did you mean 'adam'?"),
        ("optimizer.name=adm", "unknown optimizer 'adm'; did you mean 'adam'?"),
        ("data=digit", "unknown data set 'digit'; did you mean 'digits'?"),
        ("data.name=digit", "unknown data set 'digit'; did you mean 'digits'?"),
        ("data.split=0.8", "data.split: expected a mapping of settings, got 0.8"),
        ("loss=mse", "mse is for regression, but digits has 10 classes; use cross_entropy"),
        ("train.early_stopping.monitor=val_loss", "nothing records 'val_loss' in this run"),
        ("model=relu", "model: expected a list, got 'relu'"),
        ("model.1=null", "expected a layer, such as relu or {dense: 64}, got nothing"),
        ("model.2=tahn", "unknown layer 'tahn'; did you mean 'tanh'?"),
        ("model.1.dense=-1", "dense: units: expected a value of at least 1, got -1"),
        ("model.1.dense.units=ten", "dense: units: expected a whole number, got 'ten'"),
        ("model.9.dense=5", "'9' is no place in a list of 6; places count from 0"),
        ("model.-1.dense=5", "'-1' is no place in a list of 6; places count from 0"),
        ("model.last.dense=5", "'last' is no place in a list of 6; places count from 0"),
        ("model.²=relu", "'²' is no place in a list of 6; places count from 0"),
        ("seed=[", "not YAML"),
        ("seed=a: b: c", "not YAML: mapping values are not allowed here"),
    ],
)
def test_a_wrong_override_is_named_in_place_of_a_line(load_text, override, what):
    refused(load_text, override, what, DEEP, override)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("data.split.train=0.95", "the parts sum to 1.15, which is more than 1"),
        ("model.5.dense=12", "dense_2 gives 12, but digits has 10 classes"),
        ("model.5.dense.units=12", "dense_2 gives 12, but digits has 10 classes"),
        ("model.2.leaky_relu=0.1", "expected a layer"),
        ("train.epochs.of=3", "train.epochs: expected a whole number, got a mapping"),
        ("seed.of=3", "seed: expected a whole number, got a mapping"),
        ("loss.of=3", "loss"),
        ("optimizer.schedule.warmup_steps=3", "'name' is required in 'optimizer.schedule', but not given"),
        ("train..epochs=3", "unknown key '' in 'train'"),
        ("3=4", "3"),
    ],
)
def test_an_override_that_spoils_what_surrounds_it_is_named(load_text, override, what):
    refused(load_text, override, what, DEEP, override)


def test_the_override_is_named_when_it_lengthens_the_warm_up_of_the_file(load_text):
    override = "optimizer.schedule.warmup_steps=5000"
    refused(
        load_text,
        override,
        "5000 leave nothing of a run of 900 steps",
        NET + "optimizer: {schedule: cosine}\n",
        override,
    )


def test_a_line_of_the_file_is_named_when_an_override_has_nothing_to_do_with_it(load_text):
    with pytest.raises(ConfigError, match=r"^c\.yaml:5:17: train\.epochs: ") as caught:
        load_text(NET + "train: {epochs: 0}\n", "train.batch_size=3", "seed=x")
    assert caught.value.lines[1].startswith("seed=x: ")
