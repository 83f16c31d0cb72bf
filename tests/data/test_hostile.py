"""Hostile files and damaged caches: the corpus of experiments/reliability, and limits of memory."""

import gzip
import importlib
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from data.own_files import TABLE, write
from PIL import Image

from fnet.core.settings import model_of
from fnet.data import cache, files, inputs, memory, path, source, tfds_records
from fnet.data.images import images
from fnet.data.npz import npz
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, DatasetSpec, Targets
from fnet.data.stratify import split_indices

FOLDER = Path(__file__).parents[2] / "experiments" / "reliability"
SLOW = (
    "CSV of 200,000 columns",
    "CSV of 2 million quotes",
    "CSV.gz of 4 GB of zeros",
    "IDX.gz of 200 MB that declares 8 bytes",
    "PNG of 60,000 pixels square",
    "PNG of 60,000 pixels square, resized",
    "workbook whose sheet is 200 MB of zeros",
)

needs_experiments = pytest.mark.skipif(not FOLDER.exists(), reason="the experiments are not in the source distribution")


def script(name):
    """Import a script of experiments/reliability."""
    if not FOLDER.exists():
        return None
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


data_files, cache_flips = script("data_files"), script("cache_flips")
CASES = [case for case in data_files.cases() if case.name not in SLOW] if data_files else []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_hostile_file_is_refused_with_one_line_or_read_right(case):
    assert data_files.failure(case, 0) is None


@needs_experiments
@pytest.mark.parametrize("attack", ["flips", "replacements"])
def test_a_damaged_cache_repairs_itself(attack):
    outcome = getattr(cache_flips, attack)(1)
    assert outcome.failed == 0
    assert outcome.tried > 80


@pytest.mark.usefixtures("isolated_folders")
def test_an_array_of_objects_runs_nothing_when_it_is_predicted():
    class Canary:
        def __reduce__(self):
            return Path.touch, (Path("canary"),)

    spec = DatasetSpec("numbers", (1,), Targets("classes", 2), 9)
    np.save("a.npy", np.array([[Canary()]], object), allow_pickle=True)
    np.savez("a.npz", x=np.array([[Canary()]], object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=rf"{name} is damaged .*Python objects; save an array of numbers"):
            inputs.open_inputs(name, spec)
    assert not Path("canary").exists()


@pytest.mark.usefixtures("isolated_folders")
@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.png", "x-ubyte"])
def test_a_fifo_is_not_predicted(name):
    os.mkfifo(name)
    with pytest.raises(DataError, match="expected a file, got a FIFO"):
        inputs.open_inputs(name, DatasetSpec("digits", (4, 4, 1), Targets("classes", 2), 9, (0.0, 16.0)))


def test_a_file_that_becomes_a_fifo_is_not_waited_for(tmp_path, monkeypatch):
    """Between the check of the path and opening it, another process may replace the file."""
    (tmp_path / "file").touch()
    regular = os.stat(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(path.os, "stat", lambda _: regular)
    with pytest.raises(DataError, match="expected a file, got a FIFO"):
        path.open_file(tmp_path / "fifo")


def test_a_socket_is_not_opened(tmp_path, monkeypatch):
    """Opening it fails with an error of the system that does not say why."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("file")
        with pytest.raises(DataError, match="'file': expected a file, got a socket"):
            path.open_file(Path("file"))


# Memory


@pytest.fixture
def little_memory(isolated_folders, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 10_000)


def assert_too_large(name, message, **settings):
    with pytest.raises(DataError, match=message) as caught:
        files.source(name, settings).stream(0)
    return caught.value.setting


def test_the_limits_of_the_process_count(monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert 1e8 < memory.total() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (12345, -1) if kind == resource.RLIMIT_DATA else before)
    assert memory.total() == 12345


@pytest.mark.usefixtures("little_memory")
def test_data_is_compared_with_memory_before_it_is_allocated():
    np.savez("a.npz", x=np.zeros((1000, 1), np.float32), y=np.zeros(1000))
    message = "a.npz: the array 'y' needs 16.3 kB of memory, but 10 kB are available; divide the file"
    assert assert_too_large("npz", message, path="a.npz") == "path"
    write("a,y\n" + "1,0\n2,1\n" * 200)
    assert assert_too_large("csv", "a table of 400 lines and 2 columns needs .* divide it", path="t.csv", target="y")
    write("c,y\n" + "".join(f"c{i},{i % 2}\n" for i in range(100)))
    message, columns = "100 examples of 100 features needs .* data.drop", {"c": "category"}
    assert assert_too_large("csv", message, path="t.csv", target="y", columns=columns) == "drop"
    write("a" * 1000, "t.txt")
    assert assert_too_large("text", "as characters, needs .* set data.tokens: bytes", path="t.txt") == "tokens"
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Image.new("L", (99, 99)).save(f"{folder}/1.png")
    assert assert_too_large("images", "1.png of 99 x 99 pixels needs .* make the image smaller", path=".") == "path"


@pytest.mark.usefixtures("little_memory")
def test_examples_that_do_not_fit_in_memory_are_streamed():
    spec = DatasetSpec("large", (50,), Targets("classes", 2), 51)
    data = source.Arrays(np.zeros((51, 50), np.uint8), np.arange(51) % 2)
    message = "large: 51 examples of 50 numbers, in memory, needs 10.2 kB of memory, .*set data.stream: true"
    with pytest.raises(DataError, match=message) as caught:
        split_and_normalize(data, spec, (0.8, 0.1, 0.1), "none", seed=0)
    assert caught.value.setting == "stream"
    split_and_normalize(source.Stream(*data), spec, (0.8, 0.1, 0.1), "none", seed=0)


def test_an_array_that_exceeds_the_disk_is_refused_before_it_is_decoded(tmp_path, monkeypatch, little_memory):
    monkeypatch.setattr(cache, "free_space", lambda: 10_000)
    large = cache.Chunks((10_001,), np.dtype(np.uint8), lambda: pytest.fail("decoded"))
    with (
        pytest.raises(DataError, match=r"decoded data that cannot be cached needs .* free space on the disk"),
        pytest.warns(cache.CacheWarning, match="No space left on device"),
    ):
        cache.cached({"name": "large"}, lambda: {"x": large})


# Bounds, labels and names


@pytest.mark.parametrize(
    ("function", "setting", "valid", "invalid"),
    [(images, "size", [1, 1], [0, 5]), (images, "size", [1, 1], [5, 0]), (npz, "classes", 2**31 - 1, 2**31)],
)
def test_bounds_of_settings(function, setting, valid, invalid):
    settings = model_of(function, None)
    assert getattr(settings(path="p", **{setting: valid}), setting) == valid
    with pytest.raises(ValueError, match=setting):
        settings(path="p", **{setting: invalid})


@pytest.mark.usefixtures("isolated_folders")
def test_an_entry_is_removed_under_the_name_that_the_list_shows():
    write(TABLE)
    files.source("csv", {"path": "t.csv", "target": "kind"}).spec()
    (entry,) = cache.entries()
    assert entry.label == "csv t"
    for name in ("t", "csv t"):
        assert cache.entries_of(name) == [entry]
    with pytest.raises(DataError, match="does not contain decoded data of 'csv u'; did you mean 'csv t'"):
        cache.entries_of("csv u")
    assert cache.Entry(Path(), {"name": "a\x1b[2J\nb"}, 0, 0).label == r"a\x1b[2J\nb"


def test_a_record_of_another_size_is_not_repeated_to_fill_the_example():
    class Feature:
        np_dtype = np.float32

    class Field:
        feature = Feature()

        @staticmethod
        def of(example):
            return example

    records = object.__new__(tfds_records.Records)
    records.shape, records.dtype = (1, 2, 3), np.dtype(np.float32)
    records._prepared = type("P", (), {"kind": "numbers", "inputs": (Field,), "label": Field, "spec": None})
    assert records._inputs([np.arange(6).reshape(2, 3)]).shape == (1, 2, 3)
    with pytest.raises(ValueError, match=r"expected the shape \(2, 3\), got \(1, 3\)"):
        records._inputs([np.ones((1, 3))])
    records._prepared.spec = DatasetSpec("t", (2, 3), Targets("classes", 2), 1)
    with pytest.raises(ValueError, match="the label 4294967296 is out of range"):
        records._targets([2**32])


# Splits


def test_each_part_contains_its_fraction_of_every_class_to_within_one_example():
    """The definition, on random classes and fractions, of which a twentieth needs classes to change places."""
    for seed in range(400):
        rng = np.random.default_rng(seed)
        size, number = int(rng.integers(5, 300)), int(rng.integers(2, 8))
        classes = rng.choice(number, size, p=rng.dirichlet(np.ones(number)))
        fractions = rng.dirichlet(np.ones(3)) * rng.choice([1, rng.random()])
        if seed % 2:
            fractions = np.floor(fractions * 100) / 100
        parts = split_indices(size, fractions.tolist(), seed, classes)
        rows = np.concatenate(parts)
        assert len(np.unique(rows)) == len(rows)
        for part, fraction in zip(parts, fractions, strict=True):
            assert abs(len(part) - fraction * size) <= 1 + 1e-9
            shares = fraction * np.bincount(classes, minlength=number)
            assert np.abs(np.bincount(classes[part], minlength=number) - shares).max() <= 1 + 1e-9, seed


def write_idx(images, labels, end=b""):
    """Write compressed files of images and labels, with further bytes at the end of the labels."""
    for name, magic, array, more in (("images-idx3", 2051, images, b""), ("labels-idx1", 2049, labels, end)):
        header = np.array([magic, *array.shape], ">u4").tobytes()
        with gzip.open(f"train-{name}-ubyte.gz", "wb") as file:
            file.write(header + array.tobytes() + more)


@pytest.mark.usefixtures("little_memory")
def test_labels_in_a_compressed_file_are_compared_with_memory_before_they_are_read():
    write_idx(np.zeros((6000, 1, 1), np.uint8), np.zeros(6000, np.uint8))
    message = "ubyte.gz needs 12 kB of memory, but 10 kB are available; divide the file"
    assert assert_too_large("idx", message, path=".") == "path"


@pytest.mark.usefixtures("isolated_folders")
def test_a_compressed_file_of_one_more_label_is_too_long():
    write_idx(np.zeros((3, 4, 4), np.uint8), np.array([0, 1, 1], np.uint8), end=b"\x01")
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz is too long: expected 11 bytes, got more$"):
        files.source("idx", {"path": "."}).spec()


@pytest.mark.usefixtures("isolated_folders")
def test_a_large_image_is_read_without_the_warning_of_pillow(monkeypatch):
    """Its pixels are compared with memory instead; above twice the limit of Pillow it is an error."""
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Image.new("L", (4, 3)).save(f"{folder}/1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    assert files.source("images", {"path": "."}).read(0).x.shape == (2, 3, 4, 1)
