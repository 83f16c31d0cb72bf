"""Where the steps of training get their examples: from arrays on the device, or from a stream read ahead of them."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.data.stream import Stream, read_ahead

Data = tuple[jax.Array, ...]
"""Examples, targets, and the mask of their steps, if there is one."""


class Piece(NamedTuple):
    """Some steps of an epoch, and what they need.

    first, stop: the first step, counted from 0 in the epoch, and the one behind the last.
    data: where the examples are, on the device.
    order: which of them belongs in each place of the batches of these steps, (steps * batch,) or longer.
    filled: how many places hold an example; the others, at the end, are padding.
    """

    first: int
    stop: int
    data: Data
    order: jax.Array
    filled: int


def example_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the examples in an epoch: a permutation that depends on (seed, epoch, size) alone.

    >>> sorted(example_order(0, 1, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


def on_device(data: tuple[Any, ...]) -> Data:
    """Examples, targets and mask, if there is one, as arrays of JAX."""
    x, y, *mask = data
    return (jnp.asarray(x), jnp.asarray(y), *(jnp.asarray(part, bool) for part in mask))


class Resident:
    """Data that stay on the device as a whole: an epoch is one piece, and only the order moves."""

    def __init__(self, data: tuple[Any, ...], batch: int, seed: int):
        self._data = on_device(data)
        self._batch = batch
        self._seed = seed
        self._size = len(self._data[0])
        self._steps = math.ceil(self._size / batch)

    def example(self) -> Piece:
        """A piece as the others are, to compile a program for."""
        return Piece(0, self._steps, self._data, jnp.zeros(self._steps * self._batch, jnp.int32), self._size)

    def pieces(self, epoch: int, first: int) -> Iterator[Piece]:  # noqa: ARG002
        """An epoch's, counted from 1, from the one that holds a step on."""
        order = np.pad(example_order(self._seed, epoch, self._size), (0, self._steps * self._batch - self._size))
        yield Piece(0, self._steps, self._data, jnp.asarray(order), self._size)

    def close(self) -> None:
        """Nothing is open."""


class Streamed:
    """Data that are read in the order of the steps: an epoch is several pieces, each of some consecutive steps.

    The pieces are numbered through the whole run, and each is a function of its number alone, so that the number of
    steps taken says where to go on.

    Args:
        data: the training examples.
        batch: examples a step.
        seed: of the order.
        start: steps that have been taken.
        epochs: of the whole run.
    """

    def __init__(self, data: Stream, batch: int, seed: int, start: int, epochs: int):
        self._data = data
        self._batch = batch
        self._steps = math.ceil(data.size / batch)
        self._at_once = data.batches_at_once(batch)
        self._pieces = math.ceil(self._steps / self._at_once)
        self._places = self._at_once * batch
        self._order_of = functools.lru_cache(maxsize=2)(lambda epoch: example_order(seed, epoch, data.size))
        self._order = jnp.arange(self._places, dtype=jnp.int32)
        done, within = divmod(start, self._steps)
        self._ahead = read_ahead(
            self._read, range(done * self._pieces + within // self._at_once, epochs * self._pieces)
        )

    def example(self) -> Piece:
        """A piece as the others are, to compile a program for."""
        like = self._data.read(np.zeros(0, int), self._places)
        return Piece(0, self._at_once, _handed_over(like), self._order, self._places)

    def pieces(self, epoch: int, first: int) -> Iterator[Piece]:  # noqa: ARG002
        """An epoch's, counted from 1, from the one that holds a step on; the epochs must come in their order."""
        for number in range(first // self._at_once, self._pieces):
            begin = number * self._at_once
            data = _handed_over(next(self._ahead))
            filled = min(self._places, self._data.size - begin * self._batch)
            yield Piece(begin, begin + math.ceil(filled / self._batch), data, self._order, filled)

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.close()

    def _read(self, number: int) -> tuple[np.ndarray, ...]:
        """The examples of a piece; what fills up the last batch is example 0, as on the device."""
        done, piece = divmod(number, self._pieces)
        start = piece * self._places
        rows = self._order_of(done + 1)[start : start + self._places]
        rows = np.pad(rows, (0, -len(rows) % self._batch))
        return self._data.read(rows, self._places)


def batches_in_order(data: Stream, batch: int) -> Iterator[tuple[Data, int]]:
    """All examples in their order, as arrays of some whole batches each, and how many of their rows are examples.

    All arrays are of one length; only the last may hold fewer examples.
    """
    places = batch * data.batches_at_once(batch)
    for start in range(0, data.size, places):
        rows = np.arange(start, min(data.size, start + places))
        yield _handed_over(data.read(rows, places)), len(rows)


def _handed_over(arrays: tuple[np.ndarray, ...]) -> Data:
    """As `on_device`, of arrays that nothing else holds: JAX need not copy them."""
    x, y, *mask = jax.device_put(arrays)
    return (x, y, *(part.astype(bool) for part in mask))
