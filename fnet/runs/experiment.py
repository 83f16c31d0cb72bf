"""An experiment: everything that a run needs, as objects of the library.

`fnet.config.load.load` builds one from a YAML file; it can be built in Python as well.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import optax

from fnet.core.layer import Layer
from fnet.data.arrays import Arrays
from fnet.data.augment import Augmentation
from fnet.data.normalize import Normalization, TargetNormalization
from fnet.data.path import FileSource
from fnet.data.pipeline import Order, rows_of
from fnet.data.source import DataError, DatasetSpec, DataSource
from fnet.data.split import DEFAULT_FRACTIONS, NO_RULES, PARTS, Rules, sizes
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.regularization import Penalties
from fnet.train.class_weights import ClassWeights, example_weights
from fnet.train.early_stopping import EarlyStopping
from fnet.train.plan import BATCH_SIZE, EPOCHS, Plan, plan

ConfigText = Callable[[str | os.PathLike[str] | None], str]
"""Function from the folder of a run to its config as YAML."""


def without_config(folder: str | os.PathLike[str] | None) -> str:  # noqa: ARG001
    """Return the text of an experiment that does not come from a config."""
    return ""


SHARE_TOLERANCE = 0.03
"""Difference between the fraction of a part and its share of the examples that is not worth a remark."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data source, and how its examples are split, normalized, ordered and read.

    Args:
        source: where the examples come from.
        spec: description of the dataset, known without reading examples.
        parts: the training, validation and test part, each a fraction or the names of the source's own splits.
        rules: further rules of the split: by groups, in the order of a column, stratified, folds.
        normalization: unit, standard or none.
        target_normalization: standard or none, for targets that are values; metrics of fnet's losses, and predictions,
            have the original unit.
        order: source order, or sorted by content hash.
        stream: read the examples in batches during training instead of loading them into memory.
    """

    source: DataSource
    spec: DatasetSpec
    parts: tuple[float | str, float | str, float | str] = DEFAULT_FRACTIONS
    rules: Rules = NO_RULES
    normalization: Normalization = "none"
    target_normalization: TargetNormalization = "none"
    order: Order = "source"
    stream: bool = False

    def keys(self) -> np.ndarray | None:
        """Return the values (n,) of the column by which the rules divide the examples; None if they do not.

        Raises:
            DataError: when the source does not have this column.
        """
        column = self.rules.column
        if column is None:
            return None
        values = self.source.column(column)
        if values.shape != (self.spec.size,):
            expected = f"expected {self.spec.size:,} values in the column '{column}', one per example"
            raise DataError(f"{expected}, got an array of shape {values.shape}", "split")
        return values

    def sizes(self, seed: int) -> tuple[int, int, int]:
        """Return the number of training, validation and test examples.

        They follow from the description of the dataset. Only if the rules divide by a column, it is read, and the
        targets if the split is stratified.

        Args:
            seed: seed of the split.

        Raises:
            DataError, SplitError: as for `fnet.data.split.divide`.
        """
        if seed not in self._sizes:
            if self.rules.column is None:
                train, validation, test = sizes(self.parts, self.spec.size, self.spec.splits, self.rules)
            else:
                rows = rows_of(self._targets, self.spec, self.parts, seed=seed, rules=self.rules, keys=self.keys())
                examples = np.arange(self.spec.size)
                train, validation, test = (len(examples[part]) for part in rows)
            self._sizes[seed] = (train, validation, test)
        return self._sizes[seed]

    @functools.cached_property
    def _sizes(self) -> dict[int, tuple[int, int, int]]:
        """The sizes by seed."""
        return {}

    def _targets(self) -> np.ndarray:
        return np.asarray(self.source.stream(0).y)

    def folds(self) -> list["Dataset"]:
        """Return the dataset of each fold of cross-validation; for a single run, the dataset itself."""
        if self.rules.folds is None or self.rules.fold is not None:
            return [self]
        folds = range(1, self.rules.folds + 1)
        return [dataclasses.replace(self, rules=self.rules._replace(fold=fold)) for fold in folds]

    def remarks(self, seed: int) -> Iterator[str]:
        """Yield what a user should know about the split.

        That is: unused examples, splits of the user's own that are mixed, and parts that differ from their fractions.

        Args:
            seed: seed of the split.
        """
        counts, size = self.sizes(seed), self.spec.size
        unused = size - sum(counts)
        if unused:
            yield f"data.split: {unused:,} of {size:,} examples ({100 * unused / size:.2g} %) are in no part"
        names = [name for name, _ in self.spec.splits]
        if names and isinstance(self.source, FileSource) and not any(isinstance(part, str) for part in self.parts):
            kept = ", ".join(f"{part}: {part}" for part in PARTS if part in names) or "train: NAME"
            yield (
                f"data.split: fractions mix the examples of {' and '.join(names)}, which are splits of your own; to "
                f"keep them apart, remove data.split, or name them: {{{kept}}}"
            )
        fractions = {part: share for part, share in zip(PARTS, self.parts, strict=True) if not isinstance(share, str)}
        free = size - sum(count for part, count in zip(PARTS, counts, strict=True) if part not in fractions)
        reached = {part: count / free for part, count in zip(PARTS, counts, strict=True) if fractions.get(part)}
        if self.rules.column and any(abs(share - fractions[part]) > SHARE_TOLERANCE for part, share in reached.items()):
            shares = ", ".join(f"{part} {share:.0%} (not {fractions[part]:.0%})" for part, share in reached.items())
            yield f"data.split: equal values of '{self.rules.column}' stay together, which gives {shares}"


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
        config_text: function from the run's folder to the resolved config as YAML, which is written into it; the paths
            that the user wrote as relative ones are relative to the folder, and absolute for None. Empty for an
            experiment without a config.
        fold_configs: for cross-validation, such a function for each fold.
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
    config_text: ConfigText = without_config
    fold_configs: Sequence[ConfigText] = ()

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

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The number of training, validation and test examples; for cross-validation, of the first fold."""
        return self.data.sizes(self.seed)

    @property
    def is_cross_validation(self) -> bool:
        """Whether the experiment consists of one run per fold."""
        return self.data.rules.folds is not None and self.data.rules.fold is None

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
        return plan(self.sizes[0], batch_size=self.batch_size, epochs=self.epochs, steps=self.steps)
