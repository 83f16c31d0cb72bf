"""The normalization of a run is stored with its model."""

import dataclasses
import json
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli.calls import isolated_environment
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from trees import same

import fnet
from fnet.config.load import load
from fnet.data.normalize import IDENTITY
from fnet.data.sklearn import SklearnSource
from fnet.runs import model_check
from fnet.runs.data import load_data
from fnet.runs.folder import FolderError
from fnet.runs.model_file import MainProgramWarning, load_model, save_model
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


def test_a_network_with_too_many_layers_is_neither_saved_nor_loaded(tmp_path):
    description = ["relu"] * 50_001
    with pytest.raises(ValueError, match=r"network: expected at most 50,000 items, got 50,002; use repeat"):
        model_check.network_of(description)
    with pytest.raises(ValueError, match=r"network: expected at most 50,000 items, got 50,006; use repeat"):
        fnet.save(tmp_path / "a.safetensors", fnet.repeat(fnet.serial(*[fnet.dense(1)] * 10_000), times=2), {}, {})


def test_parameters_of_another_network_are_not_saved(tmp_path):
    net = fnet.serial(fnet.serial(fnet.dense(2), name="trunk"))
    params, state = net.init(jax.random.key(0), (3,))
    other = {"trunk": {"dense_2": params["trunk"]["dense_1"]}}
    with pytest.raises(
        ValueError, match=r"the network does not have a layer 'trunk/dense_2'; did you mean 'trunk/dense_1'\?"
    ):
        fnet.save(tmp_path / "net.safetensors", net, other, state)


def test_arrays_are_saved_in_any_memory_order(tmp_path, rng):
    """A transposed array shares the memory of the other one, as weights of another library often do."""
    w = rng.standard_normal((3, 2)).astype(np.float32).T
    params = {"w": w, "b": jnp.ones(3, jnp.bfloat16)}
    fnet.save(tmp_path / "net.safetensors", fnet.dense(3), params, {})
    _, loaded, _ = fnet.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded["w"], w)
    assert loaded["b"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w": np.ones((2, 3), np.float32)}, r"params/dense_1/b: expected float32 of shape \(3,\), got nothing"),
        ({"w": np.ones((3, 2)), "b": np.ones(3)}, r"dense_1/w: expected .* \(2, 3\), got float64 of shape \(3, 2\)"),
        ({"w": np.ones((2, 3), int), "b": np.ones(3)}, r"params/dense_1/w: expected float32 of shape .*, got int64 of"),
        ({"w": np.ones((2, 3)), "b": np.array([1, np.nan, 0])}, "b: expected finite numbers, got nan at index 1"),
        ({"w": np.full((2, 3), 1e300), "b": np.ones(3)}, r"w: expected finite numbers, got 1e\+300 at index \(0, 0\)"),
        ({"w": np.ones((2, 3)), "b": np.ones(3), "c": np.ones(3)}, "dense_1/c: expected an entry of the network"),
        ({"w": np.ones((2, 3)), "b": [np.ones(3)]}, r"params: expected nested dicts .* got .*\['b'\]\[0\]"),
    ],
)  # fmt: skip
def test_inconsistent_parameters_are_not_saved(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        fnet.save(tmp_path / "net.safetensors", fnet.serial(fnet.dense(3)), {"dense_1": changed}, {}, in_shape=(2,))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("in_shape", [(4,), ((4,), (4,)), {"a": (4,), "b": (4,)}])
def test_the_shape_of_an_example_is_saved(tmp_path, in_shape):
    net = (
        fnet.dense(2)
        if in_shape == (4,)
        else fnet.graph(
            inputs=tuple(in_shape) if isinstance(in_shape, dict) else ("a", "b"), nodes={"sum": ("add", "a", "b")}
        )
    )
    params, state = net.init(jax.random.key(0), in_shape)
    fnet.save(tmp_path / "net.safetensors", net, params, state, in_shape=in_shape)
    assert load_model(tmp_path / "net.safetensors").in_shape == in_shape


def test_a_changed_byte_is_noticed_and_a_change_on_purpose_is_possible(tmp_path, rng):
    """Without its checksum, the same file with another weight is a valid model."""
    path = tmp_path / "net.safetensors"
    fnet.save(path, fnet.dense(3), {"w": rng.random((2, 3), np.float32), "b": np.zeros(3, np.float32)}, {}, (2,))
    data = path.read_bytes()
    path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    with pytest.raises(FolderError, match=r"net\.safetensors: sha256: the checksum differs, .* remove sha256 from"):
        fnet.load(path)
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["fnet"])
    arrays = load_file(path)
    del about["sha256"]
    save_file(arrays, path, {"fnet": json.dumps(about)})
    _, params, _ = fnet.load(path)
    assert np.array_equal(params["w"], arrays["params/w"])


def test_layers_of_the_main_program_are_announced(tmp_path):
    relu = fnet.relu()
    local = dataclasses.replace(relu, kind="__main__.my_layer")
    with pytest.warns(
        MainProgramWarning, match=r"can only be loaded by this program, which defines __main__\.my_layer"
    ):
        save_model(tmp_path / "model.safetensors", fnet.serial(local), {}, {})


def test_an_empty_path_is_not_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fnet.save("model.safetensors", fnet.relu(), {}, {})
    assert fnet.load(".")[0] == fnet.relu()
    with pytest.raises(FolderError, match="expected the folder of a run, got empty text"):
        fnet.load("")


SCRIPT = Path(__file__).parents[2] / "experiments" / "reliability" / "model_files.py"


def test_altered_files_are_refused_or_valid(tmp_path, capsys):
    """A small part of what the script tries; it decides itself what must happen to each file."""
    if not SCRIPT.exists():
        pytest.skip("the experiments are not part of the source distribution")
    with isolated_environment(tmp_path):
        failed = runpy.run_path(str(SCRIPT))["main"](["--every", "80", "--flips", "2", "--seed", "1"])
    output = capsys.readouterr().out
    assert failed == 0, output
    # The line that `python experiments/reliability` reads.
    assert re.fullmatch(r"model files: \d+ tried, 0 failed, seed 1", output.splitlines()[-1])


@pytest.mark.parametrize("wrong", [0.0, -2.0, np.nan])
def test_examples_are_not_divided_by_a_scale_that_is_not_positive(tmp_path, wrong):
    path, scale = tmp_path / "model.safetensors", np.array([1.5, wrong])
    save_model(path, fnet.relu(), {}, {}, normalizer=IDENTITY._replace(scale=scale))
    with pytest.raises(FolderError, match=f"normalization/scale: expected finite numbers above 0, got {wrong}"):
        load_model(path)
