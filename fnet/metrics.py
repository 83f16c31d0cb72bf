"""Metrics that are recorded alongside the loss, each with its direction and its format.

A metric maps the predictions (or outputs) of a batch and its targets to one number per example; the caller averages.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

AnyArray = Array | np.ndarray
"""An array of JAX or NumPy."""


def accuracy(
    predictions: Num[AnyArray, "batch *labels"], targets: Num[AnyArray, "batch ..."]
) -> Float[Array, " batch"]:
    """Fraction of an example's labels that are predicted correctly; with one label, 1 or 0.

    Args:
        predictions: class indices.
        targets: class indices of the same shape, or one-hot labels with one more axis.

    Raises:
        ValueError: when the shapes do not match.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([1, 2]), jnp.array([1, 0])).tolist()
    [1.0, 0.0]
    """
    if targets.ndim == predictions.ndim + 1:
        targets = jnp.argmax(targets, axis=-1)
    _require_same_shape("accuracy", predictions, targets)
    return per_example((predictions == targets).astype(jnp.float32))


def absolute_error(
    predictions: Num[AnyArray, "batch *outputs"], targets: Num[AnyArray, "batch *outputs"]
) -> Float[Array, " batch"]:
    """Mean over the outputs of |g - y|, for predictions g and targets y, in the unit of the target.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.0]
    """
    _require_same_shape("absolute_error", predictions, targets)
    return per_example(jnp.abs(predictions - targets))


class Metric(NamedTuple):
    """A metric and how to read its values.

    Args:
        name: recorded as train_<name> and validation_<name>.
        function: (predictions, targets) -> one number per example.
        higher_is_better: whether training improves when the value rises; None if that is unknown.
        format: format specification that shows a value, such as ".1%".
        of: whether the function receives the predictions, such as the class, or the outputs of the network.

    >>> f"{0.98765:{ACCURACY.format}}"
    '98.8%'
    """

    name: str
    function: Callable[..., Array]
    higher_is_better: bool | None
    format: str = ".4g"
    of: Literal["predictions", "outputs"] = "predictions"


ACCURACY = Metric("accuracy", accuracy, higher_is_better=True, format=".1%")
MEAN_ABSOLUTE_ERROR = Metric("mean_absolute_error", absolute_error, higher_is_better=False)


def recorded_name(part: str, name: str) -> str:
    """Return the name under which the loss or a metric of a part of the data is recorded.

    >>> recorded_name("validation", "accuracy")
    'validation_accuracy'
    """
    return f"{part}_{name}"


def per_example(values: Array) -> Array:
    """Return the mean over every axis but the first, the batch."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


def _require_same_shape(name: str, predictions: AnyArray, targets: AnyArray) -> None:
    if predictions.shape != targets.shape:
        raise ValueError(
            f"{name}: predictions {predictions.shape} and targets {targets.shape} must have the same shape"
        )
