"""The log of a run: metrics.jsonl, and event files for TensorBoard."""

from pathlib import Path
from typing import Any

from fnet.core.settings import MissingExtra
from fnet.runs import files
from fnet.train.loop import Epoch, Segment


class MetricsLog:
    """The file metrics.jsonl: one JSON object per epoch, and optionally one for every n-th step.

    Args:
        folder: the run's folder.
        every: number of steps between step records; None records epochs only.
        board_writer: the class from `board_writer`, which writes TensorBoard's event files; None to write none.
    """

    def __init__(self, folder: Path, every: int | None = None, board_writer: Any | None = None):
        self._path = folder / "metrics.jsonl"
        self._every = every
        self._board = board_writer and board_writer(str(folder / "tensorboard"))

    def append(self, event: str, **values: Any) -> None:
        """Append one record."""
        files.append(self._path, {"event": event, **values})

    def write(self, event: Segment | Epoch) -> None:
        """Record an event of training."""
        if isinstance(event, Epoch):
            self.append("epoch", epoch=event.epoch, step=event.step, **event.values, seconds=event.seconds)
            if self._board is not None:
                for name, value in event.values.items():
                    self._board.add_scalar(name, value, event.step)
                self._board.flush()
        elif self._every:
            for step, loss in enumerate(event.metrics.loss.tolist(), event.first_step + 1):
                if step % self._every == 0:
                    self.append("step", epoch=event.epoch, step=step, loss=loss)


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
