"""A whole experiment: data, training, the run's folder, evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnet.data import catalog
from fnet.data.pipeline import Splits, split_and_normalize
from fnet.data.source import DataError
from fnet.core.settings import MissingExtra
from fnet.runs import files, folder, model_file
from fnet.train.evaluate import make_score, outputs_of, scored
from fnet.train.loop import Diverged, EarlyStopping, Epoch, Fitted, Segment, fit

if TYPE_CHECKING:
    from fnet.config.load import Experiment


Scores = dict[str, dict[str, float]]


class Outcome(NamedTuple):
    """A finished run: its folder, what training gave, and the scores of the kept parameters on every part."""

    folder: Path
    fitted: Fitted
    scores: Scores
    sizes: dict[str, int]


class Evaluation(NamedTuple):
    """Scores on every part of the data, and the decisions on one: the test part, or the last that holds examples."""

    scores: Scores
    sizes: dict[str, int]
    part: str
    decisions: np.ndarray
    labels: np.ndarray


class RunFailed(RuntimeError):
    """A run that broke off; its folder keeps the last good parameters."""

    exit_status = 3


def load_data(experiment: "Experiment") -> tuple[Splits[Any], str]:
    """The data of an experiment, split, normalized and with targets as its loss takes them; and their fingerprint.

    Raises:
        DataError: when they cannot be used.
    """
    config, spec = experiment.config, experiment.spec
    settings = config.data
    source = catalog.source(settings.source, settings.name, settings.own())
    raw: Any = source.stream(config.seed) if settings.stream else source.read(config.seed)
    parts, normalization = settings.parts(spec.splits), settings.normalize or "none"
    splits = split_and_normalize(raw, spec, parts, normalization, seed=config.seed, order=settings.order)
    if experiment.loss().targets == "labels":
        train, validation, test = (part.mapped(y=_as_column) for part in splits[:3])
        splits = splits._replace(train=train, validation=validation, test=test)
    return splits, source.fingerprint(raw)


def _as_column(labels: np.ndarray) -> np.ndarray:
    """Binary labels as (n, 1) numbers, the form of the one output that they are compared with."""
    return labels.astype(np.float32)[:, None]


def run(experiment: "Experiment", config_text: str, on_event: Callable[[Segment | Epoch], None]) -> Outcome:
    """Trains, and writes the run's folder as it goes.

    Args:
        experiment: a config that fits together.
        config_text: the resolved config, as it is to be written.
        on_event: called after every segment and epoch, for showing progress.

    Raises:
        DataError: when the data cannot be used.
        FolderError: when the folder cannot be made.
        MissingExtra: when the config asks for TensorBoard's files, and what they need is not installed.
        RunFailed: when the loss or a parameter becomes NaN or infinite.
    """
    config, net = experiment.config, experiment.net
    writer = _board_writer() if config.train.tensorboard else None
    splits, data_hash = load_data(experiment)
    place = folder.create(config.out, config.name)
    files.write(place / "config.yaml", config_text)
    details = folder.environment(seed=config.seed, fingerprint=data_hash)
    files.write(place / "environment.json", json.dumps(details, indent=2) + "\n")
    parts = splits.parts()
    stopping = config.train.early_stopping
    log = _Log(place, config.train.log_every, writer)

    def record(event: Segment | Epoch) -> None:
        log.write(event)
        on_event(event)

    def keep(params: Any, state: Any) -> None:
        about = {
            "normalizer": splits.normalizer,
            "spec": experiment.spec,
            "loss": config.loss and config.loss.model_dump(),
        }
        model_file.save_model(place / "model.safetensors", net, params, state, **about)

    plan = config.train.plan(splits.train.size)
    try:
        fitted = fit(
            net,
            experiment.loss(),
            experiment.optimizer(plan.steps),
            splits.train,
            validation=parts.get("validation"),
            steps=plan.steps,
            batch_size=plan.batch,
            seed=config.seed,
            regularization=config.regularization.penalties(),
            augment=experiment.augmentations(),
            early_stopping=stopping and EarlyStopping(stopping.monitor, stopping.patience),
            on_event=record,
        )
    except Diverged as error:
        state = error.train_state
        keep(state.params, state.state)
        files.append(log.path, {"event": "failed", "step": int(state.step) + 1, "reason": str(error)})
        raise RunFailed(f"the run failed at {error}\nthe last good parameters are kept in {place}") from error
    except DataError as error:  # of a stream, whose records are read while training
        files.append(log.path, {"event": "failed", "reason": str(error)})
        raise
    keep(fitted.params, fitted.state)
    scores = _scores(experiment, fitted.params, fitted.state, splits)
    files.append(
        log.path,
        {"event": "end", "stopped": fitted.stopped, "kept_epoch": fitted.kept_epoch}
        | {f"{part}_{name}": value for part, values in scores.items() for name, value in values.items()},
    )
    return Outcome(place, fitted, scores, _sizes(splits))


def evaluate(experiment: "Experiment", params: Any, state: Any) -> Evaluation:
    """Scores parameters on the data of an experiment.

    Raises:
        DataError: when the data cannot be used.
    """
    splits, _ = load_data(experiment)
    part, arrays = list(splits.parts().items())[-1]
    outputs = outputs_of(experiment.net, params, state, arrays.x)
    decisions = np.asarray(experiment.loss().decide(jnp.asarray(outputs)))
    labels = np.asarray(arrays.y).reshape(decisions.shape)
    if experiment.spec.targets.kind == "classes":
        decisions, labels = decisions.reshape(-1).astype(int), labels.reshape(-1).astype(int)
    return Evaluation(_scores(experiment, params, state, splits), _sizes(splits), part, decisions, labels)


def _scores(experiment: "Experiment", params: Any, state: Any, splits: Splits[Any]) -> Scores:
    """Loss and metric of the parameters on every part of the data."""
    loss = experiment.loss()
    score = make_score(experiment.net, loss)
    found = {part: score(params, state, *scored(data)) for part, data in splits.parts().items()}
    return {part: {"loss": float(s.loss), loss.metric_name: float(s.metric)} for part, s in found.items()}


def _sizes(splits: Splits[Any]) -> dict[str, int]:
    return {part: arrays.size for part, arrays in splits.parts().items()}


class _Log:
    """metrics.jsonl, one object per logging step and per epoch; the epochs for TensorBoard too, if asked for."""

    def __init__(self, place: Path, every: int | None, writer: Any | None):
        self.path = place / "metrics.jsonl"
        self._every = every
        self._board = writer and writer(str(place / "tensorboard"))

    def write(self, event: Segment | Epoch) -> None:
        if isinstance(event, Epoch):
            counts = {"event": "epoch", "epoch": event.epoch, "step": event.step}
            files.append(self.path, {**counts, **event.values, "seconds": event.seconds})
            if self._board is not None:
                for name, value in event.values.items():
                    self._board.add_scalar(name, value, event.step)
                self._board.flush()
        elif self._every:
            for number, loss in enumerate(event.metrics.loss.tolist(), event.first_step + 1):
                if number % self._every == 0:
                    files.append(self.path, {"event": "step", "epoch": event.epoch, "step": number, "loss": loss})


def _board_writer() -> Any:
    """The class that writes TensorBoard's files.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("train.tensorboard needs the extra 'tensorboard': pip install 'fnet[tensorboard]'") from None
    return SummaryWriter
