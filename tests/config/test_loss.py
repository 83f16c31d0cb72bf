"""The loss of a config: a name, or a mapping with its settings."""

import functools
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from config.messages import assert_refused

from fnet.config.errors import ConfigError
from fnet.config.experiment import dump
from fnet.config.explain import explain
from fnet.config.json_schema import json_schema
from fnet.losses import LOSSES
from fnet.runs.data import load_data
from fnet.runs.gradcheck import check_gradients
from fnet.runs.run import run

DIGITS = "data: digits\nmodel: [flatten, {dense: 10}]\n"
PLANE = "data: {name: xor, samples: 40}\nmodel: [{dense: 1}]\n"
VALUES = "data: {name: diabetes, normalize: standard}\nmodel: [{dense: 1}]\n"


@pytest.mark.parametrize(
    ("text", "written", "resolved"),
    [
        (DIGITS, "cross_entropy", {"name": "cross_entropy", "class_weights": None, "label_smoothing": 0.0}),
        (DIGITS, "{name: cross_entropy}", {"name": "cross_entropy", "class_weights": None, "label_smoothing": 0.0}),
        (
            DIGITS,
            "{name: cross_entropy, label_smoothing: 0.1}",
            {"name": "cross_entropy", "class_weights": None, "label_smoothing": 0.1},
        ),
        (DIGITS, "null", {"name": "cross_entropy", "class_weights": None, "label_smoothing": 0.0}),
        (VALUES, "{delta: 2, name: huber}", {"name": "huber", "delta": 2.0}),
        (VALUES, "mse", {"name": "mse"}),
        (PLANE, "hinge", {"name": "hinge"}),
        (PLANE, "null", {"name": "binary_cross_entropy", "class_weights": None}),
    ],
)
def test_a_loss_is_a_name_or_a_mapping_and_resolves_to_a_mapping(resolve_text, text, written, resolved):
    config = resolve_text(f"{text}loss: {written}\n").config
    assert list(config.model_dump()["loss"].items()) == list(resolved.items())
    assert resolve_text(dump(config)).config == config
    assert re.search(rf"^loss:\n  name: {resolved['name']}\n", dump(config), re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "loss", "where", "what"),
    [
        (DIGITS, "cross_entrpy", "3:7", "unknown loss 'cross_entrpy'; did you mean 'cross_entropy'?"),
        (DIGITS, "{name: cross_entrpy}", "3:14", "unknown loss 'cross_entrpy'; did you mean 'cross_entropy'?"),
        (DIGITS, "qqq", "3:7", "unknown loss 'qqq'; known: binary_cross_entropy, cross_entropy, hinge, huber"),
        (DIGITS, "3", "3:7", "loss: expected a mapping of settings, got 3"),
        (DIGITS, "[mse]", "3:7", "loss: expected a mapping of settings, got a list"),
        (DIGITS, "{label_smoothing: 0.1}", "3:7", "'name' is required in 'loss', but not given"),
        (
            DIGITS,
            "{name: cross_entropy, label_smothing: 0.1}",
            "3:29",
            "unknown key 'label_smothing' in 'loss' (cross_entropy); did you mean 'label_smoothing'?",
        ),
        (
            DIGITS,
            "{name: cross_entropy, delta: 1}",
            "3:29",
            "'delta' is not a setting of 'loss' (cross_entropy), only of huber",
        ),
        (VALUES, "{name: mse, zzz: 1}", "3:19", "unknown key 'zzz' in 'loss' (mse); known: name"),
        (
            DIGITS,
            "{name: cross_entropy, label_smoothing: 1}",
            "3:46",
            "loss.label_smoothing: expected a value less than 1",
        ),
        (DIGITS, "{name: cross_entropy, label_smoothing: -0.1}", "3:46", "expected a value of at least 0, got -0.1"),
        (VALUES, "{name: huber, delta: 0}", "3:28", "loss.delta: expected a value greater than 0, got 0"),
        (VALUES, "{name: huber, delta: wide}", "3:28", "loss.delta: expected a number, got 'wide'"),
        (DIGITS, "huber", "3:7", "huber is for regression with outliers, but digits has 10 classes; use cross_entropy"),
        (DIGITS, "{name: huber, delta: 2}", "3:14", "huber is for regression with outliers, but digits has 10 classes"),
        (
            DIGITS,
            "hinge",
            "3:7",
            "hinge is for two classes, or many labels, with a margin, but digits has 10 classes; use cross_entropy",
        ),
        (VALUES, "hinge", "3:7", "but diabetes has 1 value; use mse or huber"),
        (PLANE, "mse", "3:7", "but xor has 2 classes; use binary_cross_entropy or cross_entropy or hinge"),
        (
            DIGITS,
            "kl_divergence",
            "3:7",
            "kl_divergence is for distributions as targets, from Python only, but digits has 10 classes; use cross_",
        ),
        (
            VALUES,
            "kl_divergence",
            "3:7",
            "kl_divergence is for distributions as targets, from Python only, but diabetes",
        ),
    ],
)
def test_errors_are_reported_at_their_position(load_text, text, loss, where, what):
    with pytest.raises(ConfigError, match=rf"^c\.yaml:{where}: .*{re.escape(what)}") as caught:
        load_text(f"{text}loss: {loss}\n")
    assert len(caught.value.lines) == 1


def test_hinge_takes_one_output(load_text):
    message = r"^c\.yaml:2:9: dense_1: expected 1 output for hinge, because xor has 2 classes; got 2;"
    with pytest.raises(ConfigError, match=message):
        load_text("data: xor\nmodel: [{dense: 2}]\nloss: hinge\n")


@pytest.mark.parametrize(
    ("override", "name", "settings"),
    [
        ("loss=huber", "huber", {"delta": 1.0}),
        ("loss={name: huber, delta: 3}", "huber", {"delta": 3.0}),
        ("loss.delta=3", "huber", {"delta": 3.0}),
        ("loss.name=mse", "mse", {}),
    ],
)
def test_the_loss_can_be_overridden(resolve_text, override, name, settings):
    loss = resolve_text(f"{VALUES}loss: huber\n", override).config.loss
    assert (loss.name, loss.specific_settings()) == (name, settings)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("loss.delta=0", "loss.delta: expected a value greater than 0, got 0"),
        ("loss.dleta=1", "unknown key 'dleta' in 'loss' (huber); did you mean 'delta'?"),
        ("loss=hubr", "unknown loss 'hubr'; did you mean 'huber'?"),
        ("loss=hinge", "diabetes has 1 value; use mse or huber"),
        ("loss.name=hinge", "diabetes has 1 value; use mse or huber"),
    ],
)
def test_an_invalid_override_is_named(load_text, override, what):
    with pytest.raises(ConfigError, match=f"^{re.escape(override)}: .*{re.escape(what)}"):
        load_text(f"{VALUES}loss: huber\n", override)


def test_the_experiment_has_the_loss_with_its_settings(load_text):
    loss = load_text(f"{VALUES}loss: {{name: huber, delta: 2}}\n").loss
    assert isinstance(loss.function, functools.partial)
    assert loss.function(jnp.array([[4.0]]), jnp.array([[0.0]])).tolist() == [6.0]
    assert loss[1:] == LOSSES["huber"][1:]
    assert load_text(f"{VALUES}loss: mse\n").loss is LOSSES["mse"]


@pytest.mark.parametrize(
    ("text", "loss", "metrics"),
    [
        (
            "data: {name: sine, samples: 40}\nmodel: [{dense: 1}]\n", "{name: huber, delta: 0.1}",
            {"rmse", "mean_absolute_error", "r2"},
        ),
        (PLANE, "hinge", {"accuracy"}),
        (PLANE.replace("dense: 1", "dense: 2"), "{name: cross_entropy, label_smoothing: 0.2}", {"accuracy"}),
    ],
)  # fmt: skip
def test_training_and_gradient_checks_use_the_settings(load_text, text, loss, metrics):
    """The logged loss, and the loss whose gradients are checked, have the settings of the config."""
    experiment = load_text(f"{text}loss: {loss}\n", "train.epochs=2")
    report = check_gradients(experiment)[0].report
    assert report.ok, str(report)
    outcome = run(experiment)
    scores = outcome.scores["train"]
    assert set(scores) == {"loss", *metrics}
    plain = load_text(f"{text}loss: {experiment.loss_settings['name']}\n", "train.epochs=2")
    if plain.config_text(None) != experiment.config_text(None):
        assert run(plain).scores["train"]["loss"] != scores["loss"]
    end = json.loads((outcome.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert end["train_loss"] == scores["loss"]


def test_losses_and_their_settings_are_explained():
    (section,) = explain("loss")
    assert [entry.key for entry in section.entries] == list(LOSSES)
    for key in ("huber.delta", "loss.delta", "delta"):
        (explanation,) = explain(key)
        assert [(e.type, e.default) for e in explanation.entries] == [("number, greater than 0", "1.0")]
        assert explanation.entries[0].meaning.startswith("error up to which")
    (explanation,) = explain("cross_entropy")
    assert [entry.key for entry in explanation.entries] == ["loss.class_weights", "loss.label_smoothing"]
    (explanation,) = explain("mse")
    assert (explanation.heading, explanation.entries) == ("mse (loss)", [])


@pytest.mark.parametrize(
    ("loss", "ok"),
    [
        ("huber", True),
        ({"name": "huber"}, True),
        ({"name": "huber", "delta": 2}, True),
        (None, True),
        ("hubr", False),
        ({"name": "huber", "delta": 0}, False),
        ({"name": "mse", "delta": 1}, False),
        ({"delta": 1}, False),
    ],
)
def test_the_json_schema_accepts_both_forms(loss, ok):
    jsonschema = pytest.importorskip("jsonschema")
    config = {"data": "digits", "model": ["flatten"], "loss": loss}
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(config) == ok


CLASSES = "data: iris\nmodel: [{dense: 3}]\n"


@pytest.mark.parametrize(
    ("weights", "resolved"),
    [("balanced", "balanced"), ("[1, 2, 0]", [1.0, 2.0, 0.0]), ("{setosa: 2}", {"setosa": 2.0})],
)
def test_class_weights_are_not_settings_of_the_loss_function(resolve_text, load_text, weights, resolved):
    text = f"{CLASSES}loss: {{name: cross_entropy, class_weights: {weights}}}\n"
    config = resolve_text(text).config
    assert config.loss.class_weights == resolved
    assert resolve_text(dump(config)).config == config
    experiment = load_text(text)
    assert (experiment.class_weights, experiment.loss_settings) == (
        resolved,
        {"name": "cross_entropy", "label_smoothing": 0.0},
    )


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ("{setoza: 2}", "loss.class_weights: unknown class 'setoza'; did you mean 'setosa'?"),
        ("{x: 2}", "loss.class_weights: unknown class 'x'; known: setosa, versicolor, virginica"),
        ("[1, 2]", "loss.class_weights: expected a weight for each of 3 classes, got 2; give weights by name"),
        ("[0, 0, 0]", "loss.class_weights: expected a positive weight, got only 0; make one positive"),
        ("[1, 2, -1]", "loss.class_weights.2: expected a value of at least 0, got -1"),
        ("{setosa: x}", "loss.class_weights.setosa: expected a number, got 'x'"),
        ("balancd", "expected 'balanced' or a list or a mapping of settings, got 'balancd'; did you mean 'balanced'?"),
    ],
)
def test_wrong_class_weights_are_refused(load_text, weights, what):
    text = f"{CLASSES}loss:\n  name: cross_entropy\n  class_weights: {weights}\n"
    with pytest.raises(ConfigError, match=rf"^c\.yaml:5:\d+: .*{re.escape(what)}") as caught:
        load_text(text)
    assert len(caught.value.lines) == 1


def test_other_losses_have_no_class_weights(load_text):
    message = "'class_weights' is not a setting of 'loss' (hinge), only of binary_cross_entropy, cross_entropy"
    override = "loss={name: hinge, class_weights: balanced}"
    assert_refused(load_text, override, message, PLANE, override)


def test_training_weighs_the_classes_and_scores_do_not(load_text, tmp_path):
    """The loss of the first full-batch step is weighted; that of a part is not. Both are computed by hand."""
    text = f"{CLASSES}train: {{steps: 1, batch_size: all}}\noptimizer: {{name: sgd, learning_rate: 1e-30}}\n"
    override = "loss={name: cross_entropy, class_weights: {setosa: 5, virginica: 0}}"
    experiment = load_text(text, override, f"out={tmp_path}")
    outcome = run(experiment)
    data = load_data(experiment)[0].train
    params = outcome.fitted.params["dense_1"]
    z = data.x @ np.asarray(params["w"]) + np.asarray(params["b"])
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), data.y]
    w = np.array([5.0, 1.0, 0.0])[data.y]
    recorded = outcome.fitted.history[0].values["train_loss"]
    assert recorded == pytest.approx((w * losses).sum() / w.sum(), rel=1e-5)
    assert outcome.scores["train"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert all(checked.report.ok for checked in check_gradients(experiment, examples=4, after_steps=1))


def test_class_weights_are_explained():
    for key in ("cross_entropy", "binary_cross_entropy", "loss.class_weights"):
        (explanation,) = explain(key)
        (entry,) = (entry for entry in explanation.entries if entry.key == "loss.class_weights")
        assert "n / (K n_c)" in entry.meaning
