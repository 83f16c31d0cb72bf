"""The normalization of a run is stored with its model."""

import dataclasses

import jax
import numpy as np
import pytest
from trees import same

import fnet
from fnet.config.load import load
from fnet.data.normalize import IDENTITY
from fnet.data.sklearn import SklearnSource
from fnet.runs.data import load_data
from fnet.runs.folder import FolderError
from fnet.runs.model_file import load_model, save_model
from fnet.runs.run import run


def test_the_statistics_of_the_training_part_are_stored_with_the_run(tmp_path):
    """They equal the mean and standard deviation of the training examples, computed independently in float64."""
    config = tmp_path / "c.yaml"
    config.write_text(f"data: wine\nmodel: [{{dense: 3}}]\ntrain: {{epochs: 1}}\nout: {tmp_path / 'runs'}\n")
    experiment = load(str(config))
    outcome = run(experiment)
    normalizer = load_model(outcome.folder).normalizer
    splits, _ = load_data(experiment)
    rows = splits.train.x.astype(np.float64) * normalizer.scale + normalizer.offset
    raw = SklearnSource("wine").read(0).x.astype(np.float64)
    trained = [int(np.argmin(np.abs(raw - row).sum(axis=1))) for row in rows]
    assert len(set(trained)) == splits.train.size < len(raw)
    np.testing.assert_allclose(normalizer.offset, raw[trained].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(normalizer.scale, raw[trained].std(axis=0), rtol=1e-12)
    assert np.array_equal(normalizer(SklearnSource("wine").read(0).x[trained]), splits.train.x)


def test_a_network_is_saved_and_loaded(tmp_path, rng):
    net = fnet.serial(fnet.repeat(fnet.dense(3), fnet.batch_norm(), times=2, scan=True), fnet.dense(2, name="head"))
    params, state = net.init(jax.random.key(0), (3,))
    fnet.save(tmp_path / "net.safetensors", net, params, state)
    again, loaded_params, loaded_state = fnet.load(tmp_path / "net.safetensors")
    assert again == net
    assert same((loaded_params, loaded_state), (params, state))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    fnet.save(tmp_path / "model.safetensors", net, params, state)
    assert fnet.load(tmp_path)[0] == net
    with pytest.raises(FolderError, match=r"the file .*other\.safetensors does not exist"):
        fnet.load(tmp_path / "other.safetensors")


def test_what_cannot_be_described_is_not_saved(tmp_path):
    changed = dataclasses.replace(fnet.relu(), apply=fnet.tanh().apply)
    with pytest.raises(ValueError, match="the layer 'relu' was made or changed without a constructor"):
        fnet.save(tmp_path / "net.safetensors", fnet.serial(changed), {}, {})
    assert not [*tmp_path.iterdir()]


def test_a_model_without_normalization_has_the_identity(tmp_path):
    net = fnet.serial(fnet.dense(1))
    save_model(tmp_path / "model.safetensors", net, {"dense_1": {"w": np.ones((2, 1))}}, {})
    assert load_model(tmp_path).normalizer == IDENTITY


def test_parameters_of_another_network_are_not_saved(tmp_path):
    net = fnet.serial(fnet.serial(fnet.dense(2), name="trunk"))
    params, state = net.init(jax.random.key(0), (3,))
    other = {"trunk": {"dense_2": params["trunk"]["dense_1"]}}
    with pytest.raises(ValueError, match="params: the network does not have a layer 'dense_2'; did you mean 'dense_1'"):
        fnet.save(tmp_path / "net.safetensors", net, other, state)
