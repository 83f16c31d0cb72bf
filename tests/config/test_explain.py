"""The JSON Schema of the config, and `explain`: they say what `load` does, and leave nothing out."""

import functools
import re
from io import StringIO
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from fnet.config.errors import ConfigError
from fnet.config.explain import UnknownKey, explain, json_schema
from fnet.config.load import dump, load
from fnet.data import catalog, synthetic
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.losses import LOSSES
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

NET = "data: digits\nmodel: [flatten, {dense: 10}]\n"
LAYERS = "model: [flatten, {dense: 10}]\n"


@pytest.fixture(scope="module")
def schema():
    """The schema, as an independent library applies it."""
    described = json_schema()
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


def faults(schema, text):
    """What the schema finds wrong with this YAML."""
    data = YAML(typ="safe").load(StringIO(text))
    return [f"{error.json_path}: {error.message[:80]}" for error in schema.iter_errors(data)]


def loads(tmp_path, text, *overrides):
    """The text of the error of loading this, empty when there is none."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    try:
        load(str(path), overrides)
    except ConfigError as error:
        return str(error)
    return ""


# The JSON Schema


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_accepts_every_shipped_config_as_written_and_resolved(schema, config):
    assert faults(schema, config.read_text()) == []
    assert faults(schema, dump(load(str(config)).config)) == []


@pytest.mark.parametrize(
    "text",
    [
        NET,
        "data: {name: digits}\n" + LAYERS,
        "data: {source: sklearn, name: digits, split: {train: 0.5}, normalize: null}\n" + LAYERS,
        "data: {name: xor, samples: 10, noise: 1}\nmodel: [{dense: 1}]\n",
        "data: digits\nmodel: [{flatten: {}}, gelu, {gelu: exact}, {elu: 1}, {dense: {units: 10, init: he_normal}}]\n",
        "data: digits\nmodel: [[flatten, relu], {serial: [tanh]}, {serial: {layers: [tanh], name: x}}, {dense: 10}]\n",
        "data: digits\nmodel: [flatten, {dense: {units: 10, init: jax.nn.initializers.ones, name: null}}]\n",
        "data: digits\nmodel: [flatten, [], {dense: 10}]\n",
        "data: digits\nmodel: [{flatten: }, {dense: 10}, {identity: }]\n",
        "data: digits\nmodel: [flatten, {dense: 10}, fnet.layers.activation.identity]\n",
        "data: digits\nmodel: [{fnet.layers.shape.flatten: {}}, {fnet.layers.dense.dense: 10}]\n",
        NET + "optimizer: lion\n",
        NET + "optimizer: {learning_rate: 1}\n",
        NET + "optimizer: {name: lion, schedule: cosine, clip_norm: null}\n",
        NET + "optimizer: {schedule: {name: cosine, warmup_steps: 3}}\n",
        NET + "optimizer: {}\nregularization: {}\ntrain: {early_stopping: {}}\n",
        NET + "loss: cross_entropy\ntrain: {batch_size: all, early_stopping: null, log_every: 3}\n",
        NET + "loss: null\nname: a\nout: b\nseed: 4294967295\n",
    ],
)
def test_the_schema_accepts_what_load_accepts(schema, tmp_path, text):
    assert loads(tmp_path, text) == ""
    assert faults(schema, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "seed: 3\n",
        "data: digits\n",
        LAYERS,
        "data: digit\n" + LAYERS,
        "data: 3\n" + LAYERS,
        "data: {split: {train: 0.5}}\n" + LAYERS,
        "data: {source: synthetic, name: digits}\n" + LAYERS,
        "data: {name: digits, noise: 0.1}\n" + LAYERS,
        "data: {name: digits, split: {train: 1.5}}\n" + LAYERS,
        "data: {name: digits, normalize: standart}\n" + LAYERS,
        "data: digits\nmodel: []\n",
        "data: digits\nmodel: relu\n",
        "data: digits\nmodel: [flaten, {dense: 10}]\n",
        "data: digits\nmodel: [flatten, dense]\n",
        "data: digits\nmodel: [flatten, {dense: 0}]\n",
        "data: digits\nmodel: [flatten, {dense: ten}]\n",
        "data: digits\nmodel: [flatten, {dense: true}]\n",
        "data: digits\nmodel: [flatten, {dense: {unit: 10}}]\n",
        "data: digits\nmodel: [flatten, {dense: {units: 10, init: glorot}}]\n",
        "data: digits\nmodel: [flatten, {dense: 10, relu: }]\n",
        "data: digits\nmodel: [{flatten: 3}, {dense: 10}]\n",
        "data: digits\nmodel: [flatten, [relu, [{dense: -3}]], {dense: 10}]\n",
        "data: digits\nmodel: [flatten, {serial: {layers: 3}}, {dense: 10}]\n",
        NET + "sede: 3\n",
        NET + "seed: -1\n",
        NET + "seed: 4294967296\n",
        NET + "name: 3\n",
        NET + "name: ''\n",
        NET + "loss: cross\n",
        NET + "optimizer: adm\n",
        NET + "optimizer: {name: adm}\n",
        NET + "optimizer: {momentum: 0.9}\n",
        NET + "optimizer: {learning_rate: fast}\n",
        NET + "optimizer: {learning_rate: 0}\n",
        NET + "optimizer: {schedule: {warmup_steps: 3}}\n",
        NET + "optimizer: {schedule: {name: constant, warmup_steps: 3}}\n",
        NET + "train: {epochs: 0}\n",
        NET + "train: {epochs: 1.5}\n",
        NET + "train: {batch_size: al}\n",
        NET + "train: {early_stopping: true}\n",
        NET + "regularization: {l1: -1}\n",
    ],
)
def test_the_schema_rejects_what_load_rejects(schema, tmp_path, text):
    assert loads(tmp_path, text) != ""
    assert faults(schema, text) != []


def test_the_schema_describes_itself():
    described = json_schema()
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert described["title"] == "fnet config"
    assert all(property_.get("description") for property_ in described["properties"].values())


# Finding things


def headings(key):
    return [explanation.heading for explanation in explain(key)]


def entries(key):
    return {entry.key: entry for explanation in explain(key) for entry in explanation.entries}


def test_no_key_explains_the_top_level():
    assert {"data", "model", "loss", "optimizer", "train", "seed", "out"} <= set(entries(""))


@pytest.mark.parametrize("section", ["train", "train.early_stopping", "data.split", "regularization"])
def test_a_section_is_explained_by_its_settings(section):
    assert headings(section) == [section]
    assert all(key.startswith(f"{section}.") for key in entries(section))


@pytest.mark.parametrize(
    ("section", "names"),
    [("optimizer", OPTIMIZERS), ("optimizer.schedule", SCHEDULES), ("data", synthetic.GENERATORS), ("loss", LOSSES)],
)
def test_a_section_that_is_one_of_several_lists_them_all(section, names):
    [explanation] = explain(section)
    listed = {entry.key: entry.meaning for entry in explanation.entries}
    assert set(names) <= set(listed)
    assert all(listed.values())
    assert "`fnet explain NAME`" in explanation.text


@pytest.mark.parametrize(
    ("key", "found", "type_", "default", "meaning"),
    [
        ("dense.units", "dense.units", "whole number, at least 1", "required", "number of outputs."),
        ("dense", "dense.bias", "true or false", "true", "whether b is added; it starts at zero."),
        ("leaky_relu.slope", "leaky_relu.slope", "number, at least 0", "0.01", "the slope for negative z"),
        ("gelu", "gelu.form", "one of tanh, exact", "tanh", "tanh or exact."),
        ("epochs", "train.epochs", "whole number, at least 1", "20", "passes over the training examples"),
        ("train.epochs", "train.epochs", "whole number, at least 1", "20", "passes over the training examples"),
        ("batch_size", "train.batch_size", "whole number, at least 1 or all", "32", "examples a step"),
        ("log_every", "train.log_every", "whole number, at least 1 or null", "null", "steps between lines"),
        ("adam.learning_rate", "adam.learning_rate", "number, greater than 0", "0.001", "alpha"),
        ("adam", "adam.b1", "number, at least 0, less than 1", "0.9", "weight of the old average of gradients."),
        ("cosine", "cosine.final_fraction", "number, at least 0, at most 1", "0.0", "reached at the last step."),
        ("xor.noise", "xor.noise", "number, at least 0, at most 1", "0.0", "moved by up to 5 * noise"),
        ("seed", "seed", "whole number, at least 0, less than 4294967296", "0", "of everything random"),
        ("patience", "train.early_stopping.patience", "whole number, at least 1", "5", "epochs without improvement"),
    ],
)
def test_a_setting_is_explained_by_type_default_and_meaning(key, found, type_, default, meaning):
    entry = entries(key)[found]
    assert (entry.type, entry.default) == (type_, default)
    assert meaning in entry.meaning


@pytest.mark.parametrize(("key", "found"), [("units", "dense.units"), ("slope", "leaky_relu.slope"), ("b1", "b1")])
def test_the_last_part_of_a_key_is_enough(key, found):
    assert any(entry.endswith(found) for entry in entries(key))


def test_a_default_that_differs_between_optimizers_is_told_apart():
    """The rows of `optimizer.learning_rate` say whose they are."""
    text = "\n".join(f"{e.heading} {e.text} {e.entries}" for e in explain("optimizer.learning_rate"))
    assert {"sgd", "adam", "lion"} <= set(re.findall(r"\w+", text))


def test_what_load_fills_in_is_not_called_required():
    assert all(entry.default != "required" for entry in entries("data.source").values())


@pytest.mark.parametrize(
    ("name", "heading", "text"),
    [
        ("dense", "dense (layer)", "z = x w + b"),
        ("sgd", "sgd (optimizer)", "with momentum"),
        ("cosine", "cosine (schedule)", "Half a cosine"),
        ("spiral", "spiral (data set)", "interleaved spirals"),
        ("digits", "digits (data set)", "1797 examples (8, 8, 1) with 10 classes"),
        ("cross_entropy", "cross_entropy (loss)", "softmax"),
    ],
)
def test_a_name_is_explained_by_what_it_is(name, heading, text):
    explanation = next(explanation for explanation in explain(name) if explanation.heading == heading)
    assert text in explanation.text
    assert "Args:" not in explanation.text
    assert ">>>" not in explanation.text


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("epoch", "epochs"),
        ("Dense", "dense"),
        ("optimizer.lerning_rate", "learning_rate"),
        ("dense.unitz", "units"),
        ("cosin", "cosine"),
        ("cross_entropie", "cross_entropy"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(key, near):
    with pytest.raises(UnknownKey, match=rf"^nothing is called '{re.escape(key)}'; did you mean '[\w.]*{near}'"):
        explain(key)


@pytest.mark.parametrize("key", ["zzzz", "zzzz.qqqq", ".", "train.", "train.epochs.of"])
def test_what_is_far_from_everything_points_to_the_sections(key):
    with pytest.raises(UnknownKey, match=r"`fnet explain` lists the sections"):
        explain(key)


# Nothing is left out


@functools.cache
def entries_of(key):
    return [entry for explanation in explain(key) for entry in explanation.entries]


def paths_of(data, path=""):
    """The dotted keys of all values of nested mappings."""
    for key, value in data.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from paths_of(value, f"{path}{key}.")


@pytest.mark.parametrize(
    "text",
    [
        NET + "train: {early_stopping: {}}\n",
        *(NET + f"optimizer: {name}\n" for name in OPTIMIZERS),
        *(NET + f"optimizer: {{schedule: {name}}}\n" for name in SCHEDULES),
        *(f"data: {name}\nmodel: [{{dense: 1}}]\n" for name in synthetic.GENERATORS if name != "sentences"),
        "data: sentences\nmodel: [{embedding: {size: 27, width: 4}}, {dense: 27}]\n",
    ],
)
def test_every_key_of_a_resolved_config_has_a_type_a_default_and_a_meaning(text, tmp_path):
    assert loads(tmp_path, text) == ""
    for path in paths_of(load(str(tmp_path / "c.yaml")).config.model_dump()):
        found = entries_of(path)
        assert found, path
        assert all(entry.meaning for entry in found), path
        assert all(entry.type and entry.default for entry in found if entry.key == path), path


@pytest.mark.parametrize(
    ("section", "settings"),
    [("optimizer", ["schedule", "clip_norm", "clip_value"]), ("data", ["split", "normalize"])],
)
def test_a_section_that_is_one_of_several_also_lists_what_all_of_them_take(section, settings):
    listed = " ".join(entries(section))
    assert all(re.search(rf"\b{setting}\b", listed) for setting in settings)


@pytest.mark.parametrize("name", [*CONSTRUCTORS, *OPTIMIZERS, *SCHEDULES, *synthetic.GENERATORS, *LOSSES])
def test_every_setting_of_everything_with_a_name_has_a_type_a_default_and_a_meaning(name):
    for explanation in explain(name):
        assert explanation.text
        assert not [e for e in explanation.entries if not (e.type and e.default and e.meaning)]


@pytest.mark.parametrize("name", [name for names in catalog.SOURCES.values() for name in names])
def test_every_data_set_is_explained(name):
    assert f"{name} (data set)" in headings(name)


# What is said of bounds holds

PLACES = {
    "train.epochs": (NET, "train.epochs"),
    "train.batch_size": (NET, "train.batch_size"),
    "train.early_stopping.patience": (NET, "train.early_stopping.patience"),
    "data.split.train": (NET, "data.split.train"),
    "data.split.test": (NET, "data.split.test"),
    "regularization.l1": (NET, "regularization.l1"),
    "seed": (NET, "seed"),
    "dense.units": (NET, "model.1.dense.units"),
    "leaky_relu.slope": (NET, "model.1.leaky_relu"),
    "adam.learning_rate": (NET, "optimizer.learning_rate"),
    "adam.b1": (NET, "optimizer.b1"),
    "cosine.warmup_steps": (NET + "optimizer: {schedule: cosine}\n", "optimizer.schedule.warmup_steps"),
    "cosine.final_fraction": (NET + "optimizer: {schedule: cosine}\n", "optimizer.schedule.final_fraction"),
    "exponential.decay": (NET + "optimizer: {schedule: exponential}\n", "optimizer.schedule.decay"),
    "xor.samples": ("data: xor\nmodel: [{dense: 1}]\n", "data.samples"),
    "xor.noise": ("data: xor\nmodel: [{dense: 1}]\n", "data.noise"),
    "parity.bits": ("data: parity\nmodel: [{dense: 1}]\n", "data.bits"),
}


@pytest.mark.parametrize("key", PLACES)
def test_the_bounds_that_are_told_are_those_that_are_checked(key, tmp_path):
    text, place = PLACES[key]
    if key == "leaky_relu.slope":
        text, place = "data: digits\nmodel: [flatten, {leaky_relu: 0.1}, {dense: 10}]\n", "model.1.leaky_relu.slope"
    type_ = entries(key)[key].type
    near = 1 if type_.startswith("whole") else 1e-6
    bounds = re.findall(r"(at least|greater than|at most|less than) ([-+.\w]+)", type_)
    assert bounds
    for phrase, bound in bounds:
        bound = int(bound) if near == 1 and bound.isdecimal() else float(bound)
        inside, outside = {
            "at least": (bound, bound - near),
            "greater than": (bound + near, bound),
            "at most": (bound, bound + near),
            "less than": (bound - near, bound),
        }[phrase]
        assert "expected" not in loads(tmp_path, text, f"{place}={inside}")
        assert "expected a value" in loads(tmp_path, text, f"{place}={outside}")


@pytest.mark.parametrize(
    ("key", "place"), [("train.epochs", "train.epochs"), ("adam.b1", "optimizer.b1"), ("data.split.train",) * 2]
)
def test_the_default_that_is_told_is_the_one_that_is_taken(key, place, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(NET)
    value = load(str(path)).config.model_dump()
    for part in place.split("."):
        value = value[part]
    assert entries(key)[key].default == str(value)
