"""Metrics per example, of decisions against targets; the caller averages."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def accuracy(decisions: Num[Array, "batch *labels"], targets: Num[Array, "batch ..."]) -> Float[Array, " batch"]:
    """The share of an example's labels that are decided right; with one label, 1 or 0.

    Args:
        decisions: class numbers.
        targets: class numbers of the same shape, or one-hot labels with one more axis.

    Raises:
        ValueError: when the shapes do not belong together.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([1, 2]), jnp.array([1, 0])).tolist()
    [1.0, 0.0]
    """
    if targets.ndim == decisions.ndim + 1:
        targets = jnp.argmax(targets, axis=-1)
    _same_shape("accuracy", decisions, targets)
    return per_example((decisions == targets).astype(jnp.float32))


def absolute_error(
    outputs: Num[Array, "batch *outputs"], targets: Num[Array, "batch *outputs"]
) -> Float[Array, " batch"]:
    """Mean over the outputs of |g - y|, in the unit of the target.

    Raises:
        ValueError: when the shapes differ.

    >>> import jax.numpy as jnp
    >>> absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.0]
    """
    _same_shape("absolute_error", outputs, targets)
    return per_example(jnp.abs(outputs - targets))


def _same_shape(name: str, outputs: Array, targets: Array) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(f"{name}: decisions {outputs.shape} and targets {targets.shape} must have the same shape")


def per_example(values: Array) -> Array:
    """The mean over every axis but the batch's."""
    return values.reshape(values.shape[0], -1).mean(axis=1)
