import re
import subprocess
import sys
import time

import numpy as np
import pytest

from fnet.core.settings import model_of
from fnet.data import catalog, normalize, sklearn, synthetic
from fnet.data.arrays import Arrays
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, DatasetSpec, Targets, fingerprint
from fnet.data.split import SplitError, default_parts, divide, sizes
from fnet.data.stratify import split_indices

DEFAULTS = {
    name: model_of(generator.make, None, ("rng",))().model_dump() for name, generator in synthetic.GENERATORS.items()
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("sklearn", "synthetic") for name in catalog.SOURCES[kind]]
)
def test_a_source_returns_what_its_spec_describes(kind, name):
    source = catalog.source(kind, name, DEFAULTS.get(name, {}))
    spec, arrays = source.spec(), source.read(seed=0)
    assert catalog.source_of(name) == kind
    assert arrays.x.shape == (spec.size, *spec.shape)
    assert arrays.x.dtype == spec.dtype
    if spec.targets.kind == "classes":
        assert arrays.y.shape == (spec.size, *spec.targets.shape)
        assert set(np.unique(arrays.y)) == set(range(spec.targets.number))
        assert len(spec.targets.names) in (0, spec.targets.number)
    else:
        assert arrays.y.shape == (spec.size, spec.targets.number)
        assert arrays.y.dtype == np.float32
    if spec.range:
        assert (arrays.x.min(), arrays.x.max()) == spec.range


def test_digits_look_like_digits():
    """Channels last, rows first: the ink of a 1 stands upright."""
    arrays = sklearn.source("digits", {}).read(0)
    one = arrays.x[arrays.y == 1].mean(axis=0)[:, :, 0]
    assert one.sum(axis=0).max() > 2 * one.sum(axis=1).max() * 0.8


@pytest.mark.parametrize("name", synthetic.GENERATORS)
def test_synthetic_data_is_a_function_of_the_seed(name):
    first, again, other = (synthetic.source(name, DEFAULTS[name]).read(seed) for seed in (1, 1, 2))
    assert fingerprint(first) == fingerprint(again)
    assert (fingerprint(first) == fingerprint(other)) is (name == "parity")


def test_xor_circle_and_spiral_have_their_geometry():
    x, y = synthetic.source("xor", {"samples": 400, "noise": 0.0}).read(0)
    assert np.array_equal(y, x[:, 0] * x[:, 1] > 0)
    assert np.abs(x).min() >= 0.3
    x, y = synthetic.source("circle", {"samples": 400, "noise": 0.0}).read(0)
    radius = np.hypot(*x.T)
    assert radius[y == 1].max() <= 2.5 < 3.5 <= radius[y == 0].min()
    x, y = synthetic.source("spiral", {"samples": 400, "noise": 0.0}).read(0)
    np.testing.assert_allclose(x[y == 1], -x[y == 0], atol=1e-5)
    assert np.hypot(*x.T).max() < 5
    x, y = synthetic.source("gauss", {"samples": 4000, "noise": 0.0}).read(0)
    np.testing.assert_allclose(x[y == 1].mean(axis=0), [2, 2], atol=0.1)
    np.testing.assert_allclose(x[y == 0].var(axis=0), [0.5, 0.5], atol=0.1)


def test_noise_changes_classes_and_not_points():
    for name in ("xor", "circle"):
        clean, noisy = (synthetic.source(name, {"samples": 400, "noise": noise}).read(0) for noise in (0.0, 0.3))
        assert np.array_equal(clean.x, noisy.x)
        assert 0 < np.mean(clean.y != noisy.y) < 0.5


def test_parity_has_every_pattern_once():
    x, y = synthetic.source("parity", {"bits": 3}).read(0)
    assert len(np.unique(x, axis=0)) == 8
    assert np.array_equal(y, [0, 1, 1, 0, 1, 0, 0, 1])


def test_sine_and_chocolate():
    x, y = synthetic.source("sine", {"samples": 100, "noise": 0.0}).read(0)
    np.testing.assert_allclose(y, np.sin(x), atol=1e-6)
    x, y = synthetic.source("chocolate", {"samples": 4000}).read(0)
    assert y[x[:, 0] > 8].mean() > 0.9
    assert y[x[:, 0] < 2].mean() < 0.1


@pytest.mark.parametrize("classes", [None, np.array([0] * 70 + [1] * 20 + [2] * 10)])
def test_split_is_disjoint_complete_and_repeatable(classes):
    parts = split_indices(100, (0.7, 0.2, 0.1), seed=5, classes=classes)
    again = split_indices(100, (0.7, 0.2, 0.1), seed=5, classes=classes)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    other = split_indices(100, (0.7, 0.2, 0.1), seed=6, classes=classes)
    assert not np.array_equal(parts[0], other[0])
    assert not np.array_equal(parts[0], np.sort(parts[0]))


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_stratified(seed):
    classes = np.random.default_rng(seed).permutation([0] * 61 + [1] * 23 + [2] * 16)
    for fraction, part in zip((0.8, 0.1, 0.1), split_indices(100, (0.8, 0.1, 0.1), seed, classes), strict=True):
        for label, total in enumerate((61, 23, 16)):
            assert abs(np.sum(classes[part] == label) - fraction * total) <= 1


def test_split_may_leave_examples_out():
    parts = split_indices(10, (0.5, 0.0, 0.2), seed=0)
    assert [len(part) for part in parts] == [5, 0, 2]


@pytest.mark.parametrize("kind", ["unit", "standard", "none"])
def test_statistics_come_from_the_training_part_only(kind, rng):
    """Changes in the other parts do not affect the training part."""
    x = rng.standard_normal((50, 3)).astype(np.float32)
    y = rng.standard_normal((50, 1)).astype(np.float32)
    train, *others = split_indices(50, (0.6, 0.2, 0.2), seed=3)
    shifted = x.copy()
    shifted[np.concatenate(others)] += 100
    spec = DatasetSpec("table", (3,), Targets("values", 1), 50)
    a = split_and_normalize(Arrays(x, y), spec, (0.6, 0.2, 0.2), kind, seed=3)
    b = split_and_normalize(Arrays(shifted, y), spec, (0.6, 0.2, 0.2), kind, seed=3)
    assert np.array_equal(a.train.x, b.train.x)
    assert not np.array_equal(a.test.x, b.test.x)
    if kind == "standard":
        np.testing.assert_allclose(a.train.x.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(a.train.x.std(axis=0), 1, rtol=1e-5)
    if kind == "unit":
        assert np.array_equal(a.train.x.min(axis=0), np.zeros(3))
        np.testing.assert_allclose(a.train.x.max(axis=0), 1, rtol=1e-6)
    if kind == "none":
        assert np.array_equal(a.train.x, x[train])


def test_a_constant_feature_is_divided_by_one():
    x = np.array([[7.0, 1.0], [7.0, 3.0]])
    for kind in ("unit", "standard"):
        assert normalize.fit(kind, x)(x)[:, 0].tolist() == [0.0, 0.0]


def test_a_feature_is_not_constant_if_one_of_very_many_values_differs_by_its_last_bit():
    x = np.full((10_000, 1), 2, np.float32)
    x[7] = np.nextafter(x[7], np.float32(0))
    np.testing.assert_allclose(normalize.fit("standard", x)(x).std(), 1, rtol=1e-5)
    assert normalize.fit("unit", x)(x)[6:8].tolist() == [[1], [0]]


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1.0, 1e30])
@pytest.mark.parametrize("kind", ["standard", "unit"])
def test_the_scale_of_a_feature_does_not_matter(kind, size, rng):
    """A feature is constant relative to its own magnitude, and not because its values are small."""
    x = np.stack([rng.standard_normal(50), 5 + rng.standard_normal(50), np.full(50, 0.1)], axis=1)
    expected = normalize.fit(kind, x)(x)
    scaled = normalize.fit(kind, (x * size).astype(np.float32))((x * size).astype(np.float32))
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-5)
    assert (scaled[:, 2] == 0).all()


def test_a_split_into_very_many_classes_takes_little_time():
    classes = np.arange(200_000)[::-1] // 2
    began = time.process_time()
    parts = split_indices(200_000, (0.5, 0.5), 0, classes)
    assert time.process_time() - began < 10
    assert [len(part) for part in parts] == [100_000, 100_000]
    assert np.bincount(classes[parts[0]], minlength=100_000).max() <= 2


def test_images_are_scaled_by_the_range_that_the_source_states():
    x = np.full((2, 2, 2, 1), 4.0)
    assert normalize.fit("unit", x, (0.0, 16.0))(x).flat[0] == 0.25


@pytest.mark.parametrize(
    ("x", "y", "fractions", "message"),
    [
        ([[1.0], [np.nan]], [0, 1], (1, 0, 0), "example 1 contains a value that is NaN or infinite"),
        ([[1.0], [np.inf]], [0, 1], (1, 0, 0), "example 1 contains a value that is NaN or infinite"),
        ([[1.0], [2.0]], [0, 2], (1, 0, 0), r"expected labels 0 \.\.\. 1, got 2 for example 1"),
        ([[1.0], [2.0]], [-1, 1], (1, 0, 0), r"expected labels 0 \.\.\. 1, got -1 for example 0"),
        ([[1.0], [2.0]], [0, 1], (0.1, 0, 0.9), r"data\.split\.train: the part would be empty: 0\.1 of the 2 examples"),
        ([[1.0], [2.0]], [0, 1], (1, 0.1, 0), r"data\.split\.validation: .* examples; enlarge it, or set it to 0"),
        (np.ones((4, 1)), [1, 1, 1, 0], (0.25, 0, 0.75), "class 'no' is in the test part but not in the training part"),
    ],
)
def test_unusable_data_is_refused(x, y, fractions, message):
    spec = DatasetSpec("few", (1,), Targets("classes", 2, ("no", "yes")), len(x))
    with pytest.raises((DataError, SplitError), match=message):
        split_and_normalize(Arrays(np.array(x, np.float32), np.array(y)), spec, fractions, "none", seed=0)


SOURCE_SPLITS = (("train", 60), ("test", 10), ("extra", 5))


def numbers(part):
    return list(range(*part.indices(1000))) if isinstance(part, slice) else part.tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", range(60)),
        ("test", range(60, 70)),
        ("train[:10%]", range(6)),
        ("train[-10%:]", range(54, 60)),
        ("train[5:7]", range(5, 7)),
        ("test[9:]+extra[:2]", [69, 70, 71]),
        (" train[ 58 : 99 ] + extra ", [58, 59, 70, 71, 72, 73, 74]),
    ],
)
def test_parts_can_name_the_splits_of_the_source(name, expected):
    rest = "train[20:21]" if "train" not in name else "test"
    part, other, _ = divide((name, rest, 0.0), 75, SOURCE_SPLITS, seed=0)
    assert numbers(part) == list(expected)
    assert len(numbers(other)) == (1 if rest != "test" else 10)


def test_fractions_divide_the_examples_that_no_part_names():
    labels = np.arange(75) % 2
    parts = divide((0.8, 0.2, "test"), 75, SOURCE_SPLITS, seed=1, classes=labels)
    assert [len(numbers(part)) for part in parts] == sizes((0.8, 0.2, "test"), 75, SOURCE_SPLITS) == [52, 13, 10]
    assert sorted(numbers(parts[0]) + numbers(parts[1])) == [*range(60), *range(70, 75)]


def test_ordered_examples_are_cut_in_order():
    parts = divide((0.5, 0.3, 0.2), 10, seed=1, ordered=True)
    assert [numbers(part) for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("source_splits", "expected"),
    [
        ((), (0.8, 0.1, 0.1)),
        ((("train", 5),), (0.8, 0.1, 0.1)),
        ((("train", 5), ("test", 2)), (0.9, 0.1, "test")),
        ((("train", 5), ("val", 2), ("test", 2)), (1.0, "val", "test")),
        ((("train", 5), ("validation", 2)), (1.0, "validation", 0.0)),
    ],
)
def test_default_parts(source_splits, expected):
    assert default_parts(source_splits) == expected


@pytest.mark.parametrize(
    ("parts", "source_splits", "part", "message"),
    [
        (("trian", 0.0, 0.0), SOURCE_SPLITS, "train", "the source has no split 'trian'; did you mean 'train'?"),
        (
            ("train", 0.0, 0.0),
            (),
            "train",
            "the source has no split 'train'; it has no splits of its own, so give",
        ),
        (
            ("train[", 0.0, 0.0),
            SOURCE_SPLITS,
            "train",
            "expected splits such as train, train[:90%], train[1000:] or train+extra, got 'train['",
        ),
        ((f"train[:{'9' * 5000}]", 0.0, 0.0), SOURCE_SPLITS, "train", "expected splits such as train"),
        (
            ("train", "train[:5]", 0.0),
            SOURCE_SPLITS,
            "validation",
            "the part shares examples with 'train'; make the slices disjoint",
        ),
        (
            ("train+train", 0.0, 0.0),
            SOURCE_SPLITS,
            "train",
            "the part counts some examples twice; make the slices disjoint",
        ),
        (("train", "test[:0]", 0.0), SOURCE_SPLITS, "validation", "'test[:0]' does not contain examples; enlarge it"),
        (
            ("train+test+extra", 0.1, 0.0),
            SOURCE_SPLITS,
            "validation",
            "the part would be empty: 0.1 of the 0 examples that no other part names; enlarge it, or set it to 0",
        ),
    ],
)
def test_impossible_parts_are_refused(parts, source_splits, part, message):
    with pytest.raises(SplitError, match=re.escape(f"data.split.{part}: {message}")):
        divide(parts, 75, source_splits, seed=0)


def test_large_arrays_are_normalized_in_chunks_to_the_same_values(rng, monkeypatch):
    x = rng.integers(0, 256, (50, 4, 3), np.uint8)
    whole = [normalize.fit(kind, x)(x) for kind in ("unit", "standard", "none")]
    np.testing.assert_allclose(whole[1], (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 30)
    for kind, expected in zip(("unit", "standard", "none"), whole, strict=True):
        np.testing.assert_allclose(normalize.fit(kind, x)(x), expected, rtol=1e-6)


def test_tokens_are_not_normalized(rng):
    x = rng.integers(0, 9, (20, 5), np.int32)
    spec = DatasetSpec("text", (5,), Targets("classes", 9, shape=(5,)), 20, tokens=True, ordered=True)
    splits = split_and_normalize(Arrays(x, x), spec, (0.5, 0.25, 0.25), "none", seed=0)
    assert splits.train.x.dtype == np.int32
    assert np.array_equal(splits.test.x, x[15:])


def test_describing_datasets_and_clearing_the_cache_import_no_jax():
    code = "import sys; from fnet.data import cache, catalog, inputs, inspect; catalog.embedded(); cache.entries(); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('jax' in sys.modules)"], check=True)


def test_a_dataset_of_scikit_learn_is_a_value():
    assert hash(sklearn.SklearnSource("iris")) == hash(sklearn.SklearnSource("iris"))
    with pytest.raises(AttributeError, match="cannot assign to field 'name'"):
        sklearn.SklearnSource("iris").name = "wine"
