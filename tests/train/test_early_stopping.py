"""Early stopping: its settings, and the best of a sequence of epochs."""

import math

import pytest

from fnet.core.settings import model_of
from fnet.train.early_stopping import BestEpoch, EarlyStopping, better_epoch, out_of_patience


def best_of(values, *, higher_is_better):
    best = None
    for epoch, value in enumerate(values, 1):
        best = better_epoch(best, BestEpoch(epoch, value, None), higher_is_better=higher_is_better)
    return best and best.epoch


@pytest.mark.parametrize(
    ("values", "lowest", "highest"),
    [
        ([3.0, 1.0, 2.0, 1.0], 2, 1),
        ([1.0, 3.0, 3.0], 1, 2),
        ([math.nan, 2.0, 1.0, math.nan], 3, 2),
        ([math.inf, 5.0], 2, 1),
        ([math.nan, math.nan], None, None),
    ],
)
def test_the_first_of_the_best_epochs_is_chosen_and_never_one_with_nan(values, lowest, highest):
    assert best_of(values, higher_is_better=False) == lowest
    assert best_of(values, higher_is_better=True) == highest


@pytest.mark.parametrize(("min_delta", "best"), [(0.0, 5), (0.4, 4), (0.5, 5), (0.9, 2), (2.0, 1)])
def test_an_improvement_must_exceed_min_delta(min_delta, best):
    """It is measured from the best epoch, so that small improvements add up."""
    for sign in (1, -1):
        found = None
        for epoch, value in enumerate([4.0, 3.0, 2.75, 2.5, 2.25], 1):
            candidate = BestEpoch(epoch, sign * value, None)
            found = better_epoch(found, candidate, higher_is_better=sign < 0, min_delta=min_delta)
        assert found.epoch == best


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_delta": -0.1}, "EarlyStopping: min_delta: expected a value of at least 0, got -0.1"),
        ({"mode": "lowest"}, "EarlyStopping: mode: expected 'min' or 'max', got 'lowest'"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        EarlyStopping(**settings)


def test_patience_counts_epochs_without_improvement():
    settings = EarlyStopping(patience=3)
    best = BestEpoch(4, 0.5, None)
    assert [out_of_patience(settings, best, epoch) for epoch in (4, 6, 7)] == [False, False, True]
    assert not out_of_patience(settings, None, 9)


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_is_at_least_one_epoch(patience):
    with pytest.raises(ValueError, match=f"EarlyStopping: patience: expected a value of at least 1, got {patience}"):
        EarlyStopping("train_loss", patience)


def test_settings_are_declared_once_with_bounds_defaults_and_meanings():
    model = model_of(EarlyStopping)
    assert model().model_dump() == {"monitor": "validation_loss", "patience": 5, "mode": None, "min_delta": 0.0}
    assert all(field.description for field in model.model_fields.values())
