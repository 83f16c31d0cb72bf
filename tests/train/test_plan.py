"""The length of a run, computed by hand: ten examples in batches of four are three steps per epoch."""

import pytest

from fnet.train.plan import EPOCHS, MIN_STEPS, Plan, default_epochs, plan


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 4, "epochs": 3}, Plan(4, 3, 3, 9)),
        ({"batch_size": "all", "epochs": 3}, Plan(10, 1, 3, 3)),
        ({"batch_size": 100, "epochs": 3}, Plan(10, 1, 3, 3)),
        ({"batch_size": 5, "epochs": 1}, Plan(5, 2, 1, 2)),
        ({"batch_size": 4, "epochs": 20, "steps": 7}, Plan(4, 3, 3, 7)),
        ({"batch_size": 4, "epochs": 1, "steps": 6}, Plan(4, 3, 2, 6)),
    ],
)
def test_plan_of_ten_examples(settings, expected):
    assert plan(10, **settings) == expected


@pytest.mark.parametrize("batch_size", [1, 4, 10, 100, "all"])
@pytest.mark.parametrize("examples", [1, 10, 100, 100_000])
def test_the_default_epochs_are_the_fewest_with_enough_steps(examples, batch_size):
    epochs = default_epochs(examples, batch_size=batch_size)
    assert epochs >= EPOCHS
    assert plan(examples, batch_size=batch_size, epochs=epochs).steps >= MIN_STEPS
    assert epochs == EPOCHS or plan(examples, batch_size=batch_size, epochs=epochs - 1).steps < MIN_STEPS
