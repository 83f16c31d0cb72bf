"""Load a config file as an experiment, checked before any data is read."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from fnet.config import augmentation, document, schema
from fnet.config.compatibility import chosen_loss, incompatibilities
from fnet.config.document import Document
from fnet.config.errors import ConfigError, Path, Problem, problems_of
from fnet.config.experiment import build_experiment, data_source, dataset
from fnet.config.model import build_network, check_layers
from fnet.config.paths import resolve_paths
from fnet.config.schema import Config
from fnet.config.short_forms import expand
from fnet.config.yaml import exceeded_limit
from fnet.core import imports
from fnet.core.description import describe
from fnet.core.layer import Layer
from fnet.data import augment
from fnet.data.source import DataError, DatasetSpec, DataWarning
from fnet.data.split import SplitError
from fnet.runs.experiment import Experiment


class Resolved(NamedTuple):
    """A checked config with every default filled in.

    config: the config.
    net: the network that it describes.
    spec: description of its dataset.
    relative: where the config has paths that the user wrote as relative ones; they are absolute in the config.
    """

    config: Config
    net: Layer
    spec: DatasetSpec
    relative: frozenset[Path]


def load(file: str, overrides: Sequence[str] = (), *, trust: Iterable[str] = ()) -> Experiment:
    """Load the experiment of a config file, checked completely.

    The dotted paths of a user's own layers and functions may name modules in the current directory and on PYTHONPATH,
    and trusted modules anywhere, the folder of the file included. No other module is imported.

    Args:
        file: path of a YAML file.
        overrides: `key=value` each.
        trust: modules that may be imported from anywhere, each with its submodules.

    Raises:
        ConfigError: with every problem, each with its file, line and column.

    A DataWarning says which examples are not used, whether splits of the user's own are mixed, and which parts differ
    from their fractions.
    """
    with imports.gate(trust, local=True, folders=[str(FilePath(file).resolve().parent)]):
        experiment = build_experiment(*resolve(file, overrides))
    for remark in experiment.data.remarks(experiment.seed):
        warnings.warn(remark, DataWarning, stacklevel=2)
    return experiment


def resolve(file: str, overrides: Sequence[str] = (), trained: DatasetSpec | None = None) -> Resolved:
    """Read a config file, check all of it, and fill in every default; imports what `fnet.core.imports` allows.

    Args:
        file: path of a YAML file.
        overrides: `key=value` each.
        trained: for the config of a run, description of the data that its network was trained on; the data itself,
            which may have changed since, is then not read.

    Raises:
        ConfigError: as for `load`.
    """
    with imports.closed():
        source = document.read(file, overrides)
        relative = resolve_paths(source)
        config = _validated(source)
        spec = _spec_of(config, source) if trained is None else trained
        net = build_network(config.model, ("model",))
        if isinstance(net, Problem):
            raise source.problems([net])
        _raise_if_any(source, list(incompatibilities(config, net, spec)))
        config = _with_defaults(config, net, spec, name=config.name or _name_of(file))
        limit = exceeded_limit(config.model_dump())
        if limit is not None:
            raise ConfigError(
                [f"{file}: expected at most {limit} when every default is written; make the model smaller"]
            )
        return Resolved(config, net, spec, relative)


def _raise_if_any(source: Document, problems: Sequence[Problem]) -> None:
    if problems:
        raise source.problems(problems)


def _validated(source: Document) -> Config:
    """Return the config of a document, with each value valid by itself.

    Raises:
        ConfigError: for all invalid values.
    """
    data = source.data
    problems = [*expand(data), *_layer_problems(data), *_augmentation_problems(data)]
    try:
        config = Config(**data)
    except ValidationError as error:
        unresolved = any(problem.path in (("data", "name"), ("data", "path")) for problem in problems)
        further = problems_of(error.errors(), data)
        problems += [problem for problem in further if not (unresolved and problem.path[0] == "data")]
        raise source.problems(problems) from None
    _raise_if_any(source, problems)
    return config


def _name_of(file: str) -> str:
    """Return the default name of a run: the name of the config without its extension.

    Raises:
        ConfigError: when a folder cannot be named so.
    """
    try:
        return schema.folder_name(FilePath(file).stem)
    except ValueError as error:
        raise ConfigError([f"{file}: the file's name is the name of the run: {error}; or set name"]) from None


def _layer_problems(data: dict[str, Any]) -> list[Problem]:
    layers = data.get("model")
    if not isinstance(layers, list):
        return []
    return check_layers(layers, ("model",)) if layers else [Problem(("model",), "model: expected at least one layer")]


def _augmentation_problems(data: dict[str, Any]) -> list[Problem]:
    settings = data.get("data")
    items = settings.get("augment") if isinstance(settings, dict) else None
    return list(augmentation.check_augmentations(items, ("data", "augment"))) if isinstance(items, list) else []


def _spec_of(config: Config, source: Document) -> DatasetSpec:
    """Return the description of the dataset, without reading examples.

    Raises:
        ConfigError: when the data cannot be used, or cannot be split as configured.
    """
    try:
        spec = data_source(config.data).spec()
        dataset(config.data, spec).sizes(config.seed)
    except DataError as error:
        raise source.problems([Problem(("data", error.setting or "name"), f"data: {error}")]) from None
    except SplitError as error:
        raise source.problems([Problem(("data", "split", error.part), str(error))]) from None
    return spec


def _with_defaults(config: Config, net: Layer, spec: DatasetSpec, *, name: str) -> Config:
    """Return the config with the defaults that depend on its file, data and network filled in."""
    loss, source = chosen_loss(config, spec, net.shape(spec.shape)), data_source(config.data)
    data = {
        "normalize": config.data.normalize or source.default_normalization(spec),
        "normalize_targets": config.data.normalize_targets or source.default_target_normalization(spec),
        "split": config.data.resolved_split(spec.splits),
        "augment": augment.describe(augment.build(config.data.augment)),
    }
    training_size = dataset(config.data, spec).sizes(config.seed)[0]
    return config.model_copy(
        update={
            "name": name,
            "data": config.data.model_copy(update=data),
            "model": describe(net),
            "loss": config.loss or schema.loss_model(loss).model_validate({"name": loss}),
            "train": config.train.model_copy(update={"epochs": config.train.epochs_for(training_size)}),
        }
    )
