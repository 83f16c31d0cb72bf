"""Streamed data: the same rows, statistics and messages as in memory, read in order and ahead of time."""

import shutil
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from fnet.config.load import load
from fnet.data import cache, catalog, files, normalize, npy, stream, tfds
from fnet.data.arrays import Arrays, chunks
from fnet.data.normalize import Normalizer
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, DatasetSpec, Targets, fingerprint
from fnet.data.stream import Joined, Stream, View, read_ahead


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fnet-read-ahead")]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Rows


@pytest.mark.parametrize("order", ["C", "F"])
def test_views_of_views_equal_numpy_indexing(rng, tmp_path, order):
    np.save(tmp_path / "x.npy", np.asarray(rng.integers(0, 100, (50, 3, 2)), order=order))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    first, second, rows = rng.permutation(50)[:30], slice(5, 25), rng.integers(0, 20, 7)
    view = View(View(View(x, first), second), function=lambda rows: rows[..., 0] / 2)
    expected = np.asarray(x)[first][second][..., 0] / 2
    assert (view.shape, view.dtype, len(view)) == ((20, 3), np.float64, 20)
    assert np.array_equal(view[rows], expected[rows])
    assert np.array_equal(view[3:-4], expected[3:-4])
    assert np.array_equal(np.asarray(view), expected)


def test_joined_rows_equal_numpy_concatenation(rng):
    parts = [rng.standard_normal((n, 2)) for n in (4, 1, 6)]
    joined, whole = Joined(parts), np.concatenate(parts)
    for rows in (rng.integers(0, 11, 30), slice(3, 6), slice(None)):
        assert np.array_equal(joined[rows], whole[rows])


@pytest.mark.parametrize(("count", "length"), [(0, 3), (5, 5), (4, 7)])
def test_rows_are_padded_with_zeros(rng, monkeypatch, count, length):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 6)
    x, y, mask = rng.standard_normal((9, 3)), np.arange(1, 10), np.ones((9, 3), bool)
    rows = rng.permutation(9)[:count]
    for whole, result in zip((x, y, mask), Stream(x, y, mask).part(slice(None)).read(rows, length)[:3], strict=True):
        assert (result.shape, result.dtype) == ((length, *whole.shape[1:]), whole.dtype)
        assert np.array_equal(result[:count], whole[rows])
        assert not result[count:].any()
        assert result.ctypes.data % stream.ALIGNMENT == 0


# Normalization


def test_bytes_are_normalized_in_single_precision_as_in_double():
    """Every byte, signed or not, with offsets and scales that are whole, and some that are not."""
    for x in (np.arange(256).astype(np.uint8), np.arange(-128, 128).astype(np.int8)):
        for offset in (0.0, 1.0, -7.0, 255.0, 65536.0, 0.5, 1 / 3):
            for scale in (1.0, 3.0, 7.0, 255.0, 65535.0, 0.1, 50.3):
                result = Normalizer(np.asarray(offset), np.asarray(scale))(x)
                expected = [np.float32((float(value) - offset) / scale) for value in x]
                assert result.dtype == np.float32
                assert np.array_equal(result, expected), (offset, scale)


@pytest.mark.parametrize("kind", ["unit", "standard", "none"])
@pytest.mark.parametrize(("dtype", "has_missing"), [(np.uint8, False), (np.float32, False), (np.float32, True)])
def test_statistics_of_a_view_equal_those_of_the_array(rng, monkeypatch, kind, dtype, has_missing):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 30)
    x = (rng.standard_normal((50, 4)) * 40 + 99).astype(dtype)
    if has_missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    rows = rng.permutation(50)[:33]
    inside, outside = (
        normalize.fit(kind, x[rows], has_missing=has_missing),
        normalize.fit(kind, View(x, rows), has_missing=has_missing),
    )
    for a, b in zip(inside, outside, strict=True):
        assert np.array_equal(a, b)
    known = np.where(np.isnan(x[rows]), np.nanmean(x[rows].astype(np.float64), axis=0), x[rows])
    if kind == "standard":
        np.testing.assert_allclose(inside.offset, known.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(inside.scale, known.std(axis=0), rtol=1e-12)
    if kind == "unit":
        np.testing.assert_allclose(inside.offset, known.min(axis=0), rtol=1e-12)
        np.testing.assert_allclose(inside.offset + inside.scale, known.max(axis=0), rtol=1e-12)


# Parts


SPEC = DatasetSpec("table", (3,), Targets("classes", 3), 40)


@pytest.fixture
def table(rng):
    return Arrays(rng.standard_normal((40, 3)).astype(np.float32), np.arange(40) % 3)


def test_parts_of_a_stream_equal_parts_of_arrays(table, monkeypatch):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 12)
    whole = split_and_normalize(table, SPEC, (0.5, 0.3, 0.2), "standard", seed=3)
    parts = split_and_normalize(Stream(*table), SPEC, (0.5, 0.3, 0.2), "standard", seed=3)
    assert set(parts.parts()) == {"train", "validation", "test"}
    for name, part in parts.parts().items():
        assert part.size == whole.parts()[name].size
        assert np.array_equal(part.x[:], whole.parts()[name].x)
        assert np.array_equal(part.y[:], whole.parts()[name].y)
    assert fingerprint(Stream(*table)) == fingerprint(table)


@pytest.mark.parametrize("kind", [Arrays, Stream])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("x", np.nan, "example 17 contains a value that is NaN or infinite; remove it or fill it in"),
        ("x", -np.inf, "example 17 contains a value that is NaN or infinite; remove it or fill it in"),
        ("y", 3, r"expected labels 0 \.\.\. 2, got 3 for example 17"),
        ("y", -1, r"expected labels 0 \.\.\. 2, got -1 for example 17"),
    ],
)
def test_bad_values_are_found_in_chunks(table, monkeypatch, kind, field, value, message):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 12)
    getattr(table, field)[17] = value
    with pytest.raises(DataError, match=message):
        split_and_normalize(kind(*table), SPEC, (0.5, 0.3, 0.2), "none", seed=3)


@pytest.mark.parametrize("kind", [Arrays, Stream])
def test_bad_targets_are_found_in_chunks(rng, monkeypatch, kind):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 4)
    y = rng.standard_normal((40, 1)).astype(np.float32)
    y[9] = np.inf
    with pytest.raises(DataError, match="the target of example 9 is NaN or infinite"):
        split_and_normalize(
            kind(np.zeros_like(y), y), DatasetSpec("t", (1,), Targets("values", 1), 40), (0.5, 0.3, 0.2), "none", seed=3
        )


def test_text_stays_as_small_as_it_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "t.txt").write_text("abcabcabc and so on" * 9)
    for tokens in ("characters", "bytes"):
        settings = {"path": str(tmp_path / "t.txt"), "block": 5, "tokens": tokens}
        whole, streamed = files.source("text", settings).read(seed=0), files.source("text", settings).stream(seed=0)
        for a, b in zip(whole, (streamed.x, streamed.y), strict=True):
            assert a.dtype == b.dtype == np.int32
            assert np.array_equal(a, b[:])
            assert b._base.dtype == np.uint8


# Reading ahead


def test_results_come_in_order_and_few_are_computed_ahead():
    computed = []

    def make(number):
        time.sleep(0.002 * (number % 3))
        computed.append(number)
        return number

    elements = read_ahead(make, range(4, 40))
    assert computed == []
    assert [next(elements) for _ in range(10)] == list(range(4, 14))
    until(lambda: len(computed) == 10 + stream.AHEAD)
    time.sleep(0.05)
    elements.close()
    until(lambda: not reading_threads())
    assert sorted(computed) == list(range(4, 14 + stream.AHEAD))
    assert list(read_ahead(make, range(3))) == [0, 1, 2]


def test_an_error_is_raised_in_place_of_its_result():
    def make(number):
        if number == 3:
            raise DataError("record 3 is damaged")
        return number

    elements = read_ahead(make, range(9))
    assert [next(elements) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="record 3 is damaged"):
        next(elements)
    until(lambda: not reading_threads())


def test_memory_contains_only_what_is_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1 << 17)
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (8000, 1000))
    rows[:] = 1.0
    del rows
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    spec = DatasetSpec("large", (1000,), Targets("values", 1), 8000)
    tracemalloc.start()
    splits = split_and_normalize(Stream(x, np.zeros((8000, 1), np.float32)), spec, (0.8, 0.1, 0.1), "standard", seed=0)
    part = splits.train
    rows_per_chunk = part.batches_per_chunk(8) * 8
    total = sum(
        arrays[0].sum()
        for arrays in read_ahead(
            lambda i: part.read(
                np.arange(i * rows_per_chunk, min(part.size, (i + 1) * rows_per_chunk)), rows_per_chunk
            ),
            range(-(-part.size // rows_per_chunk)),
        )
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 0
    assert peak < x.nbytes / 4


# Decoding in chunks


@pytest.mark.usefixtures("isolated_cache")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_decoded_in_chunks(rng, tmp_path, monkeypatch, save):
    """Two splits; one of them in column-major order, which is read whole."""
    monkeypatch.setattr(npy, "CHUNK_BYTES", 100)
    x, other = rng.standard_normal((23, 4, 2)), np.asfortranarray(rng.standard_normal((7, 4, 2)))
    y = np.arange(23) % 2
    save(tmp_path / "a.npz", x=x, y=y, x_test=other, y_test=y[:7])
    arrays = files.source("npz", {"path": str(tmp_path / "a.npz")}).read(seed=0)
    assert np.array_equal(arrays.x, np.concatenate([x, other]).astype(np.float32))
    assert np.array_equal(arrays.y, np.concatenate([y, y[:7]]))


@pytest.mark.usefixtures("isolated_cache")
def test_decoding_uses_memory_for_one_chunk_only(tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "CHUNK_BYTES", 1 << 19)
    np.savez(tmp_path / "a.npz", x=np.ones((4000, 1000), np.float32), y=np.zeros((4000, 1)))
    tracemalloc.start()
    arrays = files.source("npz", {"path": str(tmp_path / "a.npz"), "targets": "values"}).stream(seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrays.x[3990:].all()
    assert peak < arrays.x.nbytes / 4


@pytest.mark.usefixtures("isolated_cache")
def test_a_truncated_archive_is_named_and_not_cached(tmp_path, monkeypatch):
    """One array lacks its last row, but the checksum of the archive is right."""
    monkeypatch.setattr(npy, "CHUNK_BYTES", 400)
    np.savez(tmp_path / "whole.npz", x=np.ones((50, 9), np.float32), y=np.arange(50) % 2)
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(tmp_path / "a.npz", "w") as short:
        for name in whole.namelist():
            short.writestr(name, whole.read(name)[: -36 if name == "x.npy" else None])
    with pytest.raises(DataError, match=r"a\.npz is damaged .*: 'x': its header declares 50 x 9 entries"):
        files.source("npz", {"path": str(tmp_path / "a.npz")}).read(seed=0)
    assert not list(cache.folder().glob("*"))


def test_chunks_that_cannot_be_cached_are_returned_in_memory(tmp_path, monkeypatch):
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a_file"))
    rows = np.arange(12.0).reshape(6, 2)
    in_chunks = cache.Chunks(rows.shape, rows.dtype, lambda: (rows[i : i + 4] for i in (0, 4)))
    with pytest.warns(cache.CacheWarning, match="decoded data cannot be cached"):
        assert np.array_equal(cache.cached({"name": "x"}, lambda: {"x": in_chunks})["x"], rows)


# Records


def settings(folder):
    return {"data_dir": str(folder), "image_key": None, "label_key": None, "text_length": 8, "split": None}


@pytest.fixture
def isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def full_disk(monkeypatch):
    """Simulate a disk too full for a decoded copy."""
    monkeypatch.setattr(tfds, "free_space", lambda: 1000)


@pytest.mark.usefixtures("isolated_cache")
def test_a_dataset_is_decoded_once_in_chunks(tfds_sets, rng, monkeypatch):
    """The decoded copy equals that of a run in memory, but the arrays are never complete in memory."""
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 28 * 28 * 7)
    monkeypatch.setattr(cache, "_in_memory", lambda decoded: pytest.fail("decoded as a whole"))
    chosen = settings(tfds_sets)
    streamed = tfds.source("mnist", chosen).stream(seed=0)
    assert all(isinstance(part, np.ndarray) for part in streamed.x._parts)
    assert sorted(entry.key["name"] for entry in cache.entries()) == ["tfds mnist test", "tfds mnist train"]
    monkeypatch.setattr(tfds.Records, "decode", lambda self: pytest.fail("decoded again"))
    whole, rows = tfds.source("mnist", chosen).read(seed=0), rng.permutation(140)
    assert np.array_equal(streamed.x[rows], whole.x[rows])
    assert np.array_equal(streamed.y, whole.y)


@pytest.mark.usefixtures("isolated_cache", "full_disk")
def test_records_are_decoded_when_they_are_requested(tfds_sets, rng):
    """The splits train and test, with 100 and 40 examples, are concatenated."""
    chosen = settings(tfds_sets)
    streamed = tfds.source("mnist", chosen).stream(seed=0)
    assert all("targets" in entry.key["name"] for entry in cache.entries())
    whole = tfds.source("mnist", chosen).read(seed=0)
    rows = rng.permutation(140)
    assert (streamed.x.shape, streamed.x.dtype) == (whole.x.shape, whole.x.dtype)
    assert np.array_equal(streamed.x[rows], whole.x[rows])
    assert np.array_equal(streamed.x[95:105], whole.x[95:105])
    assert np.array_equal(streamed.y, whole.y)
    decoded = tfds.source("mnist", chosen).stream(seed=0)
    assert np.array_equal(decoded.x[rows], whole.x[rows])
    assert all(isinstance(part, np.ndarray) for part in decoded.x._parts)
    data_source = catalog.source("tfds", "mnist", chosen)
    assert data_source.fingerprint(streamed) == data_source.fingerprint(decoded)
    assert data_source.fingerprint(whole) == fingerprint(whole) != data_source.fingerprint(streamed)


@pytest.mark.usefixtures("isolated_cache", "full_disk")
def test_a_damaged_record_is_named(tfds_sets, tmp_path):
    """Its number is 3 in its file, and 100 + 3 in the whole dataset."""
    shutil.copytree(tfds_sets / "mnist", tmp_path / "sets" / "mnist")
    streamed = tfds.source("mnist", settings(tmp_path / "sets")).stream(seed=0)
    file = next((tmp_path / "sets").rglob("*-test.array_record*"))
    data = bytearray(file.read_bytes())
    images = [position for position in range(len(data)) if data[position : position + 4] == b"IDAT"]
    data[images[3] + 8 : images[3] + 40] = bytes(32)
    file.write_bytes(data)
    assert streamed.x[:103].any()
    with pytest.raises(DataError, match=r"'mnist': record 3 of .*-test.array_record.* cannot be read .*; remove "):
        streamed.x[99:140]
    with pytest.raises(DataError, match=r"'mnist': record 3 of .*-test.array_record.* cannot be read .*; remove "):
        tfds.source("mnist", settings(tmp_path / "sets")).stream(seed=0)


def test_a_dataset_in_memory_can_be_streamed_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("data: {name: iris, stream: true}\nmodel: [{dense: 3}]\n")
    experiment = load("c.yaml")
    assert experiment.data.stream
    source = catalog.source("sklearn", "iris", {})
    assert np.array_equal(source.stream(0).x, source.read(0).x)


def test_chunks_do_not_depend_on_the_number_of_rows(monkeypatch):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 10)
    assert [rows.stop for rows in chunks(np.zeros((7, 3)))] == [3, 6, 9]
    assert [rows.stop for rows in chunks(np.zeros((4, 3)))] == [3, 6]
    assert [rows.stop for rows in chunks(np.zeros((2, 99)))] == [1, 2]
