"""Steps in segments: one compiled program that takes as many steps as fit between two things that the host has to do.

These are to show progress, to log, to be interrupted, and to hand over examples that are read from a stream. The number
of steps of a segment is an argument of the program, so that one compilation serves them all and no result depends on
where they end.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.train.feed import Piece, Resident, Streamed
from fnet.train.state import Batch, Metrics, TrainState
from fnet.train.step import Step

SEGMENT_SECONDS = 0.2
"""How long a segment should run: what one waits at most for a sign of progress."""


class Segment(NamedTuple):
    """Steps that have been taken: what a progress bar and a log need.

    epoch: counted from 1.
    first_step: number of steps before this segment.
    total_steps: of the whole run.
    metrics: arrays with one entry a step.
    examples: number of examples seen.
    seconds: the segment took.
    """

    epoch: int
    first_step: int
    total_steps: int
    metrics: Metrics
    examples: int
    seconds: float


class Diverged(ArithmeticError):
    """The loss or a parameter became NaN or infinite.

    Args:
        message: the step and the likely cause.
        train_state: the last whose loss was finite.
        epoch: in which it happened.
    """

    def __init__(self, message: str, train_state: TrainState, epoch: int):
        super().__init__(message)
        self.train_state = train_state
        self.epoch = epoch


class Runner:
    """Runs the steps of an epoch in segments, and keeps the state between them."""

    def __init__(self, step: Step, start: TrainState, feed: Resident | Streamed, size: int, batch: int):
        self.train_state = start
        self._feed = feed
        self._steps = math.ceil(size / batch)
        self._counts = np.minimum(batch, size - batch * np.arange(self._steps))
        self._history = Metrics(*(np.zeros(0) for _ in Metrics._fields))
        self._recent: deque[float] = deque(maxlen=50)
        self._chunk = 1
        piece = feed.example()
        self._previous = (start, piece, 0, 1)
        example = (start, piece.data, piece.order, piece.filled, 0, 0)
        self._segment = jax.jit(_program(step, batch)).lower(*example).compile()

    def epoch(self, epoch: int, first: int, total: int) -> Iterator[Segment]:
        """Takes the steps of one epoch from a step on, yielding a `Segment` whenever some are done.

        Args:
            epoch: counted from 1.
            first: the step of the epoch to begin with, counted from 0.
            total: steps of the whole run, which may end within this epoch.

        Raises:
            Diverged: when the loss or a parameter is no longer finite.
        """
        start, before_this = first, (epoch - 1) * self._steps
        last = min(self._steps, total - before_this)
        self._history = Metrics(*(np.zeros(last) for _ in Metrics._fields))
        began = time.perf_counter()
        for piece in self._feed.pieces(epoch, first):
            while start < min(last, piece.stop):
                stop = min(last, piece.stop, start + self._chunk)
                before = self.train_state
                after, metrics, finite = self._run(before, piece, start, stop)
                if not (finite and np.isfinite(metrics.loss).all() and np.isfinite(metrics.penalty).all()):
                    raise self._diverged(before, piece, epoch, start, stop, metrics)
                self._previous = (before, piece, start, stop)
                self.train_state = after
                for values, new in zip(self._history, metrics, strict=True):
                    values[start:stop] = new
                self._recent.extend(metrics.loss.tolist())
                seconds = time.perf_counter() - began
                self._chunk = max(1, round((stop - start) * min(8.0, SEGMENT_SECONDS / max(seconds, 1e-6))))
                examples = int(self._counts[start:stop].sum())
                yield Segment(epoch, before_this + start, total, metrics, examples, seconds)
                start = stop
                began = time.perf_counter()
            if start == last:
                return

    def epoch_values(self, metric_name: str, *, penalized: bool) -> dict[str, float]:
        """The means over the steps of the current epoch, each example, or step of one, weighing the same."""
        loss, metric, penalty, weight = self._history
        values = {
            "train_loss": float(np.average(loss, weights=weight)),
            f"train_{metric_name}": float(np.average(metric, weights=weight)),
        }
        return values | ({"penalty": float(penalty[-1])} if penalized else {})

    def _run(self, before: TrainState, piece: Piece, start: int, stop: int) -> tuple[TrainState, Metrics, jax.Array]:
        """The state after steps start ... stop - 1 of the epoch, the metrics of each, and whether all is finite."""
        start, stop = start - piece.first, stop - piece.first
        after, history, finite = self._segment(before, piece.data, piece.order, piece.filled, start, stop)
        return after, Metrics(*(np.asarray(values)[start:stop] for values in history)), finite

    def _diverged(self, before: TrainState, piece: Piece, epoch: int, start: int, stop: int, metrics: Metrics):
        """The error for a segment that went wrong: the step, the likely cause, and the last state of finite loss."""
        bad = ~(np.isfinite(metrics.loss) & np.isfinite(metrics.penalty))
        first_bad = start + int(np.argmax(bad)) if bad.any() else stop
        run = (before, piece, start, first_bad) if first_bad > start else self._previous
        good, *_ = self._run(*run[:3], run[3] - 1)
        number = int(before.step) + first_bad - start + 1
        return Diverged(f"step {number} (epoch {epoch}): {self._cause(number, np.asarray(metrics.loss))}", good, epoch)

    def _cause(self, number: int, losses: np.ndarray) -> str:
        finite = [*self._recent, *losses[np.isfinite(losses)].tolist()][-50:]
        if number == 1:
            return "the loss is NaN or infinite before any update; the data hold extreme values: normalize them"
        if len(finite) >= 2 and finite[-1] > 2 * min(finite):
            return (
                f"the loss became NaN or infinite after growing from {min(finite):.4g} to {finite[-1]:.4g}; "
                "the learning rate is probably too large: divide it by 10, or clip the gradient's norm"
            )
        return (
            "the loss or a parameter became NaN or infinite without warning; "
            "look for a too large learning rate or an operation without a gradient there"
        )


def _program(step: Step, batch: int):
    """The program of a segment: steps start ... stop - 1 of a piece of an epoch."""

    def segment(train_state, data, order, filled, start, stop):
        x, y, *steps_mask = data

        def body(i, carry):
            train_state, history = carry
            chosen = jax.lax.dynamic_slice(order, (i * batch,), (batch,))
            mask = i * batch + jnp.arange(batch) < filled
            if steps_mask:
                mask = mask[:, None] & steps_mask[0][chosen]
            train_state, metrics = step(train_state, Batch(x[chosen], y[chosen], mask))
            history = jax.tree.map(lambda values, value: values.at[i].set(value), history, metrics)
            return train_state, history

        history = Metrics(*(jnp.zeros(len(order) // batch) for _ in Metrics._fields))
        train_state, history = jax.lax.fori_loop(start, stop, body, (train_state, history))
        return train_state, history, _all_finite(train_state.params)

    return segment


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)], bool))
