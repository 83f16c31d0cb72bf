"""Datasets are prepared by a fake builder of TensorFlow Datasets, because nothing can be downloaded."""

import fcntl
import importlib.util
import sys
import types
from pathlib import Path

import prepared
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from cli.calls import call
from prepared import settings, spec_and_arrays

from fnet.data import prepare_tfds, tfds
from fnet.data.source import DataError

BUILDER = """
import os, sys
if "prepare_tfds" in " ".join(sys.orig_argv):
    sys.path.insert(0, {tests!r})
    import numpy as np, tensorflow_datasets as tfds, prepared, time

    class Pictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = None

        def _info(self):
            image, label = tfds.features.Image(shape=(28, 28, 1)), tfds.features.ClassLabel(num_classes=10)
            features = tfds.features.FeaturesDict({{"image": image, "label": label}})
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, manager):
            {before}
            return {{"train": self._generate_examples()}}

        def _generate_examples(self):
            for number, (image, label) in enumerate(zip(*prepared.digits(20))):
                yield number, {{"image": prepared.png(image), "label": int(label)}}
                {during}
"""


@pytest.fixture
def with_builder(tmp_path, monkeypatch):
    """Let the child process find a builder, `pictures`, and a module with the name of TensorFlow."""

    def with_builder(before="pass", during="pass"):
        path = tmp_path / "path"
        (path / "tensorflow").mkdir(parents=True, exist_ok=True)
        (path / "tensorflow" / "__init__.py").write_text("")
        tests = str(Path(__file__).parents[1])
        (path / "sitecustomize.py").write_text(BUILDER.format(tests=tests, before=before, during=during))
        monkeypatch.setenv("PYTHONPATH", str(path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    return with_builder


def left_in(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if "incomplete" in path.name]


def test_a_dataset_is_prepared_in_a_separate_process(with_builder, tmp_path):
    with_builder()
    directory, sizes = prepare_tfds.prepare("pictures", str(tmp_path / "sets"))
    assert (directory, sizes) == (tmp_path / "sets" / "pictures" / "1.0.0", {"train": 20})
    _, arrays = spec_and_arrays("pictures", settings(tmp_path / "sets"))
    assert sorted(arrays.y.tolist()) == sorted(prepared.digits(20)[1].tolist())
    assert "tensorflow" not in sys.modules
    with_builder(before="raise RuntimeError('prepared again')")
    assert prepare_tfds.prepare("pictures", str(tmp_path / "sets")) == (directory, sizes)


@pytest.mark.parametrize(
    ("before", "status", "message"),
    [
        (
            "import requests; requests.get('http://no.such.host.invalid/x', timeout=5)",
            3,
            "'pictures' could not be prepared: no.such.host.invalid cannot be reached; check the network connection",
        ),
        ("raise OSError(28, 'No space left on device')", 3, "the disk of .* is full"),
        (
            "raise AssertionError('Manual directory x does not exist: fetch it')",
            2,
            "must be downloaded manually:\nManual directory x",
        ),
        ("raise ZeroDivisionError('by zero')", 3, "could not be prepared: ZeroDivisionError: by zero"),
        ("os.kill(os.getpid(), 9)", 3, "was killed by SIGKILL; no incomplete dataset remains"),
    ],
)
def test_failures_are_explained_and_leave_nothing_behind(with_builder, tmp_path, before, status, message):
    with_builder(before)
    folder = tmp_path / "sets"
    with pytest.raises(prepare_tfds.PreparationFailed, match=message) as error:
        prepare_tfds.prepare("pictures", str(folder))
    assert error.value.exit_status == status
    with pytest.raises(tfds.NotPrepared, match=r"'pictures' is not prepared in .*sets; prepare it with: "):
        tfds.source("pictures", settings(folder)).spec()
    assert tfds.prepared(str(folder)) == {}
    if "kill" not in before:
        assert left_in(folder) == []


def test_after_a_kill_the_next_process_cleans_up_and_prepares(with_builder, tmp_path):
    with_builder(during="number == 7 and os.kill(os.getpid(), 9)")
    folder = tmp_path / "sets"
    with pytest.raises(prepare_tfds.PreparationFailed, match="SIGKILL"):
        prepare_tfds.prepare("pictures", str(folder))
    assert left_in(folder)
    with pytest.raises(tfds.NotPrepared, match=r"'pictures' is not prepared in .*sets; prepare it with: "):
        tfds.source("pictures", settings(folder)).spec()
    with_builder()
    assert prepare_tfds.prepare("pictures", str(folder))[1] == {"train": 20}
    assert left_in(folder) == []


def test_an_unknown_name_is_reported(with_builder, tmp_path):
    with_builder()
    with pytest.raises(
        prepare_tfds.PreparationFailed, match="has no dataset of this name; did you mean 'pictures'"
    ) as error:
        prepare_tfds.prepare("picturs", str(tmp_path))
    assert error.value.exit_status == 2


def test_preparing_says_how_to_install_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(prepare_tfds.MissingTensorFlow, match=r"pip install '\.\[prepare\]'"):
        prepare_tfds.prepare("mnist", str(tmp_path))


def test_the_command_prepares_and_says_where(with_builder, tmp_path):
    with_builder()
    result = call("data", "prepare", "pictures", "--data-dir", tmp_path / "sets")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"pictures is prepared in {tmp_path}/sets/pictures/1.0.0: train 20 examples\n"
    assert tfds.prepared(str(tmp_path / "sets")) == {"pictures": tmp_path / "sets" / "pictures" / "1.0.0"}


def test_the_command_refuses_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = call("data", "prepare", "mnist", "--data-dir", tmp_path)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr == (
        "error: preparing a dataset needs TensorFlow, although training does not: run pip install '.[prepare]' in "
        "the folder of fnet's source, here or on another machine; then set data.data_dir to the folder of prepared "
        "datasets\n"
    )


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow, which converts, is not installed"
)
def test_tfrecord_files_are_converted(tmp_path):
    directory = prepared.prepare_images(tmp_path, "images", "tfrecord", train=10)
    assert prepare_tfds.prepare("images", str(tmp_path)) == (directory, {"train": 10})
    _, arrays = spec_and_arrays("images", settings(tmp_path))
    assert {x.tobytes() for x in arrays.x} == {x.tobytes() for x in prepared.digits(10)[0]}


def test_converted_files_have_the_same_records(tmp_path, monkeypatch):
    """A stand-in for TensorFlow reads the records: of array_record files with the name and the header of tfrecord."""
    directory = prepared.prepare_images(tmp_path, "images", train=10)
    (records,) = directory.glob("*.array_record-*")
    files = [records.rename(records.with_name(records.name.replace(".array_record-", ".tfrecord-")))]
    header = directory / "dataset_info.json"
    header.write_text(header.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="tfrecord"):
        tfds.locate("images", str(tmp_path))

    def dataset(path):
        return types.SimpleNamespace(as_numpy_iterator=ArrayRecordReader(path).read_all)

    tensorflow = types.SimpleNamespace(data=types.SimpleNamespace(TFRecordDataset=dataset))
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "tensorflow", tensorflow)
        prepare_tfds._convert(directory, files)
    _, arrays = spec_and_arrays("images", settings(tmp_path))
    assert {x.tobytes() for x in arrays.x} == {x.tobytes() for x in prepared.digits(10)[0]}
    assert left_in(tmp_path) == []


def test_one_process_prepares_at_a_time(tmp_path):
    with (
        prepare_tfds._exclusive(tmp_path / "sets"),
        (tmp_path / "sets" / ".fnet-prepare.lock").open() as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_files_that_must_be_downloaded_manually_are_an_invalid_request(tmp_path):
    text, status = prepare_tfds._reason(AssertionError("Manual directory x does not exist"), "x", tmp_path)
    assert (text, status) == ("its files must be downloaded manually:\nManual directory x does not exist", 2)
    text, status = prepare_tfds._reason(AssertionError("another\nreason"), "x", tmp_path)
    assert (text, status) == ("AssertionError: another", 3)
