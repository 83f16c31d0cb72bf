"""The config's schema: what can be set, of which type, within which bounds, with which default and meaning.

The settings of data sets, optimizers and schedules are read from the signatures of their functions, those of layers
in `fnet.config.model`; only what belongs to no function is declared here.
"""

import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union

from annotated_types import Ge, Gt, Interval, MinLen
from pydantic import AfterValidator, Field, model_validator

from fnet.core.settings import Strict, model_of
from fnet.data import files, sklearn, synthetic
from fnet.data.augment import AUGMENTATIONS
from fnet.data.normalize import Normalization
from fnet.data.path import PathText
from fnet.data.pipeline import Order
from fnet.data.split import PARTS, Own, default_parts
from fnet.losses import LOSSES, SUPPLIED
from fnet.regularization import Length, Penalties, Weight
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES


def union_of(models: Iterable[type[Strict]], tag: str) -> Any:
    """The type of a mapping that is one of several models, told apart by its entry `tag`."""
    return Annotated[Union[tuple(models)], Field(discriminator=tag)]  # noqa: UP007


_Fraction = Annotated[float, Interval(ge=0, lt=1)]
_Names = Annotated[str, MinLen(1)]


class Split(Strict, frozen=True):
    """Fractions of the examples, in which classes keep their shares, or the source's own splits by name.

    A name may be a slice, or several: "test", "train[:90%]", "train[1000:]+extra". Fractions are of the examples that
    no part names.
    """

    train: Annotated[float, Interval(gt=0, le=1)] | _Names = Field(default=0.8, description="to fit the parameters")
    validation: _Fraction | _Names = Field(default=0.1, description="to choose settings and to stop early")
    test: _Fraction | _Names = Field(default=0.1, description="to report on, seen by nothing else")

    @model_validator(mode="before")
    @classmethod
    def _beside_names_nothing_is_implied(cls, data: Any) -> Any:
        """Where a part is named, those that are not mentioned get nothing, and training gets what is left."""
        if not isinstance(data, dict) or not any(isinstance(data.get(part), str) for part in PARTS):
            return data
        validation = data.get("validation", 0.0)
        rest = 1 - validation if isinstance(validation, float | int) else 1.0
        return {"train": rest, "validation": 0.0, "test": 0.0} | data

    @model_validator(mode="after")
    def _sums_to_at_most_one(self):
        total = sum(part for part in (self.train, self.validation, self.test) if not isinstance(part, str))
        if total > 1 + 1e-9:
            raise ValueError(f"the parts sum to {total:g}, which is more than 1; make them smaller")
        return self


class DataSettings(Strict, frozen=True):
    """What every data set takes."""

    source: str
    name: str
    split: Split | None = Field(
        default=None,
        description="how the examples are divided; by default into the source's own splits, with a tenth of train for "
        "validation, or else into 0.8, 0.1 and 0.1",
    )
    normalize: Normalization | None = Field(
        default=None,
        description="unit (to [0, 1]), standard (mean 0, deviation 1) or none, with statistics of the training part; "
        "by default unit for images, standard for tables, none for synthetic data",
    )
    augment: list[Any] = Field(
        default=[],
        description="what changes the training images at random, one after the other, after they are normalized: "
        f"{', '.join(AUGMENTATIONS)}; `fnet explain NAME` explains one",
    )
    order: Order = Field(
        default="source",
        description="of the examples, before training shuffles them: as their source has them, or content, one that "
        "depends on them alone, so that sources that store the same examples in different orders give the same run; "
        "reads all of them once",
    )
    stream: bool = Field(
        default=False,
        description="read the examples while training, for data larger than memory; the results are the "
        "same. They are read from their decoded copy on the disk, or, where that has too little room, from the records "
        "of TensorFlow Datasets",
    )

    def parts(self, own: Own) -> tuple[float | str, float | str, float | str]:
        """The training, validation and test part of a source with these splits of its own."""
        return default_parts(own) if self.split is None else (self.split.train, self.split.validation, self.split.test)

    def own(self) -> dict[str, Any]:
        """The settings of this data set alone."""
        return {k: v for k, v in self if k not in DataSettings.model_fields}


class SklearnData(DataSettings, frozen=True):
    """Real data that scikit-learn ships: nothing is downloaded."""

    source: Literal["sklearn"] = Field(description="scikit-learn's embedded data")
    name: Literal[tuple(sklearn.SPECS)] = Field(description="which data set")  # pyright: ignore[reportInvalidTypeForm]


class TfdsData(DataSettings, frozen=True):
    """A set that TensorFlow Datasets has prepared (`fnet data prepare NAME`); it is read without TensorFlow."""

    source: Literal["tfds"] = Field(description="a set of TensorFlow Datasets")
    name: Annotated[str, MinLen(1)] = Field(description="as its catalog writes it: mnist, glue/cola, mnist:3.0.1")
    data_dir: PathText | None = Field(
        default=None,
        description="the folder of the prepared sets, seen from the working folder; by default $TFDS_DATA_DIR, or "
        "~/tensorflow_datasets",
    )
    image_key: str | None = Field(
        default=None, description="the feature to learn from, a/b for b inside a; by default what the set itself says"
    )
    label_key: str | None = Field(
        default=None, description="the feature to predict; by default what the set itself says"
    )
    text_length: Annotated[int, Ge(1)] = Field(
        default=256, description="a text is the numbers of so many bytes in UTF-8, cut off or filled up with 0"
    )

    def own(self) -> dict[str, Any]:
        """The settings of this data set alone, and its parts, which say what has to be read."""
        parts = None if self.split is None else (self.split.train, self.split.validation, self.split.test)
        return super().own() | {"split": parts}


class _SyntheticData(DataSettings, frozen=True):
    source: Literal["synthetic"] = Field(description="data made by formula, from the seed")


class _FilesData(DataSettings, frozen=True):
    source: Literal["files"] = Field(description="your own files, in the format that `name` says")


class ScheduleSettings(Strict, frozen=True):
    """What every schedule takes: nothing but its own settings."""

    name: str

    def own(self) -> dict[str, Any]:
        """The settings of this schedule alone."""
        return {k: v for k, v in self if k not in ScheduleSettings.model_fields}


def _schedule(name: str) -> type[ScheduleSettings]:
    return model_of(SCHEDULES[name], name, ("rate", "steps"), ScheduleSettings)


if TYPE_CHECKING:
    Schedule = ScheduleSettings
else:
    Schedule = union_of(map(_schedule, SCHEDULES), "name")


class OptimizerSettings(Strict, frozen=True):
    """What every optimizer takes."""

    name: str
    schedule: Schedule = Field(
        default=_schedule("constant").model_validate({"name": "constant"}),
        description="how the learning rate changes over the run, by step",
    )
    clip_norm: Annotated[float, Gt(0)] | None = Field(
        default=None,
        description="the gradient is scaled down to this norm, over all parameters together, when it is longer",
    )
    clip_value: Annotated[float, Gt(0)] | None = Field(
        default=None, description="every entry of the gradient is cut off at plus and minus this, before clip_norm"
    )

    def own(self) -> dict[str, Any]:
        """The settings of this optimizer alone."""
        return {k: v for k, v in self if k not in OptimizerSettings.model_fields}


class LossSettings(Strict, frozen=True):
    """What every loss takes: nothing but its own settings."""

    name: str

    def own(self) -> dict[str, Any]:
        """The settings of this loss alone."""
        return {k: v for k, v in self if k not in LossSettings.model_fields}


def loss(name: str) -> type[LossSettings]:
    """The model of the settings of a loss."""
    return model_of(LOSSES[name].function, name, SUPPLIED, LossSettings)


def _optimizer(name: str) -> type[OptimizerSettings]:
    return model_of(OPTIMIZERS[name], name, (), OptimizerSettings)


def _synthetic(name: str) -> type[DataSettings]:
    return model_of(synthetic.GENERATORS[name].make, name, ("rng",), _SyntheticData)


def _files(name: str) -> type[DataSettings]:
    return model_of(files.FORMATS[name], name, (), _FilesData)


if TYPE_CHECKING:
    Optimizer = OptimizerSettings
    Data = DataSettings
    Loss = LossSettings
else:
    Loss = union_of(map(loss, LOSSES), "name")
    Optimizer = union_of(map(_optimizer, OPTIMIZERS), "name")
    Data = union_of(
        [
            SklearnData,
            TfdsData,
            union_of(map(_synthetic, synthetic.GENERATORS), "name"),
            union_of(map(_files, files.FORMATS), "name"),
        ],
        "source",
    )


class LayerRegularization(Strict, frozen=True):
    """What holds for one layer in place of what holds for all; null leaves that as it is."""

    l1: Weight | None = Field(default=None, description="weight of sum|w|")
    l2: Weight | None = Field(default=None, description="weight of sum w^2 / 2")
    max_norm: Length | None = Field(default=None, description="the greatest length of a column")


class Regularization(Strict, frozen=True):
    """What keeps weights small, not biases or scales: the penalty l1 * sum|w| + (l2/2) * sum w^2, and max_norm."""

    l1: Weight = Field(default=0.0, description="weight of sum|w|")
    l2: Weight = Field(default=0.0, description="weight of sum w^2 / 2")
    layers: dict[str, LayerRegularization] = Field(
        default={},
        description="values for single layers in place of these, by name, as `fnet summary` shows it: dense_1; of a "
        "container, for all that it contains: block; inside one: block/dense_1. The longest name wins",
    )
    max_norm: Length | None = Field(
        default=None,
        description="the greatest length of a column, the incoming weights of a unit: longer ones are scaled down to "
        "it after each update; none by default",
    )

    def penalties(self) -> Penalties:
        """The same, for the functions that train."""
        return Penalties(**self.model_dump())


class EarlyStoppingSettings(Strict, frozen=True):
    """Stop when a value no longer improves, and keep the parameters of its best epoch."""

    monitor: str = Field(
        default="validation_loss",
        description="which value: train_ or validation_, and loss, accuracy or mean_absolute_error",
    )
    patience: Annotated[int, Ge(1)] = Field(default=5, description="epochs without improvement before stopping")


class Plan(NamedTuple):
    """Of a run: the examples of a step, the epochs, of which the last may be cut short, and the steps."""

    batch: int
    epochs: int
    steps: int


class TrainSettings(Strict, frozen=True):
    """How long and in which portions to train."""

    epochs: Annotated[int, Ge(1)] = Field(
        default=20, description="passes over the training examples, each seen once a pass"
    )
    steps: Annotated[int, Ge(1)] | None = Field(
        default=None, description="steps to take in all, in place of epochs; the last pass may be cut short"
    )
    batch_size: Annotated[int, Ge(1)] | Literal["all"] = Field(
        default=32, description="examples a step: 1 is stochastic, all is full-batch gradient descent"
    )
    early_stopping: EarlyStoppingSettings | None = Field(
        default=None, description="stop before the last epoch when a value no longer improves; none by default"
    )
    log_every: Annotated[int, Ge(1)] | None = Field(
        default=None, description="steps between lines of metrics.jsonl, besides one an epoch; none by default"
    )
    tensorboard: bool = Field(
        default=False, description="write the values of every epoch for TensorBoard too (extra tensorboard)"
    )

    def plan(self, size: int) -> Plan:
        """How long a run with so many training examples is."""
        batch = size if self.batch_size == "all" else min(self.batch_size, size)
        an_epoch = math.ceil(size / batch)
        steps = self.steps or self.epochs * an_epoch
        return Plan(batch, math.ceil(steps / an_epoch), steps)


def _folder_name(name: str) -> str:
    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"'{name}' cannot name a folder: no slashes, and no dot in front")
    return name


class Config(Strict, frozen=True):
    """One experiment. Only `data` and `model` are required."""

    name: Annotated[str, MinLen(1), AfterValidator(_folder_name)] = Field(
        default="", description="of the run's folder; by default the name of the file"
    )
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = Field(
        default=0,
        description="of everything random: the split, the initial weights, the order of examples, synthetic data",
    )
    data: Data = Field(description="what to learn from: a name (digits), or a mapping with settings")
    model: list[Any] = Field(
        description="the layers, first to last; `fnet explain LAYER` explains one. In place of a whole number, classes "
        "and vocabulary stand for how many of them the data have: {dense: classes}"
    )
    loss: Loss | None = Field(
        default=None,
        description="what training minimizes: a name (huber), or a mapping with settings; by default mse for values, "
        "cross_entropy for classes, binary_cross_entropy for two classes and one output",
    )
    optimizer: Optimizer = Field(
        default=_optimizer("adam").model_validate({"name": "adam"}),
        description="how gradients change parameters: a name (adam), or a mapping with settings",
    )
    regularization: Regularization = Field(default=Regularization(), description="what keeps weights small")
    train: TrainSettings = Field(default=TrainSettings(), description="how long and in which portions to train")
    out: Annotated[str, MinLen(1)] = Field(default="runs", description="the folder that runs are written into")


def models_in(annotation: Any) -> list[type[Strict]]:
    """The models that a field's type consists of, without what they hold."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def value_of(annotation: Any) -> Any:
    """The type of the values of a mapping whose keys are the user's own, as of layers; None for any other type."""
    return typing.get_args(annotation)[1] if typing.get_origin(annotation) is dict else None


def model_at(path: Sequence[str | int], data: Any) -> type[Strict]:
    """The model of the section that a path leads to; of a union, the member that the data's tags choose."""
    annotation, data = _annotation_at(path, data)
    return _member(annotation, data)


def members_at(path: Sequence[str | int], data: Any) -> list[type[Strict]]:
    """All members of the union that a path leads to; none when the section there is no union."""
    members = models_in(_annotation_at(path, data)[0])
    return members if len(members) > 1 else []


def _annotation_at(path: Sequence[str | int], data: Any) -> tuple[Any, Any]:
    """The type of the section that a path leads to, and its data."""
    annotation: Any = Config
    for part in path:
        annotation = value_of(annotation) or _member(annotation, data).model_fields[str(part)].annotation
        data = data[part]
    return annotation, data


def _member(annotation: Any, data: Mapping[str, Any]) -> type[Strict]:
    members = models_in(annotation)
    return next((member for member in members if _chosen(member, data)), members[0])


def _chosen(member: type[Strict], data: Mapping[str, Any]) -> bool:
    tags = [tag for tag in ("source", "name") if tag in member.model_fields]
    values = {tag: typing.get_args(member.model_fields[tag].annotation) for tag in tags}
    return all(not values[tag] or data.get(tag) in values[tag] for tag in tags)


def homes(model: type[Strict] = Config, path: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The sections that every key exists in, the top level being '': {"epochs": ["train"], "seed": [""], ...}."""
    found: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        found.setdefault(name, []).append(".".join(path))
        for inner in () if value_of(field.annotation) else models_in(field.annotation):
            for key, sections in homes(inner, (*path, name)).items():
                found.setdefault(key, []).extend(sections)
    return {key: list(dict.fromkeys(sections)) for key, sections in found.items()}
