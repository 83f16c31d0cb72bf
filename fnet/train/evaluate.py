"""Outputs and averages of a trained network over a whole set of examples."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.description import Layer
from fnet.losses import Loss

BATCH = 1024
"""The most examples that are put through a network at once; it bounds memory, and changes no result."""


class Score(NamedTuple):
    """Means over a set of examples, each counted once."""

    loss: jax.Array
    metric: jax.Array


def make_score(net: Layer, loss: Loss) -> Callable[[Any, Any, jax.Array, jax.Array], Score]:
    """The compiled function (params, state, x, y) -> Score, over any number of examples.

    The last batch is padded with the last example, which the mask takes out again.
    """

    @jax.jit
    def score(params, state, x, y):
        size, batch = len(x), min(len(x), BATCH)

        def add(i, totals):
            position = i * batch + jnp.arange(batch)
            chosen, mask = jnp.minimum(position, size - 1), position < size
            outputs, _ = net.apply(params, state, x[chosen], train=False, mask=mask)
            losses = loss.function(outputs, y[chosen])
            metrics = loss.metric(loss.decide(outputs), y[chosen])
            return Score(
                totals.loss + jnp.sum(jnp.where(mask, losses, 0)),
                totals.metric + jnp.sum(jnp.where(mask, metrics, 0)),
            )

        totals = jax.lax.fori_loop(0, math.ceil(size / batch), add, Score(jnp.zeros(()), jnp.zeros(())))
        return Score(totals.loss / size, totals.metric / size)

    return score


def outputs_of(net: Layer, params: Any, state: Any, x: np.ndarray) -> np.ndarray:
    """The outputs of the network for every example of x (n, ...), as a NumPy array (n, ...)."""
    batch = min(len(x), BATCH)

    @jax.jit
    def apply(chunk):
        return net.apply(params, state, chunk, train=False)[0]

    chunks = []
    for start in range(0, len(x), batch):
        chunk = x[start : start + batch]
        padding = [(0, batch - len(chunk))] + [(0, 0)] * (x.ndim - 1)
        chunks.append(np.asarray(apply(np.pad(chunk, padding)))[: len(chunk)])
    return np.concatenate(chunks)
