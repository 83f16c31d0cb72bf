"""Run an experiment: load its data, train, write the run's folder, and score the result."""

import json
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fnet.core.wording import in_bytes
from fnet.data.pipeline import Splits
from fnet.metrics import recorded_name
from fnet.runs import files, folder, memory
from fnet.runs.code import code_of
from fnet.runs.data import load_data, reported_loss
from fnet.runs.evaluation import Scores, scores_of, sizes_of
from fnet.runs.experiment import Experiment
from fnet.runs.log import MetricsLog, board_writer
from fnet.runs.model_file import save_model
from fnet.runs.remarks import Comparison, compare
from fnet.runs.stop import Interrupted, StopRequests
from fnet.train.evaluate import outputs_of
from fnet.train.loop import Diverged, Epoch, Fitted, Segment, fit

MODEL = "model.safetensors"


class Outcome(NamedTuple):
    """The result of a run.

    folder: the run's folder.
    fitted: the result of training.
    scores: loss and metrics of the saved parameters on every part of the data; empty if the program is to terminate.
    sizes: number of examples of every part.
    comparison: baselines on the last part, and remarks; None for a custom loss, or if the program is to terminate.
    missing: by file, the number of records that could not be written, and why.
    """

    folder: Path
    fitted: Fitted
    scores: Scores
    sizes: dict[str, int]
    comparison: Comparison | None
    missing: dict[Path, tuple[int, str]]


class RunFailed(RuntimeError):
    """A run that failed; its folder contains the last good parameters, unless the message says otherwise."""

    exit_status = 3


def run(
    experiment: Experiment,
    on_event: Callable[[Segment | Epoch], None] = lambda event: None,
    stop: StopRequests | None = None,
) -> Outcome:
    """Train the network of an experiment, and write the run's folder.

    A request to stop, which is a KeyboardInterrupt or comes from `stop`, ends training after the current steps. The
    parameters are saved, and scored unless the program is to terminate.

    Args:
        experiment: the experiment.
        on_event: called after every segment and every epoch, to show progress.
        stop: the signals that the program handles.

    Raises:
        DataError: when the data cannot be used.
        FolderError: when the folder cannot be created.
        Interrupted: when the request comes before the first step, or a second one before the run has ended.
        MissingExtra: when the experiment writes TensorBoard files and tensorboardX is not installed.
        NotEnoughMemory: when training needs more memory than there is.
        OSError: when a file cannot be written before training.
        RunFailed: when the loss or a parameter becomes NaN or infinite, or the parameters cannot be saved.
    """
    need = memory.estimate(experiment)
    memory.check(need)
    writer = board_writer() if experiment.tensorboard else None
    splits, fingerprint = load_data(experiment)
    run_folder = folder.create(experiment.out, experiment.name)
    with folder.claimed(run_folder):
        _describe(run_folder, experiment, fingerprint, model_size=need.parameters + need.state)
        log = MetricsLog(run_folder, experiment.log_every, writer)
        try:
            return _train_and_score(run_folder, log, experiment, splits, on_event, stop or StopRequests())
        except Exception as error:
            diverged = error.__cause__ if isinstance(error.__cause__, Diverged) else None
            at = {} if diverged is None else {"step": int(diverged.train_state.step) + 1}
            log.append("failed", **at, reason=str(diverged or error))
            raise


def _train_and_score(
    run_folder: Path,
    log: MetricsLog,
    experiment: Experiment,
    splits: Splits[Any],
    on_event: Callable[[Segment | Epoch], None],
    stop: StopRequests,
) -> Outcome:
    result: dict[str, Any] = {"stopped": "interrupted"}

    def append_end(**values: Any) -> None:
        signals = {"signal": signal.Signals(stop.number).name} if stop.number else {}
        log.append("end", **result, **signals, **values)

    def stop_at_once() -> str:
        append_end()
        saved = "saved" if (run_folder / MODEL).exists() else "not saved"
        return f"; the parameters were {saved}; the run is in {run_folder}"

    def record(event: Segment | Epoch) -> None:
        stop.deferred = True
        log.write(event)
        on_event(event)
        stop.raise_if_pending()

    stop.last_words = stop_at_once
    try:
        fitted = _train(experiment, splits, record)
        result |= {"stopped": fitted.stopped, "kept_epoch": fitted.kept_epoch}
        _save_model(run_folder, experiment, splits, fitted.params, fitted.state)
        stop.deferred = False
        stop.raise_if_pending()
        terminated = stop.number not in (None, signal.SIGINT)
        scores = {} if terminated else scores_of(experiment, fitted.params, fitted.state, splits)
        comparison = None if terminated else _compare(experiment, splits, scores, fitted)
        stop.deferred = True
    except KeyboardInterrupt as error:
        raise Interrupted(getattr(error, "number", signal.SIGINT), stop_at_once()) from None
    except Diverged as error:
        state = error.train_state
        _save_model(run_folder, experiment, splits, state.params, state.state)
        raise RunFailed(f"the run failed at {error}\nthe last good parameters are in {run_folder}") from error
    recorded = {recorded_name(part, name): value for part, values in scores.items() for name, value in values.items()}
    append_end(**recorded, **({} if comparison is None else {"comparison": comparison.plain()}))
    return Outcome(run_folder, fitted, scores, sizes_of(splits), comparison, log.missing)


def _compare(experiment: Experiment, splits: Splits[Any], scores: Scores, fitted: Fitted) -> Comparison | None:
    """Return the comparison of the saved parameters with baselines."""
    *_, data = splits.parts().values()
    sequences = bool(experiment.spec.targets.shape)
    outputs = None if sequences else outputs_of(experiment.net, fitted.params, fitted.state, data.x)
    return compare(experiment, reported_loss(experiment, splits), splits, scores, outputs)


def _describe(run_folder: Path, experiment: Experiment, fingerprint: str, *, model_size: int) -> None:
    """Write environment.json, and config.yaml if the experiment has a config; remove the folder if that fails.

    Raises:
        RunFailed: when the disk is full, or has no space for the model file.
    """
    environment = folder.environment(seed=experiment.seed, fingerprint=fingerprint)
    environment["code"] = code_of(experiment.net, experiment.augmentations)
    problem = ""
    try:
        config = experiment.config_text(run_folder)
        if config:
            files.write(run_folder / "config.yaml", config)
        files.write(run_folder / "environment.json", json.dumps(environment, indent=2) + "\n")
        free = shutil.disk_usage(run_folder).free
        if free < model_size:
            problem = f"{run_folder / MODEL} needs {in_bytes(model_size)}, and {in_bytes(free)} are free"
    except OSError as error:
        problem = f"{error.filename} cannot be written: {error.strerror}"
    if problem:
        shutil.rmtree(run_folder, ignore_errors=True)
        raise RunFailed(f"{problem}; nothing was trained; free space, or choose another folder with out=FOLDER")


def _train(experiment: Experiment, splits: Splits[Any], on_event: Callable[[Segment | Epoch], None]) -> Fitted:
    plan = experiment.plan()
    return fit(
        experiment.net,
        reported_loss(experiment, splits),
        experiment.optimizer(plan.steps),
        splits.train,
        validation=splits.parts().get("validation"),
        weights=experiment.weights_of(splits.train),
        steps=plan.steps,
        early_stopping=experiment.early_stopping,
        on_event=on_event,
        **experiment.fit_settings(),
    )


def _save_model(run_folder: Path, experiment: Experiment, splits: Splits[Any], params: Any, state: Any) -> None:
    """Write the model file; if that fails, into the folder for temporary files, so that training is not lost.

    Raises:
        RunFailed: when it cannot be written into the run's folder.
    """

    def save(path: Path) -> None:
        normalizers = {"normalizer": splits.normalizer, "target_normalizer": splits.target_normalizer}
        about = {"spec": experiment.spec, "loss": experiment.loss_settings, **normalizers}
        save_model(path, experiment.net, params, state, **about)

    try:
        save(run_folder / MODEL)
    except OSError as error:
        problem = f"{run_folder / MODEL} cannot be written: {error.strerror}"
    else:
        return
    try:
        rescued = Path(tempfile.mkdtemp(prefix=f"{run_folder.name}-")) / MODEL
        save(rescued)
    except OSError as error:
        kept = ", ".join(sorted(path.name for path in run_folder.iterdir()))
        raise RunFailed(
            f"{problem}; the parameters are lost; {run_folder} keeps {kept}; free space and train again"
        ) from error
    raise RunFailed(f"{problem}; the parameters are in {rescued}, but were not scored; move them to {run_folder}")
