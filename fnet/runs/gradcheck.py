"""Checking the gradients of an experiment: before training, after some steps of it, or as a run left its parameters."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.data.source import Arrays
from fnet.data.stream import Stream
from fnet.gradcheck import Report, check
from fnet.gradcheck.compare_leaves import SAMPLES
from fnet.train.loop import example_order
from fnet.runs.run import load_data
from fnet.train.state import Batch, TrainState, init_state
from fnet.train.step import make_step

if TYPE_CHECKING:
    from fnet.config.load import Experiment

EXAMPLES, STEPS = 64, 128
"""How many examples a check takes, and of sequences that have a target at every step how many steps in all."""

ENTRIES = 400
"""How many entries of all leaves together are compared with differences, where that is three of each or more."""


class Checked(NamedTuple):
    """A check: at which point of training, on how many examples, and what it found."""

    when: str
    examples: int
    report: Report


def check_gradients(
    experiment: "Experiment",
    *,
    trained: tuple[Any, Any] | None = None,
    after_steps: int = 0,
    examples: int | None = None,
    leaf: str | None = None,
    samples: int | None = None,
    precision: str = "float64",
) -> list[Checked]:
    """Checks the gradients of an experiment's network on the first training examples.

    Some mistakes hide at initialization, where biases are 0 and a network is nearly symmetric.

    Args:
        experiment: a config that fits together.
        trained: (params, state) to check instead of those that training starts from.
        after_steps: check once more after this many steps of training from there.
        examples: how many of the training examples to take at most; a check takes time in proportion. By default 64,
            or as many sequences as have 128 steps.
        samples: entries of every leaf to compare with differences; by default 20, in a large network fewer.
        leaf, precision: as for `fnet.gradcheck.check`.

    Raises:
        DataError: when the data cannot be used.
        NoReference: when a layer or the loss has no hand-written backward.
        UnknownLeaf: when the network has no such leaf.
    """
    config, net = experiment.config, experiment.net
    train = load_data(experiment)[0].train
    places = math.prod(experiment.spec.targets.shape)
    examples = min(examples or (EXAMPLES if places == 1 else max(1, STEPS // places)), train.size)
    plan = config.train.plan(train.size)
    optimizer = experiment.optimizer(plan.steps)
    shape = train.x.shape[1:]
    start = jax.jit(lambda key: init_state(net, optimizer, key, shape))(jax.random.key(config.seed))
    if trained is not None:
        start = start._replace(params=trained[0], state=trained[1])
    leaves = 1 if leaf else len(jax.tree.leaves(start.params))
    samples = samples or min(SAMPLES, max(3, ENTRIES // leaves))
    points = [("as trained" if trained else "at initialization", start)]
    if after_steps:
        points.append(
            (f"after {after_steps} steps", _stepped(experiment, start, train, optimizer, plan.batch, after_steps))
        )
    return [
        Checked(
            when,
            examples,
            check(
                net,
                experiment.loss(),
                point.params,
                point.state,
                train.x[:examples],
                train.y[:examples],
                regularization=config.regularization.penalties(),
                leaf=leaf,
                samples=samples,
                precision=precision,
            ),
        )
        for when, point in points
    ]


def _stepped(
    experiment: "Experiment", start: TrainState, train: Arrays | Stream, optimizer: Any, batch: int, steps: int
) -> TrainState:
    """The state after some full batches of training, in the order of the first epoch, over and over."""
    step = jax.jit(
        make_step(
            experiment.net,
            experiment.loss(),
            optimizer,
            regularization=experiment.config.regularization.penalties(),
            augment=experiment.augmentations(),
        )
    )
    order = example_order(experiment.config.seed, 1, train.size)
    real = jnp.ones(batch, bool)
    for number in range(steps):
        chosen = order[np.arange(number * batch, (number + 1) * batch) % train.size]
        start, _ = step(start, Batch(jnp.asarray(train.x[chosen]), jnp.asarray(train.y[chosen]), real))
    return start
