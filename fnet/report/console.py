"""What is printed: progress while training, and tables of results."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fnet.metrics import Metric
from fnet.report.summary import SummaryRow
from fnet.train.loop import Epoch, Segment

if TYPE_CHECKING:
    from fnet.runs.predict import Prediction

LINES = 20
"""About how many lines a run prints when the output is not a terminal."""

DIGITS = ".4g"
"""Format of a value that is not one of the metrics."""

SILENCE = 10.0
"""Seconds without a line after which one is printed within an epoch, when the output is not a terminal."""


class TrainingProgress:
    """Shows the events of training: a bar on a terminal, else a line now and then. A context manager.

    Args:
        console: where to print.
        epochs: of the whole run.
        metrics: metrics of the loss.
    """

    def __init__(self, console: Console, epochs: int, metrics: Sequence[Metric]):
        self._console = console
        self._epochs = epochs
        self._formats = {f"{part}_{m.name}": m.format for part in ("train", "validation") for m in metrics}
        self._interval = -(-epochs // LINES)
        self._began: float | None = None
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
        if self._began is None:
            self._began = time.perf_counter() - event.seconds
        if isinstance(event, Segment):
            self._examples += event.examples
            self._seconds += event.seconds
            self._total = event.total_steps
            taken = event.first_step + len(event.metrics.loss)
            values = {"train_loss": float(np.mean(event.metrics.loss))} | {
                name: value for name, value in self._values.items() if name.startswith("validation")
            }
            if self._console.is_terminal:
                text = f"{format_values(values, self._formats)}  {self._rate()}"
                self._bar.update(self._task, epoch=event.epoch, values=text, completed=taken, total=event.total_steps)
            elif time.perf_counter() - self._last_line > SILENCE:
                self._line(event.epoch, values, taken / event.total_steps)
        else:
            self._values = event.values
            due = event.epoch % self._interval == 0 or event.epoch in (1, self._epochs)
            if due and not self._console.is_terminal:
                self._line(event.epoch, event.values, event.step / self._total)

    def _line(self, epoch: int, values: Mapping[str, float], done: float) -> None:
        self._last_line = time.perf_counter()
        elapsed = self._last_line - (self._began or self._last_line)
        ending = f"{elapsed * (1 / done - 1):.0f} s left" if done < 1 else f"{elapsed:.1f} s"
        self._console.print(
            f"epoch {epoch}/{self._epochs}  {format_values(values, self._formats)}  {self._rate()}  {ending}",
            highlight=False,
            soft_wrap=True,
        )

    def _rate(self) -> str:
        return f"{self._examples / max(self._seconds, 1e-9):,.0f} examples/s"


def format_values(values: Mapping[str, float], formats: Mapping[str, str]) -> str:
    """Named numbers on one line, each in its format, else with four digits.

    >>> format_values({"train_loss": 0.123456, "train_accuracy": 0.98765}, {"train_accuracy": ".1%"})
    'train_loss 0.1235  train_accuracy 98.8%'
    """
    return "  ".join(f"{name} {value:{formats.get(name, DIGITS)}}" for name, value in values.items())


def summary_table(rows: Sequence[SummaryRow], in_shape: tuple[int, ...]) -> Table:
    """The table of `fnet summary`."""
    table = Table(
        title=f"input {in_shape}", title_justify="left", title_style="", footer_style="bold", show_footer=True
    )
    total, *layers = rows
    table.add_column("layer", "total")
    table.add_column("kind and settings", overflow="fold")
    table.add_column("output", str(total.out_shape), no_wrap=True)
    table.add_column("parameters", f"{total.parameters:,}", justify="right")
    table.add_column("FLOPs", f"{total.flops:,}", justify="right")
    for row in layers:
        indent = "  " * (len(row.path) - 1)
        table.add_row(
            indent + row.path[-1],
            Text(row.layer),
            str(row.out_shape),
            f"{row.parameters:,}",
            f"{row.flops:,}",
        )
    return table


def scores_table(
    scores: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int], metrics: Sequence[Metric]
) -> Table:
    """Loss and metrics of every part of the data."""
    formats = {metric.name: metric.format for metric in metrics}
    table = Table()
    table.add_column("part")
    table.add_column("examples", justify="right")
    for name in next(iter(scores.values())):
        table.add_column(name.replace("_", " "), justify="right")
    for part, values in scores.items():
        table.add_row(
            part, f"{sizes[part]:,}", *(f"{value:{formats.get(name, DIGITS)}}" for name, value in values.items())
        )
    return table


MOST_CLASSES = 12
"""Classes that fit side by side."""

MOST_MISTAKES = 15


def confusion_table(decisions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Table:
    """How often each class (rows) was taken for each class (columns); the last column is the share that was right.

    Of many classes it is a list of the most frequent mistakes.
    """
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, decisions), 1)
    if len(names) > MOST_CLASSES:
        return _mistakes_table(counts, names)
    table = Table(title="true class by row, decided class by column", title_justify="left", title_style="")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("right", justify="right")
    for number, (name, row) in enumerate(zip(names, counts, strict=True)):
        cells = [
            Text(str(n) if n else "·", "bold" if i == number else "red" if n else "dim") for i, n in enumerate(row)
        ]
        table.add_row(name, *cells, f"{100 * row[number] / max(1, row.sum()):.1f}%")
    return table


def _mistakes_table(counts: np.ndarray, names: Sequence[str]) -> Table:
    """The pairs of classes (true, decided) that are confused most often."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_MISTAKES]
    title = f"{wrong.sum():,} of {counts.sum():,} decisions are wrong; most often:"
    table = Table(title=title, title_justify="left", title_style="")
    table.add_column("true class")
    table.add_column("taken for")
    table.add_column("how often", justify="right")
    table.add_column("of the true class", justify="right")
    for true, decided in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[true, decided]:
            share = 100 * wrong[true, decided] / counts[true].sum()
            shown = (Text(_visible(names[int(k)])) for k in (true, decided))
            table.add_row(*shown, f"{wrong[true, decided]:,}", f"{share:.1f}%")
    return table


def _visible(name: str) -> str:
    """A name that can be seen: of characters that cannot, and of none, as Python writes it."""
    return name if name.isprintable() and name.strip() else repr(name)


MOST_ROWS = 50
"""Predictions that a table shows."""


def predictions_table(predictions: "Sequence[Prediction]") -> Table:
    """The decisions, and how sure the network is of them: the likeliest classes."""
    table = Table(caption_justify="left", caption_style="")
    table.add_column("example")
    first = predictions[0]
    if isinstance(first.decision, dict):
        for name in first.decision:
            table.add_column(name, justify="right")
    else:
        table.add_column("decision")
    if first.probabilities:
        table.add_column("probabilities")
    for example, decision, probabilities in predictions[:MOST_ROWS]:
        shown = [f"{value:.6g}" for value in decision.values()] if isinstance(decision, dict) else [decision]
        likeliest = [f"{name} {100 * p:.1f}%" for name, p in list(probabilities.items())[:3]]
        table.add_row(*(Text(cell) for cell in (example, *shown, *(["  ".join(likeliest)] if likeliest else []))))
    if len(predictions) > MOST_ROWS:
        table.caption = f"the first {MOST_ROWS} of {len(predictions):,}; --json gives all"
    return table
