"""Cross-validation by `fnet train`."""

import contextlib
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from fnet.cli.command import terminal
from fnet.runs.stop import StopRequests, word

if TYPE_CHECKING:
    from fnet.runs.experiment import Experiment
    from fnet.runs.folds import Fold


def train_folds(experiment: "Experiment", stop: StopRequests) -> int:
    """Run every fold of an experiment, and print a line per fold and the table of means; return the exit status."""
    from fnet.report.progress import TrainingProgress
    from fnet.report.tables import folds_table
    from fnet.report.text import format_values
    from fnet.runs.folds import cross_validate

    console, metrics = terminal(), experiment.loss.metrics
    formats = {metric.name: metric.format for metric in metrics}

    def progress(fold: "Experiment"):
        if console.is_terminal:
            return TrainingProgress(console, fold.plan().epochs, metrics)
        return contextlib.nullcontext(lambda event: None)

    def print_fold(fold: "Fold") -> None:
        train, validation = fold.sizes["train"], fold.sizes["validation"]
        console.print(
            f"fold {fold.number}/{experiment.data.rules.folds}: {train:,} training and {validation:,} validation "
            f"examples; validation {format_values(fold.scores['validation'], formats)}",
            soft_wrap=True,
        )

    result = cross_validate(experiment, print_fold, progress, stop)
    if len(result.folds) < result.total:
        console.print(f"{word(stop.number or signal.SIGINT)}; {result}", soft_wrap=True)
    if result.folds:
        console.print(f"mean ± standard deviation over {len(result.folds)} folds:", soft_wrap=True)
        console.print(folds_table(result.estimates(), metrics))
    for file, (number, reason) in result.missing:
        print(f"error: {file} misses {number} records: {reason}; the other files are complete", file=sys.stderr)
    console.print(f"the runs are in {result.folder}, their scores in {result.folder / 'folds.json'}", soft_wrap=True)
    if result.folds:
        first = shlex.quote(str(result.folds[0].folder))
        console.print(f"evaluate a fold: fnet evaluate {first}", soft_wrap=True)
    return 128 + stop.number if stop.number else 3 * bool(result.missing)
