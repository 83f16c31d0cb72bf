"""Build an experiment from a validated config."""

import functools
import io
import os
from collections.abc import Iterable
from typing import Any

import optax
from ruamel.yaml import YAML

from fnet.config.errors import Path
from fnet.config.paths import with_relative_paths
from fnet.config.schema import Choice, Config, DataSettings, LossSettings, OptimizerSettings
from fnet.core.layer import Layer
from fnet.core.wording import printable
from fnet.data import augment, catalog
from fnet.data.source import DatasetSpec, DataSource
from fnet.losses import Loss, for_labels, resolve_loss
from fnet.regularization import Penalties
from fnet.runs.experiment import Dataset, Experiment
from fnet.train.class_weights import ClassWeights
from fnet.train.early_stopping import EarlyStopping
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES, with_clipping


def build_experiment(config: Config, net: Layer, spec: DatasetSpec, relative: Iterable[Path] = ()) -> Experiment:
    """Build the experiment of a resolved config.

    Args:
        config: the config, with every default filled in.
        net: its network.
        spec: description of its dataset.
        relative: where the config has paths that the user wrote as relative ones.
    """
    train: dict[str, Any] = dict(config.train)
    if config.train.early_stopping is not None:
        train["early_stopping"] = EarlyStopping(**dict(config.train.early_stopping))
    assert config.loss is not None  # a resolved config has one
    return Experiment(
        name=config.name,
        net=net,
        data=dataset(config.data, spec),
        loss=make_loss(config.loss, spec),
        loss_settings={"name": config.loss.name, **_function_settings(config.loss)},
        class_weights=class_weights(config.loss),
        optimizer=lambda steps: make_optimizer(config.optimizer, steps),
        seed=config.seed,
        out=config.out,
        penalties=penalties(config),
        augmentations=augment.build(config.data.augment),
        config_text=functools.partial(dump, config, relative=frozenset(relative)),
        fold_configs=[functools.partial(dump, fold, relative=frozenset(relative)) for fold in _folds(config)],
        **train,
    )


def _folds(config: Config) -> list[Config]:
    """Return the config of each fold of cross-validation; none for a single run."""
    split = config.data.split
    if split is None or split.cross_validation is None or split.fold is not None:
        return []
    splits = [split.model_copy(update={"fold": fold}) for fold in range(1, split.cross_validation + 1)]
    return [config.model_copy(update={"data": config.data.model_copy(update={"split": fold})}) for fold in splits]


def data_source(settings: DataSettings) -> DataSource:
    """Return the source of the data."""
    return catalog.source(settings.source, settings.name, settings.specific_settings())


def dataset(settings: DataSettings, spec: DatasetSpec) -> Dataset:
    """Return the dataset of resolved settings."""
    return Dataset(
        source=data_source(settings),
        spec=spec,
        parts=settings.parts(spec.splits),
        rules=settings.rules(),
        normalization=settings.normalize or "none",
        target_normalization=settings.normalize_targets or "none",
        order=settings.order,
        stream=settings.stream,
    )


def make_loss(settings: LossSettings, spec: DatasetSpec) -> Loss:
    """Return the loss with its settings, and with the metrics for the targets of a dataset."""
    loss = resolve_loss(settings.name, _function_settings(settings))
    return for_labels(loss) if spec.targets.kind == "labels" else loss


def class_weights(settings: LossSettings) -> ClassWeights | None:
    """Return the weights of the classes in training, if the loss has any."""
    return settings.specific_settings().get("class_weights")


def _function_settings(settings: LossSettings) -> dict[str, Any]:
    """Return the settings of the loss's function."""
    return {key: value for key, value in settings.specific_settings().items() if key != "class_weights"}


def penalties(config: Config) -> Penalties:
    """Return the weight penalties and the max-norm constraint."""
    return Penalties(**config.regularization.model_dump())


def make_schedule(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Return the learning-rate schedule of an optimizer for a run of this many steps.

    Raises:
        ValueError: when the schedule is longer than the run.
    """
    rate = settings.specific_settings()["learning_rate"]
    return SCHEDULES[settings.schedule.name](rate, steps, **settings.schedule.specific_settings())


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Return the optimizer for a run of this many steps.

    Raises:
        ValueError: when the schedule is longer than the run, or settings are mutually exclusive.
    """
    specific = settings.specific_settings() | {"learning_rate": make_schedule(settings, steps)}
    optimizer = OPTIMIZERS[settings.name](**specific)
    return with_clipping(optimizer, norm=settings.clip_norm, value=settings.clip_value)


def dump(
    config: Config, folder: str | os.PathLike[str] | None = None, *, relative: Iterable[Path] = frozenset()
) -> str:
    """Return the config as YAML, with every value explicit; `steps` stands in place of `epochs`.

    Args:
        config: the config, whose paths are absolute.
        folder: the folder that the YAML is written to, to which some of the paths shall be relative; None for none.
        relative: where these paths are.
    """
    data = config.model_dump(mode="json")
    if folder is not None:
        data = with_relative_paths(data, relative, os.path.abspath(folder))
    data["optimizer"]["schedule"] = _ordered(config.optimizer.schedule, data["optimizer"]["schedule"])
    data["optimizer"] = _ordered(config.optimizer, data["optimizer"])
    data["data"] = _ordered(config.data, data["data"])
    if config.train.steps is not None:
        del data["train"]["epochs"]
    yaml, text = YAML(), io.StringIO()
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.dump(data, text)
    if printable(text.getvalue(), multiline=True) != text.getvalue():  # such as a path with a bidirectional control
        text, yaml.allow_unicode = io.StringIO(), False
        yaml.dump(data, text)
    return text.getvalue()


def _ordered(settings: Choice, data: dict[str, Any]) -> dict[str, Any]:
    """Return a section with its source and name first, then its specific settings, then the shared ones."""
    tags = [tag for tag in ("source", "name") if tag in data]
    return {key: data[key] for key in (*tags, *settings.specific_settings(), *data) if key in data}
