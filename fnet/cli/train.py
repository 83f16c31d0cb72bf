"""`fnet train`."""

import shlex
import signal
import sys
from typing import TYPE_CHECKING

from fnet.cli.command import ConfigFile, Overrides, Trust, command, ignore_closed_output, start_jax, terminal
from fnet.runs.stop import StopRequests, word

if TYPE_CHECKING:
    from fnet.runs.experiment import Experiment
    from fnet.runs.run import Outcome


@command
def train(config: ConfigFile, overrides: Overrides = None, trust: Trust = None) -> int:
    """Train the network of CONFIG and write the run's folder."""
    stop = StopRequests()
    with ignore_closed_output(), stop.handled():
        return _train(config, overrides, trust, stop)


def _train(config: str, overrides: list[str] | None, trust: list[str] | None, stop: StopRequests) -> int:
    stop.deferred = True  # an exception raised while a module in C++ is imported can abort the process
    from fnet.config.load import load
    from fnet.report.progress import TrainingProgress
    from fnet.runs.run import run

    start_jax()
    stop.deferred = False
    stop.raise_if_pending()
    console = terminal()
    experiment = load(config, overrides or (), trust=trust or ())
    spec = experiment.spec
    console.print(
        f"{experiment.name}: {spec.name}, {spec.size} examples {spec.shape} with {spec.targets}", soft_wrap=True
    )
    if experiment.is_cross_validation:
        from fnet.cli.folds import train_folds

        return train_folds(experiment, stop)
    with TrainingProgress(console, experiment.plan().epochs, experiment.loss.metrics) as progress:
        outcome = run(experiment, progress, stop)
    _print_outcome(outcome, experiment, stop)
    for file, (number, reason) in outcome.missing.items():
        print(f"error: {file} misses {number} records: {reason}; the other files are complete", file=sys.stderr)
    return 128 + stop.number if stop.number else 3 * bool(outcome.missing)


def _print_outcome(outcome: "Outcome", experiment: "Experiment", stop: StopRequests) -> None:
    from fnet.report.tables import comparison_text, scores_table
    from fnet.runs.code import code_of

    console, fitted, folder = terminal(), outcome.fitted, outcome.folder
    if fitted.stopped != "done":
        reason = "stopped early" if fitted.stopped == "early" else word(stop.number or signal.SIGINT)
        last = fitted.history[-1].epoch if fitted.history else 0
        completed = f"{last} of {experiment.plan().epochs} epochs"
        console.print(f"{reason} after {completed}; the parameters are of epoch {fitted.kept_epoch}", soft_wrap=True)
    if outcome.scores:
        console.print(scores_table(outcome.scores, outcome.sizes, experiment.loss.metrics))
    if outcome.comparison is not None:
        console.print(comparison_text(outcome.comparison), markup=False, highlight=False, soft_wrap=True)
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    console.print(f"the run is in {folder}: {files}", soft_wrap=True)
    trusted = "".join(f" --trust {module}" for module in code_of(experiment.net, experiment.augmentations))
    console.print(f"evaluate it: fnet evaluate {shlex.quote(str(folder))}{trusted}", soft_wrap=True)
    if experiment.spec.is_language:
        console.print(f'continue a text: fnet predict {shlex.quote(str(folder))} "…"{trusted}', soft_wrap=True)
