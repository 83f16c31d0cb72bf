"""Early stopping: settings, and the best epoch so far."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from annotated_types import Ge

from fnet.core.settings import check_settings
from fnet.metrics import Metric, recorded_name
from fnet.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a recorded value no longer improves, and return the parameters of its best epoch.

    Args:
        monitor: value to monitor: train_loss, validation_loss, or train_ or validation_ with the name of a metric of
            the loss, such as validation_accuracy.
        patience: epochs without improvement before training stops.

    Raises:
        ValueError: for a value out of bounds.
    """

    monitor: str = "validation_loss"
    patience: Annotated[int, Ge(1)] = 5

    def __post_init__(self):
        check_settings(EarlyStopping, vars(self))


class BestEpoch(NamedTuple):
    """The best epoch so far.

    epoch: counted from 1.
    value: its monitored value.
    train_state: the training state after it.
    """

    epoch: int
    value: float
    train_state: TrainState


def recorded_values(metrics: Sequence[Metric], *, validation: bool, penalized: bool) -> dict[str, bool]:
    """Return the names of the values that training records every epoch, and whether a higher one is better.

    Args:
        metrics: metrics of the loss.
        validation: whether there are validation examples.
        penalized: whether there is a penalty on the weights.

    >>> from fnet.metrics import ACCURACY
    >>> recorded_values([ACCURACY], validation=False, penalized=True)
    {'train_loss': False, 'train_accuracy': True, 'penalty': False}
    """
    directions = {"loss": False} | {metric.name: metric.higher_is_better for metric in metrics}
    parts = ("train", "validation") if validation else ("train",)
    values = {recorded_name(part, name): higher for part in parts for name, higher in directions.items()}
    return values | ({"penalty": False} if penalized else {})


def check_monitor(settings: EarlyStopping, recorded: Iterable[str]) -> None:
    """Check that the monitored value is recorded.

    Raises:
        ValueError: when it is not; lists the values that are.
    """
    if settings.monitor not in recorded:
        raise ValueError(
            f"early stopping monitors '{settings.monitor}', which is not recorded; recorded: {', '.join(recorded)}"
        )


def better_epoch(best: BestEpoch | None, candidate: BestEpoch, *, higher_is_better: bool) -> BestEpoch | None:
    """Return the better of the best epoch so far and a later one: the earlier in a tie, and never one with NaN."""
    if math.isnan(candidate.value):
        return best
    if best is None:
        return candidate
    improved = candidate.value > best.value if higher_is_better else candidate.value < best.value
    return candidate if improved else best


def out_of_patience(settings: EarlyStopping, best: BestEpoch | None, epoch: int) -> bool:
    """Return whether training should stop after an epoch."""
    return best is not None and epoch - best.epoch >= settings.patience
