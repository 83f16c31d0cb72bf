"""Batches for the training steps, from arrays on the device or from a prefetched stream."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.data.arrays import map_rows, rows_of
from fnet.data.stream import Stream, read_ahead
from fnet.train.plan import Plan
from fnet.train.state import Examples

Data = Examples | Stream | tuple[Any] | tuple[Any, Any] | tuple[Any, Any, Any]
"""A data set: `Examples`, a `Stream`, or the tuple (x, y), (x, y, mask) or, for an objective without targets, (x,)."""


def as_examples(data: Data, part: str = "train") -> Examples | Stream:
    """Return a data set as `Examples`, with lists as arrays, or as the `Stream` that it is.

    Args:
        data: the data set.
        part: its name in the error message.

    Raises:
        ValueError: when it is not a data set.

    >>> as_examples(([[1.0], [2.0]], [0, 1])).y.tolist()
    [0, 1]
    """
    if isinstance(data, Stream):
        return data
    if not isinstance(data, Examples):
        if not isinstance(data, tuple | list) or len(data) not in (1, 2, 3):
            raise ValueError(
                f"{part}: expected examples and targets (x, y), or (x, y, mask), fnet.train.Examples or a Stream, got "
                f"{f'{len(data)} values' if isinstance(data, tuple | list) else type(data).__name__}"
            )
        data = Examples(*data) if len(data) > 1 else Examples(data[0], None)
    return map_rows(lambda rows: rows if hasattr(rows, "dtype") else np.asarray(rows), data)


class Chunk(NamedTuple):
    """Examples of consecutive steps of an epoch, on the device.

    first, stop: half-open range [first, stop) of the steps, counted from 0 within the epoch.
    data: the examples, in any order.
    order: indices of the examples in the order of the batches.
    filled: number of examples of all batches; the last one may be padded.
    steps: number of batches that there is space for.
    """

    first: int
    stop: int
    data: Examples
    order: jax.Array
    filled: int
    steps: int

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


def on_device(data: Examples) -> Examples:
    """Return a data set as JAX arrays; arrays that are on the device already stay as and where they are."""
    return jax.tree.map(jnp.asarray, data)


def placement(data: Examples) -> jax.sharding.NamedSharding | None:
    """Return the sharding that copies an array to all devices over which a data set is divided, if there are several.

    The training state is copied to them.
    """
    shardings = (rows.sharding for rows in rows_of(data) if isinstance(rows, jax.Array))
    for sharding in shardings:
        if isinstance(sharding, jax.sharding.NamedSharding) and len(sharding.device_set) > 1:
            return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return None


class ResidentBatches:
    """Batches of data that stays on the device: an epoch is one chunk, and only the order of the examples changes.

    Args:
        data: the training examples.
        plan: length of the run.
        seed: seed of the order of the examples.
    """

    def __init__(self, data: Examples, plan: Plan, seed: int):
        self._data = on_device(data)
        self._plan = plan
        self._seed = seed
        self._size = len(rows_of(data.x)[0])
        self.placement = placement(self._data)

    def example(self) -> Chunk:
        """Return a chunk of the shapes and types of all others, to compile a program for."""
        return self._chunk(np.zeros(self._size, np.int32))

    def chunks(self, epoch: int, first_step: int) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the chunks of an epoch, counted from 1, beginning with the one that contains a step."""
        yield self._chunk(example_order(self._seed, epoch, self._size))

    def close(self) -> None:
        """Do nothing: no resource is open."""

    def _chunk(self, order: np.ndarray) -> Chunk:
        steps = self._plan.steps_per_epoch
        return Chunk(0, steps, self._data, jax.device_put(order, self.placement), self._size, steps)


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

    placement = None

    def __init__(self, data: Stream, plan: Plan, seed: int, start: int):
        self._data = data
        self._plan = plan
        self._steps_per_chunk = data.batches_per_chunk(plan.batch_size)
        self._chunks_per_epoch = math.ceil(plan.steps_per_epoch / self._steps_per_chunk)
        self._rows = self._steps_per_chunk * plan.batch_size
        self._order_of = functools.lru_cache(maxsize=2)(lambda epoch: example_order(seed, epoch, data.size))
        self._order = jnp.arange(self._rows, dtype=jnp.int32)  # for the program of `ResidentBatches`, and its rounding
        epochs, steps = divmod(start, plan.steps_per_epoch)
        next_chunk = epochs * self._chunks_per_epoch + steps // self._steps_per_chunk
        self._arrays = read_ahead(self._read, range(next_chunk, plan.epochs * self._chunks_per_epoch))

    def example(self) -> Chunk:
        """Return a chunk of the shapes and types of all others, to compile a program for."""
        data = _to_device(self._data.read(np.zeros(0, int), self._rows))
        return Chunk(0, self._steps_per_chunk, data, self._order, self._rows, self._steps_per_chunk)

    def chunks(self, epoch: int, first_step: int) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the chunks of an epoch, counted from 1, beginning with the one that contains a step.

        The epochs must be requested in order.
        """
        for number in range(first_step // self._steps_per_chunk, self._chunks_per_epoch):
            first = number * self._steps_per_chunk
            data = _to_device(next(self._arrays))
            filled = min(self._rows, self._data.size - first * self._plan.batch_size)
            stop = first + math.ceil(filled / self._plan.batch_size)
            yield Chunk(first, stop, data, self._order, filled, self._steps_per_chunk)

    def close(self) -> None:
        """Stop reading ahead."""
        self._arrays.close()

    def _read(self, number: int) -> Stream:
        """Return the examples of a chunk."""
        epochs, chunk = divmod(number, self._chunks_per_epoch)
        start = chunk * self._rows
        return self._data.read(self._order_of(epochs + 1)[start : start + self._rows], self._rows)


def chunks_in_order(data: Stream, batch_size: int) -> Iterator[tuple[Examples, int]]:
    """Yield all examples in source order, as arrays of several full batches, each with its number of examples.

    All arrays have the same length; only the last may contain fewer examples.
    """
    rows_per_chunk = batch_size * data.batches_per_chunk(batch_size)
    for start in range(0, data.size, rows_per_chunk):
        rows = np.arange(start, min(data.size, start + rows_per_chunk))
        yield _to_device(data.read(rows, rows_per_chunk)), len(rows)


def _to_device(arrays: Stream) -> Examples:
    """Move arrays to the device like `on_device`, but without a copy, because nothing else refers to them."""
    return Examples(*jax.device_put(tuple(arrays)))
