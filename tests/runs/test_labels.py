"""Several labels per example, each 0 or 1: training, scores, predictions and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli.calls import isolated_environment, output_of
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import fnet
from fnet.config.errors import ConfigError
from fnet.config.load import load, resolve
from fnet.data.arrays import Arrays
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.report.tables import labels_table
from fnet.runs.folder import FolderError
from fnet.runs.model_file import load_model
from fnet.runs.predict import load_trained

NAMES = ("beach", "dog", "night")


@pytest.fixture(scope="module", autouse=True)
def _isolated_environment(tmp_path_factory):
    with isolated_environment(tmp_path_factory.mktemp("cache")):
        yield


def write(y, config="model: [{dense: labels}]\n"):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    y = (x[:, :3] + 0.3 * rng.standard_normal((60, 3)) > [0, 0.8, -0.5]) if y is None else y
    np.savez("t.npz", x=x, y=y, target_names=np.array(NAMES))
    Path("c.yaml").write_text(
        "data: {path: t.npz, targets: labels, split: {train: 0.7, validation: 0.15, test: 0.15}}\n"
        f"{config}optimizer: {{name: adam, learning_rate: 0.1}}\ntrain: {{epochs: 30}}\n"
    )
    return x, np.asarray(y)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train on labels, and return the examples, the labels, and the outputs of the network for all of them."""
    monkeypatch.chdir(tmp_path)
    x, y = write(None)
    output_of("train", "c.yaml")
    net, params, state = fnet.load("runs/c-1")
    outputs = net.apply(params, state, load_model("runs/c-1").normalizer(x), train=False)[0]
    return x, y.astype(int), np.asarray(outputs)


def test_labels_are_trained_scored_and_predicted(trained):
    """The scores of the parts together are those that scikit-learn computes from the outputs of the network."""
    x, y, outputs = trained
    assert Path("runs/c-1/config.yaml").read_text().count("binary_cross_entropy") == 1
    result = json.loads(output_of("evaluate", "runs/c-1", "--json"))
    share = np.array([result["examples"][part] for part in ("train", "validation", "test")]) / 60
    for name, expected in (
        ("accuracy", np.mean((outputs >= 0) == y)),
        ("subset_accuracy", accuracy_score(y, outputs >= 0)),
    ):
        scores = [result["scores"][part][name] for part in ("train", "validation", "test")]
        assert share @ scores == pytest.approx(expected, rel=1e-6)
    assert accuracy_score(y, outputs >= 0) > 0.5

    np.save("new.npy", x[:7])
    predictions = json.loads(output_of("predict", "runs/c-1", "new.npy", "--json"))["predictions"]
    for prediction, row in zip(predictions, outputs, strict=False):
        assert prediction["decision"] == {name: int(z >= 0) for name, z in zip(NAMES, row, strict=True)}
        expected = {name: 1 / (1 + np.exp(-float(z))) for name, z in zip(NAMES, row, strict=True)}
        assert prediction["probabilities"] == pytest.approx(expected, rel=1e-4)
        assert [*prediction["probabilities"]] == sorted(expected, key=expected.get, reverse=True)
    assert "beach" in output_of("predict", "runs/c-1", "new.npy")
    table = output_of("evaluate", "runs/c-1")
    assert "on the test part:" in table
    assert "precision" in table
    assert "agree within" in output_of("gradcheck", "runs/c-1", "--examples", "4")


def test_the_table_of_labels_is_that_of_scikit_learn(rng):
    y, predictions = rng.integers(0, 2, (2, 30, 3))
    precision, recall, f1, count = precision_recall_fscore_support(y, predictions, zero_division=0)
    columns = [[str(cell) for cell in column.cells] for column in labels_table(predictions, y, NAMES).columns]
    assert columns[1:3] == [[str(n) for n in count], [str(n) for n in predictions.sum(axis=0)]]
    assert columns[3] == [f"{100 * accuracy_score(y[:, k], predictions[:, k]):.1f}%" for k in range(3)]
    for column, values in zip(columns[4:], (precision, recall, f1), strict=True):
        assert column == [f"{100 * value:.1f}%" for value in values]


def test_a_label_that_no_example_has_is_shown_with_a_dash():
    zeros = np.zeros((4, 1), int)
    row = [next(iter(column.cells)) for column in labels_table(zeros, zeros, ["none"]).columns]
    assert row[1:] == ["0", "0", "100.0%", "–", "–", "–"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model: [{dense: 2}]\n", r"expected 3 outputs for binary_cross_entropy, because t has 3 labels; got 2"),
        ("model: [{dense: 3}]\nloss: cross_entropy\n", r"loss: cross_entropy is for .*, but t has 3 labels; use"),
        ("model: [{dense: 3}]\nloss: mse\n", r"mse is for regression, .*; use binary_cross_entropy or hinge"),
        ("model: [{dense: classes}]\n", r"'classes' is the number of classes, but t has 3 labels; write the number"),
        ("model: [{dense: 3}, sigmoid]\n", r"takes logits, so the network must not end with a sigmoid"),
    ],
)  # fmt: skip
def test_settings_that_do_not_suit_labels_are_refused(tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(tmp_path)
    write(None, config)
    with pytest.raises(ConfigError, match=message):
        resolve("c.yaml")


def test_early_stopping_monitors_the_accuracy_of_all_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(None)
    override = "train.early_stopping={monitor: validation_subset_accuracy}"
    assert [metric.name for metric in load("c.yaml", [override]).loss.metrics] == ["accuracy", "subset_accuracy"]


def test_labels_other_than_0_and_1_are_refused_with_the_example():
    """A source of one's own; the sources of files check their labels themselves."""
    y = np.zeros((9, 3), np.float32)
    y[5, 1] = 0.5
    spec = DatasetSpec("d", (2,), Targets("labels", 3, NAMES), 9)
    with pytest.raises(DataError, match=r"label 'dog': expected 0 or 1, got 0\.5 for example 5"):
        split_and_normalize(Arrays(np.zeros((9, 2), np.float32), y), spec, (1.0, 0.0, 0.0), "none", seed=0)


def test_a_model_of_labels_needs_a_loss_of_labels(trained):
    path = Path("runs/c-1/model.safetensors")
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["fnet"])
    del about["sha256"]
    about["loss"] = {"name": "cross_entropy", "label_smoothing": 0.0}
    save_file(load_file(path), path, {"fnet": json.dumps(about)})
    with pytest.raises(FolderError, match=r"expected a loss for 3 labels, got 'cross_entropy', for one of several"):
        load_trained("runs/c-1")
