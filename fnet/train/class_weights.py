"""Weights of the training examples that balance the classes, or emphasize some of them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from fnet.data.arrays import chunks
from fnet.data.stream import View

CLASS_LOSSES = ("cross_entropy", "binary_cross_entropy")
"""The losses that can weigh classes."""

ClassWeights = Literal["balanced"] | Mapping[str, float] | Sequence[float]
"""balanced, the weight of every class in order, or weights by the name of the class; other classes have weight 1."""


def class_weights(setting: ClassWeights, counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the weight of every class (classes,).

    `balanced` is n / (K n_c) for n examples, n_c of class c, and the K classes that occur: every class has the same
    total weight, and the mean weight of the examples is 1 (King and Zeng 2001; scikit-learn's `class_weight`).

    Args:
        setting: balanced, a list, or a mapping from names to weights.
        counts: n_c, number of training examples of every class.
        names: names of the classes; without names, a class is named by its number.

    >>> class_weights("balanced", np.array([6, 2]), ["no", "yes"]).round(3).astype(str).tolist()
    ['0.667', '2.0']
    >>> class_weights({"yes": 3.0}, np.array([6, 2]), ["no", "yes"]).tolist()
    [1.0, 3.0]
    """
    if isinstance(setting, str):
        occurring = max(1, np.count_nonzero(counts))
        return np.where(counts > 0, counts.sum() / (occurring * np.maximum(counts, 1)), 1.0).astype(np.float32)
    if isinstance(setting, Mapping):
        setting = [setting.get(name, 1.0) for name in class_names(len(counts), names)]
    return np.asarray(setting, np.float32)


def class_names(number: int, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes: those that the data has, or their numbers.

    >>> class_names(2, ())
    ('0', '1')
    """
    return tuple(names) or tuple(map(str, range(number)))


def class_counts(labels: np.ndarray | View, classes: int) -> np.ndarray:
    """Return the number of labels (n, ...) of every class (classes,), read in chunks.

    >>> class_counts(np.array([0, 2, 2]), 4).tolist()
    [1, 0, 2, 0]
    """
    counts = np.zeros(classes, np.int64)
    for rows in chunks(labels):
        counts += np.bincount(np.asarray(labels[rows]).astype(np.int64).reshape(-1), minlength=classes)
    return counts


def example_weights(
    labels: np.ndarray | View, setting: ClassWeights, classes: int, names: Sequence[str]
) -> np.ndarray | View:
    """Return the weight of the class of every label, with which the loss is sum_i w_i L_i / sum_i w_i.

    They are the `weights` of `fnet.train.fit`. For a sequence of labels, every step has the weight of its label. The
    weights of labels that are read during training are computed as they are read.

    Args:
        labels: integers (n,), or (n, time); or floats (n, 1) that are 0 or 1, as `binary_cross_entropy` takes them.
        setting: balanced, a list, or a mapping from names to weights.
        classes: number of classes.
        names: names of the classes, if the data has any.

    >>> example_weights(np.array([0, 0, 0, 1]), "balanced", 2, ()).round(3).astype(str).tolist()
    ['0.667', '0.667', '0.667', '2.0']
    """
    weights = class_weights(setting, class_counts(labels, classes), names)
    binary = labels.dtype.kind == "f"

    def of_labels(labels: np.ndarray) -> np.ndarray:
        labels = labels.astype(np.int64)
        return weights[labels[:, 0] if binary else labels]

    return of_labels(labels) if isinstance(labels, np.ndarray) else View(labels, function=of_labels)
