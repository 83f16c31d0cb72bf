"""Valid configs, with their experiments and resolved configs."""

import re

import pytest
from config.messages import LAYERS, NET, PLANE
from shipped import SHIPPED

from fnet.config.errors import ConfigError
from fnet.config.experiment import dump
from fnet.config.load import resolve
from fnet.data import catalog, synthetic
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES


def test_the_smallest_config_has_defaults_for_everything_else(resolve_text):
    config, net, spec, _ = resolve_text("data: digits\nmodel: [flatten, {dense: 64}, relu, {dense: 10}]\n")
    assert (config.name, config.seed, config.out, config.loss.name) == ("c", 0, "runs", "cross_entropy")
    assert (config.data.source, config.data.name, config.data.normalize) == ("sklearn", "digits", "unit")
    assert (config.data.split.train, config.data.split.validation, config.data.split.test) == (0.8, 0.1, 0.1)
    assert (config.optimizer.name, config.optimizer.schedule.name) == ("adam", "constant")
    assert (config.train.epochs, config.train.batch_size, config.train.early_stopping) == (20, 32, None)
    assert net.shape(spec.shape) == (10,)


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
def test_a_short_form_means_the_long_one(resolve_text, short, long):
    assert resolve_text(short).config == resolve_text(long).config


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_can_be_named_alone(load_text, resolve_text, name):
    text = NET + f"optimizer: {name}\n"
    assert resolve_text(text).config.optimizer.name == name
    assert load_text(text).optimizer(10).init({}) is not None


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_named_alone(load_text, resolve_text, name):
    text = NET + f"optimizer: {{schedule: {name}}}\n"
    assert resolve_text(text).config.optimizer.schedule.name == name
    assert load_text(text).optimizer(10).init({}) is not None


@pytest.mark.parametrize("name", [*catalog.SOURCES["sklearn"], *catalog.SOURCES["synthetic"]])
def test_every_embedded_dataset_can_be_named_alone(resolve_text, name):
    units = {"digits": 10, "iris": 3, "wine": 3}.get(name, 1)
    model = f"[flatten, {{dense: {units}}}]"
    if name == "sentences":
        characters = len(synthetic.GENERATORS[name].vocabulary or "")
        model = f"[{{embedding: {{size: {characters}, width: 4}}}}, {{dense: {characters}}}]"
    config, _, spec, _ = resolve_text(f"data: {name}\nmodel: {model}\n")
    assert config.data.name == spec.name == name
    assert name in catalog.SOURCES[config.data.source]


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
def test_the_loss_follows_from_the_task(resolve_text, text, loss):
    assert resolve_text(text).config.loss.name == loss


@pytest.mark.parametrize(
    ("text", "normalization"), [(NET, "unit"), ("data: iris\nmodel: [{dense: 3}]\n", "standard"), (PLANE, "none")]
)
def test_the_normalization_follows_from_the_data(resolve_text, text, normalization):
    assert resolve_text(text).config.data.normalize == normalization


@pytest.mark.parametrize(
    ("written", "rate"), [("1e-3", 1e-3), ("1e3", 1e3), ("1.5E-2", 0.015), ("1", 1.0), ("0.1", 0.1)]
)
def test_numbers_are_those_of_yaml_1_2(resolve_text, written, rate):
    assert resolve_text(NET + f"optimizer: {{learning_rate: {written}}}\n").config.optimizer.learning_rate == rate


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "n", "12:30", "2024-01-01"])
def test_words_that_older_yaml_reads_as_something_else_are_text(resolve_text, word):
    assert resolve_text(NET + f"name: {word}\n").config.name == word


def test_anchors_may_be_used(resolve_text):
    text = "data: digits\nmodel: [flatten, &hidden {dense: 8}, relu, *hidden, {dense: 10}]\n"
    assert resolve_text(text).config.model[1] == resolve_text(text).config.model[3]


def test_the_schedule_spans_the_steps_of_the_run(load_text):
    """1,438 training examples in batches of 32 are 45 steps per epoch, so a warm-up of 89 steps fits in two epochs."""
    text = NET + "optimizer: {schedule: {name: cosine, warmup_steps: 89}}\n"
    load_text(text, "train.epochs=2")
    with pytest.raises(ConfigError, match="the 45 steps of the run"):
        load_text(text, "train.epochs=1")


# The resolved config


@SHIPPED
def test_the_resolved_config_loads_to_the_same(config, tmp_path):
    first = resolve(str(config)).config
    (tmp_path / "config.yaml").write_text(dump(first))
    again = resolve(str(tmp_path / "config.yaml")).config
    assert again == first
    assert again.name == config.stem
    assert dump(again) == dump(first)


@pytest.mark.parametrize(
    "text",
    [
        NET + "optimizer: {name: lion, learning_rate: 1e-12, schedule: {name: step, every: 0.1}, clip_value: 3}\n",
        NET + "train: {batch_size: all, early_stopping: {patience: 2}, log_every: 7}\nname: no\nout: 'a: b'\n",
        "data: digits\nmodel: [{flatten: {name: '1e3'}}, [{gelu: false}, {elu: 1}], {dense: {units: 10, name: yes}}]\n",
    ],
)
def test_a_resolved_config_with_rare_values_loads_to_the_same(resolve_text, text):
    first = resolve_text(text).config
    assert resolve_text(dump(first)).config == first


def test_the_resolved_config_contains_every_setting(resolve_text):
    text = dump(resolve_text(NET + "optimizer: {name: sgd, schedule: cosine}\ntrain: {early_stopping: {}}\n").config)
    settings = "name seed data source split train validation test normalize model units bias init loss optimizer "
    settings += (
        "learning_rate momentum nesterov momentum_form schedule warmup_steps final_fraction clip_norm clip_value "
    )
    settings += "regularization l1 l2 epochs batch_size early_stopping monitor patience log_every out"
    missing = [key for key in settings.split() if not re.search(rf"\b{key}:", text)]
    assert not missing


@pytest.mark.parametrize(
    ("train", "epochs"),
    [("{}", 200), ("{batch_size: all}", 800), ("{batch_size: 1}", 20), ("{epochs: 3}", 3), ("{epochs: 20}", 20)],
)
def test_the_default_epochs_are_at_least_800_steps(resolve_text, train, epochs):
    """The 120 training examples of iris are 4 steps of 32; a resolved config keeps the number."""
    config = resolve_text(f"data: iris\nmodel: [{{dense: 3}}]\ntrain: {train}\n").config
    assert config.train.epochs == epochs
    assert f"\n  epochs: {epochs}\n" in dump(config)
    assert resolve_text(dump(config)).config == config
