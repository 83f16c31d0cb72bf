"""`fnet train`."""

import shlex
import signal

from fnet.cli.command import ConfigFile, Overrides, Trust, command, start_jax, terminal

REASONS = {"early": "stopped early", "interrupted": "interrupted"}
"""Why training stopped before its last epoch."""


@command
def train(config: ConfigFile, overrides: Overrides = None, trust: Trust = None) -> int:
    """Train the network of CONFIG and write the run's folder."""
    from fnet.config.load import load
    from fnet.report.progress import TrainingProgress
    from fnet.report.tables import scores_table
    from fnet.runs.code import code_of
    from fnet.runs.run import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start_jax()
    console = terminal()
    experiment = load(config, overrides or (), trust=trust or ())
    spec = experiment.spec
    console.print(
        f"{experiment.name}: {spec.name}, {spec.size} examples {spec.shape} with {spec.targets}", soft_wrap=True
    )
    epochs = experiment.plan().epochs
    with TrainingProgress(console, epochs, experiment.loss.metrics) as progress:
        outcome = run(experiment, progress)
    fitted, folder = outcome.fitted, outcome.folder
    if fitted.stopped in REASONS:
        completed = f"{len(fitted.history)} of {epochs} epochs"
        console.print(f"{REASONS[fitted.stopped]} after {completed}; the parameters are of epoch {fitted.kept_epoch}")
    console.print(scores_table(outcome.scores, outcome.sizes, experiment.loss.metrics))
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    console.print(f"the run is in {folder}: {files}", soft_wrap=True)
    trusted = "".join(f" --trust {module}" for module in code_of(experiment.net, experiment.augmentations))
    console.print(f"evaluate it: fnet evaluate {shlex.quote(str(folder))}{trusted}", soft_wrap=True)
    if spec.is_language:
        console.print(f'continue a text: fnet predict {shlex.quote(str(folder))} "…"{trusted}', soft_wrap=True)
    return 130 if fitted.stopped == "interrupted" else 0
