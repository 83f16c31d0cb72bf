"""Overrides: settings from the command line that replace those of the file."""

import pytest
from config.messages import NET, assert_refused, at

from fnet.config.errors import ConfigError

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
        ("train.early_stopping.mode=max", ["train", "early_stopping", "mode"], "max"),
        ("train.early_stopping.min_delta=0.1", ["train", "early_stopping", "min_delta"], 0.1),
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
def test_any_value_can_be_overridden(resolve_text, override, path, value):
    config = resolve_text(DEEP, override).config
    assert at(config.model_dump(), path) == value


def test_an_override_changes_nothing_else(resolve_text):
    before, after = resolve_text(DEEP).config, resolve_text(DEEP, "optimizer.learning_rate=0.5").config
    assert before.optimizer.learning_rate != 0.5
    same = after.optimizer.model_copy(update={"learning_rate": before.optimizer.learning_rate})
    assert after.model_copy(update={"optimizer": same}) == before


def test_overrides_apply_in_order(resolve_text):
    config = resolve_text(DEEP, "train.epochs=5", "optimizer=sgd", "train.epochs=6", "optimizer.momentum=0.9").config
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
        ("optimizer.momentum=0.9", "'momentum' is not a setting of 'optimizer' (adam), only of sgd"),
        ("optimizer.lerning_rate=1", "unknown key 'lerning_rate' in 'optimizer' (adam); did you mean 'learning_rate'?"),
        ("optimizer=adm", "unknown optimizer 'adm'; did you mean 'adam'?"),
        ("optimizer.name=adm", "unknown optimizer 'adm'; did you mean 'adam'?"),
        ("data=digit", "unknown dataset 'digit'; did you mean 'digits'?"),
        ("data.name=digit", "unknown dataset 'digit'; did you mean 'digits'?"),
        ("data.split=0.8", "data.split: expected a mapping of settings, got 0.8"),
        ("loss=mse", "mse is for regression, but digits has 10 classes; use cross_entropy"),
        ("train.early_stopping.monitor=val_loss", "expected a value that the run records, got 'val_loss'"),
        ("model=relu", "model: expected a list, got 'relu'"),
        ("model.1=null", "expected a layer, such as relu or {dense: 64}, got nothing"),
        ("model.2=tahn", "unknown layer 'tahn'; did you mean 'tanh'?"),
        ("model.1.dense=-1", "dense: units: expected a value of at least 1, got -1"),
        ("model.1.dense.units=ten", "dense: units: expected a whole number, got 'ten'"),
        ("model.9.dense=5", "expected an index of a list of length 6, counted from 0, got '9'"),
        ("model.-1.dense=5", "expected an index of a list of length 6, counted from 0, got '-1'"),
        ("model.last.dense=5", "expected an index of a list of length 6, counted from 0, got 'last'"),
        ("model.²=relu", "expected an index of a list of length 6, counted from 0, got '²'"),
        ("seed=[", "not YAML"),
        ("seed=a: b: c", "not YAML: mapping values are not allowed here"),
    ],
)
def test_an_invalid_override_is_reported_by_its_text(load_text, override, what):
    assert_refused(load_text, override, what, DEEP, override)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        (
            "data.split={train: 0.95, test: 0.2}",
            "sum to at most 1, got 0.95 (train) + 0.2 (test) = 1.15",
        ),
        ("model.5.dense=12", "dense_2: expected 10 outputs for cross_entropy, because digits has 10"),
        (
            "model.5.dense.units=12",
            "dense_2: expected 10 outputs for cross_entropy, because digits has 10",
        ),
        ("model.2.leaky_relu=0.1", "expected a layer"),
        ("train.epochs.of=3", "train.epochs: expected a whole number, got a mapping"),
        ("seed.of=3", "seed: expected a whole number, got a mapping"),
        ("loss.of=3", "loss"),
        ("optimizer.schedule.warmup_steps=3", "'name' is required in 'optimizer.schedule', but not given"),
        ("train..epochs=3", "unknown key '' in 'train'"),
        ("3=4", "3"),
    ],
)
def test_an_override_that_invalidates_its_section_is_named(load_text, override, what):
    assert_refused(load_text, override, what, DEEP, override)


def test_the_override_is_named_when_it_lengthens_the_warm_up_of_the_file(load_text):
    override = "optimizer.schedule.warmup_steps=5000"
    assert_refused(
        load_text,
        override,
        "expected fewer than the 900 steps of the run, got 5000",
        NET + "optimizer: {schedule: cosine}\n",
        override,
    )


def test_a_line_of_the_file_is_named_when_an_override_is_unrelated(load_text):
    with pytest.raises(ConfigError, match=r"^c\.yaml:5:17: train\.epochs: ") as caught:
        load_text(NET + "train: {epochs: 0}\n", "train.batch_size=3", "seed=x")
    assert caught.value.lines[1].startswith("seed=x: ")


@pytest.mark.parametrize("override", ["model.1.dens.units=3", "model.1.dens.init=zeros"])
def test_an_override_inside_an_unknown_layer_names_the_layer(load_text, override):
    with pytest.raises(ConfigError, match=r"unknown layer 'dens'; did you mean 'dense'\?"):
        load_text(NET.replace("dense", "dens"), override)
