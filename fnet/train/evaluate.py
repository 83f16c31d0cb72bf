"""Outputs and scores of a network over a whole dataset."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.data.arrays import Rows
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.train.compile import compile_on_call
from fnet.train.feed import chunks_in_order, on_device
from fnet.train.step import Score, flatten_steps, score_examples

BATCH_SIZE = 1024
"""Maximum number of examples per application of the network; it limits memory and does not change results."""


def make_score(net: Layer, loss: Loss) -> Callable[..., Score]:
    """Return the function (params, state, x, y, steps_mask=None) -> Score; x may be a Stream that contains all three.

    The score is the mean over all examples, or over their unmasked steps. The function is compiled once per
    shape of the arrays, and once for a stream, which it reads in chunks.
    """
    add_chunk = _make_add_chunk(net, loss)
    zero = jnp.zeros(())

    def score(params, state, x, y=None, steps_mask=None) -> Score:
        batch_size = min(x.size if isinstance(x, Stream) else len(x), BATCH_SIZE)
        chunks: Iterable[tuple[Any, int]]
        if isinstance(x, Stream):
            chunks = chunks_in_order(x, batch_size)
        else:
            chunks = [((x, y) if steps_mask is None else (x, y, steps_mask), len(x))]
        totals = Score(zero, {metric.name: zero for metric in loss.metrics}), jnp.zeros((), int)
        before = totals
        for data, size in chunks:
            jax.block_until_ready(before)  # limits memory: at most one chunk waits while another is processed
            before, totals = totals, add_chunk(totals, params, state, data, size, batch_size=batch_size)
        sums, count = totals
        return Score(sums.loss / count, {metric.name: sums.metrics[metric.name] / count for metric in loss.metrics})

    return score


def _make_add_chunk(net: Layer, loss: Loss) -> Callable[..., tuple[Score, jax.Array]]:
    """Return the compiled function that adds the scores of a chunk of examples to totals (sums, count).

    The last batch is padded with copies of the last example, which are masked.
    """

    @compile_on_call
    def add_chunk(totals, params, state, data, size, *, batch_size):
        x, y, *steps_mask = data

        def add_batch(i, totals):
            rows = i * batch_size + jnp.arange(batch_size)
            indices, mask = jnp.minimum(rows, size - 1), rows < size
            if steps_mask:
                mask = mask[:, None] & steps_mask[0][indices]
            outputs, _ = net.apply(params, state, x[indices], train=False, mask=mask)
            outputs, targets, mask = flatten_steps(outputs, y[indices], mask)
            scores = score_examples(loss, outputs, targets)
            sums, count = totals
            sums = jax.tree.map(lambda total, values: total + jnp.sum(jnp.where(mask, values, 0)), sums, scores)
            return sums, count + jnp.sum(mask)

        return jax.lax.fori_loop(0, (size + batch_size - 1) // batch_size, add_batch, totals)

    return add_chunk


def score_inputs(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments (x, y, steps_mask) for the function from `make_score`, with arrays on the device.

    Args:
        data: examples, targets and mask, if there is one; or a Stream.
    """
    return (data,) if isinstance(data, Stream) else on_device(data)


def values_of(score: Score) -> dict[str, float]:
    """Return the loss and the metrics of a score by name, as Python numbers.

    >>> values_of(Score(jnp.array(0.5), {"accuracy": jnp.array(0.75)}))
    {'loss': 0.5, 'accuracy': 0.75}
    """
    return {"loss": float(score.loss)} | {name: float(value) for name, value in score.metrics.items()}


def outputs_of(net: Layer, params: Any, state: Any, x: Rows) -> np.ndarray:
    """Return the outputs of a network for every example of x (n, ...), as a NumPy array (n, ...)."""
    batch_size = min(len(x), BATCH_SIZE)

    @compile_on_call
    def apply(params, state, batch):
        return net.apply(params, state, batch, train=False)[0]

    outputs = []
    for start in range(0, len(x), batch_size):
        batch = x[start : start + batch_size]
        padding = [(0, batch_size - len(batch))] + [(0, 0)] * (len(x.shape) - 1)
        outputs.append(np.asarray(apply(params, state, np.pad(batch, padding)))[: len(batch)])
    return np.concatenate(outputs)
