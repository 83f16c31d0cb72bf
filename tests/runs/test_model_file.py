"""The normalization of a run is stored with its model."""

import numpy as np

from fnet.config.load import load
from fnet.data.normalize import IDENTITY
from fnet.data.sklearn import SklearnSource
from fnet.runs.data import load_data
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


def test_a_model_without_normalization_has_the_identity(tmp_path):
    import fnet

    net = fnet.serial(fnet.dense(1))
    save_model(tmp_path / "model.safetensors", net, {"dense_1": {"w": np.ones((2, 1))}}, {})
    assert load_model(tmp_path).normalizer == IDENTITY
