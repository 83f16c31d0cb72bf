"""Cross-validation: one ordinary run per fold, and mean and standard deviation of the scores over the folds."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnet.data.pipeline import split
from fnet.runs import files, folder, memory
from fnet.runs.code import code_of
from fnet.runs.evaluation import Scores
from fnet.runs.experiment import Experiment, without_config
from fnet.runs.run import run
from fnet.runs.stop import Interrupted, StopRequests
from fnet.train.loop import Epoch, Segment

OnEvent = Callable[[Segment | Epoch], None]


class Fold(NamedTuple):
    """A completed fold.

    number: its number, from 1.
    folder: the folder of its run.
    sizes: number of examples of every part.
    scores: loss and metrics of every part.
    """

    number: int
    folder: Path
    sizes: dict[str, int]
    scores: Scores


class Estimate(NamedTuple):
    """Mean and standard deviation (n - 1) of a value over the folds; of a single fold, the latter is NaN."""

    mean: float
    std: float


class CrossValidation(NamedTuple):
    """The result of cross-validation.

    folder: the folder that contains the folders of the folds.
    total: number of folds.
    folds: the completed folds.
    missing: by file, the number of records that could not be written, and why.
    """

    folder: Path
    total: int
    folds: tuple[Fold, ...] = ()
    missing: tuple[tuple[Path, tuple[int, str]], ...] = ()

    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Return mean and standard deviation over the completed folds of the loss and each metric, by part."""
        if not self.folds:
            return {}
        first = self.folds[0].scores
        return {
            part: {name: _estimate([fold.scores[part][name] for fold in self.folds]) for name in values}
            for part, values in first.items()
        }

    def plain(self) -> dict[str, Any]:
        """Return the result as data that JSON can represent."""
        return {
            "total": self.total,
            "folds": [
                {"fold": fold.number, "folder": fold.folder.name, "examples": fold.sizes, "scores": fold.scores}
                for fold in self.folds
            ],
            "scores": {
                part: {name: estimate._asdict() for name, estimate in values.items()}
                for part, values in self.estimates().items()
            },
        }

    def __str__(self) -> str:
        """Return which folds are complete, as text."""
        names = ", ".join(fold.folder.name for fold in self.folds)
        where = f" in {self.folder}" + (f": {names}" if names else "")
        return f"{len(self.folds)} of {self.total} folds are complete{where}"


def folds_of(experiment: Experiment) -> list[Experiment]:
    """Return the experiment of each fold: the same but for its validation part."""
    datasets = experiment.data.folds()
    texts = experiment.fold_configs or [without_config] * len(datasets)
    return [
        dataclasses.replace(experiment, data=data, config_text=text, fold_configs=())
        for data, text in zip(datasets, texts, strict=True)
    ]


def cross_validate(
    experiment: Experiment,
    on_fold: Callable[[Fold], None] = lambda fold: None,
    progress: Callable[[Experiment], contextlib.AbstractContextManager[OnEvent]] | None = None,
    stop: StopRequests | None = None,
) -> CrossValidation:
    """Run every fold of an experiment, one after the other, each as an ordinary run.

    The folder contains fold-1, fold-2, ..., each the folder of a run whose config.yaml repeats this fold alone, and
    folds.json with the scores of the completed folds, their means and standard deviations. A request to stop ends the
    fold that is running, which is saved but does not count, and no further fold is started.

    Args:
        experiment: an experiment whose data has rules with `folds`, and without `fold`.
        on_fold: called after every completed fold.
        progress: returns, for the experiment of a fold, a context manager with the function that is called with the
            events of its training.
        stop: the signals that the program handles.

    Raises:
        DataError, SplitError: when the data cannot be used, or not for every fold; before anything is written.
        Interrupted: when a request to stop comes before the first step of a fold, or a second one.
        FolderError, MissingExtra, NotEnoughMemory, OSError, RunFailed: as for `fnet.runs.run.run`; completed folds are
            kept.
    """
    stop = stop or StopRequests()
    folds = folds_of(experiment)
    memory.check(memory.estimate(folds[0]))
    fingerprint = _check(folds)
    run_folder = folder.create(experiment.out, experiment.name)
    result = CrossValidation(run_folder, len(folds))
    with folder.claimed(run_folder):
        _describe(run_folder, experiment, fingerprint)
        _write(result)
        for number, fold in enumerate(folds, start=1):
            try:
                stop.last_words = lambda result=result: f"; {result}"
                stop.deferred = False
                stop.raise_if_pending()
                fold = dataclasses.replace(fold, name="fold", out=str(run_folder))
                with progress(fold) if progress else contextlib.nullcontext(_ignore) as on_event:
                    outcome = run(fold, on_event, stop)
                stop.deferred = True
            except Interrupted as error:
                error.args = (f"{error}; {result}",)
                raise
            result = result._replace(missing=(*result.missing, *outcome.missing.items()))
            if outcome.fitted.stopped == "interrupted" or not outcome.scores:
                break
            completed = Fold(number, outcome.folder, outcome.sizes, outcome.scores)
            result = result._replace(folds=(*result.folds, completed))
            _write(result)
            on_fold(completed)
    return result


def _ignore(event: Segment | Epoch) -> None:
    """Ignore an event of training."""


def _estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and the standard deviation of a value over the folds.

    >>> _estimate([1.0, 2.0, 6.0])
    Estimate(mean=3.0, std=2.6457513110645907)
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Estimate(float(np.mean(values)), std)


def _check(folds: Sequence[Experiment]) -> str:
    """Check that the data can be divided into every fold, and return its fingerprint.

    Raises:
        DataError, SplitError: for the first fold that is impossible.
    """
    data, seed = folds[0].data, folds[0].seed
    raw = data.source.stream(seed)
    keys = data.keys()
    for fold in folds:
        split(raw, data.spec, fold.data.parts, seed=seed, rules=fold.data.rules, keys=keys)
    return data.source.fingerprint(raw)


def _describe(run_folder: Path, experiment: Experiment, fingerprint: str) -> None:
    """Write environment.json, and config.yaml if the experiment has a config."""
    environment = folder.environment(seed=experiment.seed, fingerprint=fingerprint)
    environment["code"] = code_of(experiment.net, experiment.augmentations)
    config = experiment.config_text(run_folder)
    if config:
        files.write(run_folder / "config.yaml", config)
    files.write(run_folder / "environment.json", json.dumps(environment, indent=2) + "\n")


def _write(result: CrossValidation) -> None:
    files.write(result.folder / folder.FOLDS, files.to_json(result.plain()) + "\n")
