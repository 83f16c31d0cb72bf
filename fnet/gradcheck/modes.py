"""Checks beside the training loss of a whole batch: the new state, evaluation mode, and masks, by hand against JAX.

Finite differences are computed only if the two differ.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from fnet.core.layer import Layer, ShapeError
from fnet.core.traversal import leaves
from fnet.gradcheck.compare_leaves import ROUNDING, Part, compare_arrays, compare_leaves
from fnet.gradcheck.diagnosis import Context, diagnose
from fnet.gradcheck.problem import Problem
from fnet.gradcheck.report import LeafReport
from fnet.gradcheck.rules import UNCHECKED
from fnet.gradcheck.trees import examples, named
from fnet.regularization import Penalties

VALUES = ("outputs", "loss")
"""The first parts of the names of rows that compare values."""


class Mode(NamedTuple):
    """A way to apply the network: its name, whether in training mode, and the mask, None if all examples are real."""

    part: str
    train: bool
    mask: np.ndarray | None


def modes(problem: Problem) -> list[Mode]:
    """List evaluation mode, a mask that excludes one example, and a random mask of the steps of sequences.

    Sequences are inputs (batch, time) of indices or (batch, time, features), unless the network refuses a mask of their
    steps, as convolutions over the steps do if a later layer needs the mask.
    """
    rng, x = np.random.default_rng(0), problem.x
    listed = [Mode("evaluation", False, None)]
    batch = examples(x)
    if batch > 1:
        mask = np.ones(batch, bool)
        mask[rng.integers(batch)] = False
        listed.append(Mode("masked", True, mask))
    if isinstance(x, np.ndarray) and x.ndim == 2 + (not np.issubdtype(x.dtype, np.integer)):
        steps = rng.random(x.shape[:2]) < 0.7
        steps[0, 0] = True
        if _accepts(problem, steps):
            listed.append(Mode("masked steps", True, steps))
    return listed


def _accepts(problem: Problem, mask: np.ndarray) -> bool:
    """Return whether the network and the loss accept a mask."""
    try:
        with jax.enable_x64(True):
            jax.eval_shape(problem.function(), list(problem.points().values()), problem.data(mask))
    except (ShapeError, ValueError):
        return False
    return True


def check_mode(problem: Problem, mode: Mode, precision: str, tolerance: float, rounding: float) -> list[LeafReport]:
    """Compare values and gradients of the data loss in one mode.

    The outputs of masked examples are arbitrary, so that they are compared only without a mask.
    """
    problem = problem._replace(regularization=problem.regularization if mode.train else Penalties())
    f, points = problem.function(mode.train), problem.points()
    hand = problem.by_hand(train=mode.train, mask=mode.mask)
    jaxs = problem.by_jax(precision, train=mode.train, mask=mode.mask)
    data_loss = f.parts.index("data loss") if "data loss" in f.parts else 0
    values = {"loss": (np.asarray(hand.loss), jaxs.values[data_loss])}
    if mode.mask is None:
        values = {**pairs("outputs", hand.outputs, jaxs.outputs), **values}
    rows = forward_rows(values, tolerance, ROUNDING)
    rows += state_rows(problem.net, hand.state, jaxs.state, tolerance)
    by_hand = dict(f.leaves(hand.params, hand.x))
    part = Part(mode.part, by_hand, jaxs.gradients[data_loss])
    limit = rounding * max([np.max(np.abs(g), initial=0.0) for g in part.by_jax.values()], default=0.0)
    gradients = [
        compare_arrays(name, by_hand.get(name), gradient, tolerance, limit) for name, gradient in part.by_jax.items()
    ]
    if not all(row.ok for row in gradients):
        function = problem._replace(regularization=Penalties()).function(mode.train)
        gradients = compare_leaves(
            function,
            points,
            problem.data(mode.mask),
            [part],
            tolerance=tolerance,
            rounding=rounding,
            precision=precision,
            constants=problem.constants(),
            context=lambda name, _: Context(name.rpartition("/")[2], examples(problem.x)),
        )
    return [row._replace(part=mode.part) for row in [*rows, *gradients]]


def is_forward(row: LeafReport) -> bool:
    """Return whether a row compares forward values rather than gradients."""
    return row.name.partition("/")[0] in VALUES or row.name.startswith("state: ")


def pairs(prefix: str, by_hand: Any, by_jax: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the arrays of two trees in pairs, by name."""
    hand = named(prefix, by_hand)
    return {name: (hand[name], array) for name, array in named(prefix, by_jax).items()}


def forward_rows(
    values: dict[str, tuple[np.ndarray, np.ndarray]], tolerance: float, rounding: float
) -> list[LeafReport]:
    """Compare forward values by hand and by JAX, by name."""
    rows: list[LeafReport] = []
    for name, (hand, jaxs) in values.items():
        row = compare_arrays(name, hand, jaxs, tolerance, rounding)
        rows.append(row if row.ok else row._replace(verdict="forward"))
    return rows


def state_rows(net: Layer, by_hand: Any, by_jax: Any, tolerance: float) -> list[LeafReport]:
    """Compare the new state of every layer that has one; without a rule of it by hand, a row says so."""
    rows: list[LeafReport] = []
    hand = dict(leaves(net, by_hand))
    for name, value in leaves(net, by_jax):
        row = compare_arrays(f"state: {name}", hand.get(name, value), value, tolerance, ROUNDING)
        if not row.ok:
            diagnosis = row.diagnosis or diagnose(hand[name], np.asarray(value), Context("state"))
            row = row._replace(verdict="forward", diagnosis=diagnosis)
        rows.append(row._replace(part="state", diagnosis=row.diagnosis if name in hand else UNCHECKED))
    return rows
