"""Batches for the training steps, from arrays on the device or from a prefetched stream."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.data.stream import Stream, read_ahead
from fnet.train.plan import Plan

Data = tuple[jax.Array, ...]
"""Examples, targets and, for sequences of different lengths, the mask of their steps."""


class Chunk(NamedTuple):
    """Examples of consecutive steps of an epoch, on the device.

    first, stop: half-open range [first, stop) of the steps, counted from 0 within the epoch.
    data: examples, targets and mask, in any order.
    order: for every row of the batches, its index into the data, (steps * batch_size,) or longer.
    filled: number of rows with real examples; the remaining rows are padding.
    """

    first: int
    stop: int
    data: Data
    order: jax.Array
    filled: int

    def examples_in(self, first: int, stop: int, batch_size: int) -> int:
        """Return the number of examples in the steps [first, stop) of the epoch."""
        rows = range((first - self.first) * batch_size, (stop - self.first) * batch_size)
        return min(rows.stop, self.filled) - rows.start


def example_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Return the order of the examples in an epoch, a permutation that depends only on (seed, epoch, size).

    >>> sorted(example_order(0, 1, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


def on_device(data: tuple[Any, ...]) -> Data:
    """Return examples, targets and mask, if there is one, as JAX arrays."""
    x, y, *mask = data
    return (jnp.asarray(x), jnp.asarray(y), *(jnp.asarray(part, bool) for part in mask))


class ResidentBatches:
    """Batches of data that stays on the device: an epoch is one chunk, and only the order of the examples changes.

    Args:
        data: training examples, targets and mask, if there is one.
        plan: length of the run.
        seed: seed of the order of the examples.
    """

    def __init__(self, data: tuple[Any, ...], plan: Plan, seed: int):
        self._data = on_device(data)
        self._plan = plan
        self._seed = seed
        self._size = len(self._data[0])
        self._rows = plan.steps_per_epoch * plan.batch_size

    def example(self) -> Chunk:
        """Return a chunk of the shapes and types of all others, to compile a program for."""
        return self._chunk(np.zeros(self._size, np.int32))

    def chunks(self, epoch: int, first_step: int) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the chunks of an epoch, counted from 1, beginning with the one that contains a step."""
        yield self._chunk(example_order(self._seed, epoch, self._size))

    def close(self) -> None:
        """Do nothing: no resource is open."""

    def _chunk(self, order: np.ndarray) -> Chunk:
        padded = np.pad(order, (0, self._rows - self._size))
        return Chunk(0, self._plan.steps_per_epoch, self._data, jnp.asarray(padded), self._size)


class StreamedBatches:
    """Batches of data that is read in the order of the steps: an epoch is several chunks.

    Chunks are numbered across the whole run, and the content of each depends only on its number, so that training can
    resume after any number of steps.

    Args:
        data: the training examples.
        plan: length of the run.
        seed: seed of the order of the examples.
        start: number of steps completed.
    """

    def __init__(self, data: Stream, plan: Plan, seed: int, start: int):
        self._data = data
        self._plan = plan
        self._steps_per_chunk = data.batches_per_chunk(plan.batch_size)
        self._chunks_per_epoch = math.ceil(plan.steps_per_epoch / self._steps_per_chunk)
        self._rows = self._steps_per_chunk * plan.batch_size
        self._order_of = functools.lru_cache(maxsize=2)(lambda epoch: example_order(seed, epoch, data.size))
        self._order = jnp.arange(self._rows, dtype=jnp.int32)
        epochs, steps = divmod(start, plan.steps_per_epoch)
        next_chunk = epochs * self._chunks_per_epoch + steps // self._steps_per_chunk
        self._arrays = read_ahead(self._read, range(next_chunk, plan.epochs * self._chunks_per_epoch))

    def example(self) -> Chunk:
        """Return a chunk of the shapes and types of all others, to compile a program for."""
        data = _to_device(self._data.read(np.zeros(0, int), self._rows))
        return Chunk(0, self._steps_per_chunk, data, self._order, self._rows)

    def chunks(self, epoch: int, first_step: int) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the chunks of an epoch, counted from 1, beginning with the one that contains a step.

        The epochs must be requested in order.
        """
        for number in range(first_step // self._steps_per_chunk, self._chunks_per_epoch):
            first = number * self._steps_per_chunk
            data = _to_device(next(self._arrays))
            filled = min(self._rows, self._data.size - first * self._plan.batch_size)
            yield Chunk(first, first + math.ceil(filled / self._plan.batch_size), data, self._order, filled)

    def close(self) -> None:
        """Stop reading ahead."""
        self._arrays.close()

    def _read(self, number: int) -> tuple[np.ndarray, ...]:
        """Return the examples of a chunk; the last batch is padded with example 0, as it is in `ResidentBatches`."""
        epochs, chunk = divmod(number, self._chunks_per_epoch)
        start = chunk * self._rows
        rows = self._order_of(epochs + 1)[start : start + self._rows]
        rows = np.pad(rows, (0, -len(rows) % self._plan.batch_size))
        return self._data.read(rows, self._rows)


def chunks_in_order(data: Stream, batch_size: int) -> Iterator[tuple[Data, int]]:
    """Yield all examples in source order, as arrays of several full batches, each with its number of examples.

    All arrays have the same length; only the last may contain fewer examples.
    """
    rows_per_chunk = batch_size * data.batches_per_chunk(batch_size)
    for start in range(0, data.size, rows_per_chunk):
        rows = np.arange(start, min(data.size, start + rows_per_chunk))
        yield _to_device(data.read(rows, rows_per_chunk)), len(rows)


def _to_device(arrays: tuple[np.ndarray, ...]) -> Data:
    """Move arrays to the device like `on_device`, but without a copy, because nothing else refers to them."""
    x, y, *mask = jax.device_put(arrays)
    return (x, y, *(part.astype(bool) for part in mask))
