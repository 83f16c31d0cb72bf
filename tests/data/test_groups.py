"""Division of examples by groups, in the order of a column, into folds, and stratified by values."""

import datetime
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, StratifiedKFold

from fnet.data.groups import group_indices, split_groups, split_in_order
from fnet.data.source import DataError, Targets
from fnet.data.split import Rules, SplitError, divide, sizes
from fnet.data.stratify import quantile_bins, strata

SEEDS = pytest.mark.parametrize("seed", range(5))


def divided(parts, keys, rules, **settings):
    return divide(parts, len(keys), settings.pop("source_splits", ()), seed=0, rules=rules, keys=keys, **settings)


def are_disjoint(parts, size, *, complete=True):
    together = np.concatenate(parts)
    return len(np.unique(together)) == len(together) and (not complete or len(together) == size)


# Groups


@SEEDS
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.3, 0.2), (0.7, 0.0, 0.3), (0.5, 0.2, 0.1)])
@pytest.mark.parametrize("has_classes", [False, True])
def test_no_group_is_divided(fractions, has_classes, seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(30), rng.integers(1, 20, 30)))
    classes = rng.integers(0, 3, len(groups)) if has_classes else None
    parts = split_groups(groups, fractions, seed, classes)
    assert are_disjoint(parts, len(groups), complete=sum(fractions) == 1)
    for first, second in itertools.combinations(parts, 2):
        assert not set(groups[first]) & set(groups[second])
    assert all(set(groups[part]).isdisjoint(np.delete(groups, part)) for part in parts if len(part))
    assert all(np.array_equal(a, b) for a, b in zip(parts, split_groups(groups, fractions, seed, classes), strict=True))
    assert not np.array_equal(parts[0], split_groups(groups, fractions, seed + 1, classes)[0])
    for fraction, part in zip(fractions, parts, strict=True):
        assert abs(len(part) - fraction * len(groups)) <= 2
        assert bool(fraction) == bool(len(part))


def test_few_groups_come_as_close_to_their_shares_as_any_assignment():
    """The oracle tries every assignment of up to seven groups to three parts."""
    fractions = np.array([0.6, 0.25, 0.15])
    for seed in range(10):
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, 40, rng.integers(3, 8))
        assignments = np.array(list(itertools.product(range(3), repeat=len(counts))))
        totals = np.stack([(assignments == part) @ counts for part in range(3)], axis=1)
        deviations = (np.square(totals - fractions * counts.sum()) / fractions).sum(axis=1)
        best = deviations[(totals > 0).all(axis=1)].min()
        parts = split_groups(np.repeat(np.arange(len(counts)), counts), fractions.tolist(), seed)
        lengths = np.array([len(part) for part in parts])
        reached = (np.square(lengths - fractions * counts.sum()) / fractions).sum()
        assert reached == pytest.approx(best)


@SEEDS
def test_groups_are_stratified_by_class(seed):
    """Patients with one diagnosis each: each part has its share of each diagnosis, within half of a patient."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, 120)
    patients = np.repeat(np.arange(120), lengths)
    classes = np.repeat(rng.permutation([0] * 80 + [1] * 30 + [2] * 10), lengths)
    for fraction, part in zip((0.7, 0.3), split_groups(patients, (0.7, 0.3), seed, classes), strict=True):
        assert abs(len(part) - fraction * len(patients)) <= 1
        assert np.abs(np.bincount(classes[part]) - fraction * np.bincount(classes)).max() <= 4


def test_groups_of_one_example_are_an_ordinary_stratified_split():
    classes = np.random.default_rng(1).permutation([0] * 50 + [1] * 30 + [2] * 20)
    parts = split_groups(np.arange(100), (0.8, 0.1, 0.1), 0, classes)
    assert [np.bincount(classes[part]).tolist() for part in parts] == [[40, 24, 16], [5, 3, 2], [5, 3, 2]]


def test_equal_values_are_one_group_whatever_their_type():
    dates = np.array(["2024-01-02", "2023-01-02", "2024-01-02"], "datetime64[D]")
    for keys in (np.array([7.5, -1, 7.5]), np.array(["x", "a", "x"]), np.array(["x", 1, "x"], object), dates):
        assert group_indices(keys, "k").tolist() == [0, 1, 0]


def test_groups_that_named_splits_divide_are_refused():
    keys = np.array(["a", "a", "b", "c", "c", "a"])
    source_splits = [("train", 4), ("test", 2)]
    message = "data.split.group: 'a' is in the train and in the test part, because splits of the source are named"
    with pytest.raises(SplitError, match=message):
        divided(("train", 0.0, "test"), keys, Rules(group="k"), source_splits=source_splits)
    keys[5] = "d"
    with pytest.raises(SplitError, match="'c' is in the train and in the test part"):
        divided(("train", 0.0, "test"), keys, Rules(group="k"), source_splits=source_splits)
    keys[3] = "b"
    train, validation, test = divided((0.5, 0.5, "test"), keys, Rules(group="k"), source_splits=source_splits)
    assert {tuple(sorted(train)), tuple(sorted(validation))} == {(0, 1), (2, 3)}
    assert test == slice(4, 6)


# Order


@pytest.mark.parametrize(
    "keys",
    [
        np.array([3.5, -2, 10, 7, 0]),
        np.array(["2024-02-01", "2023-12-31", "2024-10-01", "2024-03-01T12:00", "2024-01-01"]),
        np.array(["9", "-10", "101", "10", "0.5"]),
        np.array(["2024-02-01", "2023-12-31", "2024-10-01", "2024-03-01", "2024-01-01"], "datetime64[D]"),
        np.array([datetime.date(2024, month, 1) for month in (3, 1, 12, 4, 2)], object),
    ],
    ids=["numbers", "dates as text", "numbers as text", "dates", "date objects"],
)
def test_the_parts_follow_each_other_in_time(keys):
    train, validation, test = divided((0.4, 0.2, 0.4), keys, Rules(by="date"))
    assert [train.tolist(), validation.tolist(), test.tolist()] == [[1, 4], [0], [3, 2]]


@SEEDS
def test_equal_dates_are_in_the_same_part(seed):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 12, 100)
    parts = split_in_order(keys, "date", (0.6, 0.2, 0.2))
    assert are_disjoint(parts, 100)
    for (_, earlier), (_, later) in itertools.pairwise((keys[part].min(), keys[part].max()) for part in parts):
        assert earlier < later
    for first, second in itertools.pairwise(parts):
        assert keys[first].max() < keys[second].min()
    largest = np.bincount(keys).max()
    for part, fraction in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - 100 * fraction) <= largest


def test_no_part_is_empty_as_long_as_there_are_different_values():
    keys = np.array([1] * 50 + [2] + [3])
    assert [len(part) for part in split_in_order(keys, "date", (0.4, 0.3, 0.3))] == [50, 1, 1]
    assert [len(part) for part in split_in_order(keys[::-1], "date", (0.98, 0.0, 0.02))] == [51, 0, 1]
    assert [len(part) for part in split_in_order(np.arange(10), "date", (0.5, 0.0, 0.2))] == [5, 0, 2]


@pytest.mark.parametrize(
    ("keys", "rules", "message"),
    [
        (np.array([1.0, np.nan]), Rules(by="day"), "example 1 does not have a value in the column 'day', by which the"),
        (np.array(["a", None], object), Rules(group="id"), "example 1 does not have a value in the column 'id'"),
        (np.array(["NaT", "2024-01-01"], "datetime64[s]"), Rules(by="day"), "example 0 does not have a value in the"),
        (
            np.array(["2024-01-01", "Monday"]),
            Rules(by="day"),
            "expected numbers or dates such as 2024-01-31 in the column 'day', got 'Monday' for example 1",
        ),
        (np.array(["31.01.2024", "1.2.2024"]), Rules(by="day"), "in the column 'day', got '31.01.2024' for example 0"),
        (np.array(["2024-01-31", "7"]), Rules(by="day"), "in the column 'day', got '7' for example 1, but dates for"),
    ],
)
def test_values_without_an_order_are_refused(keys, rules, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        divided((0.5, 0.0, 0.5), keys, rules)
    assert caught.value.setting == "split"


@pytest.mark.parametrize(
    ("parts", "rules", "message"),
    [
        ((0.5, 0.2, 0.3), Rules(group="k"), "data.split.test: the part would be empty: the column 'k' has 2 different"),
        ((0.5, 0.5, "test"), Rules(by="k"), "data.split.validation: the part would be empty: the column 'k' has 1"),
        ((0.6, 0.2, 0.2), Rules(group="k", folds=4), "expected at most 1 fold, one per value of 'k' beside the test"),
        ((0.8, 0.2, 0.0), Rules(group="k", folds=3), "data.split.cross_validation: expected at most 2 folds, one per"),
        (
            (0.8, 0.2, 0.0),
            Rules(folds=7),
            "data.split.cross_validation: expected at most 6 folds, one per example",
        ),
    ],
)
def test_fewer_values_than_parts_are_refused(parts, rules, message):
    keys = np.array([4, 4, 4, 4, 5, 5])
    with pytest.raises(SplitError, match=re.escape(message)):
        divided(parts, keys, rules, source_splits=[("train", 4), ("test", 2)])


# Folds


def folds_of(count, keys, *, group=None, classes=None, parts=None, **settings):
    parts = parts or (1 - 1 / count, 1 / count, 0.0)
    rules = [Rules(group=group, folds=count, fold=fold) for fold in range(1, count + 1)]
    return [divided(parts, keys, each, classes=classes, **settings) for each in rules]


@pytest.mark.parametrize("test", [0.0, 0.25, "test"])
@pytest.mark.parametrize("group", [None, "k"])
def test_each_example_is_in_exactly_one_validation_fold(test, group):
    keys = np.repeat(np.arange(25), 4)
    rest = 1.0 if isinstance(test, str) else 1 - test
    splits = [("train", 80), ("test", 20)]
    folds = folds_of(4, keys, group=group, parts=(rest * 3 / 4, rest / 4, test), source_splits=splits)
    numbers = np.arange(100)
    tests = [numbers[fold[2]].tolist() for fold in folds]
    assert tests == [tests[0]] * 4
    assert len(tests[0]) == {0.0: 0, 0.25: 25 if group is None else 24, "test": 20}[test]
    everything = sorted(np.concatenate([numbers[fold[1]] for fold in folds]).tolist() + tests[0])
    assert everything == list(range(100))
    for train, validation, _ in folds:
        assert sorted([*train, *validation, *tests[0]]) == list(range(100))
        assert not group or not set(keys[train]) & set(keys[validation])
    if group is None:
        counts = [[len(train), len(validation)] for train, validation, _ in folds]
        rules = [Rules(folds=4, fold=fold) for fold in range(1, 5)]
        assert counts == [sizes((rest * 3 / 4, rest / 4, test), 100, splits, each)[:2] for each in rules]


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_folds_have_the_class_counts_of_sklearn_within_one(count):
    classes = np.random.default_rng(count).permutation([0] * 61 + [1] * 23 + [2] * 16)
    oracle = StratifiedKFold(count, shuffle=True, random_state=0).split(classes, classes)
    for (_, validation, _), (_, expected) in zip(folds_of(count, classes, classes=classes), oracle, strict=True):
        counts = np.bincount(classes[validation], minlength=3)
        assert np.abs(counts - np.bincount(classes, minlength=3) / count).max() <= 1
        assert abs(len(validation) - len(expected)) <= 1


@SEEDS
def test_folds_of_groups_are_as_even_as_those_of_sklearn(seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(17), rng.integers(1, 15, 17)))
    oracle = [len(test) for _, test in GroupKFold(4).split(groups, groups=groups)]
    lengths = [len(validation) for _, validation, _ in folds_of(4, groups, group="k")]
    assert sum(lengths) == sum(oracle)
    assert np.var(lengths) <= np.var(oracle)


def test_a_single_division_has_the_first_fold():
    first, _ = folds_of(2, np.arange(10))
    assert np.array_equal(divided((0.5, 0.5, 0.0), np.arange(10), Rules(folds=2))[1], first[1])


# Stratification


def test_values_are_stratified_by_deciles(rng):
    y = rng.exponential(size=(203, 1)).astype(np.float32)
    bins = strata(Targets("values", 1), True, lambda: y)
    expected = pd.qcut(y[:, 0], 10, labels=False)
    assert (bins == expected).mean() > 0.98
    for fraction, part in zip((0.8, 0.1, 0.1), divide((0.8, 0.1, 0.1), 203, seed=1, classes=bins), strict=True):
        assert np.abs(np.bincount(bins[part], minlength=10) - fraction * np.bincount(bins)).max() <= 1


def test_few_or_equal_values_have_fewer_ranges():
    assert quantile_bins(np.arange(9.0)).tolist() == [0] * 9
    assert len(np.unique(quantile_bins(np.arange(20.0)))) == 4
    assert len(np.unique(quantile_bins(np.array([0.0] * 90 + [1.0] * 10)))) == 2


def test_what_is_stratified():
    y = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    assert strata(Targets("labels", 2), True, lambda: y).tolist() == [1, 0, 1, 2]
    assert strata(Targets("labels", 2), None, lambda: y) is None
    assert strata(Targets("values", 2), None, lambda: y) is None
    labels = np.array([1, 0])
    assert strata(Targets("classes", 2), None, lambda: labels) is labels
    assert strata(Targets("classes", 2), False, lambda: labels) is None
    for targets in (Targets("values", 2), Targets("classes", 3, (), (5,))):
        with pytest.raises(DataError, match=r"split\.stratify: expected one target per example, got .*; remove"):
            strata(targets, True, lambda: y)
