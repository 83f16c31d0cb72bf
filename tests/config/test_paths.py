"""Paths in a config: relative to the file that contains them, and on the command line to the current directory."""

import os
import re
import shutil
from pathlib import Path

import pytest
from cli.calls import call, output_of, parse_json
from ruamel.yaml import YAML

from fnet.config.errors import ConfigError
from fnet.config.load import load, resolve

TABLE = "size,kind\n" + "1,small\n9,large\n9,small\n1,large\n" * 5
MODEL = "model: [{dense: 2}]\ntrain: {epochs: 1}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with data and a config in separate folders; the current directory is another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    project = tmp_path / "project"
    for folder in ("data", "experiments", "elsewhere"):
        (project / folder).mkdir(parents=True)
    (project / "data" / "t.csv").write_text(TABLE)
    (project / "experiments" / "c.yaml").write_text(f"data: {{path: ../data/t.csv, target: kind}}\n{MODEL}")
    monkeypatch.chdir(project / "elsewhere")
    return project


def path_in(run):
    return YAML(typ="safe").load((run / "config.yaml").read_text())["data"]["path"]


def test_a_path_in_a_file_is_relative_to_the_file(project):
    assert resolve("../experiments/c.yaml").config.data.path == str(project / "data" / "t.csv")
    assert load(str(project / "experiments" / "c.yaml")).spec.size == 20


def test_a_file_per_split_is_relative_to_the_config_as_well(project):
    for name in ("a.csv", "b.csv"):
        (project / "data" / name).write_text(TABLE)
    config = project / "experiments" / "s.yaml"
    config.write_text(f"data: {{path: {{train: ../data/a.csv, test: ../data/b.csv}}, target: kind}}\n{MODEL}")
    experiment = load(str(config), ["data.path.test=../data/b.csv"])
    assert experiment.spec.splits == (("train", 20), ("test", 20))
    written = YAML(typ="safe").load(experiment.config_text(project / "runs" / "s-1"))["data"]["path"]
    assert written == {"train": "../../data/a.csv", "test": "../../data/b.csv"}


def test_a_path_on_the_command_line_is_relative_to_the_current_directory(project):
    Path("mine.csv").write_text(TABLE)
    for override in ("data.path=mine.csv", "data={path: mine.csv, target: kind}"):
        config = resolve("../experiments/c.yaml", [override]).config
        assert config.data.path == str(project / "elsewhere" / "mine.csv")


def test_a_folder_of_prepared_datasets_is_a_path_as_well(project, tfds_sets):
    (project / "sets").symlink_to(tfds_sets)
    config = project / "experiments" / "m.yaml"
    config.write_text("data: {source: tfds, name: mnist, data_dir: ../sets}\nmodel: [flatten, {dense: 10}]\n")
    assert resolve(str(config)).config.data.data_dir == str(project / "sets")
    config.write_text(config.read_text().replace("../sets", "sets"))
    Path("sets").symlink_to(tfds_sets)
    with pytest.raises(ConfigError, match=r"'sets' exists in the current directory: write \.\./elsewhere/sets, or"):
        resolve(str(config))


def test_the_home_folder_is_expanded(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project))
    config = project / "experiments" / "c.yaml"
    config.write_text(config.read_text().replace("..", "~"))
    experiment = load(str(config))
    assert str(project / "data" / "t.csv") in experiment.config_text("/some/where")


def test_a_file_that_is_only_in_the_current_directory_is_named(project):
    config = project / "experiments" / "c.yaml"
    config.write_text(config.read_text().replace("../data/t.csv", "t.csv"))
    Path("t.csv").write_text(TABLE)
    with pytest.raises(ConfigError) as caught:
        load(str(config))
    assert str(caught.value) == (
        f"{config}:1:14: data.path: 't.csv' does not exist in {project / 'experiments'}; a path in a config is "
        "relative to the folder of the config, and 't.csv' exists in the current directory: write ../elsewhere/t.csv, "
        "or data.path=t.csv on the command line"
    )
    Path("t.csv").unlink()
    with pytest.raises(ConfigError, match=r"'t\.csv' does not exist in [^ ]*experiments$"):
        load(str(config))


def test_a_project_can_be_moved_with_its_data_and_runs(project, tmp_path, monkeypatch):
    """The config of the run names the data relative to itself, so that it can be evaluated and trained again."""
    output_of("train", "../experiments/c.yaml")
    run = project / "elsewhere" / "runs" / "c-1"
    assert path_in(run) == "../../../data/t.csv"
    before = parse_json(output_of("evaluate", run, "--json"))
    monkeypatch.chdir(tmp_path)
    shutil.move(project, tmp_path / "moved")
    run = Path("moved/elsewhere/runs/c-1")
    assert parse_json(output_of("evaluate", run, "--json")) == before
    output_of("train", run / "config.yaml", "name=again", "out=deep/er")
    assert path_in(Path("deep/er/again-1")) == "../../../moved/data/t.csv"
    shutil.move("moved/data", "gone")
    result = call("evaluate", run)
    assert result.exit_code == 2
    expected = re.escape(f"'data' does not exist in {tmp_path / 'moved'} (looking for {tmp_path / 'moved/data/t.csv'})")
    assert re.fullmatch(f"error: {run}/config.yaml: data: {expected}.*\n", result.stderr)


def test_absolute_paths_stay_absolute(project):
    output_of("train", "../experiments/c.yaml", f"data.path={project / 'data' / 't.csv'}")
    assert path_in(Path("runs/c-1")) == str(project / "data" / "t.csv")
    output_of("train", "../experiments/c.yaml", "data.path=../data/t.csv")
    assert path_in(Path("runs/c-2")) == "../../../data/t.csv"


def test_the_printed_config_has_absolute_paths(project):
    printed = output_of("validate", "../experiments/c.yaml", "--resolved")
    assert YAML(typ="safe").load(printed)["data"]["path"] == os.fspath(project / "data" / "t.csv")
