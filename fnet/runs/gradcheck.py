"""Check the gradients of an experiment: at initialization, after steps of training, or of a finished run."""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import optax

from fnet.data.source import Arrays
from fnet.data.stream import Stream
from fnet.gradcheck import Report, check
from fnet.gradcheck.compare_leaves import SAMPLES
from fnet.runs.data import load_data
from fnet.runs.experiment import Experiment
from fnet.runs.run import RunFailed
from fnet.train.loop import Diverged, fit
from fnet.train.state import TrainState, state_of_seed

EXAMPLES, TIME_STEPS = 64, 128
"""Default number of examples, and of time steps in total if every step of a sequence has a target."""

ENTRIES = 400
"""Approximate number of entries, over all leaves, to differentiate numerically, with at least three per leaf."""


class Checked(NamedTuple):
    """The result of one check.

    when: the point of training: "at initialization", "as trained" or "after N steps".
    examples: the number of examples.
    report: the gradient report.
    """

    when: str
    examples: int
    report: Report


def check_gradients(
    experiment: Experiment,
    *,
    trained: tuple[Any, Any] | None = None,
    after_steps: int = 0,
    examples: int | None = None,
    leaf: str | None = None,
    samples: int | None = None,
    precision: Literal["float64", "float32"] = "float64",
) -> list[Checked]:
    """Check the gradients of an experiment's network on the first training examples.

    Some mistakes have no effect at initialization, where biases are 0 and the network is nearly symmetric.

    Args:
        experiment: the experiment.
        trained: (params, state) to check; by default, the initial ones.
        after_steps: if positive, check again after this many further steps of training.
        examples: maximum number of training examples, to which the time is proportional. By default 64, or sequences
            with 128 time steps in total.
        leaf: the leaf to check, such as "dense_1/w"; by default all.
        samples: entries per leaf to differentiate numerically; by default 20, fewer in a large network.
        precision: precision of JAX's gradients, float64 or float32.

    Raises:
        DataError: when the data cannot be used.
        RunFailed: when training diverges before the second check.
        UnknownLeaf: when the network has no such leaf.
    """
    train = load_data(experiment)[0].train
    examples = min(examples or _default_examples(experiment), train.size)
    optimizer = experiment.optimizer(experiment.plan().steps)
    initial = _initial_state(experiment, optimizer, trained)
    leaves = 1 if leaf else len(jax.tree.leaves(initial.params))

    def points() -> Iterator[tuple[str, TrainState]]:
        yield "as trained" if trained else "at initialization", initial
        if after_steps:
            yield f"after {after_steps} steps", _train(experiment, optimizer, train, initial, after_steps)

    return [
        Checked(
            when,
            examples,
            check(
                experiment.net,
                experiment.loss,
                point.params,
                point.state,
                train.x[:examples],
                train.y[:examples],
                regularization=experiment.penalties,
                leaf=leaf,
                samples=samples or min(SAMPLES, max(3, ENTRIES // leaves)),
                precision=precision,
            ),
        )
        for when, point in points()
    ]


def _default_examples(experiment: Experiment) -> int:
    time_steps = math.prod(experiment.spec.targets.shape)
    return EXAMPLES if time_steps == 1 else max(1, TIME_STEPS // time_steps)


def _initial_state(
    experiment: Experiment, optimizer: optax.GradientTransformation, trained: tuple[Any, Any] | None
) -> TrainState:
    """Return the state before the first step, with the trained parameters if given."""
    initial = state_of_seed(experiment.net, optimizer, experiment.seed, experiment.spec.shape)
    return initial if trained is None else initial._replace(params=trained[0], state=trained[1])


def _train(
    experiment: Experiment,
    optimizer: optax.GradientTransformation,
    train: Arrays | Stream,
    start: TrainState,
    steps: int,
) -> TrainState:
    """Return the state after a number of training steps.

    Raises:
        KeyboardInterrupt: when training is interrupted.
        RunFailed: when training diverges.
    """
    try:
        fitted = fit(
            experiment.net,
            experiment.loss,
            optimizer,
            train,
            weights=experiment.weights_of(train),
            steps=steps,
            start=start,
            **experiment.fit_settings(),
        )
    except Diverged as error:
        raise RunFailed(f"training before the check failed at {error}") from error
    if fitted.stopped == "interrupted":
        raise KeyboardInterrupt
    return fitted.train_state
