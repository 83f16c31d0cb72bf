"""Errors about invalid values and unknown names."""

import re

import pytest
from config.messages import LAYERS, NET, assert_refused

from fnet.config.errors import ConfigError

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
        ("seed: !odd 3\n", "c.yaml:5:7", "unknown tag '!odd'; a config is plain data"),
        ("name: 3\n", "c.yaml:5:7", "name: expected text, got 3"),
        ("out: 3\n", "c.yaml:5:6", "out: expected text, got 3"),
        ("regularization: {l1: -1}\n", "c.yaml:5:22", "regularization.l1: expected a value of at least 0, got -1"),
        ("regularization: {l1: big}\n", "c.yaml:5:22", "regularization.l1: expected a number, got 'big'"),
        (f"seed: '{'x' * 200}'\n", "c.yaml:5:7", "seed: expected a whole number, got 'xxxxxxxx"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_bounds_is_reported(load_text, added, where, what):
    assert_refused(load_text, where, what, NET + added)


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
            "expected fractions that sum to at most 1, got 0.9 (train) + 0.2 (validation) = 1.1",
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
def test_an_invalid_value_of_the_data_is_reported(load_text, data, column, what):
    assert_refused(load_text, f"c.yaml:1:{column}", what, f"data: {data}\n{LAYERS}")


@pytest.mark.parametrize(
    ("item", "where", "what"),
    [
        ("dense: -1", "c.yaml:4:12", "dense: units: expected a value of at least 1, got -1"),
        ("dense: ten", "c.yaml:4:12", "dense: units: expected a whole number, got 'ten'"),
        ("dense: 1.5", "c.yaml:4:12", "dense: units: expected a whole number, got 1.5"),
        ("dense: true", "c.yaml:4:12", "dense: units: expected a whole number, got true"),
        ("dense: {units: 10, bias: no}", "c.yaml:4:30", "dense: bias: expected true or false, got 'no'"),
        ("dense: {units: 10, init: glorot_unifrom}", "c.yaml:4:30", "did you mean 'glorot_uniform'?"),
        ("dense: {units: 10, init: zz}", "c.yaml:4:30", "unknown initializer 'zz'; known: glorot_normal"),
        ("dense: {units: 10, init: no_such.module}", "c.yaml:4:30", "cannot import the function 'no_such.module'"),
        ("leaky_relu: -1", "c.yaml:4:17", "leaky_relu: slope: expected a value of at least 0, got -1"),
        ("rnn: {units: 3, activation: tahn}", "c.yaml:4:33", "'sigmoid' or 'relu', got 'tahn'; did you mean 'tanh'?"),
        ("flatten: 3", "c.yaml:4:5", "flatten takes no value on its own, got 3"),
        ("10", "c.yaml:4:5", "expected a layer, such as relu or {dense: 64}, got 10"),
        ("~", "c.yaml:4:5", "expected a layer, such as relu or {dense: 64}, got nothing"),
        ("{dense: 10, relu: }", "c.yaml:4:5", "got a mapping with the keys dense, relu"),
        ("{}", "c.yaml:4:5", "empty"),
        ("3: 4", "c.yaml:4:5", "expected text as a key, got 3; put it in quotes"),
        ("serial: {layers: 3}", "c.yaml:4:22", "serial: layers: expected a list of layers"),
        ("[relu, [{dense: -3}]]", "c.yaml:4:21", "dense: units: expected a value of at least 1, got -3"),
        ("serial: [relu, {dense: -3}]", "c.yaml:4:28", "dense: units: expected a value of at least 1, got -3"),
        ("dense: {units: 10, name: a/b}", "c.yaml:4:12", "a layer's name may not be empty or contain '/', got 'a/b'"),
    ],
)
def test_an_invalid_value_of_a_layer_is_reported(load_text, item, where, what):
    assert_refused(load_text, where, what, f"data: digits\nmodel:\n  - flatten\n  - {item}\n")


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
def test_a_model_that_is_not_a_list_of_layers_is_reported(load_text, model, what):
    assert_refused(load_text, "c.yaml:2:8", what, f"data: digits\nmodel: {model}\n")


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
    assert_refused(load_text, "c.yaml:5:7", "name", NET + "name: a/b\n")


# Names


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("data: digit\n" + LAYERS, "c.yaml:1:7", "unknown dataset 'digit'; did you mean 'digits'?"),
        ("data: qqqq\n" + LAYERS, "c.yaml:1:7", "unknown dataset 'qqqq'; known: breast_cancer, chocolate"),
        ("data: {name: digit}\n" + LAYERS, "c.yaml:1:14", "unknown dataset 'digit'; did you mean 'digits'?"),
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
        (
            "data: digits\nmodel: [no.such.layer]\n",
            "c.yaml:2:9",
            "cannot import the layer 'no.such.layer': the module no.such is not in the current directory",
        ),
        (
            "data: digits\nmodel: [os.no_such]\n",
            "c.yaml:2:9",
            "cannot import the layer 'os.no_such': the module os is not in the current directory",
        ),
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
    assert_refused(load_text, where, what, text)
