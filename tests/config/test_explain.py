"""Explanations of the config agree with `load`, and are complete."""

import functools
import re

import pytest
from config.messages import error_of

from fnet.config.explain import UnknownKey, explain
from fnet.config.load import resolve
from fnet.data import catalog, synthetic
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.losses import LOSSES
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES

NET = "data: digits\nmodel: [flatten, {dense: 10}]\n"
LAYERS = "model: [flatten, {dense: 10}]\n"


# Looking up


def headings(key):
    return [explanation.heading for explanation in explain(key)]


def entries(key):
    return {entry.key: entry for explanation in explain(key) for entry in explanation.entries}


def test_without_a_key_the_top_level_is_explained():
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
    ("key", "entry_key", "type_", "default", "meaning"),
    [
        ("dense.units", "dense.units", "whole number, at least 1", "required", "number of outputs."),
        ("dense", "dense.bias", "true or false", "true", "whether b is added; it is initialized to zero."),
        ("leaky_relu.slope", "leaky_relu.slope", "number, at least 0", "0.01", "the slope for negative z"),
        ("rnn", "rnn.activation", "one of tanh, sigmoid, relu", "tanh", "phi: tanh, sigmoid or relu."),
        ("epochs", "train.epochs", "whole number, at least 1", "20", "passes over the training examples"),
        ("train.epochs", "train.epochs", "whole number, at least 1", "20", "passes over the training examples"),
        ("batch_size", "train.batch_size", "whole number, at least 1 or all", "32", "examples per step"),
        ("log_every", "train.log_every", "whole number, at least 1 or null", "null", "steps between step records"),
        ("adam.learning_rate", "optimizer.learning_rate", "number, greater than 0", "0.001", "alpha"),
        (
            "adam",
            "optimizer.b1",
            "number, at least 0, at most 0.999999",
            "0.9",
            "weight of the old average of gradients.",
        ),
        (
            "cosine",
            "optimizer.schedule.final_fraction",
            "number, at least 0, at most 1",
            "0.0",
            "fraction of the learning rate that the last step reaches.",
        ),
        ("xor.noise", "data.noise", "number, at least 0, at most 1", "0.0", "moved by up to 5 * noise"),
        ("seed", "seed", "whole number, at least 0, less than 4294967296", "0", "of everything random"),
        ("patience", "train.early_stopping.patience", "whole number, at least 1", "5", "epochs without improvement"),
    ],
)
def test_a_setting_is_explained_by_type_default_and_meaning(key, entry_key, type_, default, meaning):
    entry = entries(key)[entry_key]
    assert (entry.type, entry.default) == (type_, default)
    assert meaning in entry.meaning


@pytest.mark.parametrize("name", ["csv", "xor", "adam", "cosine", "huber", "tfds"])
def test_the_settings_of_a_name_are_keys_of_the_config(name):
    """Every key that an explanation lists is explained itself."""
    keys = entries(name)
    assert keys
    assert all(entries(key) for key in keys)


@pytest.mark.parametrize("source", ["sklearn", "synthetic", "files", "tfds"])
def test_a_data_source_is_explained_by_its_datasets_or_settings(source):
    [explanation] = explain(source)
    listed = {entry.key for entry in explanation.entries}
    assert (set(catalog.SOURCES[source]) or {"data.data_dir", "data.image_key"}) <= listed


def test_the_lines_of_a_paragraph_are_joined():
    [explanation] = explain("csv")
    assert all("\n" not in paragraph for paragraph in explanation.text.split("\n\n"))


@pytest.mark.parametrize(("key", "ending"), [("units", "dense.units"), ("slope", "leaky_relu.slope"), ("b1", "b1")])
def test_the_last_part_of_a_key_is_enough(key, ending):
    assert any(entry.endswith(ending) for entry in entries(key))


def test_a_default_that_differs_between_optimizers_is_shown_per_optimizer():
    """The rows of `optimizer.learning_rate` name their optimizers."""
    text = "\n".join(f"{e.heading} {e.text} {e.entries}" for e in explain("optimizer.learning_rate"))
    assert {"sgd", "adam", "lion"} <= set(re.findall(r"\w+", text))


def test_a_setting_with_an_implied_value_is_not_called_required():
    assert all(entry.default != "required" for entry in entries("data.source").values())


@pytest.mark.parametrize(
    ("name", "heading", "text"),
    [
        ("dense", "dense (layer)", "z = x w + b"),
        ("sgd", "sgd (optimizer)", "with momentum"),
        ("cosine", "cosine (schedule)", "Cosine decay"),
        ("spiral", "spiral (dataset)", "interleaved spirals"),
        ("digits", "digits (dataset)", "1797 examples (8, 8, 1) with 10 classes"),
        ("cross_entropy", "cross_entropy (loss)", "softmax"),
        ("tfds", "tfds (data source)", "prepared by TensorFlow Datasets"),
    ],
)
def test_a_name_is_explained_with_its_kind(name, heading, text):
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
    with pytest.raises(UnknownKey, match=rf"^unknown key or name '{re.escape(key)}'; did you mean '[\w.]*{near}'"):
        explain(key)


@pytest.mark.parametrize("key", ["zzzz", "zzzz.qqqq", ".", "train.", "train.epochs.of"])
def test_a_key_unlike_any_other_points_to_the_sections(key):
    with pytest.raises(UnknownKey, match=r"`fnet explain` lists the sections"):
        explain(key)


# Completeness


@functools.cache
def entries_of(key):
    return [entry for explanation in explain(key) for entry in explanation.entries]


def paths_of(data, path=""):
    """Yield the dotted keys of all values of nested mappings."""
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
    assert error_of(tmp_path, text) == ""
    for path in paths_of(resolve(str(tmp_path / "c.yaml")).config.model_dump()):
        explained = entries_of(path)
        assert explained, path
        assert all(entry.meaning for entry in explained), path
        assert all(entry.type and entry.default for entry in explained if entry.key == path), path


@pytest.mark.parametrize(
    ("section", "settings"),
    [("optimizer", ["schedule", "clip_norm", "clip_value"]), ("data", ["split", "normalize"])],
)
def test_a_section_that_is_one_of_several_also_lists_the_shared_settings(section, settings):
    listed = " ".join(entries(section))
    assert all(re.search(rf"\b{setting}\b", listed) for setting in settings)


@pytest.mark.parametrize("name", [*CONSTRUCTORS, *OPTIMIZERS, *SCHEDULES, *synthetic.GENERATORS, *LOSSES])
def test_every_setting_of_every_name_has_a_type_a_default_and_a_meaning(name):
    for explanation in explain(name):
        assert explanation.text
        assert not [e for e in explanation.entries if not (e.type and e.default and e.meaning)]


@pytest.mark.parametrize("name", [name for names in catalog.SOURCES.values() for name in names])
def test_every_dataset_is_explained(name):
    assert f"{name} (dataset)" in headings(name)


# Bounds and defaults

KEYS = {
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
    "optimizer.schedule.final_fraction": (NET + "optimizer: {schedule: cosine}\n", "optimizer.schedule.final_fraction"),
    "exponential.decay": (NET + "optimizer: {schedule: exponential}\n", "optimizer.schedule.decay"),
    "xor.samples": ("data: xor\nmodel: [{dense: 1}]\n", "data.samples"),
    "xor.noise": ("data: xor\nmodel: [{dense: 1}]\n", "data.noise"),
    "parity.bits": ("data: parity\nmodel: [{dense: 1}]\n", "data.bits"),
}


@pytest.mark.parametrize("key", KEYS)
def test_the_explained_bounds_are_the_checked_bounds(key, tmp_path):
    text, override_key = KEYS[key]
    if key == "leaky_relu.slope":
        text, override_key = (
            "data: digits\nmodel: [flatten, {leaky_relu: 0.1}, {dense: 10}]\n",
            "model.1.leaky_relu.slope",
        )
    explained = entries(key)
    type_ = explained.get(key, explained.get(override_key)).type
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
        assert not re.search("expected a (value|whole|number)", error_of(tmp_path, text, f"{override_key}={inside}"))
        assert "expected a value" in error_of(tmp_path, text, f"{override_key}={outside}")


@pytest.mark.parametrize(
    ("key", "override_key"), [("train.epochs", "train.epochs"), ("adam.b1", "optimizer.b1"), ("data.order",) * 2]
)
def test_the_explained_default_is_the_actual_default(key, override_key, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(NET)
    value = resolve(str(path)).config.model_dump()
    for part in override_key.split("."):
        value = value[part]
    explained = entries(key)
    assert explained.get(key, explained.get(override_key)).default == str(value)
