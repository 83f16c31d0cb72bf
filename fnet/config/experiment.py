"""Build an experiment from a validated config."""

import io
from typing import Any

import optax
from ruamel.yaml import YAML

from fnet.config.schema import Choice, Config, DataSettings, LossSettings, OptimizerSettings
from fnet.core.layer import Layer
from fnet.core.wording import printable
from fnet.data import augment, catalog
from fnet.data.source import DatasetSpec, DataSource
from fnet.losses import Loss, resolve_loss
from fnet.regularization import Penalties
from fnet.runs.experiment import Dataset, Experiment
from fnet.train.class_weights import ClassWeights
from fnet.train.early_stopping import EarlyStopping
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES, with_clipping


def build_experiment(config: Config, net: Layer, spec: DatasetSpec) -> Experiment:
    """Build the experiment of a resolved config.

    Args:
        config: the config, with every default filled in.
        net: its network.
        spec: description of its dataset.
    """
    train: dict[str, Any] = dict(config.train)
    if config.train.early_stopping is not None:
        train["early_stopping"] = EarlyStopping(**dict(config.train.early_stopping))
    assert config.loss is not None  # a resolved config has one
    return Experiment(
        name=config.name,
        net=net,
        data=dataset(config.data, spec),
        loss=make_loss(config.loss),
        loss_settings={"name": config.loss.name, **_function_settings(config.loss)},
        class_weights=class_weights(config.loss),
        optimizer=lambda steps: make_optimizer(config.optimizer, steps),
        seed=config.seed,
        out=config.out,
        penalties=penalties(config),
        augmentations=augment.build(config.data.augment),
        config_text=dump(config),
        **train,
    )


def data_source(settings: DataSettings) -> DataSource:
    """Return the source of the data."""
    return catalog.source(settings.source, settings.name, settings.specific_settings())


def dataset(settings: DataSettings, spec: DatasetSpec) -> Dataset:
    """Return the dataset of resolved settings."""
    return Dataset(
        source=data_source(settings),
        spec=spec,
        parts=settings.parts(spec.splits),
        normalization=settings.normalize or "none",
        order=settings.order,
        stream=settings.stream,
    )


def make_loss(settings: LossSettings) -> Loss:
    """Return the loss with its settings."""
    return resolve_loss(settings.name, _function_settings(settings))


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


def dump(config: Config) -> str:
    """Return the config as YAML, with every value explicit; `steps` stands in place of `epochs`."""
    data = config.model_dump(mode="json")
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
    return {key: data[key] for key in (*tags, *settings.specific_settings(), *data)}
