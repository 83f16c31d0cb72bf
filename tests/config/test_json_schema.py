"""The JSON Schema of the config accepts what `load` accepts, and rejects what `load` rejects."""

import json
from io import StringIO

import pytest
from config.messages import LAYERS, NET, error_of
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from shipped import SHIPPED

from fnet.config.experiment import dump
from fnet.config.json_schema import json_schema
from fnet.config.load import resolve


@pytest.fixture(scope="module")
def schema():
    """Return a validator from an independent library."""
    described = json_schema()
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


def schema_errors(schema, text):
    """Return the errors that the schema reports for YAML."""
    data = YAML(typ="safe").load(StringIO(text))
    return [f"{error.json_path}: {error.message[:80]}" for error in schema.iter_errors(data)]


@SHIPPED
def test_the_schema_accepts_every_shipped_config_as_written_and_resolved(schema, config):
    assert schema_errors(schema, config.read_text()) == []
    assert schema_errors(schema, dump(resolve(str(config)).config)) == []


@pytest.mark.parametrize(
    "text",
    [
        NET,
        "data: {name: digits}\n" + LAYERS,
        "data: {source: sklearn, name: digits, split: {train: 0.5, validation: 0.5}, normalize: null}\n" + LAYERS,
        "data: {name: digits, split: {cross_validation: 5, fold: 2, stratify: false, group: null}}\n" + LAYERS,
        "data: {name: xor, samples: 10, noise: 1}\nmodel: [{dense: 1}]\n",
        "data: digits\nmodel: [{flatten: {}}, gelu, {gelu: false}, {elu: 1}, {dense: {units: 10, init: he_normal}}]\n",
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
    assert error_of(tmp_path, text) == ""
    assert schema_errors(schema, text) == []


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
    assert error_of(tmp_path, text) != ""
    assert schema_errors(schema, text) != []


def test_the_schema_has_a_title_and_descriptions():
    described = json_schema()
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert described["title"] == "fnet config"
    assert '"title": "dropout"' in json.dumps(described["$defs"]["layer"])
    assert all(property_.get("description") for property_ in described["properties"].values())
