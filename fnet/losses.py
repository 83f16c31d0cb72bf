"""Losses per example, and the decision rule of each.

A loss maps the outputs of a batch and its targets to one number per example; the caller averages, so that the
gradient of the training loss is the mean of the per-example gradients. Where an example has several outputs its loss
is their mean. A loss refuses to broadcast: shapes that do not belong together raise, and the message names both. What
a loss takes beside outputs and targets are its settings, given to it by `functools.partial`.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval
from jaxtyping import Array, Float, Int, Num

from fnet import metrics
from fnet.metrics import per_example


def mse(outputs: Float[Array, "batch *outputs"], targets: Num[Array, "batch *outputs"]) -> Float[Array, " batch"]:
    """Squared error: L_i = mean over the outputs of (g - y)^2, for outputs g and targets y.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> mse(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.5]
    """
    _refuse_broadcast("mse", outputs, targets)
    return per_example(jnp.square(outputs - targets))


def huber(
    outputs: Float[Array, "batch *outputs"],
    targets: Num[Array, "batch *outputs"],
    *,
    delta: Annotated[float, Gt(0)] = 1.0,
) -> Float[Array, " batch"]:
    """L_i = mean over the outputs of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for errors e = g - y.

    Squared near the target and linear far from it, so that an outlier pulls with a force of delta at most (Huber 1964).
    The two pieces meet with equal values and derivatives. Libraries agree on the half, which `mse` does not have.

    Args:
        outputs: g.
        targets: y, of the shape of the outputs.
        delta: the error up to which the loss is squared, in the unit of the target.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> huber(jnp.array([[1.0], [4.0]]), jnp.zeros((2, 1)), delta=2.0).tolist()
    [0.5, 6.0]
    """
    _refuse_broadcast("huber", outputs, targets)
    error = outputs - targets
    size = jnp.abs(error)
    return per_example(jnp.where(size <= delta, jnp.square(error) / 2, delta * (size - delta / 2)))


def binary_cross_entropy(
    logits: Float[Array, "batch *labels"], labels: Num[Array, "batch *labels"]
) -> Float[Array, " batch"]:
    """L_i = mean over the labels of -[y log p + (1-y) log(1-p)], with p = sigmoid(z), for labels y in [0, 1].

    Several outputs are several independent labels (multilabel). Computed from the logits z as log(1 + e^z) - y z, which
    neither overflows nor loses the small probabilities.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> round(float(binary_cross_entropy(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0]), 4)
    0.6931
    """
    _refuse_broadcast("binary_cross_entropy", logits, labels)
    return per_example(jax.nn.softplus(logits) - labels * logits)


def hinge(logits: Float[Array, "batch *labels"], labels: Num[Array, "batch *labels"]) -> Float[Array, " batch"]:
    """L_i = mean over the labels of max(0, 1 - t z), with t = 2y - 1, for labels y that are 0 or 1.

    What a support vector machine minimizes (Cortes and Vapnik 1995): nothing to gain beyond the margin t z = 1. At that
    kink the derivative is 0, as `jax.nn.relu` takes it. Textbooks write labels as t = -1 or 1; here they are 0 or 1, as
    in data and in the other losses.

    Args:
        logits: z; the decision is 1 if and only if z >= 0.
        labels: y, of the shape of the logits.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> hinge(jnp.array([[0.25], [3.0], [3.0]]), jnp.array([[1], [1], [0]])).tolist()
    [0.75, 0.0, 4.0]
    """
    _refuse_broadcast("hinge", logits, labels)
    t = 2 * labels.astype(logits.dtype) - 1
    return per_example(jax.nn.relu(1 - t * logits))


def cross_entropy(
    logits: Float[Array, "batch *positions classes"],
    labels: Int[Array, "batch *positions"] | Num[Array, "batch *positions classes"],
    *,
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Float[Array, " batch"]:
    """L_i = -sum_c y'_c log p_c, with p = softmax(z), for integer labels or one-hot (or soft) labels y.

    Here y' = (1 - s) y + s / C over C classes, which is y itself without label smoothing (s = 0). Computed from the
    logits z, as log(sum_k e^(z_k)) - z_y where s = 0.

    Args:
        logits: z, the classes on the last axis.
        labels: integers of the shape of z without its last axis, or a distribution y of the shape of z. An integer
            outside 0 ... classes - 1 gives NaN: a compiled program cannot raise, so check labels before.
        label_smoothing: s, the share of every label that is spread over all classes, its own included (Szegedy et al.
            2016).

    Raises:
        ValueError: when the labels are of neither form.

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, 0.0]])
    >>> a, b = cross_entropy(logits, jnp.array([0])), cross_entropy(logits, jnp.array([[1, 0, 0]]))
    >>> round(float(a[0]), 4), round(float(b[0]), 4)
    (0.2395, 0.2395)
    """
    _refuse_no_classes("cross_entropy", logits)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    if labels.shape == logits.shape:
        losses = -jnp.sum(labels * log_p, axis=-1)
    elif labels.shape == logits.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        classes = logits.shape[-1]
        picked = jnp.take_along_axis(log_p, jnp.clip(labels, 0, classes - 1)[..., None], axis=-1)[..., 0]
        losses = jnp.where((labels >= 0) & (labels < classes), -picked, jnp.nan)
    else:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} take integer labels {logits.shape[:-1]} or one-hot labels "
            f"{logits.shape}, got {labels.dtype} labels {labels.shape}"
        )
    # Where nothing is smoothed, a class of probability 0 must not spoil the sum: 0 * inf is NaN.
    spread = jnp.where(label_smoothing > 0, -label_smoothing * jnp.mean(log_p, axis=-1), 0.0)
    return per_example((1 - label_smoothing) * losses + spread)


def kl_divergence(
    logits: Float[Array, "batch *positions classes"], targets: Num[Array, "batch *positions classes"]
) -> Float[Array, " batch"]:
    """L_i = sum_c y_c (log y_c - log p_c), with p = softmax(z) and 0 log 0 = 0, for distributions y.

    The divergence D(y || p) of Kullback and Leibler (1951): cross-entropy less the entropy of y, which no parameter
    changes, so that its gradient is that of cross-entropy and its least value is 0. In place of logits Keras's takes p,
    and PyTorch's log p; PyTorch's divides by the number of all entries unless told otherwise.

    Args:
        logits: z, the classes on the last axis.
        targets: y, of the shape of the logits. An entry below 0 gives NaN.

    Raises:
        ValueError: when the shapes differ, or there is no axis of classes.

    >>> import jax.numpy as jnp
    >>> round(float(kl_divergence(jnp.zeros((1, 2)), jnp.array([[0.0, 1.0]]))[0]), 4)
    0.6931
    >>> float(kl_divergence(jnp.zeros((1, 2)), jnp.array([[0.5, 0.5]]))[0])
    0.0
    """
    _refuse_no_classes("kl_divergence", logits)
    _refuse_broadcast("kl_divergence", logits, targets)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    log_y = jnp.log(jnp.where(targets == 0, 1, targets))
    return per_example(jnp.sum(jnp.where(targets == 0, 0.0, targets * (log_y - log_p)), axis=-1))


def value(outputs: Float[Array, "batch *outputs"]) -> Float[Array, "batch *outputs"]:
    """The decision rule of a regression: the output itself."""
    return outputs


def at_least_half(logits: Float[Array, "batch *labels"]) -> Int[Array, "batch *labels"]:
    """The decision rule of binary cross-entropy, class 1 if and only if p >= 0.5, which is z >= 0; and of hinge.

    >>> import jax.numpy as jnp
    >>> at_least_half(jnp.array([-0.1, 0.0, 3.0])).tolist()
    [0, 1, 1]
    """
    return (logits >= 0).astype(jnp.int32)


def most_likely(logits: Float[Array, "batch *positions classes"]) -> Int[Array, "batch *positions"]:
    """The decision rule over several classes: argmax_c p_c = argmax_c z_c, the first of equals.

    >>> import jax.numpy as jnp
    >>> most_likely(jnp.array([[0.0, 3.0, 1.0]])).tolist()
    [1]
    """
    return jnp.argmax(logits, axis=-1)


class Loss(NamedTuple):
    """A loss with what belongs to it.

    Args:
        function: (outputs, targets) -> one number per example.
        decide: the decision rule, outputs -> decisions.
        metric: (decisions, targets) -> one number per example, and its name.
        targets: what it compares outputs with: real numbers (`values`), 0 or 1 for each output (`labels`), one of as
            many classes as there are outputs (`classes`), or a distribution over them (`distributions`).
        summary: what it is for.
        probabilities: outputs -> the probabilities that it takes them for, if it does.
    """

    function: Callable[..., Array]
    decide: Callable[..., Array]
    metric_name: str
    metric: Callable[..., Array]
    targets: Literal["values", "labels", "classes", "distributions"] | None
    summary: str
    probabilities: Callable[..., Array] | None = None


def _of_values(function: Callable[..., Array], summary: str) -> Loss:
    return Loss(function, value, "mean_absolute_error", metrics.absolute_error, "values", summary)


def _of_labels(function: Callable[..., Array], summary: str) -> Loss:
    probabilities = jax.nn.sigmoid if function is binary_cross_entropy else None
    return Loss(function, at_least_half, "accuracy", metrics.accuracy, "labels", summary, probabilities)


def _of_classes(function: Callable[..., Array], targets: Literal["classes", "distributions"], summary: str) -> Loss:
    return Loss(function, most_likely, "accuracy", metrics.accuracy, targets, summary, jax.nn.softmax)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mse": _of_values(mse, "regression"),
        "binary_cross_entropy": _of_labels(binary_cross_entropy, "two classes, or many labels"),
        "cross_entropy": _of_classes(cross_entropy, "classes", "one of several classes"),
        "huber": _of_values(huber, "regression with outliers"),
        "hinge": _of_labels(hinge, "two classes, or many labels, with a margin"),
        "kl_divergence": _of_classes(kl_divergence, "distributions", "distributions as targets, given from Python"),
    }
)
"""The losses by name."""

SUPPLIED = ("outputs", "targets", "logits", "labels")
"""The parameters of losses that are no settings."""


def identified(function: Callable[..., Array]) -> tuple[str, dict[str, Any]] | None:
    """The name of one of these losses and its settings, seen through `functools.partial`; None for another function.

    >>> identified(functools.partial(huber, delta=2.0))
    ('huber', {'delta': 2.0})
    """
    settings: dict[str, Any] = {}
    while isinstance(function, functools.partial) and not function.args:
        function, settings = function.func, {**function.keywords, **settings}
    return next(((name, settings) for name, known in LOSSES.items() if known.function is function), None)


def _refuse_broadcast(name: str, outputs: Array, targets: Array) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(f"{name}: outputs {outputs.shape} and targets {targets.shape} must have the same shape")
    if outputs.ndim == 0:
        raise ValueError(f"{name}: expects a batch axis, got outputs of shape ()")


def _refuse_no_classes(name: str, logits: Array) -> None:
    if logits.ndim < 2:
        raise ValueError(f"{name}: expects logits (batch, ..., classes), got {logits.shape}")
