"""Datasets prepared by TensorFlow Datasets are read as they were written, without importing TensorFlow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import prepared
import pytest
from prepared import settings, spec_and_arrays

from fnet.config.errors import ConfigError
from fnet.config.load import load
from fnet.data import tfds
from fnet.data.source import DataError, Targets

REAL = Path(__file__).parents[3] / "shared" / "data" / "tfds"
real = pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="MNIST is not prepared in ../shared/data/tfds")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Datasets other than images with labels."""
    import tensorflow_datasets as tfds_library

    features = tfds_library.features
    folder = tmp_path_factory.mktemp("sets")
    rows = [
        {"x": {"a": i + 0.5, "b": np.arange(2, dtype=np.int32) + i, "kind": i % 2}, "y": -float(i), "old": i % 2 == 1}
        for i in range(5)
    ]
    inner = features.FeaturesDict(
        {
            "a": features.Scalar(np.float32),
            "b": features.Tensor(shape=(2,), dtype=np.int32),
            "kind": features.ClassLabel(num_classes=2),
        }
    )
    table = {"x": inner, "y": features.Scalar(np.float64), "old": features.Scalar(np.bool_)}
    keys = ({"a": "x/a", "b": "x/b"}, "y")
    prepared.prepare(folder, "table", table, None, {"train": rows})
    texts = ["hé", "a longer text", "", "abc", "x", "y"]
    label = features.ClassLabel(names=["bad", "good"])
    prepared.prepare(
        folder,
        "texts",
        {"text": features.Text(), "label": label, "mark": features.Text()},
        ("text", "label"),
        {
            "train": [{"text": text, "label": i % 2, "mark": ""} for i, text in enumerate(texts)],
            "unsupervised": [{"text": "who knows", "label": -1, "mark": ""}],
        },
    )
    pictures = [{"image": prepared.png(np.zeros((3 + i, 4, 1), np.uint8)), "label": 0} for i in range(2)]
    sizes = {"image": features.Image(shape=(None, None, 1)), "label": label}
    prepared.prepare(folder, "sizes", sizes, ("image", "label"), {"train": pictures})
    deep = {"image": features.Image(shape=(3, 4, 1), dtype=np.uint16), "label": label}
    pictures = [{"image": prepared.png(np.zeros((3, 4, 1), np.uint16)), "label": 0}]
    prepared.prepare(folder, "deep", deep, ("image", "label"), {"train": pictures})
    return folder, keys


def test_images_come_as_bytes_with_their_labels(tfds_sets):
    spec, arrays = spec_and_arrays("mnist", settings(tfds_sets))
    assert (spec.shape, spec.size, spec.range) == ((28, 28, 1), 140, (0.0, 255.0))
    assert spec.targets == Targets("classes", 10, tuple("0123456789"))
    assert spec.splits == (("train", 100), ("test", 40))
    assert (arrays.x.dtype, arrays.y.dtype) == (np.uint8, np.int32)
    start = 0
    for seed, size in enumerate((100, 40)):
        images, labels = prepared.digits(size, seed)
        expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        rows = slice(start, start + size)
        assert {x.tobytes(): y for x, y in zip(arrays.x[rows], arrays.y[rows], strict=True)} == expected
        start += size


def test_cached_arrays_are_not_decoded_again(tfds_sets, monkeypatch):
    chosen = settings(tfds_sets)
    first = tfds.source("fashion_mnist", chosen).read(seed=0)
    monkeypatch.setattr(tfds.Records, "decode", lambda self: pytest.fail("decoded again"))
    again = tfds.source("fashion_mnist", chosen).read(seed=0)
    assert np.array_equal(first.x, again.x)
    assert np.array_equal(first.y, again.y)


def test_changed_files_are_decoded_again(tmp_path):
    prepared.prepare_images(tmp_path, "images", train=10)
    before = tfds.source("images", settings(tmp_path)).read(seed=0)
    shutil.rmtree(tmp_path / "images")
    prepared.prepare_images(tmp_path, "images", test=10, train=10)
    after = tfds.source("images", settings(tmp_path, split=("train", 0.0, 0.0))).read(seed=0)
    assert not np.array_equal(np.sort(before.x.ravel()), np.sort(after.x.ravel()))


def test_the_numbers_of_a_table_are_concatenated(sets):
    """Nested keys name a feature; several features are concatenated in the order of the header."""
    folder, _ = sets
    with pytest.raises(DataError, match="numbers, got the feature 'x/kind' of type ClassLabel; choose another"):
        tfds.source("table", settings(folder, image_key="x", label_key="y")).spec()
    spec, arrays = spec_and_arrays("table", settings(folder, image_key="x/b", label_key="y"))
    assert (spec.shape, spec.targets, spec.range) == ((2,), Targets("values", 1, ("y",)), None)
    assert np.array_equal(arrays.x[:, 1] - arrays.x[:, 0], np.ones(5))
    assert np.array_equal(arrays.y[:, 0], -arrays.x[:, 0])
    assert (arrays.x.dtype, arrays.y.dtype) == (np.float32, np.float32)


def test_supervised_keys_may_be_nested(sets, monkeypatch):
    folder, keys = sets
    plain = tfds.builder_of

    def with_keys(name, data_dir):
        builder = plain(name, data_dir)
        monkeypatch.setattr(type(builder.info), "supervised_keys", keys, raising=True)
        return builder

    monkeypatch.setattr(tfds, "builder_of", with_keys)
    _, arrays = spec_and_arrays("table", settings(folder))
    number = -arrays.y[:, 0]
    assert np.array_equal(arrays.x, np.stack([number + 0.5, number, number + 1], 1))


def test_truth_values_are_two_classes(sets):
    folder, _ = sets
    spec, arrays = spec_and_arrays("table", settings(folder, image_key="x/a", label_key="old"))
    assert (spec.shape, spec.targets) == ((1,), Targets("classes", 2, ("false", "true")))
    assert np.array_equal(arrays.y, (arrays.x[:, 0] - 0.5) % 2)


def test_a_text_becomes_its_bytes_truncated_or_padded(sets):
    folder, _ = sets
    spec, arrays = spec_and_arrays("texts", settings(folder))
    assert (spec.shape, spec.dtype, spec.vocabulary) == ((8,), "int32", bytes(range(256)))
    assert spec.splits == (("train", 6),), "the examples without labels are left out"
    assert arrays.x.dtype == np.int32
    label_of_text = {bytes(row.astype(np.uint8)): label for row, label in zip(arrays.x, arrays.y, strict=True)}
    expected = ["hé", "a longer text", "", "abc", "x", "y"]
    assert label_of_text == {text.encode()[:8].ljust(8, b"\0"): i % 2 for i, text in enumerate(expected)}


def test_only_the_splits_that_parts_name_are_read(tfds_sets):
    for parts, expected in (
        (("train[:50%]", "train[50%:]", 0.0), [("train", 100)]),
        (("test", 0.0, 0.0), [("test", 40)]),
        (("train+test", 0.0, 0.0), [("train", 100), ("test", 40)]),
        ((0.9, 0.1, "test"), [("train", 100), ("test", 40)]),
        (("train", 0.0, "tets"), [("train", 100), ("test", 40)]),
    ):
        assert list(tfds.source("mnist", settings(tfds_sets, split=parts)).spec().splits) == expected


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("table", {}, r"does not define its input and target; set data\.image_key and data\.label_key; its features"),
        ("table", {"image_key": "x/a"}, r"'table' does not define .*; set data\.label_key; its features: .*\by\b"),
        ("table", {"image_key": "x/aa", "label_key": "y"}, "'table' has no feature 'x/aa'; did you mean 'a'"),
        ("texts", {"label_key": "labl"}, "'texts' has no feature 'labl'; did you mean 'label'"),
        (
            "texts",
            {"label_key": "mark"},
            "expected a class, true or false, or real numbers as target, got the feature 'mark' ",
        ),
        (
            "table",
            {"image_key": "x/a", "label_key": "x/b"},
            "as target, got the feature 'x/b' .*; choose another target with data.label_key",
        ),
        ("deep", {}, r"'deep': the images of 'image' have dtype uint16, not uint8"),
        ("sizes", {}, r"'sizes': the images of feature 'image' must have the same size, got \? x \? x 1"),
    ],
)
def test_unusable_datasets_are_refused(sets, name, changed, message):
    with pytest.raises(DataError, match=message):
        tfds.source(name, settings(sets[0], **changed)).spec()


def test_a_dataset_that_is_not_prepared_is_reported_with_the_command(tfds_sets, tmp_path, monkeypatch):
    with pytest.raises(tfds.NotPrepared) as error:
        tfds.source("glue/cola", settings(tmp_path / "a b")).spec()
    assert str(error.value) == (
        f"'glue/cola' is not prepared in {tmp_path}/a b; "
        f"prepare it with: fnet data prepare glue/cola --data-dir '{tmp_path}/a b'"
    )
    with pytest.raises(tfds.NotPrepared, match=r"; did you mean 'mnist'\? Or prepare it with: fnet data prepare mnits"):
        tfds.source("mnits", settings(tfds_sets)).spec()
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data:\n  source: tfds\n  name: emnist\nmodel: [flatten, {dense: 10}]\n")
    with pytest.raises(ConfigError) as wrong:
        load("c.yaml")
    assert wrong.value.lines == (
        f"c.yaml:3:9: data: 'emnist' is not prepared in {tfds_sets}; did you mean 'mnist'? "
        "Or prepare it with: fnet data prepare emnist",
    )


def test_tfrecord_files_are_recognized(tmp_path):
    directory = prepared.prepare_images(tmp_path, "images", train=10)
    header = directory / "dataset_info.json"
    header.write_text(header.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(tfds.NotPrepared, match=r"as tfrecord, which only TensorFlow reads; convert it with: fnet data"):
        tfds.source("images", settings(tmp_path)).spec()


def _replaced(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 3 :][:50] = bytes(50)
    content[len(content) // 3] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("images-train.array_record-00000-of-00001", Path.unlink, "00000-of-00001 is missing"),
        (
            "images-train.array_record-00000-of-00001",
            lambda f: f.write_bytes(b""),
            "record 0 of .*-00000-of-00001 cannot be read",
        ),
        (
            "images-train.array_record-00000-of-00001",
            lambda f: f.write_bytes(f.read_bytes()[:40_000]),
            "record 0 of .*-00000-of-00001 cannot be read",
        ),
        ("images-train.array_record-00000-of-00001", _replaced, "record .* of .*-00000-of-00001 cannot be read"),
        ("dataset_info.json", lambda f: f.write_text("{"), "the header of 'images' cannot be read"),
        ("features.json", lambda f: f.write_text("{"), "the header of 'images' cannot be read"),
        (
            "dataset_info.json",
            lambda f: f.write_text(f.read_text().replace("{SHARD_X_OF_Y}", "{EVIL}")),
            "'images': its header does not name files: ",
        ),
    ],
)
def test_damaged_files_are_named_with_the_fix(tmp_path, file, damage, message):
    directory = prepared.prepare_images(tmp_path, "images", train=100)
    damage(directory / file)
    with pytest.raises(DataError, match=message) as error:
        tfds.source("images", settings(tmp_path)).read(seed=0)
    assert f"remove {directory} and prepare it again with: fnet data prepare images" in str(error.value)


def test_a_number_of_classes_that_no_network_has_is_refused(tmp_path):
    """TensorFlow Datasets would make as many names."""
    header = prepared.prepare_images(tmp_path, "images", train=10) / "features.json"
    header.write_text(re.sub(r'("numClasses": )"\d+"', rf'\1"{10**12}"', header.read_text()))
    with pytest.raises(DataError, match=r"expected at most 10,000,000 classes in its header, got 1,000,000,000,000"):
        tfds.source("images", settings(tmp_path)).spec()


def test_training_never_imports_tensorflow(tmp_path, tfds_sets):
    """A module of that name that raises is first on the path; decoding, normalizing and training never import it."""
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('TensorFlow was imported')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "fnet", "train", str(ROOT / "configs" / "mnist-mlp.yaml")]
    command += ["train.epochs=1", "train.batch_size=20", f"data.data_dir={tfds_sets}", f"out={tmp_path / 'runs'}"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "mnist, 140 examples (28, 28, 1) with 10 classes" in result.stdout
    assert "TensorFlow was imported" not in result.stdout + result.stderr


@real
def test_real_mnist_is_mnist():
    """Known facts about the test images: their number, the size of each class, and their mean."""
    chosen = settings(REAL, split=("test[:90%]", "test[90%:]", 0.0))
    spec, arrays = spec_and_arrays("mnist", chosen)
    assert spec.size == 10_000
    assert np.bincount(arrays.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert arrays.x.mean() / 255 == pytest.approx(0.13251, abs=1e-5)
