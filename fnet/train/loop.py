"""The training loop: a few compiled programs, driven epoch by epoch.

A segment is one compiled loop over as many steps as fit between two things that the host has to do: show progress,
log, or be interrupted. The data stay on the device, and only the order of the examples moves. The number of steps of a
segment is an argument of the program, so that one compilation serves them all and no result depends on where they end.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnet.data.augment import Augmentation
from fnet.description import Layer
from fnet.losses import Loss
from fnet.regularization import Penalties
from fnet.train.checks import check_examples, check_labels
from fnet.train.evaluate import make_score
from fnet.train.interrupt import deferred
from fnet.train.state import Batch, Metrics, TrainState, init_state
from fnet.train.step import Step, make_step, resolve_loss

SEGMENT_SECONDS = 0.2
"""How long a segment should run: what one waits at most for a sign of progress."""


class EarlyStopping(NamedTuple):
    """Stop when `monitor` has not improved for `patience` epochs, and keep the parameters of its best epoch."""

    monitor: str
    patience: int


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


class Epoch(NamedTuple):
    """A complete pass over the training examples.

    epoch: counted from 1.
    step: number of steps taken so far.
    values: train_loss and train_<metric>, means over the pass while the parameters changed; penalty, where one is set,
        at the last step; validation_loss and validation_<metric> after the pass, where there are such examples.
    seconds: the pass took, with its validation.
    improved: whether early stopping saw its best value so far.
    """

    epoch: int
    step: int
    values: dict[str, float]
    seconds: float
    improved: bool


class Fitted(NamedTuple):
    """What training gives.

    params, state: of the best epoch with early stopping, else of the last step.
    history: one record per completed epoch.
    stopped: `done`, `early` or `interrupted`.
    kept_epoch: the epoch that params are of, which an interrupted run may not have completed.
    train_state: of the last step, to go on from.
    """

    params: Any
    state: Any
    history: list[Epoch]
    stopped: Literal["done", "early", "interrupted"]
    kept_epoch: int
    train_state: TrainState


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


def fit(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    train: tuple[Any, ...],
    *,
    validation: tuple[Any, ...] | None = None,
    epochs: int = 20,
    batch_size: int | Literal["all"] = 32,
    seed: int = 0,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
    early_stopping: EarlyStopping | None = None,
    start: TrainState | None = None,
    on_event: Callable[[Segment | Epoch], None] = lambda event: None,
) -> Fitted:
    """Trains a network; every epoch sees every example exactly once, the short last batch included.

    Ctrl-C ends training after the steps under way and returns what there is, with `stopped="interrupted"`.

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, or a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`.
        optimizer: any Optax transformation.
        train: examples (n, ...) and targets (n, ...), and of sequences of different lengths, filled up to one, a mask
            (n, time) as well, True for real steps.
        validation: the same, of examples that are not trained on; scored after every epoch.
        epochs: passes over the training examples.
        batch_size: examples a step: 1 is stochastic, "all" full-batch gradient descent.
        seed: of the initial parameters, the order of examples and dropout.
        regularization: penalties on the weights, and how long their columns may be.
        augment: what changes the training images at random, in this order, such as `[fnet.data.augment.shift(2)]`.
        early_stopping: when to stop before the last epoch.
        start: a state to start from, in place of a new one.
        on_event: called after every segment and every epoch.

    Raises:
        AugmentationError: when the examples are not what `augment` takes.
        Diverged: when the loss or a parameter becomes NaN or infinite; carries the last good state.
        ValueError: for labels or indices out of range, a sequence without real steps, no examples, or a monitor that is
            not recorded.

    >>> import fnet, numpy as np
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> net = fnet.serial(fnet.dense(8), fnet.tanh(), fnet.dense(1))
    >>> fitted = fit(net, "binary_cross_entropy", optax.adam(0.1), (x, x.sum(1, keepdims=True) % 2), epochs=100)
    >>> fitted.history[-1].values["train_accuracy"]
    1.0
    """
    record = resolve_loss(loss)
    x, y, steps_mask = _arrays(train)
    size = len(x)
    if size == 0 or size != len(y):
        raise ValueError(f"fit: {size} examples and {len(y)} targets; there must be as many of both, and at least one")
    out_shape = net.shape(x.shape[1:])
    for examples, targets, *mask in (train, validation) if validation is not None else (train,):
        check_examples(net, examples, *mask)
        check_labels(record, targets, out_shape, *mask)
    batch = size if batch_size == "all" else min(batch_size, size)
    steps = math.ceil(size / batch)
    initial = start or jax.jit(lambda key: init_state(net, optimizer, key, x.shape[1:]))(jax.random.key(seed))
    runner = _Runner(
        make_step(net, record, optimizer, regularization=regularization, augment=augment),
        initial,
        (x, y, steps_mask),
        batch,
    )
    score = make_score(net, record)
    validation_arrays = None if validation is None else _arrays(validation)
    best = _Best(early_stopping)
    history: list[Epoch] = []
    stopped = "done"
    try:
        with deferred() as raise_if_interrupted:
            for epoch in range(1, epochs + 1):
                began = time.perf_counter()
                for segment in runner.epoch(epoch, epochs, example_order(seed, epoch, size)):
                    on_event(segment)
                    raise_if_interrupted()
                values = runner.epoch_values(record.metric_name, penalised=regularization.penalises)
                current = runner.train_state
                if validation_arrays is not None:
                    found = score(current.params, current.state, *validation_arrays)
                    values["validation_loss"] = float(found.loss)
                    values[f"validation_{record.metric_name}"] = float(found.metric)
                improved = best.update(epoch, values, current)
                history.append(Epoch(epoch, epoch * steps, values, time.perf_counter() - began, improved))
                on_event(history[-1])
                raise_if_interrupted()
                if best.exhausted(epoch):
                    stopped = "early"
                    break
    except KeyboardInterrupt:
        stopped = "interrupted"
    taken = int(runner.train_state.step) - int(initial.step)
    kept = best.kept or (math.ceil(taken / steps), runner.train_state)
    return Fitted(kept[1].params, kept[1].state, history, stopped, kept[0], runner.train_state)


def example_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the examples in an epoch: a permutation that depends on (seed, epoch, size) alone.

    >>> sorted(example_order(0, 1, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


#: Examples, targets, and the mask of their steps, if there is one.
_Data = tuple[jax.Array, jax.Array, jax.Array | None]


def _arrays(data: tuple[Any, ...]) -> _Data:
    x, y, *mask = data
    return jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask[0], bool) if mask else None


class _Runner:
    """Runs the steps of an epoch in segments, and keeps the state between them."""

    def __init__(self, step: Step, start: TrainState, data: _Data, batch: int):
        self.train_state = start
        self._data = data
        self._batch = batch
        self._steps = math.ceil(len(data[0]) / batch)
        self._counts = np.minimum(batch, len(data[0]) - batch * np.arange(self._steps))
        self._history = Metrics(*(jnp.zeros(self._steps) for _ in Metrics._fields))
        self._recent: deque[float] = deque(maxlen=50)
        self._chunk = 1
        indices = jnp.zeros(self._steps * batch, jnp.int32)
        self._previous = (start, indices, 0, 1)
        example = (start, data, indices, self._history, 0, 0)
        self._segment = jax.jit(_segment(step, batch)).lower(*example).compile()

    def epoch(self, epoch: int, epochs: int, order: np.ndarray) -> Iterator[Segment]:
        """Takes the steps of one epoch, yielding a `Segment` whenever some are done.

        Raises:
            Diverged: when the loss or a parameter is no longer finite.
        """
        indices = jnp.asarray(np.pad(order, (0, self._steps * self._batch - len(order))))
        start = 0
        while start < self._steps:
            stop = min(self._steps, start + self._chunk)
            began = time.perf_counter()
            before = self.train_state
            after, history, finite = self._segment(before, self._data, indices, self._history, start, stop)
            metrics = Metrics(*(np.asarray(values)[start:stop] for values in history))
            if not (finite and np.isfinite(metrics.loss).all() and np.isfinite(metrics.penalty).all()):
                raise self._diverged(before, indices, epoch, start, stop, metrics)
            self._previous = (before, indices, start, stop)
            self.train_state, self._history = after, history
            self._recent.extend(metrics.loss.tolist())
            seconds = time.perf_counter() - began
            self._chunk = max(1, round((stop - start) * min(8.0, SEGMENT_SECONDS / max(seconds, 1e-6))))
            first = (epoch - 1) * self._steps + start
            yield Segment(epoch, first, epochs * self._steps, metrics, int(self._counts[start:stop].sum()), seconds)
            start = stop

    def epoch_values(self, metric_name: str, *, penalised: bool) -> dict[str, float]:
        """The means over the epoch that was just completed, each example, or step of one, weighing the same."""
        loss, metric, penalty, weight = (np.asarray(values, np.float64) for values in self._history)
        values = {
            "train_loss": float(np.average(loss, weights=weight)),
            f"train_{metric_name}": float(np.average(metric, weights=weight)),
        }
        return values | ({"penalty": float(penalty[-1])} if penalised else {})

    def _diverged(self, before: TrainState, order: jax.Array, epoch: int, start: int, stop: int, metrics: Metrics):
        """The error for a segment that went wrong: the step, the likely cause, and the last state of finite loss."""
        bad = ~(np.isfinite(metrics.loss) & np.isfinite(metrics.penalty))
        first_bad = start + int(np.argmax(bad)) if bad.any() else stop
        run = (before, order, start, first_bad) if first_bad > start else self._previous
        good, *_ = self._segment(run[0], self._data, run[1], self._history, run[2], run[3] - 1)
        number = int(before.step) + first_bad - start + 1
        return Diverged(f"step {number} (epoch {epoch}): {self._cause(number, np.asarray(metrics.loss))}", good, epoch)

    def _cause(self, number: int, losses: np.ndarray) -> str:
        finite = [*self._recent, *losses[np.isfinite(losses)].tolist()][-50:]
        if number == 1:
            return "the loss is NaN or infinite before any update; the data hold extreme values: normalise them"
        if len(finite) >= 2 and finite[-1] > 2 * min(finite):
            return (
                f"the loss became NaN or infinite after growing from {min(finite):.4g} to {finite[-1]:.4g}; "
                "the learning rate is probably too large: divide it by 10, or clip the gradient's norm"
            )
        return (
            "the loss or a parameter became NaN or infinite without warning; "
            "look for a too large learning rate or an operation without a gradient there"
        )


def _segment(step: Step, batch: int):
    """The program of a segment: steps start ... stop - 1 of an epoch."""

    def segment(train_state, data, order, history, start, stop):
        x, y, steps_mask = data

        def body(i, carry):
            train_state, history = carry
            chosen = jax.lax.dynamic_slice(order, (i * batch,), (batch,))
            mask = i * batch + jnp.arange(batch) < len(x)
            if steps_mask is not None:
                mask = mask[:, None] & steps_mask[chosen]
            train_state, metrics = step(train_state, Batch(x[chosen], y[chosen], mask))
            history = jax.tree.map(lambda values, value: values.at[i].set(value), history, metrics)
            return train_state, history

        train_state, history = jax.lax.fori_loop(start, stop, body, (train_state, history))
        return train_state, history, _all_finite(train_state.params)

    return segment


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)], bool))


class _Best:
    """The best epoch so far, for early stopping."""

    def __init__(self, early_stopping: EarlyStopping | None):
        self._settings = early_stopping
        self._sign = -1 if early_stopping is not None and early_stopping.monitor.endswith("accuracy") else 1
        self._value = math.inf
        self.kept: tuple[int, TrainState] | None = None

    def update(self, epoch: int, values: dict[str, float], train_state: TrainState) -> bool:
        """Notes an epoch; whether it is the best so far."""
        if self._settings is None:
            return False
        if self._settings.monitor not in values:
            raise ValueError(
                f"early stopping monitors '{self._settings.monitor}', which is not recorded; "
                f"recorded: {', '.join(values)}"
            )
        value = self._sign * values[self._settings.monitor]
        if value >= self._value:
            return False
        self._value, self.kept = value, (epoch, train_state)
        return True

    def exhausted(self, epoch: int) -> bool:
        """Whether patience has run out."""
        return self._settings is not None and self.kept is not None and epoch - self.kept[0] >= self._settings.patience
