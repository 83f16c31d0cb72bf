"""The log of a run: metrics.jsonl, and event files for TensorBoard."""

import warnings
from pathlib import Path
from typing import Any

from fnet.core.settings import MissingExtra
from fnet.runs import files
from fnet.train.loop import Epoch, Segment


class LogWarning(UserWarning):
    """A record of a run that cannot be written."""


class MetricsLog:
    """The file metrics.jsonl: one JSON object per epoch, and optionally one for every n-th step.

    A record that cannot be written does not end training: a LogWarning is issued, and `missing` counts it.

    Args:
        folder: the run's folder.
        every: number of steps between step records; None records epochs only.
        board_writer: the class from `board_writer`, which writes TensorBoard's event files; None to write none.

    Attributes:
        missing: by file, the number of records that could not be written, and why.
    """

    def __init__(self, folder: Path, every: int | None = None, board_writer: Any | None = None):
        self._path = folder / "metrics.jsonl"
        self._every = every
        self._board_path = folder / "tensorboard"
        self._board = board_writer and board_writer(str(self._board_path))
        self.missing: dict[Path, tuple[int, str]] = {}

    def append(self, event: str, **values: Any) -> None:
        """Append one record."""
        try:
            files.append(self._path, {"event": event, **values})
        except OSError as error:
            self._lose(self._path, error)

    def write(self, event: Segment | Epoch) -> None:
        """Record an event of training."""
        if isinstance(event, Epoch):
            self.append("epoch", epoch=event.epoch, step=event.step, **event.values, seconds=event.seconds)
            if self._board is not None:
                try:
                    for name, value in event.values.items():
                        self._board.add_scalar(name, value, event.step)
                    self._board.flush()
                except OSError as error:
                    self._lose(self._board_path, error)
        elif self._every:
            for step, loss in enumerate(event.metrics.loss.tolist(), event.first_step + 1):
                if step % self._every == 0:
                    self.append("step", epoch=event.epoch, step=step, loss=loss)

    def _lose(self, path: Path, error: OSError) -> None:
        """Count a record that cannot be written, and warn of the first one."""
        reason = error.strerror or str(error)
        number, _ = self.missing.get(path, (0, ""))
        self.missing[path] = number + 1, reason
        if not number:
            warnings.warn(
                f"{path} cannot be written: {reason}; training continues, and records are lost until it can be",
                LogWarning,
                stacklevel=3,
            )


def board_writer() -> Any:
    """Return the class that writes TensorBoard's event files.

    Raises:
        MissingExtra: when tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra(
            "train.tensorboard needs the extra 'tensorboard': run pip install '.[tensorboard]' in the folder of fnet's "
            "source"
        ) from None
    return SummaryWriter
