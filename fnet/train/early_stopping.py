"""Early stopping."""

import dataclasses
from typing import Annotated

from annotated_types import Ge


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a recorded value no longer improves, and return the parameters of its best epoch.

    Args:
        monitor: value to monitor: train_loss, validation_loss, or train_ or validation_ with the name of a metric of
            the loss, such as validation_accuracy.
        patience: epochs without improvement before training stops.
    """

    monitor: str = "validation_loss"
    patience: Annotated[int, Ge(1)] = 5
