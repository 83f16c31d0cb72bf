"""Evaluation of a run on data that has changed since."""

import json

import numpy as np
import pytest
from cli.calls import output_of

import fnet
from fnet.runs.model_file import load_model


@pytest.mark.filterwarnings("ignore:the data have changed:fnet.data.source.DataWarning")
def test_changed_data_is_normalized_as_in_training(tmp_path, monkeypatch, rng):
    """The loss is computed by hand: a shift of all examples is not hidden by new statistics."""
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((60, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]]) + 3).astype(np.float32)
    (tmp_path / "c.yaml").write_text(
        "data: {path: t.npz, targets: values, normalize: standard, split: {train: 1.0, validation: 0.0, test: 0.0}}\n"
        "model: [{dense: 1}]\ntrain: {epochs: 2}\n"
    )
    np.savez(tmp_path / "t.npz", x=x, y=y)
    output_of("train", "c.yaml")
    np.savez(tmp_path / "t.npz", x=x + 5, y=2 * y - 7)
    scores = json.loads(output_of("evaluate", "runs/c-1", "--json"))["scores"]
    net, params, state = fnet.load("runs/c-1")
    model = load_model("runs/c-1")
    inputs = ((x + 5 - model.normalizer.offset) / model.normalizer.scale).astype(np.float32)
    outputs, _ = net.apply(params, state, inputs, train=False)
    targets = (2 * y - 7 - y.mean()) / y.std()
    np.testing.assert_allclose(scores["train"]["loss"], np.mean((outputs - targets) ** 2), rtol=1e-5)
