"""The length of a run, computed by hand: ten examples in batches of four are three steps per epoch."""

import pytest

from fnet.train.plan import Plan, plan


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
