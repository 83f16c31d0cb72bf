"""The training loop: a few compiled programs, driven epoch by epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array

from fnet.core.layer import Layer
from fnet.data.arrays import map_rows, rows_of
from fnet.data.augment import Augmentation
from fnet.data.stream import Stream
from fnet.losses import Loss, resolve_loss, with_metrics
from fnet.metrics import Metric, recorded_name
from fnet.regularization import Penalties
from fnet.train.checks import check_examples, check_labels
from fnet.train.compile import refuse_tracers
from fnet.train.early_stopping import (
    BestEpoch,
    EarlyStopping,
    better_epoch,
    direction_of,
    out_of_patience,
    recorded_values,
)
from fnet.train.evaluate import make_score, resident, values_of
from fnet.train.feed import Data, ResidentBatches, StreamedBatches, as_examples
from fnet.train.initialize import check_start
from fnet.train.interrupt import defer_interrupts
from fnet.train.plan import BATCH_SIZE, EPOCHS, Plan, plan
from fnet.train.segments import Diverged as Diverged
from fnet.train.segments import Runner, metric_names
from fnet.train.segments import Segment as Segment
from fnet.train.state import Examples, TrainState, state_of_seed
from fnet.train.step import Objective, make_step

Stopped = Literal["done", "early", "interrupted"]


class Epoch(NamedTuple):
    """A complete pass over the training examples.

    epoch: counted from 1.
    step: number of steps completed so far.
    values: train_loss and train_<metric>, means over the steps of the epoch; penalty, if there is one, at the last
        step; validation_loss and validation_<metric> after the epoch, if there are validation examples.
    seconds: duration of the epoch, including validation.
    improved: whether the value monitored by early stopping was the best so far.
    train_state: the training state after the epoch; None in `Fitted.history`, so that old parameters are not kept.
    """

    epoch: int
    step: int
    values: dict[str, float]
    seconds: float
    improved: bool
    train_state: TrainState | None = None


class Fitted(NamedTuple):
    """The result of training.

    params, state: those of the best epoch with early stopping, else those after the last step. With `ema`, params is
        the moving average, and `train_state.params` is not.
    history: one record per completed epoch.
    stopped: `done`, `early` or `interrupted`.
    kept_epoch: the epoch that params are from; an interrupted run may not have completed it.
    train_state: training state after the last step, to resume from.
    """

    params: Any
    state: Any
    history: list[Epoch]
    stopped: Stopped
    kept_epoch: int
    train_state: TrainState


def fit(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array] | None,
    optimizer: optax.GradientTransformation,
    train: Data,
    *,
    validation: Data | None = None,
    weights: Any = None,
    objective: Objective | None = None,
    metrics: Mapping[str, Metric | Callable[..., Array]] = MappingProxyType({}),
    epochs: int = EPOCHS,
    steps: int | None = None,
    batch_size: int | Literal["all"] = BATCH_SIZE,
    seed: int = 0,
    params: Any = None,
    state: Any = None,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
    ema: float | None = None,
    early_stopping: EarlyStopping | None = None,
    start: TrainState | None = None,
    on_event: Callable[[Segment | Epoch], None] = lambda event: None,
) -> Fitted:
    """Train a network; every epoch uses every example exactly once, including a short last batch.

    Ctrl-C ends training after the current steps and returns the result so far, with `stopped="interrupted"`.

    Data larger than memory is passed as a `fnet.data.stream.Stream`, of memory-mapped arrays for example. Its batches
    are prefetched, and the results are bitwise the same. Arrays that JAX has divided over several devices stay where
    they are.

    Args:
        net: the network.
        loss: a name in `fnet.losses.LOSSES`, a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`, or a `fnet.losses.Loss`, which names its metrics too.
            None with an objective.
        optimizer: any Optax transformation.
        train: examples (n, ...) and targets (n, ...), as a tuple (x, y); for sequences of different lengths, which are
            padded, (x, y, mask) with a mask (n, time), True for real steps; or `fnet.train.Examples` or a Stream of
            these, which have weights too. x and y may be dicts or tuples of arrays. With an objective, there may be no
            targets: (x,), or None for y.
        validation: the same for the validation examples, which are scored after every epoch.
        weights: weights (n,) of the training examples, or (n, time) of their steps, in the loss and the metrics.
        objective: the function to minimize in place of the mean of a loss per example, as for `make_step`. Its metrics
            are recorded; the loss and the other metrics, if any, are those of the validation examples only.
        metrics: by name, further metrics to record, such as {"top3": f}: functions (outputs, targets) -> one number per
            example, or a `fnet.metrics.Metric`, which also says whether a higher value is better, and may be a function
            of several means, as R^2 is.
        epochs: passes over the training examples, including those that `start` has completed.
        steps: total number of steps, in place of `epochs`; the last epoch may then be cut short.
        batch_size: examples per step: 1 is stochastic, "all" full-batch gradient descent.
        seed: seed of the initial parameters, the order of the examples, dropout and augmentation.
        params: parameters to begin with, in place of those that the seed determines.
        state: non-trainable state to begin with, likewise.
        regularization: weight penalties and max-norm constraint.
        augment: random augmentations of the training images, applied in this order, such as
            `[fnet.data.augment.shift(2)]`.
        ema: decay of a moving average of the parameters, which begins as the initial parameters and is updated after
            every step: average := ema * average + (1 - ema) * params. Validation uses the average.
        early_stopping: when to stop before the last epoch.
        start: the `train_state` of an earlier call with the same data, batch_size and seed, to resume from. Its step is
            the position in the order of the examples, even within an epoch, and the result is bitwise that of an
            uninterrupted run. The record of an epoch resumed midway covers only the remaining steps.
        on_event: called after every segment and every epoch, which carry the training state.

    Raises:
        AugmentationError: when `augment` does not accept the examples.
        DataError: when a stream cannot be read.
        Diverged: when the loss or a parameter becomes NaN or infinite; carries the last finite state.
        ValueError: for labels or indices out of range, a sequence without real steps, no examples, weights that are not
            finite and positive, parameters of another network, or a monitored value that is not recorded; and for
            traced values, since the loop runs on the host.

    >>> import fnet, numpy as np
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> net = fnet.serial(fnet.dense(8), fnet.tanh(), fnet.dense(1))
    >>> fitted = fit(net, "binary_cross_entropy", optax.adam(0.1), (x, x.sum(1, keepdims=True) % 2), epochs=100)
    >>> fitted.history[-1].values["train_accuracy"]
    1.0

    The same with examples that stay on disk:

    >>> import tempfile, pathlib
    >>> from fnet.data.stream import Stream
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "x.npy"
    ...     np.save(file, x)
    ...     data = Stream(np.load(file, mmap_mode="r"), x.sum(1, keepdims=True) % 2)
    ...     streamed = fit(net, "binary_cross_entropy", optax.adam(0.1), data, epochs=100)
    >>> bool((streamed.params["dense_2"]["w"] == fitted.params["dense_2"]["w"]).all())
    True
    """
    refuse_tracers((train, validation, weights, seed, params, state, ema, start))
    data = _weighted(as_examples(train), weights)
    held_out = None if validation is None else resident(validation, "validation")
    record = None if loss is None else with_metrics(resolve_loss(loss), metrics)
    _check_settings(record, objective, start, held_out, metrics, ema, given=params is not None or state is not None)
    trained = record if objective is None else None
    step = make_step(
        net, trained, optimizer, objective=objective, regularization=regularization, augment=augment, ema=ema
    )
    _check_data(net, record, data, held_out, scored=objective is None)
    length = plan(len(rows_of(data.x)[0]), batch_size=batch_size, epochs=epochs, steps=steps)
    in_shape = map_rows(lambda rows: tuple(rows.shape[1:]), data.x)
    start = _start(net, optimizer, in_shape, seed, start, params, state, averaged=ema is not None)
    batches = _batches_of(data, length, seed, int(start.step))
    scored = () if record is None else record.metrics
    names = [metric.name for metric in scored] if objective is None else metric_names(step, start, batches, length)
    penalized = regularization.penalizes
    recorded = recorded_values(scored, validation=validation is not None, penalized=penalized, trained=names)
    higher_is_better = early_stopping is not None and direction_of(early_stopping, recorded)
    finished = [metric for metric in scored if metric.finish and objective is None]
    runner = Runner(step, start, batches, length, names, finished)
    validate = _make_validate(net, record, held_out)

    def values_of_epoch() -> dict[str, float]:
        return runner.epoch_values(penalized=penalized) | validate(runner.train_state)

    return _run_epochs(runner, length, values_of_epoch, early_stopping, higher_is_better, on_event)


def _weighted(data: Examples | Stream, weights: Any) -> Examples | Stream:
    """Return the training examples with the weights, if there are any."""
    if weights is None:
        return data
    if data.weight is not None:
        raise ValueError("the training examples have weights, and weights= is given too; pass one of them")
    return data._replace(weight=np.asarray(weights) if isinstance(weights, list | tuple) else weights)


def _check_settings(
    loss: Loss | None,
    objective: Objective | None,
    start: TrainState | None,
    validation: Examples | Stream | None,
    metrics: Mapping[str, Any],
    ema: float | None,
    *,
    given: bool,
) -> None:
    """Check that the settings do not contradict each other.

    Raises:
        ValueError: when they do.
    """
    if objective is not None and loss is None and (validation is not None or metrics):
        what = "validation examples are" if validation is not None else "metrics are"
        raise ValueError(f"{what} scored by a loss, but only an objective is given; pass a loss as well, such as 'mse'")
    if start is not None and start.average is not None and ema is None:
        raise ValueError("start= has a moving average of the parameters; pass the decay that it was made with as ema=")
    if start is not None and given:
        raise ValueError("start= already contains parameters and a state; pass either start=, or params= and state=")


def _check_data(
    net: Layer, loss: Loss | None, train: Examples | Stream, validation: Examples | Stream | None, *, scored: bool
) -> None:
    """Check the data against the network and the loss.

    Raises:
        ValueError: for data that they cannot take.
    """
    for part, data in (("train", train), ("validation", validation)):
        if data is not None:
            check_examples(net, data, part, scored=scored or part == "validation")
            if loss is not None:
                check_labels(loss, data, net.shape(map_rows(lambda rows: tuple(rows.shape[1:]), data.x)))


def _start(
    net: Layer,
    optimizer: optax.GradientTransformation,
    in_shape: Any,
    seed: int,
    start: TrainState | None,
    params: Any,
    state: Any,
    *,
    averaged: bool,
) -> TrainState:
    """Return the state to begin with: that of the seed or `start`, with the parameters and the state that are given.

    Raises:
        ValueError: when these are not of the network.
    """
    if start is None:
        start = state_of_seed(net, optimizer, seed, in_shape, params=params, state=state)
    else:
        check_start(net, in_shape, start.params, start.state)
    if not averaged:
        return start._replace(average=None)
    return start._replace(average=start.params) if start.average is None else start


def _batches_of(data: Examples | Stream, length: Plan, seed: int, completed: int) -> ResidentBatches | StreamedBatches:
    """Return the batches of the training examples that follow a number of completed steps."""
    if isinstance(data, Stream):
        return StreamedBatches(data, length, seed, completed)
    return ResidentBatches(data, length, seed)


def _make_validate(
    net: Layer, loss: Loss | None, validation: Examples | Stream | None
) -> Callable[[TrainState], dict[str, float]]:
    """Return the function from a training state to its validation values, none without validation examples."""
    if validation is None or loss is None:
        return lambda train_state: {}
    score = make_score(net, loss)

    def validate(train_state: TrainState) -> dict[str, float]:
        values = values_of(score(_params_of(train_state), train_state.state, validation))
        return {recorded_name("validation", name): value for name, value in values.items()}

    return validate


def _params_of(train_state: TrainState) -> Any:
    """Return the parameters to use: their moving average, if there is one."""
    return train_state.params if train_state.average is None else train_state.average


def _run_epochs(
    runner: Runner,
    length: Plan,
    values_of_epoch: Callable[[], dict[str, float]],
    early_stopping: EarlyStopping | None,
    higher_is_better: bool,
    on_event: Callable[[Segment | Epoch], None],
) -> Fitted:
    """Run the remaining epochs, until the last one, early stopping or an interrupt."""
    completed = int(runner.train_state.step)
    first = completed // length.steps_per_epoch + 1
    history: list[Epoch] = []
    best: BestEpoch | None = None
    stopped: Stopped = "done"
    try:
        with contextlib.closing(runner), defer_interrupts() as raise_if_interrupted:
            for epoch in range(first, length.epochs + 1) if completed < length.steps else ():
                began = time.perf_counter()
                for segment in runner.epoch(epoch):
                    on_event(segment)
                    raise_if_interrupted()
                values = values_of_epoch()
                if early_stopping is not None:
                    candidate = BestEpoch(epoch, values[early_stopping.monitor], runner.train_state)
                    min_delta = early_stopping.min_delta
                    best = better_epoch(best, candidate, higher_is_better=higher_is_better, min_delta=min_delta)
                step = min(length.steps, epoch * length.steps_per_epoch)
                improved = best is not None and best.epoch == epoch
                history.append(Epoch(epoch, step, values, time.perf_counter() - began, improved))
                on_event(history[-1]._replace(train_state=runner.train_state))
                raise_if_interrupted()
                if early_stopping is not None and out_of_patience(early_stopping, best, epoch):
                    stopped = "early"
                    break
    except KeyboardInterrupt:
        stopped = "interrupted"
    return _fitted(runner.train_state, length, best, history, stopped)


def _fitted(last: TrainState, length: Plan, best: BestEpoch | None, history: list[Epoch], stopped: Stopped) -> Fitted:
    """Return the result of training: the best epoch with early stopping, else the last step."""
    if best is None:
        epoch = math.ceil(int(last.step) / length.steps_per_epoch)
        return Fitted(_params_of(last), last.state, history, stopped, epoch, last)
    return Fitted(_params_of(best.train_state), best.train_state.state, history, stopped, best.epoch, last)
