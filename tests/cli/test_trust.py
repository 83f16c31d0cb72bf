"""Loading is not running: nothing that a file names is imported, unless the user trusts it."""

import contextlib
import json
import re
import shutil
import sys
from pathlib import Path

import canary
import numpy as np
import pytest
import typer
from canary import NAME
from cli.calls import call, output_of
from ruamel.yaml import YAML

import fnet
from fnet.cli.app import app
from fnet.config.load import load
from fnet.config.run import load_run
from fnet.core.imports import CodeWarning
from fnet.runs.folder import FolderError
from fnet.runs.model_file import load_model
from fnet.runs.predict import load_trained

SHORT = "data: {name: xor, samples: 40}\ntrain: {epochs: 1}\nout: runs\n"
CONFIG_COMMANDS = ("train", "validate", "summary", "gradcheck", "data show")
RUN_COMMANDS = ("evaluate", "gradcheck")


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """Return the folder of a run of fnet's own layers."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "c.yaml").write_text(SHORT + "model: [{dense: 3}, relu, {dense: 1}]\n")
    output_of("train", folder / "c.yaml", f"out={folder / 'runs'}")
    return folder / "runs" / "c-1"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, with PYTHONPATH at another empty one."""
    (tmp_path / "work").mkdir()
    (tmp_path / "path").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.delenv("FNET_TRUST", raising=False)
    yield tmp_path
    canary.forget()


def write_config(folder, items, **settings):
    """Write a config with these layers between others."""
    data = {"data": {"name": "xor", "samples": 40}, "model": [{"dense": 2}, *items, {"dense": 1}], **settings}
    folder.mkdir(exist_ok=True)
    with open(folder / "c.yaml", "w") as file:
        YAML(typ="safe").dump(data, file)
    return folder / "c.yaml"


def assert_refused(result, trace, module=NAME):
    """Check that a command ended with one line that says what to trust, and that the module was not touched."""
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert f"--trust {module}" in result.stderr, result.stderr
    assert not trace.exists()
    assert not canary.is_loaded()


@pytest.mark.parametrize("place", canary.LAYERS)
def test_a_config_imports_nothing_beside_it(elsewhere, place):
    trace = canary.write(elsewhere)
    config = write_config(elsewhere, [canary.LAYERS[place]])
    result = call("validate", config)
    assert_refused(
        result, trace, {"submodule": f"{NAME}.inner", "function of the package": f"{NAME}.TRACE"}.get(place, NAME)
    )
    assert result.stderr.startswith(f"{config}:")
    assert "is not in the current directory or on PYTHONPATH" in result.stderr


@pytest.mark.parametrize("command", CONFIG_COMMANDS)
def test_no_command_on_a_config_imports_what_lies_beside_it(elsewhere, command):
    trace = canary.write(elsewhere)
    assert_refused(call(*command.split(), write_config(elsewhere, [f"{NAME}.layer"])), trace)
    good = write_config(elsewhere, ["relu"])
    assert_refused(call(*command.split(), good, f"model.1={NAME}.layer"), trace)
    assert_refused(call(*command.split(), good, f"model.0.dense.init={NAME}.init"), trace)


def test_an_augmentation_is_not_imported_from_beside_the_config(elsewhere):
    trace = canary.write(elsewhere)
    (elsewhere / "c.yaml").write_text(
        f"data: {{name: digits, augment: [{NAME}.noise]}}\nmodel: [flatten, {{dense: 10}}]\n"
    )
    assert_refused(call("validate", elsewhere / "c.yaml"), trace)
    assert call("validate", elsewhere / "c.yaml", "--trust", NAME).stdout.startswith(f"{elsewhere / 'c.yaml'}: ok")
    assert trace.read_text() == "imported"


@pytest.mark.parametrize("path", ["antigravity.layer", "this.layer", "idlelib.idle.layer", "fnet.build", "os.system"])
def test_the_standard_library_and_installed_packages_are_not_imported(elsewhere, path):
    before = set(sys.modules)
    for item in (path, {"lambda_layer": path}, {"dense": {"units": 2, "init": path}}):
        result = call("validate", write_config(elsewhere, [item]))
        assert result.exit_code == 2, result.output
        assert f"'{path}'" in result.stderr
    assert not {"antigravity", "this", "idlelib"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"lambda_layer": "jax.numpy.add"}, r"lambda_layer_1: jax.numpy.add raises TypeError for the shape \(3, 2\): "),
        (
            {"lambda_layer": "jax.numpy.transpose"},
            r"its function must keep the batch as the first axis",
        ),
        ({"lambda_layer": "jax.numpy.corrcoef"}, r"its function must keep the batch as the first axis"),
        ({"dense": {"units": 2, "init": "jax.numpy.frompyfunc"}}, r"dense_2: jax.numpy.frompyfunc raises \w+ for the "),
        ({"lambda_layer": "jax.lax.__getattr__"}, "--trust jax.lax"),
    ],
)
def test_a_numerical_function_that_does_not_fit_is_refused(elsewhere, item, reason):
    result = call("validate", write_config(elsewhere, [item]))
    assert result.exit_code == 2, result.output
    assert re.search(f"c.yaml:.*{reason}", result.stderr), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", [place for place in canary.LAYERS if place not in canary.UNSAVED])
def test_a_run_imports_nothing_from_anywhere(elsewhere, place):
    """The module lies in the run's folder, in the current directory and on PYTHONPATH."""
    run = Path("run")
    run.mkdir()
    canary.save(run / "model.safetensors", canary.LAYERS[place], canary.SHAPES.get(place, (2,)))
    traces = [canary.write(folder) for folder in (run, Path.cwd(), elsewhere / "path")]
    with pytest.raises(FolderError, match=f"run.*cannot import .*{NAME}.*--trust {NAME}"):
        fnet.load(run)
    for function in (load_model, load_trained):
        with contextlib.suppress(FolderError):
            function(run)
    assert not canary.is_loaded()
    assert not any(trace.exists() for trace in traces)


@pytest.mark.parametrize("where", ["config.yaml", "model.safetensors"])
def test_no_command_on_a_run_imports_what_its_files_name(elsewhere, plain_run, own_run, where):
    run = Path(shutil.copytree(plain_run, "run"))
    traces = [canary.write(folder) for folder in (run, Path.cwd(), elsewhere / "path")]
    if where == "config.yaml":
        config = YAML(typ="safe").load(run / where)
        YAML(typ="safe").dump(config | {"model": [f"{NAME}.layer", *config["model"]]}, run / where)
    else:
        for name in (where, "environment.json"):
            shutil.copy(own_run / name, run / name)
        for source in ("x.npy", "missing.npy"):
            assert_refused(call("predict", run, source), traces[0])
    for command in RUN_COMMANDS:
        result = call(command, run)
        assert_refused(result, traces[0])
        assert "run" in result.stderr
    assert not any(trace.exists() for trace in traces)


def test_recorded_code_is_not_imported_without_trust(elsewhere):
    """Files that claim where code is, and the trust of another module, change nothing."""
    run = Path("run")
    run.mkdir()
    canary.save(run / "model.safetensors", f"{NAME}.layer", (2,))
    trace = canary.write(run)
    code = {NAME: {"file": str(run.resolve() / NAME / "__init__.py"), "sha256": "0" * 64}}
    (run / "environment.json").write_text(json.dumps({"code": code}))
    for trust in ((), ("canary",), (f"{NAME}.inner",), ("another_module",)):
        with pytest.raises(FolderError, match=f"--trust {NAME}"):
            fnet.load(run, trust=trust)
    for folder in ("run", run.resolve(), "/proc/self/cwd/run"):
        code[NAME]["file"] = f"{folder}/{NAME}/__init__.py"
        (run / "environment.json").write_text(json.dumps({"code": code}))
        with pytest.raises(FolderError, match=f"No module named '{NAME}'"):
            fnet.load(run, trust=[NAME])
    assert not trace.exists()


def test_the_header_of_a_prepared_dataset_imports_nothing(elsewhere, tfds_sets, monkeypatch):
    """TensorFlow Datasets imports the module of every class of features in features.json."""
    trace = canary.write(elsewhere)
    monkeypatch.syspath_prepend(elsewhere)
    shutil.copytree(tfds_sets / "mnist", elsewhere / "sets" / "mnist")
    header = next((elsewhere / "sets").rglob("features.json"))
    header.write_text(
        header.read_text().replace("tensorflow_datasets.core.features.image_feature.Image", f"{NAME}.Image")
    )
    config = elsewhere / "c.yaml"
    config.write_text(
        f"data: {{source: tfds, name: mnist, data_dir: {elsewhere / 'sets'}}}\nmodel: [flatten, {{dense: 10}}]\n"
    )
    for command in CONFIG_COMMANDS:
        result = call(*command.split(), config)
        assert_refused(result, trace)
        assert f"features.json names the class {NAME}.Image" in result.stderr
    result = call("validate", config, f"data.name=../{NAME}")
    assert result.exit_code == 2
    assert "expected the name of a dataset in TensorFlow Datasets" in result.stderr
    call("validate", config, "--trust", NAME)
    assert trace.exists()


# With trust


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train a network of layers and functions of one's own in the folder of their module; return the run's folder."""
    home = tmp_path_factory.mktemp("home")
    items = [f"{NAME}.layer", {f"{NAME}.block": ["relu"]}, {"dense": {"units": 2, "init": f"{NAME}.init"}}]
    config = write_config(home, [*items, {"lambda_layer": f"{NAME}.phi"}], train={"epochs": 1}, out=str(home / "runs"))
    canary.write(home)
    with contextlib.chdir(home):
        assert f"fnet evaluate {home / 'runs' / 'c-1'} --trust {NAME}" in output_of("train", config)
    canary.forget()
    return home / "runs" / "c-1"


@pytest.fixture
def own_run(elsewhere, trained):
    """Work in another folder, with examples to predict; return the folder of the run."""
    np.save("x.npy", np.ones((2, 2), np.float32))
    return trained


def test_a_config_may_name_modules_where_the_user_works(elsewhere, monkeypatch):
    canary.write(elsewhere)
    config = write_config(elsewhere, [f"{NAME}.layer", f"{NAME}.inner.layer"])
    monkeypatch.chdir(elsewhere)
    before = list(sys.path)
    load(str(config))
    assert sys.path == before
    canary.forget()
    monkeypatch.chdir(elsewhere / "work")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    monkeypatch.syspath_prepend(elsewhere)
    load(str(config))


@pytest.mark.parametrize("how", ["option", "variable", "argument"])
def test_a_trusted_module_beside_the_config_is_imported(elsewhere, monkeypatch, how):
    trace = canary.write(elsewhere)
    config = write_config(
        elsewhere, [item for place, item in canary.LAYERS.items() if place in ("kind", "initializer")]
    )
    if how == "argument":
        load(str(config), trust=[NAME])
    else:
        options = ["--trust", "another_module", "--trust", NAME] if how == "option" else []
        monkeypatch.setenv("FNET_TRUST", "" if options else f"another_module, {NAME}")
        assert output_of("validate", config, *options).startswith(f"{config}: ok")
    assert trace.exists()


@pytest.mark.filterwarnings("always::fnet.core.imports.CodeWarning")
def test_with_trust_every_command_takes_a_run_of_ones_own_layers(elsewhere, own_run, monkeypatch):
    recorded = json.loads((own_run / "environment.json").read_text())["code"]
    home = own_run.parents[1]
    assert [*recorded] == [NAME]
    assert recorded[NAME]["file"] == str(home / NAME / "__init__.py")
    note = f"warning: {NAME} is imported from {home / NAME / '__init__.py'}, where the run recorded it\n"
    for command in (("predict", own_run, "x.npy"), ("evaluate", own_run), ("gradcheck", own_run)):
        refused = call(*command)
        assert refused.exit_code == 2
        assert f"--trust {NAME}" in refused.stderr
        trusted = call(*command, "--trust", NAME)
        assert trusted.exit_code == 0, trusted.output
        assert trusted.stderr == note
        canary.forget()
    monkeypatch.setenv("FNET_TRUST", NAME)
    assert call("predict", own_run, "x.npy").exit_code == 0
    canary.forget()
    monkeypatch.chdir(home)
    net, params, _ = fnet.load(own_run)
    assert net.layers[1].settings == {"factor": 1.5}
    assert np.array_equal(params["dense_2"]["w"].shape, (2, 2))


def test_code_that_has_changed_or_moved_is_named(elsewhere, own_run, monkeypatch):
    home = own_run.parents[1]
    shutil.copytree(home / NAME, NAME)
    with pytest.warns(CodeWarning, match=rf"is imported from {Path.cwd() / NAME}.*the same code in {home}"):
        load_trained(own_run, trust=[NAME])
    canary.forget()
    with open(Path(NAME) / "__init__.py", "a") as file:
        file.write("# changed\n")
    with pytest.warns(CodeWarning, match=rf"{NAME} has changed since the run: its code in {Path.cwd() / NAME}"):
        fnet.load(own_run, trust=[NAME])


def test_a_trusted_module_that_fails_is_one_line(elsewhere):
    (elsewhere / f"{NAME}.py").write_text("1 / 0\n")
    result = call("validate", write_config(elsewhere, [f"{NAME}.layer"]), "--trust", NAME)
    assert result.exit_code == 2
    assert f"importing {NAME} raised ZeroDivisionError: division by zero" in result.stderr


@pytest.mark.parametrize("name", [f"{NAME}.py", "a,b", "", "../x"])
def test_what_is_trusted_must_be_a_module(elsewhere, name):
    result = call("validate", write_config(elsewhere, ["relu"]), "--trust", name)
    assert result.exit_code == 2
    assert result.stderr == f"error: expected the name of a module to trust, such as my_module, got '{name}'\n"


def test_every_command_that_reads_a_config_or_a_run_takes_trust():
    groups, commands = [typer.main.get_command(app)], []
    while groups:
        for command in groups.pop().commands.values():
            (groups if hasattr(command, "commands") else commands).append(command)
    reading = [c for c in commands if {p.metavar for p in c.params} & {"CONFIG", "RUN", "CONFIG|RUN"}]
    assert {c.name for c in reading} >= {*CONFIG_COMMANDS[:-1], "show", *RUN_COMMANDS, "predict"}
    assert [c.name for c in reading if not any("--trust" in p.opts for p in c.params)] == []


# The config of a run and its model file


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", [{"dense": 4}, "relu", {"dense": 1}], "model.0: dense: units 4 in config.yaml, 3 in the model file"),
        ("model", [{"dense": 3}, "tanh", {"dense": 1}], "model.1: tanh in config.yaml, relu in the model file"),
        ("model", [{"dense": 3}, {"dense": 1}], "model.1: dense in config.yaml, relu in the model file"),
        ("model", [{"dense": 3}, "relu", {"dense": 1}, []], "model: a list of 4 in config.yaml, a list of 3 in the"),
        ("loss", {"name": "hinge"}, "loss: name 'hinge' in config.yaml, 'binary_cross_entropy' in the model file"),
        ("data", {"name": "circle"}, "data: circle in config.yaml, xor in the model file"),
        ("data", {"name": "breast_cancer"}, "data: breast_cancer in config.yaml, xor in the model file"),
    ],
)
def test_a_config_that_does_not_belong_to_the_model_is_refused(elsewhere, plain_run, key, value, message):
    run = Path(shutil.copytree(plain_run, "run"))
    config = YAML(typ="safe").load(run / "config.yaml")
    YAML(typ="safe").dump(config | {key: value}, run / "config.yaml")
    for command in RUN_COMMANDS:
        result = call(command, run)
        assert result.exit_code == 2, result.output
        assert f"error: run: {message}" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_overrides_are_not_differences_unless_they_change_the_network(plain_run):
    loaded = load_run(str(plain_run), ["loss=hinge", "train.epochs=2"])
    assert loaded.experiment.loss_settings["name"] == "hinge"
    with pytest.raises(FolderError, match=r"model\.0: dense: units 5 in config\.yaml, 3 in the model file"):
        load_run(str(plain_run), ["model.0.dense.units=5"])
