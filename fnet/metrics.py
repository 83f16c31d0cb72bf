"""Metrics that are recorded alongside the loss, each with its direction and its format.

A metric maps the predictions (or outputs) of a batch and its targets to one number per example; the caller averages.
A metric that is not a mean, such as a root or a ratio of means, is a function of several means.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from fnet.core.wording import DIGITS

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


def subset_accuracy(
    predictions: Num[AnyArray, "batch *labels"], targets: Num[AnyArray, "batch *labels"]
) -> Float[Array, " batch"]:
    """1 where all labels of an example are predicted correctly, else 0.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> subset_accuracy(jnp.array([[1, 0], [1, 1]]), jnp.array([[1, 0], [0, 1]])).tolist()
    [1.0, 0.0]
    """
    _require_same_shape("subset_accuracy", predictions, targets)
    right = jnp.asarray(predictions == targets)
    return right.reshape(right.shape[0], -1).all(axis=1).astype(jnp.float32)


def absolute_error(
    predictions: Num[AnyArray, "batch *positions outputs"], targets: Num[AnyArray, "batch *positions outputs"]
) -> Float[Array, "batch outputs"]:
    """|g - y| for predictions g and targets y, averaged over the positions of a sequence or an image, if there are any.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [[1.0, 3.0]]
    """
    return _per_output(jnp.abs(_errors("absolute_error", predictions, targets)))


def squared_error(
    predictions: Num[AnyArray, "batch *positions outputs"], targets: Num[AnyArray, "batch *positions outputs"]
) -> Float[Array, "batch outputs"]:
    """(g - y)^2 for predictions g and targets y, averaged over positions, as `absolute_error`.

    Raises:
        ValueError: when the shapes differ.
    """
    return _per_output(jnp.square(_errors("squared_error", predictions, targets)))


class Moments(NamedTuple):
    """What R^2 is computed from: squared errors (g - y)^2, targets y and their squares, or the means of these."""

    error: Any
    target: Any
    square: Any


def moments(
    predictions: Num[AnyArray, "batch *positions outputs"],
    targets: Num[AnyArray, "batch *positions outputs"],
    *,
    center: Any = 0.0,
) -> Moments:
    """Return (g - y)^2, y - c and (y - c)^2, each (batch, outputs), averaged over positions, as `absolute_error`.

    Args:
        predictions: g.
        targets: y.
        center: c, a number near the targets, for each output or for all. The variance of the targets is the difference
            of two means, which has few correct digits in float32 where the targets are far from c.

    Raises:
        ValueError: when the shapes differ.
    """
    error = squared_error(predictions, targets)
    centered = _widened(targets) - center
    return Moments(error, _per_output(centered), _per_output(jnp.square(centered)))


def mean_of_outputs(means: Any, *, scale: Any = 1.0) -> Any:
    """Return the mean over the outputs of scale * mean."""
    return (means * scale).mean()


def root_of_mean(means: Any, *, scale: Any = 1.0) -> Any:
    """Return the mean over the outputs of scale * sqrt(mean).

    >>> float(root_of_mean(np.array([4.0, 16.0]), scale=np.array([1.0, 10.0])))
    21.0
    """
    return (means**0.5 * scale).mean()


CONSTANT = 1e-6
"""Variance relative to the mean square below which targets count as constant: it may come from rounding in float32."""


def explained(means: Moments) -> Any:
    """Return R^2, the mean over the outputs of 1 - E[(g - y)^2] / Var[y], from the means of `moments`.

    It is 1 for perfect predictions and 0 for those that are all the mean of y, and has no lower limit. For a constant
    target it is 1 if all predictions are equal to it, else 0, as in scikit-learn.

    >>> y = np.array([1.0, 2.0, 6.0])
    >>> round(float(explained(Moments(np.array([0.5]), y.mean(), np.square(y).mean()))), 4)
    0.8929
    """
    variance = means.square - means.target**2
    varies = variance > CONSTANT * means.square
    # Arithmetic with truth values, so that arrays of NumPy and of JAX are accepted alike.
    ratio = means.error * varies / (variance * varies + ~varies)
    return (1 - ratio - ~varies * (means.error > 0)).mean()


class Metric(NamedTuple):
    """A metric and how to read its values.

    Args:
        name: recorded as train_<name> and validation_<name>.
        function: (predictions, targets) -> one number per example, whose mean is the value; or, with `finish`, an array
            (batch, ...) or a tree of such arrays.
        higher_is_better: whether training improves when the value rises; None if that is unknown.
        format: format specification for `format_score`, such as ".1%".
        of: whether the function receives the predictions, such as the class, or the outputs of the network.
        finish: maps the means of the function's arrays over all examples, of shape (...), to the value, by operations
            that arrays of NumPy and of JAX have; None for a value that is a mean itself. The means are those over the
            whole part of the data, not over batches.
    """

    name: str
    function: Callable[..., Any]
    higher_is_better: bool | None
    format: str = DIGITS
    of: Literal["predictions", "outputs"] = "predictions"
    finish: Callable[[Any], Any] | None = None


def regression_metrics(*, scale: Any = 1.0, center: Any = 0.0) -> tuple[Metric, ...]:
    """Return root mean squared error, mean absolute error and R^2; of several outputs, the mean of their values.

    These are scikit-learn's `root_mean_squared_error`, `mean_absolute_error` and `r2_score` with
    `multioutput="uniform_average"`.

    Args:
        scale: factor, for each output or for all, between the errors and the errors to report. It is the scale of
            standardized targets, so that the values are in the original unit.
        center: a number near the targets, as for `moments`.
    """
    root, mean = (functools.partial(finish, scale=scale) for finish in (root_of_mean, mean_of_outputs))
    terms = functools.partial(moments, center=center)
    return (
        Metric("rmse", squared_error, higher_is_better=False, finish=root),
        Metric("mean_absolute_error", absolute_error, higher_is_better=False, finish=mean),
        Metric("r2", terms, higher_is_better=True, finish=explained),
    )


ACCURACY = Metric("accuracy", accuracy, higher_is_better=True, format=".1%")
SUBSET_ACCURACY = Metric("subset_accuracy", subset_accuracy, higher_is_better=True, format=".1%")
RMSE, MEAN_ABSOLUTE_ERROR, R2 = REGRESSION_METRICS = regression_metrics()


def in_unit(metrics: Sequence[Metric], *, scale: Any = 1.0, center: Any = 0.0) -> tuple[Metric, ...]:
    """Return metrics with each of `REGRESSION_METRICS` replaced by that of `regression_metrics(scale, center)`."""
    pairs = [*zip(REGRESSION_METRICS, regression_metrics(scale=scale, center=center), strict=True)]
    return tuple(next((new for old, new in pairs if old == metric), metric) for metric in metrics)


def recorded_name(part: str, name: str) -> str:
    """Return the name under which the loss or a metric of a part of the data is recorded.

    >>> recorded_name("validation", "accuracy")
    'validation_accuracy'
    """
    return f"{part}_{name}"


def per_example(values: Array) -> Array:
    """Return the mean over every axis but the first, the batch."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


def _errors(name: str, predictions: AnyArray, targets: AnyArray) -> Array:
    _require_same_shape(name, predictions, targets)
    return _widened(predictions) - targets


def _widened(values: AnyArray) -> Array:
    """Return integers and numbers of 16 bits in float32, and others as they are."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _per_output(values: Array) -> Array:
    """Return values (batch, outputs), the mean over all axes but the first and the last, the outputs."""
    outputs = values.shape[-1] if values.ndim > 1 else 1
    return values.reshape(values.shape[0], -1, outputs).mean(axis=1)


def _require_same_shape(name: str, predictions: AnyArray, targets: AnyArray) -> None:
    if predictions.shape != targets.shape:
        raise ValueError(
            f"{name}: predictions {predictions.shape} and targets {targets.shape} must have the same shape"
        )
