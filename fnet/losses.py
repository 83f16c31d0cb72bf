"""Losses per example, and the decision rule of each.

A loss maps the outputs of a batch and its targets to one number per example; the caller averages, so that the
gradient of the training loss is the mean of the per-example gradients. Where an example has several outputs its loss
is their mean. A loss refuses to broadcast: shapes that do not belong together raise, and the message names both.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from fnet import metrics


def mse(outputs: Float[Array, "batch *outputs"], targets: Num[Array, "batch *outputs"]) -> Float[Array, " batch"]:
    """Squared error: L_i = mean over the outputs of (g - y)^2, for outputs g and targets y.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> mse(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.5]
    """
    _refuse_broadcast("mse", outputs, targets)
    return _per_example(jnp.square(outputs - targets))


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
    return _per_example(jax.nn.softplus(logits) - labels * logits)


def cross_entropy(
    logits: Float[Array, "batch *positions classes"],
    labels: Int[Array, "batch *positions"] | Num[Array, "batch *positions classes"],
) -> Float[Array, " batch"]:
    """L_i = -sum_c y_c log p_c, with p = softmax(z), for integer labels or one-hot (or soft) labels y.

    Computed from the logits z as log(sum_k e^(z_k)) - z_y.

    Args:
        logits: z, the classes on the last axis.
        labels: integers of the shape of z without its last axis, or a distribution y of the shape of z. An integer
            outside 0 ... classes - 1 gives NaN: a compiled program cannot raise, so check labels before.

    Raises:
        ValueError: when the labels are of neither form.

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, 0.0]])
    >>> a, b = cross_entropy(logits, jnp.array([0])), cross_entropy(logits, jnp.array([[1, 0, 0]]))
    >>> round(float(a[0]), 4), round(float(b[0]), 4)
    (0.2395, 0.2395)
    """
    if logits.ndim < 2:
        raise ValueError(f"cross_entropy: expects logits (batch, ..., classes), got {logits.shape}")
    log_p = jax.nn.log_softmax(logits, axis=-1)
    if labels.shape == logits.shape:
        return _per_example(-jnp.sum(labels * log_p, axis=-1))
    if labels.shape == logits.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        classes = logits.shape[-1]
        picked = jnp.take_along_axis(log_p, jnp.clip(labels, 0, classes - 1)[..., None], axis=-1)[..., 0]
        return _per_example(jnp.where((labels >= 0) & (labels < classes), -picked, jnp.nan))
    raise ValueError(
        f"cross_entropy: logits {logits.shape} take integer labels {logits.shape[:-1]} or one-hot labels "
        f"{logits.shape}, got {labels.dtype} labels {labels.shape}"
    )


def value(outputs: Float[Array, "batch *outputs"]) -> Float[Array, "batch *outputs"]:
    """The decision rule of a regression: the output itself."""
    return outputs


def at_least_half(logits: Float[Array, "batch *labels"]) -> Int[Array, "batch *labels"]:
    """The decision rule of binary cross-entropy: class 1 if and only if p >= 0.5, which is z >= 0.

    >>> import jax.numpy as jnp
    >>> at_least_half(jnp.array([-0.1, 0.0, 3.0])).tolist()
    [0, 1, 1]
    """
    return (logits >= 0).astype(jnp.int32)


def most_likely(logits: Float[Array, "batch *positions classes"]) -> Int[Array, "batch *positions"]:
    """The decision rule of cross-entropy: argmax_c p_c = argmax_c z_c, the first of equals.

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
        includes: the final activation that the loss applies itself, and that a network must therefore not end in.
        summary: what it is for.
    """

    function: Callable[..., Array]
    decide: Callable[..., Array]
    metric_name: str
    metric: Callable[..., Array]
    includes: str | None
    summary: str


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mse": Loss(mse, value, "mean_absolute_error", metrics.absolute_error, None, "regression"),
        "binary_cross_entropy": Loss(
            binary_cross_entropy,
            at_least_half,
            "accuracy",
            metrics.accuracy,
            "sigmoid",
            "two classes, or many labels",
        ),
        "cross_entropy": Loss(
            cross_entropy, most_likely, "accuracy", metrics.accuracy, "softmax", "one of several classes"
        ),
    }
)
"""The losses by name."""


def _refuse_broadcast(name: str, outputs: Array, targets: Array) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(f"{name}: outputs {outputs.shape} and targets {targets.shape} must have the same shape")
    if outputs.ndim == 0:
        raise ValueError(f"{name}: expects a batch axis, got outputs of shape ()")


def _per_example(losses: Array) -> Array:
    """The mean over every axis but the batch's."""
    return losses.reshape(losses.shape[0], -1).mean(axis=1)
