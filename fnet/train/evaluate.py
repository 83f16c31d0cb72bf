"""Outputs and averages of a trained network over a whole set of examples."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.description import Layer
from fnet.losses import Loss
from fnet.train.step import counted

BATCH = 1024
"""The most examples that are put through a network at once; it bounds memory, and changes no result."""


class Score(NamedTuple):
    """Means over a set of examples, or over the steps of theirs that a mask counts, each counted once."""

    loss: jax.Array
    metric: jax.Array


def make_score(net: Layer, loss: Loss) -> Callable[..., Score]:
    """The compiled function (params, state, x, y, steps_mask=None) -> Score, over any number of examples.

    The last batch is padded with the last example, which the mask takes out again.
    """

    @jax.jit
    def score(params, state, x, y, steps_mask=None):
        size, batch = len(x), min(len(x), BATCH)

        def add(i, totals):
            position = i * batch + jnp.arange(batch)
            chosen, mask = jnp.minimum(position, size - 1), position < size
            if steps_mask is not None:
                mask = mask[:, None] & steps_mask[chosen]
            outputs, _ = net.apply(params, state, x[chosen], train=False, mask=mask)
            outputs, targets, mask = counted(outputs, y[chosen], mask)
            losses = loss.function(outputs, targets)
            metrics = loss.metric(loss.decide(outputs), targets)
            sums, count = totals
            added = (jnp.sum(jnp.where(mask, values, 0)) for values in (losses, metrics))
            return Score(*map(jnp.add, sums, added)), count + jnp.sum(mask)

        start = Score(jnp.zeros(()), jnp.zeros(())), jnp.zeros((), int)
        sums, count = jax.lax.fori_loop(0, math.ceil(size / batch), add, start)
        return Score(sums.loss / count, sums.metric / count)

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
