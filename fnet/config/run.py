"""Load a run: its experiment from config.yaml and its model from the model file, which must belong together."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fnet.config.experiment import build_experiment
from fnet.config.load import resolve
from fnet.core.description import describe
from fnet.core.wording import format_value
from fnet.data import files
from fnet.data.source import DataError, DatasetSpec
from fnet.runs.code import only_trusted
from fnet.runs.experiment import Dataset, Experiment
from fnet.runs.folder import FolderError
from fnet.runs.model_file import Model, load_model


class LoadedRun(NamedTuple):
    """A run that was loaded.

    experiment: its experiment.
    model: the content of its model file.
    """

    experiment: Experiment
    model: Model


def load_run(
    run: str, overrides: Sequence[str] = (), *, file: str | None = None, trust: Iterable[str] = ()
) -> LoadedRun:
    """Load the experiment and the model of a run; imports only trusted modules.

    Without overrides, the data is encoded as for the trained network, so that it may have changed since.

    Args:
        run: folder of the run.
        overrides: `key=value` each.
        file: path of other data, which replaces that of the run as a single part; the settings of the run's data that
            do not depend on the file apply.
        trust: modules of layers of one's own that may be imported, each with its submodules.

    Raises:
        FolderError: when there is no readable model, or config.yaml describes another network than the model file; and,
            without overrides, another loss or other data.
        DataError: when the data cannot be read, or cannot be given to the network.
        ConfigError: as for `fnet.config.load.load`.
    """
    if os.path.isfile(run):
        raise FolderError(f"{run} is not a finished run: it is a file, not a folder")
    with only_trusted(run, trust):
        model = load_model(run)
        trained = None if overrides else model.spec
        if trained is None and file is not None:
            raise FolderError(f"the model in {run} does not describe its data; train it with `fnet train`")
        config = os.path.join(run, "config.yaml")
        resolved = resolve(config, overrides, trained)
        experiment = build_experiment(*resolved)
    differences: list[str] = []
    if model.net is not None:
        differences += _network_differences("model", describe(experiment.net), describe(model.net))
    if not overrides and model.loss is not None:
        differences += _setting_differences("loss: ", experiment.loss_settings, model.loss)
    if trained is not None and file is None and resolved.config.data.source != "files":
        name = resolved.config.data.name
        differences += [f"data: {name} in config.yaml, {trained.name}"] if name != trained.name else []
    if differences:
        raise FolderError(f"{run}: {differences[0]} in the model file; restore the run's config.yaml, or train again")
    if trained is not None:
        settings = resolved.config.data
        if file is None:
            data = _data_of_run(config, experiment.data, trained)
        else:
            source = files.source_like(file, settings.specific_settings(), trained)
            data = _checked(file, dataclasses.replace(experiment.data, source=source, parts=(1.0, 0.0, 0.0)), trained)
        experiment = dataclasses.replace(experiment, data=data)
    return LoadedRun(experiment, model)


def _data_of_run(config: str, data: Dataset, trained: DatasetSpec) -> Dataset:
    """Return the data of a run, encoded as for its trained network.

    Raises:
        DataError: when it cannot be read, or cannot be given to the network.
    """
    try:
        return _checked(config, dataclasses.replace(data, source=data.source.like(trained)), trained)
    except DataError as error:
        raise DataError(f"{config}: data: {error}") from None


def _checked(place: str, data: Dataset, trained: DatasetSpec) -> Dataset:
    """Return data with its description, after checking that the network was trained on such data.

    Raises:
        DataError: when the shape of the examples, the targets or the vocabulary differ.
    """
    spec = data.source.spec()
    for difference in _data_differences(spec, trained):
        raise DataError(f"{place}: {difference}, as in training; train again, or give other data")
    return dataclasses.replace(data, spec=spec)


def _network_differences(place: str, configured: Any, saved: Any) -> Iterator[str]:
    """Yield every difference between two descriptions of a network.

    >>> next(_network_differences("model", ["relu", {"dense": {"units": 64}}], ["relu", {"dense": {"units": 32}}]))
    'model.1: dense: units 64 in config.yaml, 32'
    >>> next(_network_differences("model", ["relu"], ["relu", "tanh"]))
    'model: a list of 1 in config.yaml, a list of 2'
    """
    if isinstance(configured, list) and isinstance(saved, list):
        for index, (mine, theirs) in enumerate(zip(configured, saved, strict=False)):
            yield from _network_differences(f"{place}.{index}", mine, theirs)
        if len(configured) != len(saved):
            yield f"{place}: a list of {len(configured)} in config.yaml, a list of {len(saved)}"
        return
    (kind, settings), (saved_kind, saved_settings) = _item(configured), _item(saved)
    if kind != saved_kind:
        yield f"{place}: {kind} in config.yaml, {saved_kind}"
        return
    yield from _setting_differences(f"{place}: {kind}: ", settings, saved_settings)
    yield from _network_differences(
        f"{place}.{kind}.layers", settings.get("layers", []), saved_settings.get("layers", [])
    )


def _item(data: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the kind and the settings of an item of a description."""
    if isinstance(data, list):
        return "serial", {"layers": data}
    return (data, {}) if isinstance(data, str) else next(iter(data.items()))


def _setting_differences(place: str, configured: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*configured, *saved]):
        if key != "layers" and configured.get(key) != saved.get(key):
            yield f"{place}{key} {_shown(configured.get(key))} in config.yaml, {_shown(saved.get(key))}"


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else format_value(value)


def _data_differences(current: DatasetSpec, trained: DatasetSpec) -> Iterator[str]:
    """Yield the differences between two datasets; other examples may have the same description.

    >>> from fnet.data.source import Targets
    >>> spec = DatasetSpec("pets", (4,), Targets("classes", 2, ("cat", "dog")), 9)
    >>> next(_data_differences(spec._replace(shape=(5,)), spec))
    'expected examples of shape (4,), got (5,)'
    """
    if current.shape != trained.shape:
        yield f"expected examples of shape {trained.shape}, got {current.shape}"
    if str(current.targets) != str(trained.targets):
        yield f"expected {trained.targets}, got {current.targets}"
    for mine, theirs in zip(current.targets.names, trained.targets.names, strict=False):
        if mine != theirs:
            yield f"expected the target {_shown(theirs)}, got {_shown(mine)}"
    if current.vocabulary != trained.vocabulary:
        yield "expected the characters of the training text, got others"
