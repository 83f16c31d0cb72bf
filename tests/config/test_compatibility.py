"""Errors about settings that are each valid, but incompatible."""

import sys

import pytest
from config.messages import LAYERS, NET, PLANE, assert_refused

from fnet.config.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            "data: digits\nmodel:\n  - flatten\n  - dense: 64\n  - relu\n  - dense: 12\n",
            "c.yaml:6:5",
            "dense_2: expected 10 outputs for cross_entropy, because digits has 10 classes; got 12; make it dense: 10",
        ),
        (
            "data: digits\nmodel: [flatten, [{dense: 3}]]\n",
            "c.yaml:2:18",
            "serial_1: expected 10 outputs for cross_entropy, because digits has 10 classes; got 3",
        ),
        (
            "data: digits\nmodel:\n  - dense: 10\n",
            "c.yaml:3:5",
            "dense_1: expected 10 outputs for cross_entropy, because digits has 10 classes; got outputs of shape "
            "(8, 8, 10); put a flatten before the last dense",
        ),
        (
            "data: diabetes\nmodel: [{dense: 2}]\n",
            "c.yaml:2:9",
            "dense_1: expected 1 output for mse, because diabetes has 1 value; got 2;",
        ),
        (
            "data: xor\nmodel: [{dense: 3}]\n",
            "c.yaml:2:9",
            "dense_1: expected 2 outputs for cross_entropy, because xor has 2 classes; got 3",
        ),
        (
            "data: xor\nmodel: [{dense: 2}]\nloss: binary_cross_entropy\n",
            "c.yaml:2:9",
            "expected 1 output for binary_cross_entropy, because xor has 2 classes; got 2; make it dense: 1",
        ),
        (
            "data: xor\nmodel: [{dense: 1}]\nloss: cross_entropy\n",
            "c.yaml:2:9",
            "expected 2 outputs for cross_entropy, because xor has 2 classes; got 1; make it dense: 2",
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
            "expected a value that the run records, got 'val_loss'; did you mean 'validation_loss'?",
        ),
        (
            NET + "train: {early_stopping: {monitor: validation_mean_absolute_error}}\n",
            "c.yaml:5:35",
            "known: train_loss, train_accuracy, validation_loss, validation_accuracy",
        ),
        (
            "data: {name: digits, split: {train: 1.0}}\n" + LAYERS + "train:\n  early_stopping: {patience: 2}\n",
            "c.yaml:4:19",
            "expected a value that the run records, got 'validation_loss', but data.split has no validation part",
        ),
        (
            NET + "optimizer:\n  schedule: {name: cosine, warmup_steps: 5000}\n",
            "c.yaml:6:13",
            "warmup_steps: expected fewer than the 900 steps of the run, got 5000; shorten the warm-up",
        ),
        (
            NET + "optimizer:\n  schedule: {name: linear, warmup_steps: 900}\n",
            "c.yaml:6:13",
            "warmup_steps: expected fewer than the 900 steps of the run, got 900",
        ),
        (
            NET + "optimizer: {name: sgd, nesterov: true, momentum_form: average}\n",
            "c.yaml:5:12",
            "optimizer: nesterov requires momentum_form: trace",
        ),
    ],
)
def test_incompatible_settings_are_reported(load_text, text, where, what):
    assert_refused(load_text, where, what, text)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            "data: digits\nmodel: [flatten, {dense: 10}, softmax]\n",
            "c.yaml:2:31",
            "softmax_1: cross_entropy takes logits, so the network must not end with a softmax",
        ),
        (
            "data: digits\nmodel: [flatten, [{dense: 10}, softmax]]\n",
            "c.yaml:2:32",
            "serial_1/softmax_1: cross_entropy takes logits, so the network must not end with a softmax",
        ),
        (
            "data: xor\nmodel: [{dense: 1}, sigmoid]\n",
            "c.yaml:2:21",
            "sigmoid_1: binary_cross_entropy takes logits, so the network must not end with a sigmoid",
        ),
        (
            "data: digits\nmodel: [flatten, {dense: 10}, sigmoid]\n",
            "c.yaml:2:31",
            "sigmoid_1: cross_entropy takes logits",
        ),
        ("data: xor\nmodel: [{dense: 1}, softmax]\n", "c.yaml:2:21", "softmax_1: binary_cross_entropy takes logits"),
    ],
)
def test_a_final_softmax_or_sigmoid_in_front_of_a_loss_that_takes_logits_is_refused(load_text, text, where, what):
    assert_refused(load_text, where, what, text)
    with pytest.raises(ConfigError, match=r"; remove it$"):
        load_text(text)


def test_a_sigmoid_inside_the_network_or_at_the_end_of_a_regression_is_fine(load_text):
    load_text("data: digits\nmodel: [flatten, {dense: 4}, sigmoid, softmax, {dense: 10}]\n")
    load_text("data: sine\nmodel: [{dense: 1}, sigmoid]\n")


@pytest.fixture
def custom_layer(tmp_path, monkeypatch):
    """Return the dotted path of a custom layer, in an importable module, that takes examples with two axes."""
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


def test_a_layer_that_cannot_take_its_input_is_reported_at_its_position(load_text, custom_layer):
    text = f"data: digits\nmodel:\n  - flatten\n  - [relu, {custom_layer}]\n  - dense: 10\n"
    assert_refused(
        load_text,
        "c.yaml:4:12",
        "serial_1/table_1: expects (batch, rows, columns), got (64,); examples of digits have the shape (8, 8, 1)",
        text,
    )


def test_the_settings_of_a_users_own_layer_are_checked_like_any_other(load_text, custom_layer):
    text = f"data: digits\nmodel:\n  - {custom_layer}: {{repeets: 3}}\n  - dense: 10\n"
    with pytest.raises(ConfigError, match=r"^c\.yaml:3:\d+: unknown key 'repeets' .*did you mean 'repeats'\?"):
        load_text(text)


# Several at once


def test_all_errors_are_reported_at_once_in_the_order_of_the_file(load_text):
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


def test_all_incompatibilities_are_reported_at_once(load_text):
    text = """\
data: digits
model: [flatten, {dense: 12}]
train: {early_stopping: {monitor: accuracy}}
optimizer: {schedule: {name: cosine, warmup_steps: 99999}}
"""
    with pytest.raises(ConfigError, match=r"dense_1: expected 10 outputs .* got 12") as caught:
        load_text(text)
    assert [line.split(":")[1] for line in caught.value.lines] == ["2", "3", "4"]
