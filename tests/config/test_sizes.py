"""Words that stand for sizes of the data in the settings of layers."""

import json

import jsonschema
import pytest

from fnet.config.errors import ConfigError
from fnet.config.json_schema import json_schema
from fnet.config.load import load


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a config and returns its path."""

    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_word_becomes_the_number_at_any_depth(config, tmp_path):
    """Iris has 3 classes and 'abca' has 3 different tokens; the resolved config contains the numbers."""
    experiment = load(config("data: iris\nmodel: [{serial: [{dense: {units: classes}}]}, tanh, {dense: classes}]"))
    inner, _, last = (layer for _, layer in experiment.net.children)
    assert inner.children[0][1].settings["units"] == last.settings["units"] == 3
    assert "classes" not in experiment.config_text(None)
    (tmp_path / "t.txt").write_text("abca" * 40)
    model = "[{embedding: {size: vocabulary, width: 5}}, {gru: 4}, {dense: {units: vocabulary, name: vocabulary}}]"
    net = load(config(f"data: {{path: {tmp_path / 't.txt'}, block: 8}}\nmodel: {model}")).net
    assert net.children[0][1].settings["size"] == 3
    assert net.children[2][0] == "vocabulary"
    assert net.shape((8,)) == (8, 3)


def test_another_text_changes_the_network(config, tmp_path):
    """data.path replaces the text that ships with fnet, which has 27 characters."""
    (tmp_path / "t.txt").write_text("hello world. " * 9)
    path = config("data: {name: text, block: 8}\nmodel: [{one_hot: vocabulary}, {dense: vocabulary}]")
    assert load(path).net.shape((8,)) == (8, 27)
    assert load(path, [f"data.path={tmp_path / 't.txt'}"]).net.shape((8,)) == (8, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data: diabetes\nmodel: [{dense: classes}]",
            "c.yaml:2:17: 'classes' is the number of classes, but diabetes has 1 value; write the number",
        ),
        (
            "data: iris\nmodel: [{dense: {units: vocabulary}}]",
            "c.yaml:2:25: 'vocabulary' is the number of tokens of a text, but iris is not a text",
        ),
        ("data: iris\nmodel: [{dense: clases}]", "dense: units: expected a whole number, got 'clases'"),
    ],
)
def test_a_word_without_a_number_is_refused(config, text, message):
    with pytest.raises(ConfigError) as caught:
        load(config(text))
    assert message in str(caught.value)
    assert len(caught.value.lines) == 1


def test_an_error_in_the_data_is_reported_once(config):
    with pytest.raises(ConfigError) as caught:
        load(config("data: irys\nmodel: [{dense: classes}]"))
    assert [line.partition(": ")[2] for line in caught.value.lines] == ["unknown dataset 'irys'; did you mean 'iris'?"]


def test_the_schema_allows_the_words_only_for_integer_settings_of_layers():
    schema = json_schema()
    jsonschema.validate({"data": "text", "model": [{"one_hot": "vocabulary"}, {"dense": {"units": "classes"}}]}, schema)
    for wrong, message in (
        ({"dense": "glasses"}, "'glasses' is not valid under any of the given schemas"),
        ({"dense": {"units": 3, "bias": "classes"}}, "'classes' is not of type 'boolean'"),
    ):
        with pytest.raises(jsonschema.ValidationError, match=message):
            jsonschema.validate({"data": "iris", "model": [wrong]}, schema)
    augment = {"data": {"name": "digits", "augment": [{"shift": "classes"}]}, "model": ["flatten"]}
    with pytest.raises(jsonschema.ValidationError, match="is not valid under any of the given schemas"):
        jsonschema.validate(augment, schema)
    json.dumps(schema)
