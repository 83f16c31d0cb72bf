"""Outputs and averages of a trained network over a whole set of examples."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.data.arrays import Rows
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.train.feed import batches_in_order, on_device
from fnet.train.step import counted

BATCH = 1024
"""The most examples that are put through a network at once; it bounds memory, and changes no result."""


class Score(NamedTuple):
    """Means over a set of examples, or over the steps of theirs that a mask counts, each counted once."""

    loss: jax.Array
    metric: jax.Array


def make_score(net: Layer, loss: Loss) -> Callable[..., Score]:
    """The function (params, state, x, y, steps_mask=None) -> Score, over any number of examples, or of a Stream for x.

    It is compiled once for arrays of a shape, and once for a stream, which it reads in portions. The last batch is
    padded with the last example, which the mask takes out again.
    """

    @functools.partial(jax.jit, static_argnames="batch")
    def add_up(totals, params, state, data, size, batch):
        x, y, *steps_mask = data

        def add(i, totals):
            position = i * batch + jnp.arange(batch)
            chosen, mask = jnp.minimum(position, size - 1), position < size
            if steps_mask:
                mask = mask[:, None] & steps_mask[0][chosen]
            outputs, _ = net.apply(params, state, x[chosen], train=False, mask=mask)
            outputs, targets, mask = counted(outputs, y[chosen], mask)
            losses = loss.function(outputs, targets)
            metrics = loss.metric(loss.decide(outputs), targets)
            sums, count = totals
            added = (jnp.sum(jnp.where(mask, values, 0)) for values in (losses, metrics))
            return Score(*map(jnp.add, sums, added)), count + jnp.sum(mask)

        return jax.lax.fori_loop(0, (size + batch - 1) // batch, add, totals)

    def score(params, state, x, y=None, steps_mask=None) -> Score:
        batch = min(x.size if isinstance(x, Stream) else len(x), BATCH)
        if isinstance(x, Stream):
            portions = batches_in_order(x, batch)
        else:
            portions = [((x, y) if steps_mask is None else (x, y, steps_mask), len(x))]
        before = totals = Score(jnp.zeros(()), jnp.zeros(())), jnp.zeros((), int)
        for data, size in portions:
            jax.block_until_ready(before)  # one portion may wait while another is computed with, and no more
            before, totals = totals, add_up(totals, params, state, data, size, batch)
        sums, count = totals
        return Score(sums.loss / count, sums.metric / count)

    return score


def scored(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of `make_score`'s function for examples and targets, with their mask if there is one, or a Stream.

    Arrays are put on the device.
    """
    return (data,) if isinstance(data, Stream) else on_device(data)


def outputs_of(net: Layer, params: Any, state: Any, x: Rows) -> np.ndarray:
    """The outputs of the network for every example of x (n, ...), as a NumPy array (n, ...)."""
    batch = min(len(x), BATCH)

    @jax.jit
    def apply(chunk):
        return net.apply(params, state, chunk, train=False)[0]

    chunks = []
    for start in range(0, len(x), batch):
        chunk = x[start : start + batch]
        padding = [(0, batch - len(chunk))] + [(0, 0)] * (len(x.shape) - 1)
        chunks.append(np.asarray(apply(np.pad(chunk, padding)))[: len(chunk)])
    return np.concatenate(chunks)
