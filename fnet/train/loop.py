"""The training loop: a few compiled programs, driven epoch by epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from fnet.core.layer import Layer
from fnet.data.augment import Augmentation
from fnet.data.stream import Stream
from fnet.losses import Loss, resolve_loss
from fnet.metrics import recorded_name
from fnet.regularization import Penalties
from fnet.train.checks import check_examples, check_labels
from fnet.train.early_stopping import (
    BestEpoch,
    EarlyStopping,
    better_epoch,
    check_monitor,
    out_of_patience,
    recorded_values,
)
from fnet.train.evaluate import make_score, score_inputs, values_of
from fnet.train.feed import ResidentBatches, StreamedBatches
from fnet.train.interrupt import defer_interrupts
from fnet.train.plan import BATCH_SIZE, EPOCHS, Plan, plan
from fnet.train.segments import Diverged as Diverged
from fnet.train.segments import Runner
from fnet.train.segments import Segment as Segment
from fnet.train.state import TrainState, state_of_seed
from fnet.train.step import make_step

Stopped = Literal["done", "early", "interrupted"]


class Epoch(NamedTuple):
    """A complete pass over the training examples.

    epoch: counted from 1.
    step: number of steps completed so far.
    values: train_loss and train_<metric>, means over the steps of the epoch; penalty, if there is one, at the last
        step; validation_loss and validation_<metric> after the epoch, if there are validation examples.
    seconds: duration of the epoch, including validation.
    improved: whether the value monitored by early stopping was the best so far.
    """

    epoch: int
    step: int
    values: dict[str, float]
    seconds: float
    improved: bool


class Fitted(NamedTuple):
    """The result of training.

    params, state: those of the best epoch with early stopping, else those after the last step.
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
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    train: tuple[Any, ...],
    *,
    validation: tuple[Any, ...] | None = None,
    epochs: int = EPOCHS,
    steps: int | None = None,
    batch_size: int | Literal["all"] = BATCH_SIZE,
    seed: int = 0,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
    early_stopping: EarlyStopping | None = None,
    start: TrainState | None = None,
    on_event: Callable[[Segment | Epoch], None] = lambda event: None,
) -> Fitted:
    """Train a network; every epoch uses every example exactly once, including a short last batch.

    Ctrl-C ends training after the current steps and returns the result so far, with `stopped="interrupted"`.

    Data larger than memory is passed as a `fnet.data.stream.Stream`, of memory-mapped arrays for example. Its batches
    are prefetched, and the results are bitwise the same.

    Args:
        net: the network.
        loss: a name in `fnet.losses.LOSSES`, a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`, or a `fnet.losses.Loss`, which names its metrics too.
        optimizer: any Optax transformation.
        train: examples (n, ...) and targets (n, ...); for sequences of different lengths, which are padded, also a mask
            (n, time), True for real steps; or a Stream of these.
        validation: the same for the validation examples, which are scored after every epoch.
        epochs: passes over the training examples, including those that `start` has completed.
        steps: total number of steps, in place of `epochs`; the last epoch may then be cut short.
        batch_size: examples per step: 1 is stochastic, "all" full-batch gradient descent.
        seed: seed of the initial parameters, the order of the examples, dropout and augmentation.
        regularization: weight penalties and max-norm constraint.
        augment: random augmentations of the training images, applied in this order, such as
            `[fnet.data.augment.shift(2)]`.
        early_stopping: when to stop before the last epoch.
        start: the `train_state` of an earlier call with the same data, batch_size and seed, to resume from. Its step is
            the position in the order of the examples, even within an epoch, and the result is bitwise that of an
            uninterrupted run. The record of an epoch resumed midway covers only the remaining steps.
        on_event: called after every segment and every epoch.

    Raises:
        AugmentationError: when `augment` does not accept the examples.
        DataError: when a stream cannot be read.
        Diverged: when the loss or a parameter becomes NaN or infinite; carries the last finite state.
        ValueError: for labels or indices out of range, a sequence without real steps, no examples, or a monitored
            value that is not recorded.

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
    record = resolve_loss(loss)
    _check_data(net, record, train, validation)
    recorded = recorded_values(record.metrics, validation=validation is not None, penalized=regularization.penalizes)
    if early_stopping is not None:
        check_monitor(early_stopping, recorded)
    length = plan(len(train[0]), batch_size=batch_size, epochs=epochs, steps=steps)
    start = start or state_of_seed(net, optimizer, seed, tuple(np.shape(train[0])[1:]))
    step = make_step(net, record, optimizer, regularization=regularization, augment=augment)
    batches = _batches_of(train, length, seed, int(start.step))
    runner = Runner(step, start, batches, length, record.metrics)
    validate = _make_validate(net, record, validation)

    def values_of_epoch() -> dict[str, float]:
        return runner.epoch_values(penalized=regularization.penalizes) | validate(runner.train_state)

    return _run_epochs(runner, length, values_of_epoch, early_stopping, recorded, on_event)


def _check_data(net: Layer, loss: Loss, train: tuple[Any, ...], validation: tuple[Any, ...] | None) -> None:
    """Check the data against the network and the loss.

    Raises:
        ValueError: for data that they cannot take.
    """
    x, y = train[:2]
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(
            f"fit: expected at least one training example and one target per example, got {len(x)} examples and "
            f"{len(y)} targets"
        )
    out_shape = net.shape(tuple(np.shape(x)[1:]))
    for examples, targets, *mask in (train, validation) if validation is not None else (train,):
        check_examples(net, examples, *mask)
        check_labels(loss, targets, out_shape, *mask)


def _batches_of(train: tuple[Any, ...], length: Plan, seed: int, completed: int) -> ResidentBatches | StreamedBatches:
    """Return the batches of the training examples that follow a number of completed steps."""
    if isinstance(train, Stream):
        return StreamedBatches(train, length, seed, completed)
    return ResidentBatches(train, length, seed)


def _make_validate(
    net: Layer, loss: Loss, validation: tuple[Any, ...] | None
) -> Callable[[TrainState], dict[str, float]]:
    """Return the function from a training state to its validation values, none without validation examples."""
    if validation is None:
        return lambda train_state: {}
    score, inputs = make_score(net, loss), score_inputs(validation)

    def validate(train_state: TrainState) -> dict[str, float]:
        values = values_of(score(train_state.params, train_state.state, *inputs))
        return {recorded_name("validation", name): value for name, value in values.items()}

    return validate


def _run_epochs(
    runner: Runner,
    length: Plan,
    values_of_epoch: Callable[[], dict[str, float]],
    early_stopping: EarlyStopping | None,
    recorded: Mapping[str, bool],
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
                    best = better_epoch(best, candidate, higher_is_better=recorded[early_stopping.monitor])
                step = min(length.steps, epoch * length.steps_per_epoch)
                improved = best is not None and best.epoch == epoch
                history.append(Epoch(epoch, step, values, time.perf_counter() - began, improved))
                on_event(history[-1])
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
        return Fitted(last.params, last.state, history, stopped, epoch, last)
    return Fitted(best.train_state.params, best.train_state.state, history, stopped, best.epoch, last)
