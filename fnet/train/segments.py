"""Steps in segments: a compiled program runs all steps until the host has something to do.

The host shows progress, logs, handles interrupts, and supplies the examples of a stream. The number of steps of a
segment is an argument of the program, so that it is compiled once, and no result depends on where segments end.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.metrics import Metric, recorded_name
from fnet.train.compile import compile_for
from fnet.train.feed import Chunk, ResidentBatches, StreamedBatches
from fnet.train.plan import Plan
from fnet.train.score import value_of
from fnet.train.state import Metrics, TrainState, take_batch
from fnet.train.step import Step

SEGMENT_SECONDS = 0.2
"""Target seconds between progress updates."""


class Segment(NamedTuple):
    """Completed steps, for a progress bar and a log.

    epoch: counted from 1.
    first_step: number of steps completed before this segment.
    total_steps: number of steps of the whole run.
    metrics: arrays with one entry per step, without metrics with `finish`, which are those of an epoch.
    examples: number of examples in these steps.
    seconds: duration of these steps.
    train_state: the training state after these steps.
    """

    epoch: int
    first_step: int
    total_steps: int
    metrics: Metrics
    examples: int
    seconds: float
    train_state: TrainState


class Diverged(ArithmeticError):
    """The loss, a parameter or the state became NaN or infinite.

    Args:
        message: the step and the likely cause.
        train_state: the last training state with a finite loss.
        epoch: the epoch in which training diverged.
    """

    def __init__(self, message: str, train_state: TrainState, epoch: int):
        super().__init__(message)
        self.train_state = train_state
        self.epoch = epoch


class _Steps(NamedTuple):
    """Steps to run: the state before them, their chunk, and their half-open range [first, stop) within the epoch."""

    before: TrainState
    chunk: Chunk
    first: int
    stop: int


class Runner:
    """Runner that executes the steps of an epoch in segments, and holds the training state between them.

    Args:
        step: the pure training step.
        start: state before the first step.
        batches: the training examples.
        plan: length of the run.
        metrics: names of the metrics of a step.
        finished: those with `finish`, whose values for an epoch are those of the means over all its examples; the
            others are means over the steps.
    """

    def __init__(
        self,
        step: Step,
        start: TrainState,
        batches: ResidentBatches | StreamedBatches,
        plan: Plan,
        metrics: Sequence[str],
        finished: Sequence[Metric] = (),
    ):
        start = start if batches.placement is None else jax.device_put(start, batches.placement)
        self.train_state = start
        self._batches = batches
        self._plan = plan
        self._finished = {metric.name: metric for metric in finished}
        self._names = tuple(metrics)
        self._averaged = tuple(name for name in metrics if name not in self._finished)
        self._history: list[Metrics] = []
        self._recent: deque[float] = deque(maxlen=50)
        self._segment_steps = 1
        chunk = batches.example()
        self._previous = _Steps(start, chunk, 0, 1)
        means = _metrics_of_step(step, start, chunk, plan.batch_size).means if finished else None
        self._shapes = {name: (means or {})[name] for name in self._finished}
        zero = _zero_sums(self._shapes)
        self._zero = zero if batches.placement is None else jax.device_put(zero, batches.placement)
        self._sums = self._zero
        example = (start, self._zero, chunk.data, chunk.order, chunk.filled, 0, 0)
        names = self._averaged, tuple(self._finished)
        segment = _segment_program(step, plan.batch_size, *names, chunk.steps, batches.placement)
        self._program = compile_for(segment, *example)
        jax.block_until_ready(start)  # raises if there is not enough memory; a step with such a state never ends

    def epoch(self, epoch: int) -> Iterator[Segment]:
        """Run the remaining steps of an epoch, counted from 1, and yield a `Segment` for each group of completed steps.

        Raises:
            Diverged: when the loss, a parameter or the state is no longer finite.
        """
        before_epoch = (epoch - 1) * self._plan.steps_per_epoch
        last = min(self._plan.steps_per_epoch, self._plan.steps - before_epoch)
        first = int(self.train_state.step) - before_epoch
        self._history, self._sums = [], self._zero
        began = time.perf_counter()
        for chunk in self._batches.chunks(epoch, first):
            while first < min(last, chunk.stop):
                stop = min(last, chunk.stop, first + self._segment_steps)
                metrics = self._advance(_Steps(self.train_state, chunk, first, stop), epoch)
                seconds = time.perf_counter() - began
                growth = min(8.0, SEGMENT_SECONDS / max(seconds, 1e-6))
                self._segment_steps = max(1, round((stop - first) * growth))
                examples = chunk.examples_in(first, stop, self._plan.batch_size)
                done = before_epoch + first
                yield Segment(epoch, done, self._plan.steps, metrics, examples, seconds, self.train_state)
                first = stop
                began = time.perf_counter()
            if first == last:
                return

    def epoch_values(self, *, penalized: bool) -> dict[str, float]:
        """Return the values to record for the current epoch.

        Loss and metrics are means over the examples, or the steps of sequences, with their weights, or what `finish`
        makes of such means; the penalty is that of the last step. Without any weight they are NaN.
        """
        history = jax.tree.map(lambda *parts: np.concatenate(parts, dtype=np.float64), *self._history)
        values = {"loss": history.loss} | {name: history.metrics[name] for name in self._averaged}
        total = history.weight.sum() or np.nan
        means = {name: float(values @ history.weight / total) for name, values in values.items()}
        sums = {} if self._sums is None else self._sums.as_tree(self._shapes)
        means |= {name: float(value_of(metric, sums[name], total)) for name, metric in self._finished.items()}
        recorded = {recorded_name("train", name): means[name] for name in ("loss", *self._names)}
        return recorded | ({"penalty": float(history.penalty[-1])} if penalized else {})

    def close(self) -> None:
        """Release the resources of the batches."""
        self._batches.close()

    def _advance(self, steps: _Steps, epoch: int) -> Metrics:
        """Run steps, advance the training state, and return the metrics of each step."""
        after, sums, metrics, finite = self._run(steps)
        if not (finite and np.isfinite(metrics.loss).all() and np.isfinite(metrics.penalty).all()):
            raise self._diverged(steps, metrics, epoch)
        self._previous, self.train_state, self._sums = steps, after, sums
        self._history.append(metrics)
        self._recent.extend(metrics.loss.tolist())
        return metrics

    def _run(self, steps: _Steps) -> tuple[TrainState, Any, Metrics, jax.Array]:
        """Return the state after the steps, the sums of the epoch, the metrics of each step, and whether all is finite.

        The sums are those that metrics with `finish` take; parameters and state are what must still be finite.
        """
        before, chunk, first, stop = steps
        first, stop = first - chunk.first, stop - chunk.first
        data = chunk.data, chunk.order, chunk.filled
        after, sums, history, finite = self._program(before, self._sums, *data, first, stop)
        return after, sums, jax.tree.map(lambda values: np.asarray(values)[first:stop], history), finite

    def _diverged(self, steps: _Steps, metrics: Metrics, epoch: int) -> Diverged:
        """Return the error for steps that diverged: which step, the likely cause, and the last finite state."""
        bad = ~(np.isfinite(metrics.loss) & np.isfinite(metrics.penalty))
        first_bad = steps.first + int(np.argmax(bad)) if bad.any() else steps.stop
        good = steps._replace(stop=first_bad) if first_bad > steps.first else self._previous
        train_state, _, _, finite = self._run(good._replace(stop=good.stop - 1))
        train_state = train_state if finite else steps.before
        number = int(steps.before.step) + first_bad - steps.first + 1
        message = f"step {number} (epoch {epoch}): {self._cause(number, np.asarray(metrics.loss))}"
        return Diverged(message, train_state, epoch)

    def _cause(self, number: int, losses: np.ndarray) -> str:
        finite = [*self._recent, *losses[np.isfinite(losses)].tolist()][-50:]
        if number == 1:
            return "the loss is NaN or infinite before any update; the data contains extreme values: normalize it"
        if len(finite) >= 2 and finite[-1] > 2 * min(finite):
            return (
                f"the loss became NaN or infinite after growing from {min(finite):.4g} to {finite[-1]:.4g}; "
                "the learning rate is probably too large: divide it by 10, or clip the norm of the gradient"
            )
        return (
            "the loss, a parameter or the state became NaN or infinite abruptly; "
            "look for a learning rate that is too large, or an operation without a gradient at this point"
        )


def metric_names(step: Step, start: TrainState, batches: ResidentBatches | StreamedBatches, plan: Plan) -> list[str]:
    """Return the names of the metrics of a step, for an objective that alone knows them."""

    return list(_metrics_of_step(step, start, batches.example(), plan.batch_size).metrics)


def _metrics_of_step(step: Step, start: TrainState, chunk: Chunk, batch_size: int) -> Metrics:
    """Return the metrics of a step, with the shape and dtype of each array in place of it."""

    def metrics(train_state, data):
        return step(train_state, take_batch(data, 0, batch_size, batch_size))[1]

    return jax.eval_shape(metrics, start, chunk.data)


def _segment_program(
    step: Step,
    batch_size: int,
    metrics: Sequence[str],
    finished: Sequence[str],
    steps: int,
    placement: jax.sharding.NamedSharding | None,
):
    """Return the function to compile: it runs the steps [first, stop) of a chunk, and adds to the sums of the epoch."""

    def segment(train_state, sums, data, order, filled, first, stop):
        def body(i, carry):
            train_state, sums, history = carry
            train_state, values = step(train_state, take_batch(data, i, batch_size, filled, order))
            if sums is not None:
                means = values.means or {}
                sums = sums.plus({name: means[name] for name in finished}, values.weight)
            values = values._replace(metrics={name: values.metrics[name] for name in metrics}, means=None)
            history = jax.tree.map(lambda all_steps, value: all_steps.at[i].set(value), history, values)
            return train_state, sums, history

        zeros = jnp.zeros(steps)
        history = Metrics(zeros, dict.fromkeys(metrics, zeros), zeros, zeros)
        before = train_state.state
        carry = jax.lax.fori_loop(first, stop, body, (train_state, sums, history))
        if placement is not None:
            carry = jax.lax.with_sharding_constraint(carry, placement)
        train_state = carry[0]
        finite = _all_finite(train_state.params) & _still_finite(before, train_state.state)
        return *carry, finite

    return segment


class _Sums(NamedTuple):
    """Sums in float32 that do not lose small terms, by the compensated summation of Kahan (1965).

    total: the sums so far, all in one vector, because the steps of a small network take as long as their operations
        are many.
    excess: what rounding has added to them, which the next terms are reduced by.
    """

    total: jax.Array
    excess: jax.Array

    def plus(self, tree: Any, weight: Any) -> "_Sums":
        """Return the sums after adding the arrays of a tree with this weight."""
        vector = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])
        terms = (weight * vector).astype(self.total.dtype) - self.excess
        total = self.total + terms
        return _Sums(total, (total - self.total) - terms)

    def as_tree(self, shapes: Any) -> Any:
        """Return the sums as NumPy arrays in double precision, in a tree of these shapes."""
        vector = np.asarray(self.total, np.float64) - np.asarray(self.excess, np.float64)
        leaves, tree = jax.tree.flatten(shapes)
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = zip(np.split(vector, ends), leaves, strict=True)
        return jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in parts])


def _zero_sums(shapes: Any) -> _Sums | None:
    """Return the sums of the arrays of a tree before an epoch; None if it has none."""
    leaves = jax.tree.leaves(shapes)
    zeros = jnp.zeros(sum(leaf.size for leaf in leaves), jnp.result_type(*leaves, jnp.float32))
    return _Sums(zeros, zeros) if leaves else None


def _still_finite(before: Any, after: Any) -> jax.Array:
    """Return whether a state is finite wherever it was before; a running min may be infinite at first."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    numbers = [(old, new) for old, new in pairs if jnp.issubdtype(new.dtype, jnp.inexact)]  # not random keys
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)) for old, new in numbers], bool))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)], bool))
