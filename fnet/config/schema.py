"""The config's schema: the type, bounds, default and meaning of every setting.

Settings of datasets, losses, optimizers, schedules, penalties and early stopping are read from the signatures of the
functions and classes that take them; those of layers are checked in `fnet.config.model`. Only settings of the
application itself are declared here.
"""

import inspect
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from annotated_types import Ge, Gt, Interval, MinLen
from pydantic import AfterValidator, Field, create_model, model_validator

from fnet.config.split import Parts, Split
from fnet.core.settings import Strict, explanations, model_of, named_parameters
from fnet.core.wording import format_value, printable
from fnet.data import files, sklearn, synthetic
from fnet.data.augment import AUGMENTATIONS
from fnet.data.normalize import Normalization, TargetNormalization
from fnet.data.path import PathText
from fnet.data.pipeline import Order
from fnet.data.split import PARTS, Rules, SplitSizes
from fnet.losses import DATA_PARAMETERS, LOSSES
from fnet.regularization import LAYER_SETTINGS, Penalties
from fnet.train.class_weights import CLASS_LOSSES
from fnet.train.early_stopping import EarlyStopping
from fnet.train.optimizer import DEFAULT_OPTIMIZER, OPTIMIZERS, SCHEDULE_SUPPLIED, SCHEDULES
from fnet.train.plan import BATCH_SIZE, EPOCHS, MIN_STEPS, default_epochs


class Choice(Strict, frozen=True):
    """The settings of one of several choices, such as an optimizer, selected by its name.

    A direct subclass declares the settings that all choices share; its subclasses add their specific settings.
    """

    name: str

    def specific_settings(self) -> dict[str, Any]:
        """Return the settings of this choice that the other choices do not share."""
        shared = next(model for model in type(self).__mro__ if Choice in model.__bases__)
        return {key: value for key, value in self if key not in shared.model_fields}


def union_of(models: Iterable[type[Strict]], tag: str) -> Any:
    """Return the type of a mapping that is one of several models, selected by the entry `tag`."""
    return Annotated[Union[tuple(models)], Field(discriminator=tag)]  # noqa: UP007


class DataSettings(Choice, frozen=True):
    """The settings that every dataset has."""

    source: str
    split: Split | None = Field(
        default=None,
        description="how to split the examples; by default the source's own splits, with a tenth of train for "
        "validation, or 0.8, 0.1 and 0.1 if it has none",
    )
    normalize: Normalization | None = Field(
        default=None,
        description="unit (to [0, 1]), standard (mean 0, standard deviation 1) or none, with statistics of the "
        "training part; by default unit for images, standard for tables, none for synthetic data",
    )
    normalize_targets: TargetNormalization | None = Field(
        default=None,
        description="standard (mean 0, standard deviation 1, with statistics of the training part) or none, for "
        "targets that are values; metrics and predictions have the original unit; by default standard, none for "
        "synthetic data",
    )
    augment: list[Any] = Field(
        default=[],
        description="random changes of the training images, applied in order after normalization: "
        f"{', '.join(AUGMENTATIONS)}; `fnet explain NAME` explains each",
    )
    order: Order = Field(
        default="source",
        description="order of the examples before training shuffles them: source, or content (sorted by content hash, "
        "so that sources that store the same examples in different orders give the same run; reads all examples once)",
    )
    stream: bool = Field(
        default=False,
        description="read the examples during training, for data larger than memory; the results are the "
        "same. Examples are read from their decoded copy on disk, or, if the disk is too full for one, from the "
        "records of TensorFlow Datasets",
    )

    def parts(self, source_splits: SplitSizes) -> Parts:
        """Return the training, validation and test part, for a source with these splits."""
        return (self.split or Split()).parts(source_splits)

    def rules(self) -> Rules:
        """Return the rules of the split beside its fractions."""
        return (self.split or Split()).rules()

    def resolved_split(self, source_splits: SplitSizes) -> Split:
        """Return the split with its parts filled in; with cross-validation, only the test part."""
        split = self.split or Split()
        parts: dict[str, float | str] = dict(zip(PARTS, self.parts(source_splits), strict=True))
        if split.cross_validation is not None:
            parts = {"test": parts["test"]}
        return split.model_copy(update=parts)


class SklearnData(DataSettings, frozen=True):
    """Real data that ships with scikit-learn, without a download."""

    source: Literal["sklearn"] = Field(description="datasets that ship with scikit-learn")
    name: Literal[tuple(sklearn.SPECS)] = Field(description="dataset")  # pyright: ignore[reportInvalidTypeForm]


class TfdsData(DataSettings, frozen=True):
    """A dataset prepared by TensorFlow Datasets (`fnet data prepare NAME`), read without TensorFlow."""

    source: Literal["tfds"] = Field(description="datasets of TensorFlow Datasets")
    name: Annotated[str, MinLen(1)] = Field(description="name in its catalog: mnist, glue/cola, mnist:3.0.1")
    data_dir: PathText | None = Field(
        default=None,
        description="folder of the prepared datasets; by default $TFDS_DATA_DIR, or ~/tensorflow_datasets",
    )
    image_key: str | None = Field(
        default=None, description="input feature, a/b for b inside a; by default the one that the dataset defines"
    )
    label_key: str | None = Field(
        default=None, description="target feature; by default the one that the dataset defines"
    )
    text_length: Annotated[int, Ge(1)] = Field(
        default=256, description="number of UTF-8 bytes of a text; truncated or zero-padded"
    )

    def specific_settings(self) -> dict[str, Any]:
        """Return the settings of this dataset, and its parts, which determine the splits to read."""
        written = self.split is not None and self.split.names_parts
        return super().specific_settings() | {"split": self.split.parts(()) if self.split and written else None}


class _SyntheticData(DataSettings, frozen=True):
    source: Literal["synthetic"] = Field(description="data computed by a formula from the seed")


class _FilesData(DataSettings, frozen=True):
    source: Literal["files"] = Field(description="your own files, in the format given by `name`")

    def specific_settings(self) -> dict[str, Any]:
        """Return the settings of this dataset, and the column of the groups if the format can leave it out."""
        supplied = {"group": self.split.group if self.split else None}
        takes = named_parameters(files.FORMATS[self.name])
        return super().specific_settings() | {key: value for key, value in supplied.items() if key in takes}


class ScheduleSettings(Choice, frozen=True):
    """The settings that every schedule has: only its name."""


class LossSettings(Choice, frozen=True):
    """The settings that every loss has: only its name."""


Weight = Annotated[float, Ge(0)]


class ClassWeightSettings(Strict, frozen=True):
    """The setting of the losses that are for classes, beside those of their functions."""

    class_weights: Literal["balanced"] | list[Weight] | dict[str, Weight] | None = Field(
        default=None,
        description="weights of the classes in training: balanced (n / (K n_c) for n examples, K classes and n_c "
        "examples of class c), a weight per class in order, or weights by class name, 1 for the others. The loss of a "
        "step is then sum(w L) / sum(w); validation values and final scores are unweighted. By default all are 1",
    )


class _ClassLossSettings(ClassWeightSettings, LossSettings, frozen=True):
    pass


def loss_model(name: str) -> type[LossSettings]:
    """Return the model of a loss's settings."""
    base = _ClassLossSettings if name in CLASS_LOSSES else LossSettings
    return model_of(LOSSES[name].function, name, DATA_PARAMETERS, base)


def _schedule_model(name: str) -> type[ScheduleSettings]:
    return model_of(SCHEDULES[name], name, SCHEDULE_SUPPLIED, ScheduleSettings)


def _synthetic_model(name: str) -> type[DataSettings]:
    return model_of(synthetic.GENERATORS[name].make, name, synthetic.SUPPLIED, _SyntheticData)


def _files_model(name: str) -> type[DataSettings]:
    return model_of(files.FORMATS[name], name, files.SUPPLIED, _FilesData)


if TYPE_CHECKING:
    Data = DataSettings
    Loss = LossSettings
    Schedule = ScheduleSettings
else:
    Data = union_of(
        [
            SklearnData,
            TfdsData,
            union_of(map(_synthetic_model, synthetic.GENERATORS), "name"),
            union_of(map(_files_model, files.FORMATS), "name"),
        ],
        "source",
    )
    Loss = union_of(map(loss_model, LOSSES), "name")
    Schedule = union_of(map(_schedule_model, SCHEDULES), "name")


class OptimizerSettings(Choice, frozen=True):
    """The settings that every optimizer has."""

    schedule: Schedule = Field(
        default=_schedule_model("constant").model_validate({"name": "constant"}),
        description="how the learning rate changes over the run",
    )
    clip_norm: Annotated[float, Gt(0)] | None = Field(
        default=None, description="maximum norm of the whole gradient, which is scaled down to it"
    )
    clip_value: Annotated[float, Gt(0)] | None = Field(
        default=None, description="maximum absolute value of every gradient entry, clipped before clip_norm"
    )


def _optimizer_model(name: str) -> type[OptimizerSettings]:
    return model_of(OPTIMIZERS[name], name, (), OptimizerSettings)


if TYPE_CHECKING:
    Optimizer = OptimizerSettings
else:
    Optimizer = union_of(map(_optimizer_model, OPTIMIZERS), "name")


def _regularization_model() -> Any:
    """Return the model of the settings of `Penalties`, whose `layers` have the same settings, all optional."""
    types, meanings = typing.get_type_hints(Penalties, include_extras=True), explanations(Penalties)
    fields: dict[str, Any] = {
        value: (types[value] | None, Field(default=None, description=meanings[value])) for value in LAYER_SETTINGS
    }
    one_layer = create_model(
        "LayerRegularization",
        __base__=Strict,
        __doc__="Values for one layer that replace the values for all layers; null leaves a value unchanged.",
        **fields,
    )
    return create_model(
        "Regularization",
        __base__=model_of(Penalties, None, ("layers",)),
        __doc__=inspect.getdoc(Penalties),
        layers=(
            dict[str, one_layer],  # pyright: ignore[reportInvalidTypeForm]
            Field(default={}, description=meanings["layers"]),
        ),
    )


if TYPE_CHECKING:
    Regularization = Strict
    EarlyStoppingSettings = Any
else:
    Regularization = _regularization_model()
    EarlyStoppingSettings = model_of(EarlyStopping)


class TrainSettings(Strict, frozen=True):
    """How long to train, and on how many examples per step."""

    epochs: Annotated[int, Ge(1)] = Field(
        default=EPOCHS,
        description=f"passes over the training examples; by default {EPOCHS}, or as many as {MIN_STEPS:,} steps need",
    )
    steps: Annotated[int, Ge(1)] | None = Field(
        default=None, description="total number of steps, in place of epochs; the last epoch may be cut short"
    )
    batch_size: Annotated[int, Ge(1)] | Literal["all"] = Field(
        default=BATCH_SIZE, description="examples per step: 1 is stochastic, all is full-batch gradient descent"
    )
    early_stopping: EarlyStoppingSettings | None = Field(
        default=None, description="stop before the last epoch when a value no longer improves; by default never"
    )
    log_every: Annotated[int, Ge(1)] | None = Field(
        default=None,
        description="steps between step records in metrics.jsonl, which always has a record per epoch; by default none",
    )
    tensorboard: bool = Field(
        default=False, description="also write the values of every epoch for TensorBoard (extra tensorboard)"
    )

    @model_validator(mode="before")
    @classmethod
    def _either_epochs_or_steps(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("epochs") is not None and data.get("steps") is not None:
            raise ValueError("expected either epochs or steps, got both; remove one of them")
        return data

    def epochs_for(self, examples: int) -> int:
        """Return the epochs for a number of training examples: those that are set, or the default."""
        is_set = "epochs" in self.model_fields_set
        return self.epochs if is_set else default_epochs(examples, batch_size=self.batch_size)


MAX_NAME = 200
"""Maximum length of a run's name in bytes of UTF-8; the folder's name adds a number, and has at most 255 bytes."""


def folder_name(name: str) -> str:
    """Return the name of a run if a folder can be named so.

    Raises:
        ValueError: for a name with slashes, a leading dot or control characters, or one that is blank or too long.
    """
    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"expected a folder name without slashes or a leading dot, got {format_value(name)}")
    if not name.strip():
        raise ValueError(f"expected a folder name that is not blank, got {format_value(name)}")
    length = len(printed_text(name).encode())
    if length > MAX_NAME:
        raise ValueError(f"expected a folder name of at most {MAX_NAME} bytes, got {length:,}; shorten it")
    return name


def printed_text(text: str) -> str:
    """Return a text that contains no control characters.

    Raises:
        ValueError: when it contains one.
    """
    if printable(text) != text:
        raise ValueError(f"expected text without control characters, got {format_value(text)}; remove them")
    return text


class Config(Strict, frozen=True):
    """One experiment. Only `data` and `model` are required."""

    name: Annotated[str, MinLen(1), AfterValidator(folder_name)] = Field(
        default="", description="name of the run's folder; by default the name of the config file"
    )
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = Field(
        default=0,
        description="seed of everything random: the split, the initial weights, the order of examples, synthetic data",
    )
    data: Data = Field(description="dataset: a name (digits), or a mapping with settings")
    model: list[Any] = Field(
        description="the layers, first to last; `fnet explain LAYER` explains each. In place of a whole number, "
        "classes, labels and vocabulary stand for the number of classes, labels or tokens in the data: {dense: classes}"
    )
    loss: Loss | None = Field(
        default=None,
        description="what training minimizes: a name (huber), or a mapping with settings; by default mse for values, "
        "cross_entropy for classes, binary_cross_entropy for labels, and for two classes and one output",
    )
    optimizer: Optimizer = Field(
        default=_optimizer_model(DEFAULT_OPTIMIZER).model_validate({"name": DEFAULT_OPTIMIZER}),
        description="how gradients update the parameters: a name (adam), or a mapping with settings",
    )
    regularization: Regularization = Field(
        default=Regularization(), description="weight penalties and max-norm constraint"
    )
    train: TrainSettings = Field(
        default=TrainSettings(), description="how long to train, and on how many examples per step"
    )
    out: Annotated[str, MinLen(1), AfterValidator(printed_text)] = Field(
        default="runs", description="folder that runs are written to"
    )
