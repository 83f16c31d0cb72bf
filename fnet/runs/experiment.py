"""An experiment: everything that a run needs, as objects of the library.

`fnet.config.load.load` builds one from a YAML file; it can be built in Python as well.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optax

from fnet.core.layer import Layer
from fnet.data.arrays import Arrays
from fnet.data.augment import Augmentation
from fnet.data.normalize import Normalization
from fnet.data.pipeline import Order
from fnet.data.source import DatasetSpec, DataSource
from fnet.data.split import DEFAULT_FRACTIONS, sizes
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.regularization import Penalties
from fnet.train.class_weights import ClassWeights, example_weights
from fnet.train.early_stopping import EarlyStopping
from fnet.train.plan import BATCH_SIZE, EPOCHS, Plan, plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data source, and how its examples are split, normalized, ordered and read.

    Args:
        source: where the examples come from.
        spec: description of the dataset, known without reading examples.
        parts: the training, validation and test part, each a fraction or the names of the source's own splits.
        normalization: unit, standard or none.
        order: source order, or sorted by content hash.
        stream: read the examples in batches during training instead of loading them into memory.
    """

    source: DataSource
    spec: DatasetSpec
    parts: tuple[float | str, float | str, float | str] = DEFAULT_FRACTIONS
    normalization: Normalization = "none"
    order: Order = "source"
    stream: bool = False

    @property
    def training_size(self) -> int:
        """The number of training examples."""
        return sizes(self.parts, self.spec.size, self.spec.splits)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A network, its data, and how it is trained.

    Args:
        name: name of the run's folder, without its number.
        net: the network.
        data: the dataset.
        loss: the loss, with its settings bound.
        loss_settings: name and settings of the loss as plain data, which the model file contains.
        class_weights: weights of the classes in training, not in the scores of the parts; None for equal ones.
        optimizer: function from the number of steps of the run, which its schedule spans, to the optimizer.
        seed: seed of the split, the initial parameters, the order of examples, dropout and synthetic data.
        out: parent of the run's folder.
        penalties: weight penalties and max-norm constraint.
        augmentations: random changes of the training images, in order.
        early_stopping: when to stop before the last epoch; None for never.
        batch_size: examples per step; "all" is full-batch gradient descent.
        epochs: passes over the training examples.
        steps: total number of steps; overrides `epochs`.
        log_every: number of steps between step records in metrics.jsonl; None records epochs only.
        tensorboard: also write the values of every epoch for TensorBoard.
        config_text: the resolved config as YAML, written into the run's folder; empty for an experiment without one.
    """

    name: str
    net: Layer
    data: Dataset
    loss: Loss
    loss_settings: Mapping[str, Any]
    optimizer: Callable[[int], optax.GradientTransformation]
    class_weights: ClassWeights | None = None
    seed: int = 0
    out: str = "runs"
    penalties: Penalties = Penalties()
    augmentations: Sequence[Augmentation] = ()
    early_stopping: EarlyStopping | None = None
    batch_size: int | Literal["all"] = BATCH_SIZE
    epochs: int = EPOCHS
    steps: int | None = None
    log_every: int | None = None
    tensorboard: bool = False
    config_text: str = ""

    @property
    def spec(self) -> DatasetSpec:
        """Description of the dataset."""
        return self.data.spec

    def weights_of(self, train: Arrays | Stream) -> Any:
        """Return the weights of the training examples, from the weights of their classes; None for equal ones."""
        if self.class_weights is None:
            return None
        targets = self.spec.targets
        return example_weights(train.y, self.class_weights, targets.number, targets.names)

    def fit_settings(self) -> dict[str, Any]:
        """Return the settings that every training of the network has, as keyword arguments of `fnet.train.fit`."""
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "regularization": self.penalties,
            "augment": self.augmentations,
        }

    def plan(self) -> Plan:
        """Return the length of the run in steps and epochs."""
        return plan(self.data.training_size, batch_size=self.batch_size, epochs=self.epochs, steps=self.steps)
