"""Load a run: its experiment from config.yaml and its model from the model file, which must belong together."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fnet.config.experiment import build_experiment
from fnet.config.load import resolve
from fnet.core.description import describe
from fnet.core.wording import format_value
from fnet.data.source import DatasetSpec
from fnet.runs.code import only_trusted
from fnet.runs.experiment import Experiment
from fnet.runs.folder import FolderError
from fnet.runs.model_file import Model, load_model


class LoadedRun(NamedTuple):
    """A run that was loaded.

    experiment: its experiment.
    model: the content of its model file.
    """

    experiment: Experiment
    model: Model


def load_run(run: str, overrides: Sequence[str] = (), *, trust: Iterable[str] = ()) -> LoadedRun:
    """Load the experiment and the model of a run; imports only trusted modules.

    Args:
        run: folder of the run.
        overrides: `key=value` each.
        trust: modules of layers of one's own that may be imported, each with its submodules.

    Raises:
        FolderError: when there is no readable model, or config.yaml describes another network than the model file; and,
            without overrides, another loss or other data.
        ConfigError: as for `fnet.config.load.load`.
    """
    if os.path.isfile(run):
        raise FolderError(f"{run} is not a finished run: it is a file, not a folder")
    with only_trusted(run, trust):
        model = load_model(run)
        experiment = build_experiment(*resolve(os.path.join(run, "config.yaml"), overrides))
    differences: list[str] = []
    if model.net is not None:
        differences += _network_differences("model", describe(experiment.net), describe(model.net))
    if not overrides and model.loss is not None:
        differences += _setting_differences("loss: ", experiment.loss_settings, model.loss)
    if not overrides and model.spec is not None:
        differences += _data_differences(experiment.spec, model.spec)
    if differences:
        raise FolderError(f"{run}: {differences[0]} in the model file; restore the run's config.yaml, or train again")
    return LoadedRun(experiment, model)


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


def _data_differences(configured: DatasetSpec, saved: DatasetSpec) -> Iterator[str]:
    """Yield the differences between two datasets; examples may have been added since."""
    if configured.shape != saved.shape:
        yield f"data: examples of shape {configured.shape} in config.yaml, {saved.shape}"
    if str(configured.targets) != str(saved.targets):
        yield f"data: {configured.targets} in config.yaml, {saved.targets}"
    for mine, theirs in zip(configured.targets.names, saved.targets.names, strict=False):
        if mine != theirs:
            yield f"data: the target {_shown(mine)} in config.yaml, {_shown(theirs)}"
    if configured.vocabulary != saved.vocabulary:
        yield "data: other characters in config.yaml than"
    if configured.name != saved.name:
        yield f"data: {configured.name} in config.yaml, {saved.name}"
