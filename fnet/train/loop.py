"""The training loop: a few compiled programs, driven epoch by epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from fnet.core.layer import Layer
from fnet.data.augment import Augmentation
from fnet.data.stream import Stream
from fnet.losses import Loss
from fnet.regularization import Penalties
from fnet.train.checks import check_examples, check_labels
from fnet.train.evaluate import make_score, scored
from fnet.train.feed import Resident, Streamed
from fnet.train.feed import example_order as example_order
from fnet.train.interrupt import deferred
from fnet.train.segments import Diverged as Diverged
from fnet.train.segments import Runner
from fnet.train.segments import Segment as Segment
from fnet.train.state import TrainState, init_state
from fnet.train.step import make_step, resolve_loss


class EarlyStopping(NamedTuple):
    """Stop when `monitor` has not improved for `patience` epochs, and keep the parameters of its best epoch."""

    monitor: str
    patience: int


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


def fit(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    train: tuple[Any, ...],
    *,
    validation: tuple[Any, ...] | None = None,
    epochs: int = 20,
    steps: int | None = None,
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

    Data larger than memory are given as a `fnet.data.stream.Stream`, of memory-mapped arrays for example; its batches
    are read ahead of the steps, and the results are the same to the bit.

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, or a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`.
        optimizer: any Optax transformation.
        train: examples (n, ...) and targets (n, ...), and of sequences of different lengths, filled up to one, a mask
            (n, time) as well, True for real steps; or a Stream of them.
        validation: the same, of examples that are not trained on; scored after every epoch.
        epochs: passes over the training examples, with those that `start` has behind it.
        steps: how many to take in all, in place of `epochs`; the last epoch may then be cut short.
        batch_size: examples a step: 1 is stochastic, "all" full-batch gradient descent.
        seed: of the initial parameters, the order of examples and dropout.
        regularization: penalties on the weights, and how long their columns may be.
        augment: what changes the training images at random, in this order, such as `[fnet.data.augment.shift(2)]`.
        early_stopping: when to stop before the last epoch.
        start: the `train_state` of an earlier call with the same data, batch_size and seed, to go on from: its step
            is the position in the order of examples, in the middle of an epoch too, and what follows is the same to
            the bit as if training had not stopped. The record of an epoch that it is in has the steps from there on.
        on_event: called after every segment and every epoch.

    Raises:
        AugmentationError: when the examples are not what `augment` takes.
        DataError: when a stream cannot be read.
        Diverged: when the loss or a parameter becomes NaN or infinite; carries the last good state.
        ValueError: for labels or indices out of range, a sequence without real steps, no examples, or a monitor that is
            not recorded.

    >>> import fnet, numpy as np
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> net = fnet.serial(fnet.dense(8), fnet.tanh(), fnet.dense(1))
    >>> fitted = fit(net, "binary_cross_entropy", optax.adam(0.1), (x, x.sum(1, keepdims=True) % 2), epochs=100)
    >>> fitted.history[-1].values["train_accuracy"]
    1.0

    The same from a file that stays on the disk:

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
    x, y = train[:2]
    size = len(x)
    if size == 0 or size != len(y):
        raise ValueError(f"fit: {size} examples and {len(y)} targets; there must be as many of both, and at least one")
    in_shape = tuple(np.shape(x)[1:])
    out_shape = net.shape(in_shape)
    for examples, targets, *mask in (train, validation) if validation is not None else (train,):
        check_examples(net, examples, *mask)
        check_labels(record, targets, out_shape, *mask)
    batch = size if batch_size == "all" else min(batch_size, size)
    an_epoch = math.ceil(size / batch)
    total = epochs * an_epoch if steps is None else steps
    epochs = math.ceil(total / an_epoch)
    initial = start or jax.jit(lambda key: init_state(net, optimizer, key, in_shape))(jax.random.key(seed))
    taken = int(initial.step)
    feed = Streamed(train, batch, seed, taken, epochs) if isinstance(train, Stream) else Resident(train, batch, seed)
    step = make_step(net, record, optimizer, regularization=regularization, augment=augment)
    runner = Runner(step, initial, feed, size, batch)
    score = make_score(net, record)
    held_out = None if validation is None else scored(validation)
    best = _Best(early_stopping)
    history: list[Epoch] = []
    stopped = "done"
    try:
        with contextlib.closing(feed), deferred() as raise_if_interrupted:
            for epoch in range(taken // an_epoch + 1, epochs + 1):
                began = time.perf_counter()
                for segment in runner.epoch(epoch, max(0, taken - (epoch - 1) * an_epoch), total):
                    on_event(segment)
                    raise_if_interrupted()
                values = runner.epoch_values(record.metric_name, penalized=regularization.penalizes)
                current = runner.train_state
                if held_out is not None:
                    found = score(current.params, current.state, *held_out)
                    values["validation_loss"] = float(found.loss)
                    values[f"validation_{record.metric_name}"] = float(found.metric)
                improved = best.update(epoch, values, current)
                history.append(
                    Epoch(epoch, min(total, epoch * an_epoch), values, time.perf_counter() - began, improved)
                )
                on_event(history[-1])
                raise_if_interrupted()
                if best.exhausted(epoch):
                    stopped = "early"
                    break
    except KeyboardInterrupt:
        stopped = "interrupted"
    kept = best.kept or (math.ceil(int(runner.train_state.step) / an_epoch), runner.train_state)
    return Fitted(kept[1].params, kept[1].state, history, stopped, kept[0], runner.train_state)


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
