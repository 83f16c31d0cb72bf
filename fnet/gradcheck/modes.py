"""Checks beside the training loss of a whole batch: the new state, evaluation mode, and masks, by hand against JAX.

Finite differences are computed only if the two differ.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fnet.core.layer import Layer, ShapeError
from fnet.core.traversal import leaves
from fnet.gradcheck.compare_leaves import ROUNDING, Part, compare_arrays, compare_leaves
from fnet.gradcheck.diagnosis import Context, diagnose
from fnet.gradcheck.problem import ByJax, Mode, Problem
from fnet.gradcheck.report import LeafReport
from fnet.gradcheck.rounding import value_limit
from fnet.gradcheck.rules import UNCHECKED
from fnet.gradcheck.trees import examples, named
from fnet.reference.network import Result
from fnet.regularization import Penalties
from fnet.train.score import flatten_steps

VALUES = ("outputs", "loss")
"""The first parts of the names of rows that compare values."""

REFUSED = "A mask of steps was not checked: {}"


def modes(problem: Problem) -> tuple[list[Mode], list[str]]:
    """List evaluation mode, a mask that excludes one example, and a random mask of the steps of sequences.

    Sequences are inputs (batch, time) of indices or (batch, time, features). With a mask the examples have random
    weights.

    Returns:
        The modes, and a remark on a mask of steps that the network or the loss refuses, as convolutions over the steps
        do if a later layer needs the mask.
    """
    rng, x = np.random.default_rng(0), problem.x
    listed = [Mode("evaluation", train=False)]
    batch = examples(x)
    weight = rng.uniform(0.5, 2.0, batch)
    if batch > 1:
        mask = np.ones(batch, bool)
        mask[rng.integers(batch)] = False
        listed.append(Mode("masked", mask=mask, weight=weight))
    if not isinstance(x, np.ndarray) or x.ndim != 2 + (not np.issubdtype(x.dtype, np.integer)):
        return listed, []
    steps = rng.random(x.shape[:2]) < 0.7
    steps[0, 0] = True
    mode = Mode("masked steps", mask=steps, weight=weight)
    refusal = _refusal(problem, mode)
    return (listed, [REFUSED.format(refusal)]) if refusal else ([*listed, mode], [])


def _refusal(problem: Problem, mode: Mode) -> str:
    """Return why a layer or the loss does not accept the mask of a mode; "" if they do."""
    f, arrays, data = problem.function(), list(problem.points().values()), problem.data(mode)
    with jax.enable_x64(True):
        try:
            outputs, _ = jax.eval_shape(f.forward, arrays, data)
        except ShapeError as error:
            return str(error)
        try:
            jax.eval_shape(flatten_steps, outputs, problem.y, mode.mask)
        except ValueError as error:
            return str(error)
    return ""


def check_mode(problem: Problem, mode: Mode, precision: str, tolerance: float, rounding: float) -> list[LeafReport]:
    """Compare values and gradients of the data loss in one mode.

    The outputs of masked examples are arbitrary, so that they are compared only without a mask.
    """
    problem = problem._replace(regularization=problem.regularization if mode.train else Penalties())
    f, points = problem.function(mode.train), problem.points()
    hand, jaxs = problem.by_hand(mode=mode), problem.by_jax(precision, mode)
    data_loss = "data loss" if "data loss" in f.parts else f.parts[0]
    values = value_rows(problem, mode, {data_loss: hand}, jaxs, precision, tolerance)

    def gradients_by_hand(points: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        moved = problem.at(points).by_hand(mode=mode)
        return [dict(f.leaves(moved.params, moved.x))]

    by_hand = dict(f.leaves(hand.params, hand.x))
    part = Part(mode.part, by_hand, jaxs.gradients[f.parts.index(data_loss)])
    limit = rounding * max([np.max(np.abs(g), initial=0.0) for g in part.by_jax.values()], default=0.0)
    gradients = [
        compare_arrays(name, by_hand.get(name), gradient, tolerance, limit) for name, gradient in part.by_jax.items()
    ]
    if not all(row.ok for row in gradients):
        function = problem._replace(regularization=Penalties()).function(mode.train)
        gradients = compare_leaves(
            function,
            points,
            problem.data(mode),
            [part],
            tolerance=tolerance,
            rounding=rounding,
            precision=precision,
            constants=problem.constants(),
            context=lambda name, _: problem.context(name),
            by_hand=gradients_by_hand,
        )
    return [row._replace(part=mode.part) for row in [*values, *gradients]]


def is_forward(row: LeafReport) -> bool:
    """Return whether a row compares forward values rather than gradients."""
    return row.name.partition("/")[0] in VALUES or row.name.startswith("state: ")


def pairs(prefix: str, by_hand: Any, by_jax: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the arrays of two trees in pairs, by name."""
    hand = named(prefix, by_hand)
    return {name: (hand[name], array) for name, array in named(prefix, by_jax).items()}


def value_rows(
    problem: Problem, mode: Mode, by_hand: Mapping[str, Result], by_jax: ByJax, precision: str, tolerance: float
) -> list[LeafReport]:
    """Compare the outputs, unless some are masked, the losses, and the new state of every layer that has one.

    The row of a state without a hand-written rule says so. If values differ, their rounding errors are measured, and
    differences below them pass.

    Args:
        problem: the network and its arguments.
        mode: the mode.
        by_hand: the results by hand, by the parts of the loss.
        by_jax: the results by JAX.
        precision: the precision of the results by JAX.
        tolerance: the maximum relative difference that passes.
    """
    parts = problem.function(mode.train).parts
    (first, *_), state = by_hand.values(), dict(leaves(problem.net, by_jax.state))

    def rows(limits: Mapping[str, float]) -> list[LeafReport]:
        outputs = {} if mode.mask is not None else pairs("outputs", first.outputs, by_jax.outputs)
        losses = [
            _forward_row("loss", np.asarray(hand.loss), by_jax.values[parts.index(part)], tolerance, limits)
            for part, hand in by_hand.items()
        ]
        return [
            *(_forward_row(name, *pair, tolerance, limits) for name, pair in outputs.items()),
            *(row._replace(part=part) for row, part in zip(losses, by_hand, strict=True)),
            *state_rows(problem.net, first.state, state, tolerance, limits),
        ]

    compared = rows({})
    return compared if all(row.ok for row in compared) else rows(_value_limits(problem, mode, precision))


def _value_limits(problem: Problem, mode: Mode, precision: str) -> dict[str, float]:
    """Return upper limits of the rounding errors of JAX's forward values, by the name of their row."""
    (outputs, state, losses), high = (problem.forward_by_jax(name, mode) for name in ("float32", "float64"))
    values = {
        **pairs("outputs", outputs, high[0]),
        **{f"state: {name}": pair for name, pair in pairs("", state, high[1]).items()},
        "loss": (losses, high[2]),
    }
    return {name: value_limit(*pair, precision) for name, pair in values.items()}


def _forward_row(
    name: str, by_hand: np.ndarray | None, by_jax: np.ndarray, tolerance: float, limits: Mapping[str, float]
) -> LeafReport:
    """Compare two arrays of forward values."""
    row = compare_arrays(name, by_hand, by_jax, tolerance, max(ROUNDING, limits.get(name, 0.0)))
    return row if row.ok else row._replace(verdict="forward")


def state_rows(
    net: Layer, by_hand: Any, by_jax: Mapping[str, np.ndarray], tolerance: float, limits: Mapping[str, float] = {}
) -> list[LeafReport]:
    """Compare the new state of every layer, by name; the row of a state without a hand-written rule says so."""
    rows: list[LeafReport] = []
    hand = dict(leaves(net, by_hand))
    for name, value in by_jax.items():
        row = _forward_row(f"state: {name}", hand.get(name, value), value, tolerance, limits)
        if not row.ok:
            diagnosis = row.diagnosis or diagnose(hand[name], np.asarray(value), Context("state"))
            row = row._replace(diagnosis=diagnosis)
        rows.append(row._replace(part="state", diagnosis=row.diagnosis if name in hand else UNCHECKED))
    return rows
