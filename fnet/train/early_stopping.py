"""Early stopping: settings, and the best epoch so far."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

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
        mode: whether a lower (min) or a higher (max) value is better; by default the direction of the metric.
        min_delta: a value counts as an improvement only if it is better than the best so far by more than this.

    Raises:
        ValueError: for a value out of bounds.
    """

    monitor: str = "validation_loss"
    patience: Annotated[int, Ge(1)] = 5
    mode: Literal["min", "max"] | None = None
    min_delta: Annotated[float, Ge(0)] = 0.0

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


def recorded_values(
    metrics: Sequence[Metric],
    *,
    validation: bool,
    penalized: bool,
    trained: Sequence[str] | None = None,
) -> dict[str, bool | None]:
    """Return the names of the values that training records every epoch, and whether a higher one is better, if known.

    Args:
        metrics: metrics of the loss.
        validation: whether there are validation examples.
        penalized: whether there is a penalty on the weights.
        trained: names of the metrics of the training examples, if they are those of an objective.

    >>> from fnet.metrics import ACCURACY
    >>> recorded_values([ACCURACY], validation=False, penalized=True)
    {'train_loss': False, 'train_accuracy': True, 'penalty': False}
    """
    scored: dict[str, bool | None] = {metric.name: metric.higher_is_better for metric in metrics}
    values: dict[str, bool | None] = {recorded_name("train", "loss"): False}
    values |= {recorded_name("train", name): scored.get(name) for name in (scored if trained is None else trained)}
    if validation:
        values |= {recorded_name("validation", name): higher for name, higher in ({"loss": False} | scored).items()}
    return values | ({"penalty": False} if penalized else {})


def direction_of(settings: EarlyStopping, recorded: Mapping[str, bool | None]) -> bool:
    """Return whether a higher monitored value is better.

    Raises:
        ValueError: when the value is not recorded, or its direction is unknown.
    """
    monitor = settings.monitor
    if monitor not in recorded:
        raise ValueError(f"early stopping monitors '{monitor}', which is not recorded; recorded: {', '.join(recorded)}")
    higher_is_better = recorded[monitor] if settings.mode is None else settings.mode == "max"
    if higher_is_better is None:
        raise ValueError(
            f"early stopping monitors '{monitor}', of which it is unknown whether a lower or a higher value is better; "
            "pass mode='min' or mode='max'"
        )
    return higher_is_better


def better_epoch(
    best: BestEpoch | None, candidate: BestEpoch, *, higher_is_better: bool, min_delta: float = 0.0
) -> BestEpoch | None:
    """Return the better of the best epoch so far and a later one: the earlier in a tie, and never one with NaN."""
    if math.isnan(candidate.value):
        return best
    if best is None:
        return candidate
    gain = candidate.value - best.value if higher_is_better else best.value - candidate.value
    return candidate if gain > min_delta else best


def out_of_patience(settings: EarlyStopping, best: BestEpoch | None, epoch: int) -> bool:
    """Return whether training should stop after an epoch."""
    return best is not None and epoch - best.epoch >= settings.patience
