"""Check of the gradients of a network's training loss: by hand, by JAX and by finite differences."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from fnet.core.layer import Layer
from fnet.core.wording import suggestion
from fnet.gradcheck.compare_leaves import ROUNDING_LIMITS, SAMPLES, Part, check_choice, compare_leaves
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.faulty_layers import find_faulty_layers
from fnet.gradcheck.modes import VALUES, check_mode, is_forward, modes, value_rows
from fnet.gradcheck.noise import draw_noise
from fnet.gradcheck.problem import TRAINING, Problem
from fnet.gradcheck.report import Culprit, LeafReport, Report
from fnet.gradcheck.rules import UNCHECKED, layers_without_rule, loss_by_hand, rules_by_jax
from fnet.gradcheck.sampling import check_rates
from fnet.losses import Loss, loss_name_of, resolve_loss
from fnet.reference import network as reference
from fnet.regularization import Penalties

TOLERANCES = {"float64": 1e-10, "float32": 1e-3}
"""The default maximum relative difference that passes, by the precision that JAX computes in."""

UNFINISHED = "Evaluation mode and masks were not checked: correct the training loss first."

REMARKS = {
    "float64": "",
    "float32": "float32 has about 7 significant digits, and sums over a batch or a layer lose some of them: JAX's "
    "gradients are accurate to about 1e-5 of the largest entry, rarely worse than {tolerance:g}. A smaller mistake "
    "shows only in float64.",
}
"""Remarks on the accuracy to expect, by precision."""


class UnknownLeaf(ValueError):
    """The network does not have the requested leaf."""

    exit_status = 2


def check(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    params: Any,
    state: Any,
    x: Any,
    y: Any,
    *,
    regularization: Penalties = Penalties(),
    key: jax.Array | None = None,
    tolerance: float | None = None,
    samples: int = SAMPLES,
    leaf: str | None = None,
    precision: Literal["float64", "float32"] = "float64",
) -> Report:
    """Compare backpropagation by hand with JAX and with finite differences, for the training loss of one batch.

    Parameters and data are converted to float64, and JAX computes in float64: the network is the same, and rounding
    errors are far smaller than the effect of a mistake. The network is in training mode: it uses the statistics of the
    batch, and both sides use the same dropout masks. The finite differences are those of JAX's loss. Of the three
    gradients, the two that agree outvote the third. With penalties, the data loss and the penalty are also checked
    separately. The new state, such as running averages, is compared too, and the rate of every dropout layer
    statistically. If all of this is right, the data loss is compared by hand and by JAX in evaluation mode, with a mask
    of examples and, for sequences, with a mask of steps, all with the new state. If something is wrong, every layer is
    checked alone, with a random cotangent, to locate the mistake.

    A layer or loss without a hand-written rule is checked as well: there JAX is compared with finite differences alone,
    and the row says "no rule by hand".

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, a function of `fnet.losses`, a `functools.partial` of one with settings,
            which also apply to the hand-written loss, or a `fnet.losses.Loss`, whose `reference` is the one by hand.
        params: its parameters, of any precision.
        state: its non-trainable state.
        x: examples (batch, ...), or a tuple or dict of arrays.
        y: targets, (batch, ...), or a tuple or dict of arrays.
        regularization: penalties on the weights.
        key: random key of dropout; by default jax.random.key(0).
        tolerance: the maximum relative difference that passes; by default 1e-10, and 1e-3 in float32.
        samples: the number of entries of each leaf to compare with finite differences; a larger leaf is sampled with a
            fixed seed.
        leaf: the only leaf to report on, such as "dense_2/w"; by default all leaves and the input.
        precision: the precision of JAX's gradients, "float64" or "float32"; the other two gradients are in float64.

    Raises:
        UnknownLeaf: if the network does not have the requested leaf.
        ValueError: for an unknown loss or precision, or an unknown layer in the penalties.

    >>> import fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (4,))
    >>> report = check(net, "cross_entropy", params, state, np.ones((5, 4)), np.array([0, 1, 1, 0, 1]))
    >>> report.ok, [row.name for row in report.listed][3:]
    (True, ['dense_1/w', 'dense_1/b', 'dense_2/w', 'dense_2/b'])
    """
    check_choice("check", "precision", precision, TOLERANCES)
    key = jax.random.key(0) if key is None else key
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    problem, has_rule = _problem(net, loss, params, state, x, y, regularization, key)
    f, points = problem.function(), problem.points()
    reported = _reported_leaves(points, leaf)
    by_hand, by_jax = _by_hand(problem), problem.by_jax(precision)
    gradients = zip(f.parts, _gradients_by_hand(problem, by_hand), by_jax.gradients, strict=True)
    parts = [Part(*part) for part in gradients]
    rounding = ROUNDING_LIMITS[precision]
    sizes, penalty = _sizes(by_jax.outputs), parts[-1].by_jax if regularization.penalizes else {}

    def context(name: str, part: str) -> Context:
        return problem.context(name)._replace(sizes=sizes, penalty=penalty.get(name) if part == "total" else None)

    rows = value_rows(problem, TRAINING, by_hand, by_jax, precision, tolerance)
    rows += compare_leaves(
        f, points, problem.data(), parts, samples=samples, tolerance=tolerance, rounding=rounding, precision=precision,
        constants=problem.constants(), context=context, by_hand=lambda leaves: _gradients_by_hand(problem.at(leaves)),
    )  # fmt: skip
    rows = [row for row in rows if (row.name in reported or is_forward(row)) and not _is_unpenalized(row)]
    rows.sort(key=lambda row: [*f.parts, "state"].index(row.part))
    rows += check_rates(net, problem.params, problem.state, problem.noise, key)
    remarks, mode = [REMARKS[precision].format(tolerance=tolerance)], TRAINING
    if all(row.ok for row in rows):
        trained = problem._replace(state=by_hand["total"].state)
        listed, refusals = modes(trained)
        remarks += refusals
        for mode in listed:
            problem, added = trained, check_mode(trained, mode, precision, tolerance, rounding)
            rows += [row for row in added if row.name in reported or is_forward(row)]
            if not all(row.ok for row in added):
                break
    else:
        remarks.append(UNFINISHED)
    rows = [_mark_unchecked(row, problem, has_rule) for row in rows]
    report = Report(rows, tolerance, precision, remark="\n".join(filter(None, remarks)))
    if report.ok:
        return report
    culprits = find_faulty_layers(problem, mode)
    return report._replace(rows=[_attribute(row, culprits) for row in rows], culprits=culprits)


def _problem(
    net: Layer, loss: Any, params: Any, state: Any, x: Any, y: Any, regularization: Penalties, key: jax.Array
) -> tuple[Problem, bool]:
    """Return the problem in float64, and whether the loss has a hand-written derivative."""
    rules = rules_by_jax(net, key)
    noise = draw_noise(net, params, state, x, key, frozenset(path for path, _ in layers_without_rule(net)))
    params, state, x, y = jax.tree.map(_float64, (params, state, x, y))
    record = resolve_loss(loss)
    name = loss_name_of(record.function)
    by_hand, has_rule = loss_by_hand(record)
    label = name[0] if name else getattr(record.function, "__name__", repr(record.function))
    if name is None:  # it may read a variable that has changed: every check traces it again, as an unequal function
        record = record._replace(function=functools.partial(record.function))
    return Problem(
        net, record, by_hand, label, regularization.for_network(net), rules, params, state, noise, x, y, key
    ), has_rule


def _by_hand(problem: Problem) -> dict[str, reference.Result]:
    """Compute values and gradients of every part by hand."""
    penalties = problem.regularization
    total = problem.by_hand(penalties)
    if not penalties.penalizes:
        return {"total": total}
    value, gradients = reference.penalty(problem.params, penalties)
    penalty = total._replace(loss=value, params=gradients, x=jax.tree.map(lambda dx: dx * 0, total.x))
    return {"total": total, "data loss": problem.by_hand(), "penalty": penalty}


def _mark_unchecked(row: LeafReport, problem: Problem, loss_has_rule: bool) -> LeafReport:
    """Say in the rows of layers and losses without a hand-written rule that JAX is compared with differences alone."""
    is_value = row.name.partition("/")[0] in VALUES
    has_rule = problem.has_rule(row.name.removeprefix("state: ")) or is_value
    if has_rule and (loss_has_rule or row.name != "loss"):
        return row
    return row._replace(diagnosis=UNCHECKED if row.ok else f"{UNCHECKED}; {row.diagnosis}")


def _gradients_by_hand(
    problem: Problem, by_hand: Mapping[str, reference.Result] | None = None
) -> list[dict[str, np.ndarray]]:
    """Return the gradients of every part by leaf; a leaf without penalty has the penalty gradient 0."""
    f, by_hand = problem.function(), by_hand or _by_hand(problem)
    zeros = {name: np.zeros_like(leaf) for name, leaf in problem.points().items()}
    return [
        (zeros if part == "penalty" else {}) | dict(f.leaves(by_hand[part].params, by_hand[part].x)) for part in f.parts
    ]


def _sizes(outputs: Any) -> dict[str, int]:
    """Return the numbers of outputs that a mean or a sum may be taken over."""
    batch, *shape = jax.tree.leaves(outputs)[0].shape
    return {"outputs": math.prod(shape), "batch * outputs": batch * math.prod(shape)}


def _attribute(row: LeafReport, culprits: Sequence[Culprit]) -> LeafReport:
    """Replace the diagnosis of a gradient that is wrong only because of a mistake in another layer."""
    origins = {f"{culprit.layer}/{culprit.what}".lstrip("/") for culprit in culprits}
    if row.verdict in ("ok", "forward") or not culprits or row.name in origins:
        return row
    layers = ", ".join(dict.fromkeys(culprit.layer or "the outermost container" for culprit in culprits))
    return row._replace(diagnosis=f"propagated from {layers}")


def _is_unpenalized(row: LeafReport) -> bool:
    """Return whether the row compares the penalty gradient of a leaf without penalty."""
    return row.part == "penalty" and row.absolute == 0 and row.values[:2] == (0, 0)


def _reported_leaves(points: Mapping[str, Any], leaf: str | None) -> Sequence[str]:
    if leaf is None:
        return list(points)
    if leaf not in points:
        raise UnknownLeaf(f"the network does not have a leaf '{leaf}'{suggestion(leaf, points)}")
    return [leaf]


def _float64(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)
