"""Losses per example, each with its prediction rule and its metrics.

A loss maps the outputs of a batch and its targets to one number per example; the caller averages, so that the
gradient of the training loss is the mean of the per-example gradients. The loss of an example with several outputs is
the mean over them. A loss refuses to broadcast: shapes that do not match raise an error that names both. Outputs of 16
bits are converted to float32 first. The other parameters of a loss are its settings, bound with `functools.partial`.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval
from jaxtyping import Array, Float, Int, Num

from fnet.metrics import ACCURACY, REGRESSION_METRICS, SUBSET_ACCURACY, AnyArray, Metric, per_example


def mse(outputs: Float[AnyArray, "batch *outputs"], targets: Num[AnyArray, "batch *outputs"]) -> Float[Array, " batch"]:
    """Squared error: L_i = mean over the outputs of (g - y)^2, for outputs g and targets y.

    The square of an error beyond 1.8e19 is infinite in float32; `huber` and scaled targets avoid this.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> mse(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.5]
    """
    _refuse_broadcast("mse", outputs, targets)
    return per_example(jnp.square(_widened(outputs) - targets))


def huber(
    outputs: Float[AnyArray, "batch *outputs"],
    targets: Num[AnyArray, "batch *outputs"],
    *,
    delta: Annotated[float, Gt(0)] = 1.0,
) -> Float[Array, " batch"]:
    """L_i = mean over the outputs of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for errors e = g - y.

    Quadratic near the target and linear far from it, so that the gradient of an outlier is at most delta (Huber 1964).
    Value and derivative are continuous at |e| = delta. Libraries agree on the factor 1/2, which `mse` does not have.

    Args:
        outputs: g.
        targets: y, of the shape of the outputs.
        delta: error up to which the loss is quadratic, in the unit of the targets that the loss receives: in standard
            deviations of the target in a run whose targets are standardized.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> huber(jnp.array([[1.0], [4.0]]), jnp.zeros((2, 1)), delta=2.0).tolist()
    [0.5, 6.0]
    """
    _refuse_broadcast("huber", outputs, targets)
    error = _widened(outputs) - targets
    # Both pieces are c (e - c / 2) for the clipped error c. No square of a large error is taken.
    clipped = jnp.clip(error, -delta, delta)
    return per_example(clipped * (error - clipped / 2))


def binary_cross_entropy(
    logits: Float[AnyArray, "batch *labels"], labels: Num[AnyArray, "batch *labels"]
) -> Float[Array, " batch"]:
    """L_i = mean over the labels of -[y log p + (1-y) log(1-p)], with p = sigmoid(z), for labels y in [0, 1].

    Several outputs are several independent labels (multilabel). Computed from the logits z as y log(1 + e^-z) +
    (1 - y) log(1 + e^z), which neither overflows nor loses small probabilities.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> round(float(binary_cross_entropy(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0]), 4)
    0.6931
    """
    _refuse_broadcast("binary_cross_entropy", logits, labels)
    logits = _widened(logits)
    return per_example(jax.nn.softplus(-logits) * labels + jax.nn.softplus(logits) * (1 - labels))


def hinge(logits: Float[AnyArray, "batch *labels"], labels: Num[AnyArray, "batch *labels"]) -> Float[Array, " batch"]:
    """L_i = mean over the labels of max(0, 1 - t z), with t = 2y - 1, for labels y that are 0 or 1.

    The loss of a support vector machine (Cortes and Vapnik 1995): 0 beyond the margin t z = 1. The derivative at that
    kink is 0, the value that `jax.nn.relu` uses. Textbooks write labels as t = -1 or 1; here they are 0 or 1, as in
    data and in the other losses.

    Args:
        logits: z; the prediction is 1 if and only if z >= 0.
        labels: y, of the shape of the logits.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> hinge(jnp.array([[0.25], [3.0], [3.0]]), jnp.array([[1], [1], [0]])).tolist()
    [0.75, 0.0, 4.0]
    """
    _refuse_broadcast("hinge", logits, labels)
    logits = _widened(logits)
    t = 2 * labels.astype(logits.dtype) - 1
    return per_example(jax.nn.relu(1 - t * logits))


def cross_entropy(
    logits: Float[AnyArray, "batch *positions classes"],
    labels: Int[AnyArray, "batch *positions"] | Num[AnyArray, "batch *positions classes"],
    *,
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Float[Array, " batch"]:
    """L_i = -sum_c y'_c log p_c, with p = softmax(z), for integer labels or one-hot (or soft) labels y.

    Label smoothing replaces y by y' = (1 - s) y + s / C over C classes; without it, s = 0 and y' = y. Computed from the
    logits z, as log(sum_k e^(z_k)) - z_y where s = 0.

    Args:
        logits: z, the classes on the last axis.
        labels: integers of the shape of z without its last axis, or a distribution y of the shape of z. An integer
            outside 0 ... classes - 1 gives NaN: a compiled program cannot raise, so check labels beforehand.
        label_smoothing: s, fraction of every label that is spread over all classes, its own included (Szegedy et al.
            2016).

    Raises:
        ValueError: when the labels have neither form.

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, 0.0]])
    >>> a, b = cross_entropy(logits, jnp.array([0])), cross_entropy(logits, jnp.array([[1, 0, 0]]))
    >>> round(float(a[0]), 4), round(float(b[0]), 4)
    (0.2395, 0.2395)
    """
    _refuse_no_classes("cross_entropy", logits)
    log_p = jax.nn.log_softmax(_widened(logits), axis=-1)
    if labels.shape == logits.shape:
        # A class of probability 0 must not contribute where a logit is -inf: 0 * inf is NaN.
        losses = -jnp.sum(jnp.where(labels == 0, 0.0, labels * log_p), axis=-1)
    elif labels.shape == logits.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        classes = logits.shape[-1]
        picked = jnp.take_along_axis(log_p, jnp.clip(labels, 0, classes - 1)[..., None], axis=-1)[..., 0]
        losses = jnp.where((labels >= 0) & (labels < classes), -picked, jnp.nan)
    else:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} take integer labels {logits.shape[:-1]} or one-hot labels "
            f"{logits.shape}, got {labels.dtype} labels {labels.shape}"
        )
    if isinstance(label_smoothing, int | float) and label_smoothing == 0:
        return per_example(losses)  # for the same reason
    return per_example((1 - label_smoothing) * losses - label_smoothing * jnp.mean(log_p, axis=-1))


def kl_divergence(
    logits: Float[AnyArray, "batch *positions classes"], targets: Num[AnyArray, "batch *positions classes"]
) -> Float[Array, " batch"]:
    """L_i = sum_c y_c (log y_c - log p_c), with p = softmax(z) and 0 log 0 = 0, for distributions y.

    The divergence D(y || p) of Kullback and Leibler (1951) is cross-entropy minus the entropy of y, which does not
    depend on the parameters: the gradient is that of cross-entropy, and the minimum is 0. Instead of logits, Keras
    takes p and PyTorch takes log p; PyTorch divides by the number of all entries by default.

    Args:
        logits: z, the classes on the last axis.
        targets: y, of the shape of the logits. A negative entry gives NaN.

    Raises:
        ValueError: when the shapes differ, or the logits have no class axis.

    >>> import jax.numpy as jnp
    >>> round(float(kl_divergence(jnp.zeros((1, 2)), jnp.array([[0.0, 1.0]]))[0]), 4)
    0.6931
    >>> float(kl_divergence(jnp.zeros((1, 2)), jnp.array([[0.5, 0.5]]))[0])
    0.0
    """
    _refuse_no_classes("kl_divergence", logits)
    _refuse_broadcast("kl_divergence", logits, targets)
    log_p = jax.nn.log_softmax(_widened(logits), axis=-1)
    log_y = jnp.log(jnp.where(targets == 0, 1, targets))
    return per_example(jnp.sum(jnp.where(targets == 0, 0.0, targets * (log_y - log_p)), axis=-1))


def identity(outputs: Float[Array, "batch *outputs"]) -> Float[Array, "batch *outputs"]:
    """Return the predictions of a regression: the outputs themselves."""
    return outputs


def threshold(logits: Float[Array, "batch *labels"]) -> Int[Array, "batch *labels"]:
    """Return the predictions of binary cross-entropy and hinge: 1 if and only if z >= 0, which is p >= 0.5.

    >>> import jax.numpy as jnp
    >>> threshold(jnp.array([-0.1, 0.0, 3.0])).tolist()
    [0, 1, 1]
    """
    return (logits >= 0).astype(jnp.int32)


def argmax(logits: Float[Array, "batch *positions classes"]) -> Int[Array, "batch *positions"]:
    """Return the predictions of several classes: argmax_c p_c = argmax_c z_c, the first in a tie.

    >>> import jax.numpy as jnp
    >>> argmax(jnp.array([[0.0, 3.0, 1.0]])).tolist()
    [1]
    """
    return jnp.argmax(logits, axis=-1)


class Loss(NamedTuple):
    """A loss function with its prediction rule and its metrics.

    Args:
        function: (outputs, targets) -> one number per example.
        predict: prediction rule, outputs -> predictions.
        metrics: metrics of the predictions, recorded alongside the loss.
        targets: kind of targets: real numbers (`values`), 0 or 1 for each output (`labels`), a class index with one
            output per class (`classes`), or a distribution over the classes (`distributions`); None for any.
        summary: the task that the loss is for.
        probabilities: maps outputs to probabilities, if defined.
        reference: the loss and its derivative by hand in NumPy, for the gradient check: (outputs, targets) -> (losses,
            cotangents), where the cotangent of an example is dL_i/d(outputs of i).
    """

    function: Callable[..., Array]
    predict: Callable[..., Array]
    metrics: tuple[Metric, ...]
    targets: Literal["values", "labels", "classes", "distributions"] | None
    summary: str
    probabilities: Callable[..., Array] | None = None
    reference: Callable[..., Any] | None = None


def _regression_loss(function: Callable[..., Array], summary: str) -> Loss:
    return Loss(function, identity, REGRESSION_METRICS, "values", summary)


def _label_loss(function: Callable[..., Array], summary: str) -> Loss:
    probabilities = jax.nn.sigmoid if function is binary_cross_entropy else None
    return Loss(function, threshold, (ACCURACY,), "labels", summary, probabilities)


def _class_loss(function: Callable[..., Array], targets: Literal["classes", "distributions"], summary: str) -> Loss:
    return Loss(function, argmax, (ACCURACY,), targets, summary, jax.nn.softmax)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mse": _regression_loss(mse, "regression"),
        "binary_cross_entropy": _label_loss(binary_cross_entropy, "two classes, or many labels"),
        "cross_entropy": _class_loss(cross_entropy, "classes", "one of several classes"),
        "huber": _regression_loss(huber, "regression with outliers"),
        "hinge": _label_loss(hinge, "two classes, or many labels, with a margin"),
        "kl_divergence": _class_loss(kl_divergence, "distributions", "distributions as targets, from Python only"),
    }
)
"""The losses by name."""

DATA_PARAMETERS = ("outputs", "targets", "logits", "labels")
"""Parameters of losses that are data rather than settings."""


def loss_name_of(function: Callable[..., Array]) -> tuple[str, dict[str, Any]] | None:
    """Return the name of a function in `LOSSES` and the settings bound by `functools.partial`; None for any other.

    >>> loss_name_of(functools.partial(huber, delta=2.0))
    ('huber', {'delta': 2.0})
    """
    settings: dict[str, Any] = {}
    while isinstance(function, functools.partial) and not function.args:
        function, settings = function.func, {**function.keywords, **settings}
    return next(((name, settings) for name, loss in LOSSES.items() if loss.function is function), None)


def resolve_loss(loss: str | Loss | Callable[..., Array], settings: Mapping[str, Any] = MappingProxyType({})) -> Loss:
    """Return a loss with its prediction rule and metrics, given its name or a function per example.

    For a function that is not in `LOSSES`, the predictions are the outputs, and there are no metrics.

    Args:
        loss: a name, a function, or a `functools.partial` that binds settings.
        settings: settings to bind as well.

    Raises:
        ValueError: for an unknown name, and for metrics with duplicate names.

    >>> [metric.name for metric in resolve_loss(functools.partial(huber, delta=2.0)).metrics]
    ['rmse', 'mean_absolute_error', 'r2']
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"unknown loss '{loss}'; known: {', '.join(LOSSES)}")
        loss = LOSSES[loss]
    if not isinstance(loss, Loss):
        known = loss_name_of(loss)
        if known is None:
            loss = Loss(loss, identity, (), None, "a custom function")
        else:
            loss, settings = LOSSES[known[0]], {**known[1], **settings}
    if settings:
        reference = None if loss.reference is None else functools.partial(loss.reference, **settings)
        loss = loss._replace(function=functools.partial(loss.function, **settings), reference=reference)
    return with_metrics(loss, {})


def for_labels(loss: Loss) -> Loss:
    """Return a loss of several labels per example, whose accuracy is that of a label, with the accuracy of all labels.

    >>> [metric.name for metric in for_labels(LOSSES["binary_cross_entropy"]).metrics]
    ['accuracy', 'subset_accuracy']
    """
    return with_metrics(loss, {SUBSET_ACCURACY.name: SUBSET_ACCURACY})


def with_metrics(loss: Loss, metrics: Mapping[str, Metric | Callable[..., Array]]) -> Loss:
    """Return a loss with further metrics.

    Args:
        loss: the loss.
        metrics: by name, a function (outputs, targets) -> one number per example, or a `Metric`.

    Raises:
        ValueError: for metrics with duplicate names.

    >>> with_metrics(LOSSES["mse"], {"bias": lambda outputs, targets: (outputs - targets)[:, 0]}).metrics[-1].of
    'outputs'
    """
    added = [
        metric._replace(name=name) if isinstance(metric, Metric) else Metric(name, metric, None, of="outputs")
        for name, metric in metrics.items()
    ]
    if added:
        loss = loss._replace(metrics=(*loss.metrics, *added))
    names = ["loss", *(metric.name for metric in loss.metrics)]
    if len(set(names)) < len(names):
        raise ValueError(f"a loss and its metrics need different names, got {', '.join(names)}")
    return loss


def _widened(outputs: AnyArray) -> Array:
    """Return outputs of bfloat16 or float16 in float32, and others as they are."""
    outputs = jnp.asarray(outputs)
    return outputs.astype(jnp.float32) if outputs.dtype in (jnp.bfloat16, jnp.float16) else outputs


def _refuse_broadcast(name: str, outputs: AnyArray, targets: AnyArray) -> None:
    _refuse_several(name, outputs)
    if outputs.shape != targets.shape:
        raise ValueError(f"{name}: outputs {outputs.shape} and targets {targets.shape} must have the same shape")
    if outputs.ndim == 0:
        raise ValueError(f"{name}: expects a batch axis, got outputs of shape ()")


def _refuse_several(name: str, outputs: Any) -> None:
    if isinstance(outputs, tuple | Mapping):
        raise ValueError(
            f"{name}: expects one array of outputs, got a {type(outputs).__name__} of {len(outputs)}; pass a function "
            "(outputs, targets) -> one number per example for a network with several outputs"
        )


def _refuse_no_classes(name: str, logits: AnyArray) -> None:
    _refuse_several(name, logits)
    if logits.ndim < 2:
        raise ValueError(f"{name}: expects logits (batch, ..., classes), got {logits.shape}")
