"""Outputs and scores of a network over a whole dataset."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.data.arrays import Tree, map_rows, rows_of
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.train.compile import compile_on_call
from fnet.train.feed import Data, as_examples, chunks_in_order, on_device
from fnet.train.score import Score, apply_to_batch, score_sums, value_of, without_padding
from fnet.train.state import Examples, take_batch

BATCH_SIZE = 1024
"""Maximum number of examples per application of the network; it limits memory and does not change results."""


def make_score(net: Layer, loss: Loss) -> Callable[[Any, Any, Data], Score]:
    """Return the function (params, state, data) -> Score.

    The score is the weighted mean over all examples, or over their unmasked steps. The function is compiled once per
    shape of the arrays, and once for a stream, which it reads in chunks.
    """
    add_chunk = _make_add_chunk(net, loss)
    zeros: dict[Hashable, tuple[Score, jax.Array]] = {}

    def score(params: Any, state: Any, data: Data) -> Score:
        data = as_examples(data)
        size = len(rows_of(data.x)[0])
        batch_size = min(size, BATCH_SIZE)
        chunks: Iterable[tuple[Examples, int]]
        chunks = chunks_in_order(data, batch_size) if isinstance(data, Stream) else [(on_device(data), size)]
        before = totals = None
        for examples, filled in chunks:
            jax.block_until_ready(before)  # limits memory: at most one chunk waits while another is processed
            if totals is None:
                kind = jax.tree.structure(examples), *(jnp.shape(leaf) for leaf in jax.tree.leaves(examples))
                if kind not in zeros:
                    zeros[kind] = _zero_totals(net, loss, params, state, examples, batch_size)
                totals = zeros[kind]
            before, totals = totals, add_chunk(totals, params, state, examples, filled, batch_size=batch_size)
        assert totals is not None
        sums, total = totals
        metrics = {metric.name: value_of(metric, sums.metrics[metric.name], total) for metric in loss.metrics}
        return Score(sums.loss / total, metrics)

    return score


def _make_add_chunk(net: Layer, loss: Loss) -> Callable[..., tuple[Score, jax.Array]]:
    """Return the compiled function that adds the scores of a chunk of examples to totals (sums, weight)."""

    @compile_on_call
    def add_chunk(totals, params, state, examples, filled, *, batch_size):
        def add_batch(i, totals):
            sums = _sums_of_batch(net, loss, params, state, examples, i, filled, batch_size)
            return jax.tree.map(lambda total, value: total + value, totals, sums)

        return jax.lax.fori_loop(0, (filled + batch_size - 1) // batch_size, add_batch, totals)

    return add_chunk


def _sums_of_batch(net, loss, params, state, examples, number, filled, batch_size) -> tuple[Score, jax.Array]:
    batch = without_padding(take_batch(examples, number, batch_size, filled))
    outputs, _ = apply_to_batch(net, params, state, batch, train=False)
    return score_sums(loss, outputs, batch)


def _zero_totals(
    net: Layer, loss: Loss, params: Any, state: Any, examples: Examples, batch_size: int
) -> tuple[Score, jax.Array]:
    """Return the totals before the first chunk, which a metric with `finish` determines the shapes of."""
    zero = jnp.zeros(())
    metrics: dict[str, Any] = {metric.name: zero for metric in loss.metrics}
    if any(metric.finish for metric in loss.metrics):

        def sums_of_batch(params, state, examples):
            return _sums_of_batch(net, loss, params, state, examples, 0, batch_size, batch_size)[0].metrics

        shapes = jax.eval_shape(sums_of_batch, params, state, examples)
        metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return Score(zero, metrics), jnp.zeros((), int if examples.weight is None else float)


def resident(data: Data, part: str) -> Examples | Stream:
    """Return a data set that is scored several times, with its arrays on the device; a stream is unchanged."""
    data = as_examples(data, part)
    return data if isinstance(data, Stream) else on_device(data)


def values_of(score: Score) -> dict[str, float]:
    """Return the loss and the metrics of a score by name, as Python numbers.

    >>> values_of(Score(jnp.array(0.5), {"accuracy": jnp.array(0.75)}))
    {'loss': 0.5, 'accuracy': 0.75}
    """
    return {"loss": float(score.loss)} | {name: float(value) for name, value in score.metrics.items()}


def outputs_of(net: Layer, params: Any, state: Any, x: Tree) -> Any:
    """Return the outputs of a network for every example of x (n, ...), as a NumPy array (n, ...).

    x may be a dict or tuple of arrays; the outputs have the structure of the network's outputs.
    """
    return make_outputs(net, len(rows_of(x)[0]))(params, state, x)


def make_outputs(net: Layer, size: int) -> Callable[[Any, Any, Tree], Any]:
    """Return the function (params, state, x) -> outputs of `outputs_of`, compiled once.

    Args:
        net: the network.
        size: total number of examples that the function is applied to, in one or several calls.
    """
    batch_size = min(size, BATCH_SIZE)

    @compile_on_call
    def apply(params, state, batch):
        return net.apply(params, state, batch, train=False)[0]

    def padded(rows: np.ndarray) -> np.ndarray:
        return np.pad(rows, [(0, batch_size - len(rows))] + [(0, 0)] * (rows.ndim - 1))

    def outputs_of(params: Any, state: Any, x: Tree) -> Any:
        size = len(rows_of(x)[0])
        outputs = []
        for start in range(0, size, batch_size):
            rows = slice(start, min(size, start + batch_size))
            y = apply(params, state, map_rows(lambda values, rows=rows: padded(np.asarray(values[rows])), x))
            outputs.append(jax.tree.map(lambda part, rows=rows: np.asarray(part)[: rows.stop - rows.start], y))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)

    return outputs_of
