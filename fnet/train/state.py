"""Inputs and outputs of a training step, as pytrees."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fnet.core.layer import Layer, Shape
from fnet.train.compile import compile_for
from fnet.train.initialize import initialize


class TrainState(NamedTuple):
    """Everything that a training step reads and updates, other than the batch.

    step: number of steps completed, an int32 scalar.
    params: parameters.
    state: non-trainable state of the network.
    opt_state: state of the optimizer.
    key: random key of the run, the same in every step.
    """

    step: jax.Array
    params: Any
    state: Any
    opt_state: Any
    key: jax.Array


class Batch(NamedTuple):
    """Examples (batch, ...), their targets (batch, ...), and a mask of those that are real; the rest is padding.

    mask: (batch,), or (batch, time) if steps of the examples are masked.
    """

    x: jax.Array
    y: jax.Array
    mask: jax.Array


class Metrics(NamedTuple):
    """Loss, metrics and penalty of one step, before its update.

    loss: mean over the real examples, or their real steps.
    metrics: the same mean of every metric of the loss, by name.
    penalty: penalty on the weights.
    weight: number of real examples, or of real steps, that the means are over.
    """

    loss: jax.Array | np.ndarray
    metrics: dict[str, jax.Array] | dict[str, np.ndarray]
    penalty: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray


def init_state(net: Layer, optimizer: optax.GradientTransformation, key: jax.Array, in_shape: Shape) -> TrainState:
    """Return the state before the first step.

    The key is split: one part initializes the parameters, the other is for training.

    Args:
        net: the network.
        optimizer: the optimizer, whose state is initialized too.
        key: random key of the run.
        in_shape: shape of one example.
    """
    init_key, step_key = jax.random.split(key)
    params, state = net.init(init_key, in_shape)
    return TrainState(jax.numpy.zeros((), "int32"), params, state, optimizer.init(params), step_key)


def state_of_seed(net: Layer, optimizer: optax.GradientTransformation, seed: int, in_shape: Shape) -> TrainState:
    """Return the state of `init_state` before the first step of a run with this seed, computed by compiled programs."""
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params, state = initialize(net, init_key, in_shape)
    opt_state = compile_for(optimizer.init, params)(params)
    return TrainState(jax.numpy.zeros((), "int32"), params, state, opt_state, step_key)
