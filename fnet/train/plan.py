"""The length of a run: its batch size, epochs and steps."""

import math
from typing import Literal, NamedTuple

import numpy as np

EPOCHS = 20
"""Default number of passes over the training examples."""

MIN_STEPS = 800
"""Default number of steps that the epochs of a run from a config have at least.

The default optimizer learns 60 images of two classes, the irises, and tables of 100 to 500 rows in as many.
"""

BATCH_SIZE = 32
"""Default number of examples per step."""


class Plan(NamedTuple):
    """Length of a training run.

    batch_size: examples per step, at most the number of examples; the last step of an epoch may have fewer.
    steps_per_epoch: number of steps that cover every example once.
    epochs: number of epochs, of which the last may be cut short.
    steps: number of steps of the whole run.
    """

    batch_size: int
    steps_per_epoch: int
    epochs: int
    steps: int


def plan(examples: int, *, batch_size: int | Literal["all"], epochs: int, steps: int | None = None) -> Plan:
    """Return the length of a run for a number of training examples.

    Args:
        examples: number of training examples, at least 1.
        batch_size: examples per step; "all" puts all of them into one step.
        epochs: passes over the examples; ignored if `steps` is given.
        steps: total number of steps; None for `epochs` complete passes.

    Raises:
        ValueError: when one of these numbers is not a whole number of at least 1.

    >>> plan(10, batch_size=4, epochs=2)
    Plan(batch_size=4, steps_per_epoch=3, epochs=2, steps=6)
    >>> plan(10, batch_size=4, epochs=2, steps=7)
    Plan(batch_size=4, steps_per_epoch=3, epochs=3, steps=7)
    """
    if batch_size != "all":
        _check("batch_size", batch_size, ", or 'all'")
    _check(*("epochs", epochs) if steps is None else ("steps", steps))
    batch_size = examples if batch_size == "all" else min(int(batch_size), examples)
    steps_per_epoch = math.ceil(examples / batch_size)
    steps = int(epochs) * steps_per_epoch if steps is None else int(steps)
    return Plan(batch_size, steps_per_epoch, math.ceil(steps / steps_per_epoch), steps)


def default_epochs(examples: int, *, batch_size: int | Literal["all"]) -> int:
    """Return the epochs of a config that sets neither epochs nor steps: EPOCHS, or as many as MIN_STEPS steps need.

    >>> default_epochs(60_000, batch_size=32), default_epochs(48, batch_size=32), default_epochs(48, batch_size="all")
    (20, 400, 800)
    """
    return max(EPOCHS, math.ceil(MIN_STEPS / plan(examples, batch_size=batch_size, epochs=1).steps_per_epoch))


def _check(name: str, value: object, alternative: str = "") -> None:
    """Check that a length is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1{alternative}, got {value!r}")
