"""Inputs and outputs of a training step, as pytrees."""

import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnet.core.layer import Layer, Shape
from fnet.core.traversal import frozen_paths
from fnet.train.compile import compile_for
from fnet.train.initialize import check_start, initialize


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
    mask: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray | None = None


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
    metrics: the value of every metric for the batch, by name: the same mean, or the result of its `finish`.
    penalty: penalty on the weights.
    weight: sum of the weights that the means are over: without weights, the number of real examples or real steps.
    means: by name, the means that metrics with `finish` take; their means over steps give the value for an epoch.
    """

    loss: jax.Array | np.ndarray
    metrics: dict[str, jax.Array] | dict[str, np.ndarray]
    penalty: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray
    means: dict[str, Any] | None = None


def check_network(net: Any) -> None:
    """Check that the first argument of a function is a network.

    Raises:
        ValueError: when it is not.
    """
    if not isinstance(net, Layer):
        raise ValueError(
            f"net: expected a network, such as fnet.serial(fnet.dense(1)), as the first argument, got {net!r}"
        )


def optimizer_for(net: Layer, optimizer: Any) -> optax.GradientTransformation:
    """Return the optimizer of a network: it has no state for frozen layers, and does not change their parameters.

    Raises:
        ValueError: when the network is not one, or the optimizer is not an Optax transformation.
    """
    check_network(net)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        name = optimizer if isinstance(optimizer, str) and hasattr(optax, optimizer) else "adam"
        raise ValueError(f"optimizer: expected an Optax transformation, got {optimizer!r}; pass optax.{name}(1e-3)")
    frozen = frozen_paths(net)
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


def check_opt_state(optimizer: optax.GradientTransformation, train_state: TrainState) -> None:
    """Check that the optimizer's state has the structure that the optimizer of the network initializes.

    Raises:
        ValueError: when it does not.
    """
    expected = jax.eval_shape(optimizer.init, train_state.params)
    if jax.tree.structure(train_state.opt_state) != jax.tree.structure(expected):
        raise ValueError(
            "opt_state: expected the state of this optimizer for this network, without its frozen layers, got a state "
            "of another structure; make it with fnet.train.init_state(net, optimizer, key, in_shape, params=params)"
        )


def init_state(
    net: Layer,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    in_shape: Shape,
    *,
    params: Any = None,
    state: Any = None,
    averaged: bool = False,
) -> TrainState:
    """Return the state before the first step.

    The key is split: one part initializes the parameters, the other is for training.

    Args:
        net: the network.
        optimizer: the optimizer, whose state is initialized too. It has no state for frozen layers.
        key: random key of the run.
        in_shape: shape of one example, or a dict or tuple of shapes, as the examples are.
        params: parameters to begin with, in place of those that the key determines.
        state: non-trainable state to begin with, likewise.
        averaged: whether the steps compute a moving average of the parameters, as `make_step` does with `ema`.

    Raises:
        ValueError: for parameters or a state of another network, and for a key that is not one.

    >>> import fnet
    >>> start = init_state(fnet.dense(2), optax.sgd(0.1), jax.random.key(0), (3,), params={"w": np.ones((3, 4))})
    Traceback (most recent call last):
        ...
    ValueError: params: it misses the entry 'b', which the network has; pass parameters of this network, such as those
    of net.init
    """
    optimizer = optimizer_for(net, optimizer)
    _check_key(key)
    init_key, step_key = jax.random.split(key)
    initial = net.init(init_key, in_shape) if params is None or state is None else (params, state)
    params, state = _begin_with(net, in_shape, initial, params, state)
    average = params if averaged else None
    return TrainState(jnp.zeros((), "int32"), params, state, optimizer.init(params), step_key, average)


def state_of_seed(
    net: Layer,
    optimizer: optax.GradientTransformation,
    seed: int,
    in_shape: Shape,
    *,
    params: Any = None,
    state: Any = None,
) -> TrainState:
    """Return the state of `init_state` before the first step of a run with this seed, computed by compiled programs."""
    optimizer = optimizer_for(net, optimizer)
    init_key, step_key = jax.random.split(jax.random.key(seed))
    initial = initialize(net, init_key, in_shape) if params is None or state is None else (params, state)
    params, state = _begin_with(net, in_shape, initial, params, state)
    opt_state = compile_for(optimizer.init, params)(params)
    return TrainState(jnp.zeros((), "int32"), params, state, opt_state, step_key)


def _begin_with(net: Layer, in_shape: Shape, initial: tuple[Any, Any], params: Any, state: Any) -> tuple[Any, Any]:
    """Return the initial parameters and state, or those that are given in their place.

    Raises:
        ValueError: when these are not of the network.
    """
    if params is None and state is None:
        return initial
    params, state = (
        first if given is None else jax.tree.map(jnp.asarray, given)
        for first, given in zip(initial, (params, state), strict=True)
    )
    check_start(net, in_shape, params, state)
    return params, state


def _check_key(key: Any) -> None:
    """Check that a key is one, typed or of the older kind, of two unsigned integers.

    Raises:
        ValueError: when it is not.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (dtype == np.uint32 or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        seed = key if isinstance(key, int) and not isinstance(key, bool) else 0
        raise ValueError(f"key: expected a random key, got {key!r}; pass jax.random.key({seed})")
