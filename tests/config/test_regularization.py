"""Weight penalties and max-norm constraint, for all layers and for single ones."""

import re

import numpy as np
import pytest

from fnet.config.errors import ConfigError
from fnet.config.experiment import dump
from fnet.config.explain import explain
from fnet.reference import network
from fnet.regularization import Penalties
from fnet.runs.gradcheck import check_gradients
from fnet.runs.model_file import load as load_model
from fnet.runs.run import run

MODEL = """\
data: {name: xor, samples: 40}
model:
  - serial: {layers: [{dense: 4}, tanh, {dense: 3}], name: block}
  - relu
  - dense: 1
"""
"""A valid config of five lines, whose layers are block with dense_1, tanh_1 and dense_2 inside, relu_1 and dense_1."""


def test_layers_are_named_by_their_paths(load_text):
    text = MODEL + "regularization: {l2: 1e-4, layers: {dense_1: {l2: 1e-3}, block/dense_2: {l1: 1e-4}}, max_norm: 3}\n"
    penalties = load_text(text).penalties
    layers = {"dense_1": {"l2": 1e-3}, "block/dense_2": {"l1": 1e-4}}
    assert penalties == Penalties(l2=1e-4, layers=layers, max_norm=3.0)
    assert penalties.coefficients_of(("block", "dense_2")) == (1e-4, 1e-4)


def test_by_default_nothing_is_penalized(load_text):
    assert load_text(MODEL).penalties == Penalties()


def test_the_resolved_config_loads_to_the_same(resolve_text):
    text = MODEL + "regularization: {layers: {block: {l2: 1e-3, max_norm: 2}, block/dense_1: {l1: 0}}}\n"
    first = resolve_text(text).config
    assert resolve_text(dump(first)).config == first
    for setting in ("layers", "block/dense_1", "l1", "l2", "max_norm"):
        assert re.search(rf"^ +{setting}:", dump(first), re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "where", "what"),
    [
        ("{layers: {dens_1: {l2: 1}}}", "6:27", "layers: no layer is called 'dens_1'; did you mean 'dense_1'?"),
        ("{layers: {block: {}, dense_2: {}}}", "6:38", "is called 'dense_2'; did you mean 'dense_1'?"),
        ("{layers: {block/dense_3: {l1: 1}}}", "6:27", "is called 'block/dense_3'; did you mean 'block/dense_2'?"),
        (
            "\n  layers:\n    zzz: {l1: 1}",
            "8:5",
            "is called 'zzz'; known: block, block/dense_1, block/dense_2, block/tanh_1, dense_1, relu_1",
        ),
        ("{layers: {dense_1: {l3: 1}}}", "6:37", "unknown key 'l3' in 'regularization.layers.dense_1'; known: l1, l2"),
        (
            "{layers: {block/dense_1: {max_nrm: 1}}}",
            "6:43",
            "unknown key 'max_nrm' in 'regularization.layers.block/dense_1'; did you mean 'max_norm'?",
        ),
        ("{layers: {dense_1: {l2: -1}}}", "6:41", "layers.dense_1.l2: expected a value of at least 0, got -1"),
        ("{layers: {dense_1: {max_norm: 0}}}", "6:47", "dense_1.max_norm: expected a value greater than 0, got 0"),
        ("{layers: {dense_1: {l2: much}}}", "6:41", "layers.dense_1.l2: expected a number, got 'much'"),
        ("{layers: {dense_1: 0.1}}", "6:36", "layers.dense_1: expected a mapping of settings, got 0.1"),
        ("{layers: {l2: 0.1}}", "6:31", "layers.l2: expected a mapping of settings, got 0.1"),
        ("{layers: [dense_1]}", "6:26", "regularization.layers: expected a mapping of settings, got a list"),
        ("{layers: {3: {l2: 1}}}", "6:27", "expected text as a key, got 3; put it in quotes"),
        ("{dense_1: {l2: 1}}", "6:18", "unknown key 'dense_1' in 'regularization'; known: l1, l2, layers, max_norm"),
        ("{max_norm: 0}", "6:28", "regularization.max_norm: expected a value greater than 0, got 0"),
        ("{max_nrm: 3}", "6:18", "unknown key 'max_nrm' in 'regularization'; did you mean 'max_norm'?"),
        ("{l2: -1}", "6:22", "regularization.l2: expected a value of at least 0, got -1"),
    ],
)
def test_errors_are_reported_at_their_position(load_text, section, where, what):
    with pytest.raises(ConfigError, match=rf"^c\.yaml:{where}: .*{re.escape(what)}") as caught:
        load_text(MODEL + f"regularization: {section}\n")
    assert len(caught.value.lines) == 1


def test_all_errors_are_reported_at_once(load_text):
    section = "{layers: {dens_1: {l2: 1}, block: {}, blok: {l1: 1}}}"
    with pytest.raises(ConfigError, match="dens_1") as caught:
        load_text(MODEL + f"regularization: {section}\ntrain: {{early_stopping: {{monitor: zzz}}}}\n")
    assert [line.split(":")[1:3] for line in caught.value.lines] == [["6", "27"], ["6", "55"], ["7", "35"]]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("max_norm", "unknown key 'max_norm' at the top level; it belongs under 'regularization'$"),
        ("l2", "unknown key 'l2' at the top level; it belongs under 'regularization'$"),
    ],
)
def test_a_misplaced_key_belongs_to_its_section_and_not_to_single_layers(load_text, key, message):
    with pytest.raises(ConfigError, match=rf"^c\.yaml:6:1: {message}"):
        load_text(MODEL + f"{key}: 3\n")


def test_values_for_single_layers_can_be_overridden(load_text):
    experiment = load_text(MODEL, "regularization.layers.block/dense_1.l2=1e-3", "regularization.max_norm=2")
    assert experiment.penalties == Penalties(layers={"block/dense_1": {"l2": 1e-3}}, max_norm=2.0)
    override = "regularization.layers.dens_1.l2=1e-3"
    with pytest.raises(ConfigError, match=f"^{override}: regularization.layers: no layer is called 'dens_1'"):
        load_text(MODEL, override)
    with pytest.raises(ConfigError, match=r"^regularization\.layers\.dense_1\.l2=x: .*expected a number, got 'x'"):
        load_text(MODEL, "regularization.layers.dense_1.l2=x")


def test_values_for_single_layers_are_explained():
    (section,) = explain("regularization.layers")
    assert [entry.key for entry in section.entries] == [
        f"regularization.layers.NAME.{v}" for v in ("l1", "l2", "max_norm")
    ]
    (value,) = explain("regularization.layers.dense_1.l2")
    assert value.entries[0].type == "number, at least 0 or null"
    assert [explanation.heading for explanation in explain("l2")] == ["regularization.l2"]


def test_gradients_of_a_config_with_penalties_of_single_layers_agree(load_text, monkeypatch):
    """Without the hand-written penalty, the gradients of all weights differ, except block/dense_2's."""
    section = (
        "{l1: 0.1, l2: 0.2, layers: {dense_1: {l2: 3.0}, block: {l1: 0.5}, block/dense_2: {l1: 0, l2: 0}}, max_norm: 1}"
    )
    experiment = load_text(MODEL + f"regularization: {section}\n")
    report = check_gradients(experiment)[0].report
    assert report.ok, str(report)
    monkeypatch.setattr(network, "penalty", lambda *_: (0.0, {}))
    report = check_gradients(experiment)[0].report
    wrong = [row.name for row in report.rows if not row.ok and row.part == "total"]
    assert wrong == ["loss", "block/dense_1/w", "dense_1/w"]


def test_columns_obey_max_norm_after_a_run(load_text):
    text = MODEL + "regularization: {max_norm: 0.5, layers: {dense_1: {max_norm: 0.25}}}\ntrain: {epochs: 2}\n"
    experiment = load_text(text, "optimizer={name: sgd, learning_rate: 1.0}")
    outcome = run(experiment)
    _, params, _ = load_model(str(outcome.folder))
    lengths = [np.linalg.norm(layer["w"], axis=0) for layer in (*params["block"].values(), params["dense_1"])]
    for columns, longest in zip(lengths, (0.5, 0.5, 0.25), strict=True):
        assert (columns <= longest * (1 + 1e-6)).all()
    assert lengths[2][0] == pytest.approx(0.25, rel=1e-6)
