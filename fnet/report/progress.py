"""The output of a run while it trains: a progress bar or lines."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fnet.metrics import Metric, recorded_name
from fnet.report.text import format_values
from fnet.train.loop import Epoch, Segment

LINES = 20
"""Approximate number of lines that a run prints if the output is not a terminal."""

SILENCE = 10.0
"""Seconds without output after which a line is printed within an epoch, if the output is not a terminal."""


@contextlib.contextmanager
def counting(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show on standard error, if it is a terminal, how many examples are done; yields the function that adds some.

    Args:
        what: what is being done.
        size: number of examples.
    """
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=size)
        yield lambda rows: bar.advance(task, rows)


class TrainingProgress:
    """Context manager that shows training events: a progress bar on a terminal, otherwise a line from time to time.

    Args:
        console: console to print on.
        epochs: number of epochs of the whole run.
        metrics: metrics of the loss.
    """

    def __init__(self, console: Console, epochs: int, metrics: Sequence[Metric]):
        self._console = console
        self._epochs = epochs
        self._formats = {recorded_name(part, m.name): m.format for part in ("train", "validation") for m in metrics}
        self._validation = {recorded_name("validation", name) for name in ("loss", *(m.name for m in metrics))}
        self._interval = -(-epochs // LINES)
        self._start: float | None = None
        self._last_line = time.perf_counter()
        self._examples = 0
        self._seconds = 0.0
        self._values: Mapping[str, float] = {}
        self._total = 1
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", epoch=0, values="compiling", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._bar.stop()

    def __call__(self, event: Segment | Epoch) -> None:
        if self._start is None:
            self._start = time.perf_counter() - event.seconds
        if isinstance(event, Segment):
            self._show_segment(event)
        else:
            self._show_epoch(event)

    def _show_segment(self, event: Segment) -> None:
        self._examples += event.examples
        self._seconds += event.seconds
        self._total = event.total_steps
        completed = event.first_step + len(event.metrics.loss)
        values = {"train_loss": float(np.mean(event.metrics.loss))} | {
            name: value for name, value in self._values.items() if name in self._validation
        }
        if self._console.is_terminal:
            text = f"{format_values(values, self._formats)}  {self._rate()}"
            self._bar.update(self._task, epoch=event.epoch, values=text, completed=completed, total=event.total_steps)
        elif time.perf_counter() - self._last_line > SILENCE:
            self._print_line(event.epoch, values, completed / event.total_steps)

    def _show_epoch(self, event: Epoch) -> None:
        self._values = event.values
        due = event.epoch % self._interval == 0 or event.epoch in (1, self._epochs)
        if due and not self._console.is_terminal:
            self._print_line(event.epoch, event.values, event.step / self._total)

    def _print_line(self, epoch: int, values: Mapping[str, float], fraction: float) -> None:
        self._last_line = time.perf_counter()
        elapsed = self._last_line - (self._start or self._last_line)
        time_text = f"{elapsed * (1 / fraction - 1):.0f} s left" if fraction < 1 else f"{elapsed:.1f} s"
        self._console.print(
            f"epoch {epoch}/{self._epochs}  {format_values(values, self._formats)}  {self._rate()}  {time_text}",
            highlight=False,
            soft_wrap=True,
        )

    def _rate(self) -> str:
        return f"{self._examples / max(self._seconds, 1e-9):,.0f} examples/s"
