"""The loss and the metrics of a batch, to which masked examples and steps do not contribute, whatever they contain.

Zero times NaN is NaN, so that a weight of 0 does not remove an example from a gradient. The masked entries of x are
therefore replaced before the network, and the masked outputs and targets before the loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fnet.core.layer import Layer
from fnet.losses import Loss
from fnet.metrics import Metric
from fnet.train.initialize import leaf_names
from fnet.train.state import Batch, row_at


class Score(NamedTuple):
    """A loss and its metrics by name: one value per example each, their weighted sums, or their weighted means.

    A metric with `finish` has a tree of arrays in place of values, and the result of `finish` in place of a mean.
    """

    loss: jax.Array
    metrics: dict[str, Any]


def without_padding(batch: Batch) -> Batch:
    """Return the batch with the content of its masked examples and steps replaced.

    Masked examples become copies of the first real one, so that the network sees only examples that it can process.
    With a (batch, time) mask, the masked steps of every array (batch, time, ...) of x become 0. The mask is unchanged.

    Raises:
        ValueError: when the mask or the weight does not have the type or shape of one.

    >>> x = jnp.array([[1.0], [jnp.nan]])
    >>> without_padding(Batch(x, jnp.zeros(2), jnp.array([True, False]))).x.tolist()
    [[1.0], [1.0]]
    """
    _check(batch)
    mask = jnp.asarray(batch.mask)
    rows = mask if mask.ndim == 1 else mask.any(axis=1)
    first, any_real = jnp.argmax(rows), rows.any()

    def replaced(values: Any) -> jax.Array:
        values = jnp.asarray(values)
        row = row_at(values, first)
        other = jnp.where(any_real, row, jnp.zeros_like(row))
        return jnp.where(expand(rows, values), values, other)

    x, y = jax.tree.map(replaced, (batch.x, batch.y))
    if mask.ndim == 2:
        steps = jnp.where(rows[:, None], mask, row_at(mask, first))
        several = len(jax.tree.leaves(x)) > 1

        def without_steps(values: jax.Array) -> jax.Array:
            # Of several arrays, real numbers without an axis of features are a vector per example, not a sequence.
            vector = several and values.ndim == 2 and not jnp.issubdtype(values.dtype, jnp.integer)
            sequence = values.shape[:2] == mask.shape and not vector
            return jnp.where(expand(steps, values), values, jnp.zeros_like(values)) if sequence else values

        x = jax.tree.map(without_steps, x)
    return batch._replace(x=x, y=y)


def apply_to_batch(
    net: Layer, params: Any, state: Any, batch: Batch, *, train: bool, key: jax.Array | None = None
) -> tuple[Any, Any]:
    """Return the outputs of a network for a batch `without_padding`, and its new state.

    Raises:
        ValueError: when the network's new state lacks an entry of its state.
    """
    outputs, after = net.apply(params, state, batch.x, train=train, key=key, mask=batch.mask)
    kept, had = leaf_names(after), leaf_names(state)
    for name in had:
        if name not in kept:
            raise ValueError(
                f"the state has the entry '{name}', but the network's new state does not; "
                "apply must return every entry of the state, also those that it does not change"
            )
    return outputs, after


def score_sums(loss: Loss, outputs: Any, batch: Batch) -> tuple[Score, jax.Array]:
    """Return the sums of w m l for the loss and every metric l, and the sum of w m, over the entries of a batch.

    An entry is an example, with mask m and weight w; or a step of one, where the mask or the weight has steps and the
    outputs do as well. Entries of weight 0 count as masked.

    Raises:
        ValueError: when the loss or a metric is not one number per entry, or the shapes of the mask or the weight do
            not match the outputs.
    """
    if batch.y is None and loss.targets is not None:
        raise ValueError(
            "the loss compares outputs with targets, but the batch has none; pass them as y, or minimize an objective "
            "without targets"
        )
    weight = None if batch.weight is None else _as_float(batch.weight)
    outputs, targets, real, weight = flatten_steps(outputs, batch.y, jnp.asarray(batch.mask), weight)
    if weight is not None:
        real = real & (weight > 0)
    first, any_real = jnp.argmax(real), real.any()

    def replaced(values: Any) -> jax.Array:
        values = jnp.asarray(values)
        row = row_at(jax.lax.stop_gradient(values), first)
        other = jnp.where(any_real, row, jnp.zeros_like(row))
        return jnp.where(expand(real, values), values, other)

    scores = score_examples(loss, *jax.tree.map(replaced, (outputs, targets)))

    def total(values: jax.Array) -> jax.Array:
        weighted = values if weight is None else expand(weight, values) * values
        return jnp.sum(jnp.where(expand(real, values), weighted, 0), axis=0)

    count = jnp.sum(real) if weight is None else jnp.sum(jnp.where(real, weight, 0))
    return jax.tree.map(total, scores), count


def weighted_mean(values: Any, batch: Batch, *, axis_name: str | None = None) -> jax.Array:
    """Return sum(w m v) / sum(w m) over the examples of a batch, or their steps, with mask m and weight w.

    It is the mean for an objective, in which padding has no part; 0 if every example is masked or has the weight 0.

    Args:
        values: v, one number per example (batch,) or per step (batch, time).
        batch: the batch, for its mask and its weight.
        axis_name: axis of `jax.shard_map` or `jax.vmap` over which the batch is divided. The result is then the share
            of one device, and the sum of the shares is the mean over the whole batch.

    Raises:
        ValueError: when the values are neither one number per example nor one per step.

    >>> batch = Batch(jnp.zeros((3, 2)), None, jnp.array([True, True, False]), jnp.array([3.0, 1.0, 1.0]))
    >>> float(weighted_mean(jnp.array([1.0, 5.0, jnp.nan]), batch))
    2.0
    """
    values, mask = jnp.asarray(values), jnp.asarray(batch.mask)
    if values.ndim == 1 and mask.ndim == 2:
        batch = batch._replace(mask=mask.any(axis=1))
    weight = weights_of(batch)
    if values.ndim not in (1, 2) or values.shape[: weight.ndim] != weight.shape:
        steps = str(weight.shape) if weight.ndim == 2 else f"({len(weight)}, time)"
        example = "" if batch.weight is not None and jnp.ndim(batch.weight) == 2 else f"({len(weight)},) or "
        raise ValueError(
            f"weighted_mean: expected one number per example or step of the batch, of shape {example}{steps}, got the "
            f"shape {values.shape}; take the mean over the other axes first"
        )
    weight = jnp.broadcast_to(expand(weight, values), values.shape)
    total = over_axis(axis_name, jnp.sum(weight))
    return jnp.sum(jnp.where(weight > 0, weight * values, 0)) / jnp.where(total > 0, total, 1)


def weights_of(batch: Batch) -> jax.Array:
    """Return w m for every example (batch,), or for every step (batch, time) if the mask or the weight has steps.

    >>> weights_of(Batch(jnp.zeros(2), None, jnp.array([True, False]), jnp.array([[2.0, 3.0], [4.0, 5.0]]))).tolist()
    [[2.0, 3.0], [0.0, 0.0]]
    """
    mask = jnp.asarray(batch.mask)
    if batch.weight is None:
        return mask
    weight = _as_float(batch.weight)
    return jnp.where(expand(mask, weight), expand(weight, mask), 0)


def _as_float(weight: Any) -> jax.Array:
    """Return weights in float32 at least, in which their sum neither overflows nor is truncated."""
    weight = jnp.asarray(weight)
    return weight.astype(jnp.promote_types(weight.dtype, jnp.float32))


def over_axis(axis_name: str | None, tree: Any) -> Any:
    """Return the sum over the devices of an axis, if there is one."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def flatten_steps(
    outputs: Any, targets: Any, mask: jax.Array, weight: jax.Array | None = None
) -> tuple[Any, Any, jax.Array, jax.Array | None]:
    """Return the outputs, targets, mask and weight that a loss is averaged over, with one entry per example or step.

    With a (batch, time) mask or weight and outputs (batch, time, ...), every step counts as an example, and the four
    have the shape (batch * time, ...). Outputs without a time axis keep their shape; an example is real if any of its
    steps is.

    Raises:
        ValueError: when outputs, targets and mask differ in the number of steps.

    >>> outputs, targets, mask = jnp.zeros((2, 3, 5)), jnp.zeros((2, 3), int), jnp.ones((2, 3), bool)
    >>> [part.shape for part in flatten_steps(outputs, targets, mask)[:3]]
    [(6, 5), (6,), (6,)]
    """
    name, per_step = ("weight", weight) if weight is not None and weight.ndim == 2 else ("mask", mask)
    if per_step.ndim == 1:
        return outputs, targets, mask, weight
    steps = per_step.shape
    if any(jnp.shape(part) == steps for part in jax.tree.leaves(outputs)):
        raise ValueError(
            f"outputs {steps} may be one number per step or {steps[1]} per example, and the {name} {steps} does not "
            "tell which: for steps, give outputs and targets a last axis of length 1; else pad the sequences to "
            "another length"
        )
    sequences = [jnp.ndim(part) > 2 for part in jax.tree.leaves(outputs)]
    if not any(sequences) and name == "mask":
        return outputs, targets, mask.any(axis=1), weight
    shapes = [jnp.shape(part) for part in jax.tree.leaves((outputs, targets))]
    if not all(sequences) or any(shape[:2] != steps for shape in shapes):
        raise ValueError(
            f"a {name} {steps} of steps requires outputs (batch, time, ...) and targets with the same steps, got "
            f"{shape_text(outputs)} and {shape_text(targets)}"
        )
    outputs, targets = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), (outputs, targets))

    def for_each_step(values: jax.Array) -> jax.Array:
        return jnp.broadcast_to(expand(values, per_step), steps).reshape(-1)

    return outputs, targets, for_each_step(mask), None if weight is None else for_each_step(weight)


def score_examples(loss: Loss, outputs: Any, targets: Any) -> Score:
    """Return the loss and the metrics of every example.

    Raises:
        ValueError: when one of them is not one number per example.
    """
    received = {"predictions": loss.predict(outputs), "outputs": outputs}
    metrics = {
        metric.name: _terms(metric, received[metric.of], targets)
        if metric.finish
        else _per_example(f"the metric '{metric.name}'", metric.function, received[metric.of], targets)
        for metric in loss.metrics
    }
    return Score(_per_example("the loss", loss.function, outputs, targets), metrics)


def value_of(metric: Metric, sums: Any, total: Any = 1) -> Any:
    """Return the value of a metric, given weighted sums over examples and the sum of the weights, or their means.

    Unless they are traced, the means of a metric with `finish` are computed by NumPy in double precision.
    """
    if metric.finish is None:
        return sums / total
    leaves, tree = jax.tree.flatten(sums)
    if not any(isinstance(leaf, Tracer) for leaf in (*leaves, total)):
        *leaves, total = (np.asarray(leaf, np.float64) for leaf in (*leaves, total))
    value = metric.finish(jax.tree.unflatten(tree, [leaf / total for leaf in leaves]))
    if jnp.shape(value):
        raise ValueError(
            f"the metric '{metric.name}': finish must return one number, but it returned an array of shape "
            f"{jnp.shape(value)}"
        )
    return value


def _terms(metric: Metric, outputs: Any, targets: Any) -> Any:
    """Return the arrays of a metric with `finish`, one row per example."""
    terms = metric.function(outputs, targets)
    batch = jnp.shape(jax.tree.leaves(outputs)[0])[0]
    if any(jnp.shape(leaf)[:1] != (batch,) for leaf in jax.tree.leaves(terms)):
        raise ValueError(
            f"the metric '{metric.name}' with finish must have arrays with one row per example (or step), of shape "
            f"({batch}, ...), but they have the shape {shape_text(terms)}; take means over the other axes only"
        )
    return jax.tree.map(jnp.asarray, terms)


def _per_example(what: str, function: Callable[..., jax.Array], outputs: Any, targets: Any) -> jax.Array:
    values = function(outputs, targets)
    expected = jnp.shape(jax.tree.leaves(outputs)[0])[:1]
    if jnp.shape(values) != expected or _has_another_axis(function, outputs, targets):
        objective = ", or pass a loss of the whole batch as objective=" if what == "the loss" else ""
        raise ValueError(
            f"{what} must be one number per example (or step), of shape {expected}, but it has the shape "
            f"{jnp.shape(values)} for outputs {shape_text(outputs)} and targets {shape_text(targets)}; take the mean "
            f"over all axes but the first{objective}"
        )
    return values


def _has_another_axis(function: Callable[..., jax.Array], outputs: Any, targets: Any) -> bool:
    """Return whether the values of a function belong to another axis than the batch, of the same length.

    This is found out by tracing the function for a batch with one example more.
    """
    batch = jnp.shape(jax.tree.leaves(outputs)[0])[0]
    if all(batch not in jnp.shape(part)[1:] for part in jax.tree.leaves((outputs, targets))):
        return False

    def longer(part: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch + 1, *jnp.shape(part)[1:]), jnp.result_type(part))

    try:
        values = jax.eval_shape(function, *jax.tree.map(longer, (outputs, targets)))
    except Exception:  # a function of this batch size only, such as one that captures an array of this length
        return False
    return jnp.shape(values) != (batch + 1,)


def shape_text(tree: Any) -> str:
    """Return the shape of an array, or the shapes of several, as in an error message.

    >>> shape_text({"a": jnp.zeros((2, 3))})
    "{'a': (2, 3)}"
    """
    return str(jax.tree.map(jnp.shape, tree))


def expand(values: Any, like: Any) -> jax.Array:
    """Return the values with further axes of length 1, to broadcast against an array with the same first axes."""
    values = jnp.asarray(values)
    return values.reshape(*values.shape, *[1] * (jnp.ndim(like) - values.ndim))


def _check(batch: Batch) -> None:
    """Check the mask and the weight of a batch, whose values may be traced."""
    shape = jnp.shape(jax.tree.leaves(batch.x)[0])
    if batch.mask is None:
        raise ValueError(
            f"a batch needs a mask, got None; if all {shape[0]} examples are real, pass jnp.ones({shape[0]}, bool)"
        )
    check_mask_type(batch.mask)
    for name, values in (("mask", batch.mask), ("weight", batch.weight)):
        if values is not None and (jnp.ndim(values) not in (1, 2) or jnp.shape(values)[0] != shape[0]):
            raise ValueError(f"{name}: expected the shape ({shape[0]},) or ({shape[0]}, time), got {jnp.shape(values)}")
    mask, weight = jnp.shape(batch.mask), jnp.shape(batch.weight) if batch.weight is not None else ()
    if len(mask) == len(weight) == 2 and mask != weight:
        raise ValueError(f"weight: expected the shape of the mask {mask}, got {weight}")


def check_mask_type(mask: Any) -> None:
    """Check that a mask consists of booleans.

    Raises:
        ValueError: when it does not.
    """
    dtype = jnp.asarray(mask).dtype if isinstance(mask, list | tuple) else mask.dtype
    if not jnp.issubdtype(dtype, jnp.bool_):
        raise ValueError(
            f"mask: expected booleans, got {dtype}; pass mask.astype(bool), or pass weights of the examples as weight"
        )
