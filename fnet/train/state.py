"""What a training step takes and gives, as pytrees."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fnet.core.layer import Layer, Shape


class TrainState(NamedTuple):
    """Everything that a step changes, and the key that it folds the step into.

    step: number of steps taken, an int32 scalar.
    params: the parameters.
    state: the network's non-trainable state.
    opt_state: the optimizer's.
    key: the run's random key, the same throughout.
    """

    step: jax.Array
    params: Any
    state: Any
    opt_state: Any
    key: jax.Array


class Batch(NamedTuple):
    """Examples (batch, ...), their targets (batch, ...), and which of them are real; the rest is padding.

    mask: (batch,), or (batch, time) for which steps of each are.
    """

    x: jax.Array
    y: jax.Array
    mask: jax.Array


class Metrics(NamedTuple):
    """Of one step, before its update: means over the real examples of the batch, and the penalty.

    weight: how many examples, or steps of sequences, the means are over.
    """

    loss: jax.Array | np.ndarray
    metric: jax.Array | np.ndarray
    penalty: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray


def init_state(net: Layer, optimizer: optax.GradientTransformation, key: jax.Array, in_shape: Shape) -> TrainState:
    """The state before the first step. Parameters and steps draw from different halves of the key.

    Args:
        net: the network.
        optimizer: whose state is initialized too.
        key: the run's random key.
        in_shape: the shape of one example.
    """
    init_key, step_key = jax.random.split(key)
    params, state = net.init(init_key, in_shape)
    return TrainState(jax.numpy.zeros((), "int32"), params, state, optimizer.init(params), step_key)
