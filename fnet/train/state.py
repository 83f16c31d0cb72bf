"""Inputs and outputs of a training step, as pytrees."""

import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnet.core.layer import Layer, Shape, walk
from fnet.train.compile import compile_for
from fnet.train.initialize import initialize


class TrainState(NamedTuple):
    """Everything that a training step reads and updates, other than the batch.

    step: number of steps completed, an int32 scalar.
    params: parameters.
    state: non-trainable state of the network.
    opt_state: state of the optimizer.
    key: random key of the run, the same in every step.
    average: moving average of the parameters, if the step computes one; it begins as the initial parameters.
    """

    step: jax.Array
    params: Any
    state: Any
    opt_state: Any
    key: jax.Array
    average: Any = None


class Examples(NamedTuple):
    """A data set: examples and their targets, with the number of examples n as the first axis of every array.

    x: (n, ...), or a dict or tuple of such arrays.
    y: (n, ...), likewise.
    mask: (n,), True for the examples that count, or (n, time), True for the real steps of sequences of different
        lengths, which are padded; None if everything counts.
    weight: (n,), the weight of every example in the loss and the metrics, or (n, time); None for equal weights.
    """

    x: Any
    y: Any
    mask: Any = None
    weight: Any = None


class Batch(NamedTuple):
    """The examples of one step; masked ones are padding.

    x: (batch, ...), or a dict or tuple of such arrays.
    y: targets (batch, ...), likewise.
    mask: (batch,), True for real examples, or (batch, time), True for real steps.
    weight: (batch,), the weight of every example in the loss and the metrics, or (batch, time); None for equal weights.
    """

    x: Any
    y: Any
    mask: jax.Array
    weight: jax.Array | None = None


def take_batch(
    examples: Examples,
    number: jax.Array | int,
    batch_size: int,
    filled: jax.Array | int,
    order: jax.Array | None = None,
) -> Batch:
    """Return a batch of a data set; after the last example, it is padded with copies of it, which are masked.

    Args:
        examples: the data set, on the device.
        number: number of the batch, counted from 0.
        batch_size: examples per batch.
        filled: number of examples of all batches.
        order: indices of the examples, in the order of the batches; None for the order of the data set.

    >>> take_batch(Examples(jnp.array([5, 6, 7]), jnp.zeros(3)), 1, 2, 3).mask.tolist()
    [True, False]
    """
    rows = number * batch_size + jnp.arange(batch_size)
    real = rows < filled
    rows = jnp.minimum(rows, filled - 1)
    indices = rows if order is None else order[rows]
    x, y, mask, weight = jax.tree.map(lambda values: rows_at(values, indices), examples)
    if mask is not None:
        real = mask & real.reshape(-1, *[1] * (mask.ndim - 1))
    return Batch(x, y, real, weight)


def row_at(values: jax.Array, index: jax.Array) -> jax.Array:
    """Return values[index], also on a mesh with Explicit axes, on all of whose devices the row then is."""
    return rows_at(values, index[None])[0] if is_explicit(values) else values[index]


def rows_at(values: jax.Array, indices: jax.Array) -> jax.Array:
    """Return values[indices], also on a mesh with Explicit axes, where JAX asks for the sharding of the result.

    The rows are divided over the devices as all rows are, if their number allows it.
    """
    if not is_explicit(values):
        return values[indices]
    mesh, (rows, *others) = jax.typeof(values).sharding.mesh, jax.typeof(values).sharding.spec
    parts = math.prod(mesh.shape[name] for name in (rows if isinstance(rows, tuple) else (rows,)) if name is not None)
    spec = PartitionSpec(rows if len(indices) % parts == 0 else None, *others)
    return values.at[indices].get(out_sharding=NamedSharding(mesh, spec))


def is_explicit(values: jax.Array) -> bool:
    """Return whether an array lies on a mesh with Explicit axes."""
    return AxisType.Explicit in jax.typeof(values).sharding.mesh.axis_types


class Metrics(NamedTuple):
    """Loss, metrics and penalty of one step, before its update.

    loss: weighted mean over the real examples, or their real steps.
    metrics: the same mean of every metric, by name.
    penalty: penalty on the weights.
    weight: sum of the weights that the means are over: without weights, the number of real examples or real steps.
    """

    loss: jax.Array | np.ndarray
    metrics: dict[str, jax.Array] | dict[str, np.ndarray]
    penalty: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray


def optimizer_for(net: Layer, optimizer: Any) -> optax.GradientTransformation:
    """Return the optimizer of a network: it has no state for frozen layers, and does not change their parameters.

    Raises:
        ValueError: when the optimizer is not an Optax transformation.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        name = optimizer if isinstance(optimizer, str) and hasattr(optax, optimizer) else "adam"
        raise ValueError(f"optimizer: expected an Optax transformation, got {optimizer!r}; pass optax.{name}(1e-3)")
    frozen = [path for path, layer in walk(net) if layer.kind == "frozen"]
    if not frozen:
        return optimizer

    def is_frozen(path: Any, _: Any) -> bool:
        names = tuple(entry.key for entry in path)
        return any(names[: len(container)] == container for container in frozen)

    def frozen_leaves(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(is_frozen, params)

    def trained_leaves(params: Any) -> Any:
        return jax.tree.map(operator.not_, frozen_leaves(params))

    return optax.chain(optax.masked(optimizer, trained_leaves), optax.masked(optax.set_to_zero(), frozen_leaves))


def init_state(net: Layer, optimizer: optax.GradientTransformation, key: jax.Array, in_shape: Shape) -> TrainState:
    """Return the state before the first step.

    The key is split: one part initializes the parameters, the other is for training.

    Args:
        net: the network.
        optimizer: the optimizer, whose state is initialized too.
        key: random key of the run.
        in_shape: shape of one example, or a dict or tuple of shapes, as the examples are.
    """
    optimizer = optimizer_for(net, optimizer)
    init_key, step_key = jax.random.split(key)
    params, state = net.init(init_key, in_shape)
    return TrainState(jnp.zeros((), "int32"), params, state, optimizer.init(params), step_key)


def state_of_seed(net: Layer, optimizer: optax.GradientTransformation, seed: int, in_shape: Shape) -> TrainState:
    """Return the state of `init_state` before the first step of a run with this seed, computed by compiled programs."""
    optimizer = optimizer_for(net, optimizer)
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params, state = initialize(net, init_key, in_shape)
    opt_state = compile_for(optimizer.init, params)(params)
    return TrainState(jax.numpy.zeros((), "int32"), params, state, opt_state, step_key)
