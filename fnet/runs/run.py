"""Run an experiment: load its data, train, write the run's folder, and score the result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fnet.data.pipeline import Splits
from fnet.data.source import DataError
from fnet.metrics import recorded_name
from fnet.runs import files, folder
from fnet.runs.code import code_of
from fnet.runs.data import load_data
from fnet.runs.evaluation import Scores, scores_of, sizes_of
from fnet.runs.experiment import Experiment
from fnet.runs.log import MetricsLog, board_writer
from fnet.runs.model_file import save_model
from fnet.train.loop import Diverged, Epoch, Fitted, Segment, fit


class Outcome(NamedTuple):
    """The result of a run.

    folder: the run's folder.
    fitted: the result of training.
    scores: loss and metrics of the saved parameters on every part of the data.
    sizes: number of examples of every part.
    """

    folder: Path
    fitted: Fitted
    scores: Scores
    sizes: dict[str, int]


class RunFailed(RuntimeError):
    """A run that failed; its folder contains the last good parameters."""

    exit_status = 3


def run(experiment: Experiment, on_event: Callable[[Segment | Epoch], None] = lambda event: None) -> Outcome:
    """Train the network of an experiment, and write the run's folder.

    Args:
        experiment: the experiment.
        on_event: called after every segment and every epoch, to show progress.

    Raises:
        DataError: when the data cannot be used.
        FolderError: when the folder cannot be created.
        MissingExtra: when the experiment writes TensorBoard files and tensorboardX is not installed.
        RunFailed: when the loss or a parameter becomes NaN or infinite.
    """
    writer = board_writer() if experiment.tensorboard else None
    splits, fingerprint = load_data(experiment)
    run_folder = _create_folder(experiment, fingerprint)
    log = MetricsLog(run_folder, experiment.log_every, writer)

    def record(event: Segment | Epoch) -> None:
        log.write(event)
        on_event(event)

    try:
        fitted = _train(experiment, splits, record)
    except Diverged as error:
        state = error.train_state
        _save_model(run_folder, experiment, splits, state.params, state.state)
        log.append("failed", step=int(state.step) + 1, reason=str(error))
        raise RunFailed(f"the run failed at {error}\nthe last good parameters are in {run_folder}") from error
    except DataError as error:  # a stream is read during training
        log.append("failed", reason=str(error))
        raise
    _save_model(run_folder, experiment, splits, fitted.params, fitted.state)
    scores = scores_of(experiment, fitted.params, fitted.state, splits)
    flat = {recorded_name(part, name): value for part, values in scores.items() for name, value in values.items()}
    log.append("end", stopped=fitted.stopped, kept_epoch=fitted.kept_epoch, **flat)
    return Outcome(run_folder, fitted, scores, sizes_of(splits))


def _create_folder(experiment: Experiment, fingerprint: str) -> Path:
    """Create the run's folder with its environment.json, and its config.yaml if the experiment has a config."""
    run_folder = folder.create(experiment.out, experiment.name)
    if experiment.config_text:
        files.write(run_folder / "config.yaml", experiment.config_text)
    environment = folder.environment(seed=experiment.seed, fingerprint=fingerprint)
    environment["code"] = code_of(experiment.net, experiment.augmentations)
    files.write(run_folder / "environment.json", json.dumps(environment, indent=2) + "\n")
    return run_folder


def _train(experiment: Experiment, splits: Splits[Any], on_event: Callable[[Segment | Epoch], None]) -> Fitted:
    plan = experiment.plan()
    return fit(
        experiment.net,
        experiment.loss,
        experiment.optimizer(plan.steps),
        splits.train,
        validation=splits.parts().get("validation"),
        steps=plan.steps,
        early_stopping=experiment.early_stopping,
        on_event=on_event,
        **experiment.fit_settings(),
    )


def _save_model(run_folder: Path, experiment: Experiment, splits: Splits[Any], params: Any, state: Any) -> None:
    save_model(
        run_folder / "model.safetensors",
        experiment.net,
        params,
        state,
        normalizer=splits.normalizer,
        spec=experiment.spec,
        loss=experiment.loss_settings,
    )
