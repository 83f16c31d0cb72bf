"""Targets that are values are standardized for training, and everything is reported in their original unit."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from cli.calls import isolated_environment, output_of
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fnet
from fnet.config.errors import ConfigError
from fnet.config.load import load, resolve
from fnet.data.arrays import Arrays
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DatasetSpec, Targets
from fnet.runs.data import load_data
from fnet.runs.folder import FolderError
from fnet.runs.model_check import target_normalizer_of
from fnet.runs.model_file import load_model

SPLIT = "split: {train: 0.6, validation: 0.2, test: 0.2}"


@pytest.fixture(scope="module", autouse=True)
def _isolated_environment(tmp_path_factory):
    with isolated_environment(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture
def prices(tmp_path, monkeypatch, rng):
    """Return examples (50, 2) and their two targets, of different units, as in h.npz; c.yaml trains on them."""
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((50, 2)).astype(np.float32)
    y = (
        x @ np.array([[40_000, 0.2], [-9_000, 0.3]])
        + np.array([300_000, 5])
        + rng.standard_normal((50, 2)) * [9e3, 0.1]
    )
    np.savez("h.npz", x=x, y=y)
    (tmp_path / "c.yaml").write_text(
        f"data: {{path: h.npz, targets: values, {SPLIT}}}\nmodel: [{{dense: 2}}]\n"
        "optimizer: {name: sgd, learning_rate: 0.3}\ntrain: {epochs: 20, batch_size: all}\n"
    )
    return x, y.astype(np.float32)


def test_the_targets_are_standardized_with_the_statistics_of_the_training_part(prices):
    """Mean and standard deviation are computed independently, from the rows of the training part."""
    _, y = prices
    splits, _ = load_data(load("c.yaml"))
    original = splits.train.y.astype(np.float64) * splits.target_normalizer.scale + splits.target_normalizer.offset
    rows = [int(np.argmin(np.abs(y - row)[:, 0])) for row in original]
    assert len(set(rows)) == splits.train.size == 30
    np.testing.assert_allclose(splits.target_normalizer.offset, y[rows].astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(splits.target_normalizer.scale, y[rows].astype(np.float64).std(axis=0), rtol=1e-12)
    assert abs(splits.test.y.mean(axis=0)).max() < 1


def test_predictions_and_scores_have_the_original_unit(prices, rng):
    x, y = prices
    output_of("train", "c.yaml")
    net, params, state = fnet.load("runs/c-1")
    model = load_model("runs/c-1")
    np.save("new.npy", x[:5])
    predictions = json.loads(output_of("predict", "runs/c-1", "new.npy", "--json"))["predictions"]
    outputs = net.apply(params, state, jnp.asarray(model.normalizer(x)), train=False)[0]
    expected = np.asarray(outputs, np.float64) * model.target_normalizer.scale + model.target_normalizer.offset
    rows = [list(prediction["decision"].values()) for prediction in predictions]
    np.testing.assert_allclose(rows, expected[:5], rtol=1e-6)
    assert np.square(expected - y).mean(axis=0)[0] < 0.1 * y[:, 0].var()


def test_the_results_of_a_stream_are_the_same(prices):
    output_of("train", "c.yaml")
    output_of("train", "c.yaml", "data.stream=true")
    first, second = (load_model(f"runs/c-{number}") for number in (1, 2))
    assert np.array_equal(first.target_normalizer.offset, second.target_normalizer.offset)
    assert np.array_equal(first.params["dense_1"]["w"], second.params["dense_1"]["w"])


def test_none_leaves_the_targets_as_they_are(prices):
    _, y = prices
    splits, _ = load_data(load("c.yaml", ["data.normalize_targets=none"]))
    assert splits.target_normalizer.is_identity
    assert np.isin(splits.train.y, y).all()


def test_a_constant_target_is_divided_by_1():
    splits = split_and_normalize(
        Arrays(np.zeros((4, 1), np.float32), np.full((4, 1), 7, np.float32)),
        DatasetSpec("d", (1,), Targets("values", 1), 4),
        (1.0, 0.0, 0.0), "none", seed=0, target_normalization="standard",
    )  # fmt: skip
    assert splits.target_normalizer.offset.tolist() == [7]
    assert splits.target_normalizer.scale.tolist() == [1]
    assert splits.train.y.tolist() == [[0]] * 4


def test_the_default_follows_from_the_targets(prices):
    assert resolve("c.yaml").config.data.normalize_targets == "standard"
    Path("d.yaml").write_text("data: sine\nmodel: [{dense: 1}]\n")
    assert resolve("d.yaml").config.data.normalize_targets == "none"
    Path("d.yaml").write_text("data: iris\nmodel: [{dense: 3}]\n")
    assert resolve("d.yaml").config.data.normalize_targets == "none"
    with pytest.raises(
        ConfigError, match=r"data\.normalize_targets: expected none, because iris has 3 classes, got 'standard'; remove"
    ):
        resolve("d.yaml", ["data.normalize_targets=standard"])


def test_a_file_without_normalization_of_the_targets_leaves_outputs_unchanged(prices):
    """Such files are of runs before targets were normalized."""
    path = Path("runs/c-1/model.safetensors")
    output_of("train", "c.yaml")
    assert not load_model(path).target_normalizer.is_identity
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["fnet"])
    del about["sha256"]
    arrays = {name: array for name, array in load_file(path).items() if not name.startswith("target_normalization/")}
    save_file(arrays, path, {"fnet": json.dumps(about)})
    assert load_model(path).target_normalizer.is_identity
    save_file(arrays | {"target_normalization/scale": np.ones(2)}, path, {"fnet": json.dumps(about)})
    with pytest.raises(FolderError, match="target_normalization/offset: expected an array of numbers, got nothing"):
        load_model(path)


VALUES = DatasetSpec("d", (3,), Targets("values", 2), 9)


@pytest.mark.parametrize(
    ("spec", "changed", "message"),
    [
        (VALUES, {"scale": np.ones(3)}, r"target_normalization/scale: expected the shape \(\) or \(2,\) of the t"),
        (VALUES, {"scale": np.array([1.0, 0.0])}, r"/scale: expected finite numbers above 0, got 0\.0"),
        (VALUES, {"offset": np.array([np.nan, 0.0])}, r"target_normalization/offset: expected finite numbers, got nan"),
        (VALUES, {"offset": np.zeros(2, int)}, r"/offset: expected float64, got int64"),
        (VALUES, {"fill": np.zeros(2)}, r"target_normalization/fill: expected offset, scale, got another entry"),
        (
            VALUES._replace(targets=Targets("classes", 2)), {},
            r"target_normalization: expected offset 0 and scale 1, because spec\.targets is 2 classes, got other",
        ),
    ],
)  # fmt: skip
def test_an_inconsistent_normalization_of_the_targets_is_refused(spec, changed, message):
    arrays = {"offset": np.array([5.0, 6.0]), "scale": np.array([2.0, 3.0])}
    named = {f"target_normalization/{name}": array for name, array in (arrays | changed).items()}
    with pytest.raises(ValueError, match=message):
        target_normalizer_of(named, spec)


def test_the_gradients_of_a_run_are_checked_on_standardized_targets(prices):
    assert "agree within" in output_of("gradcheck", "c.yaml")
