"""Check of the gradients of a network's training loss: by hand, by JAX and by finite differences."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fnet.core.layer import Layer
from fnet.core.wording import suggestion
from fnet.gradcheck.compare_leaves import ROUNDING, ROUNDING_LIMITS, SAMPLES, Part, compare_leaves
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.faulty_layers import find_faulty_layers
from fnet.gradcheck.modes import VALUES, Mode, check_mode, forward_rows, is_forward, modes, pairs, state_rows
from fnet.gradcheck.noise import draw_noise
from fnet.gradcheck.problem import ByJax, LossFunction, Problem
from fnet.gradcheck.report import Culprit, LeafReport, Report
from fnet.gradcheck.rules import UNCHECKED, layers_without_rule, loss_by_hand, rules_by_jax
from fnet.gradcheck.sampling import check_rates
from fnet.gradcheck.trees import examples
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
    precision: str = "float64",
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
        x: examples (batch, ...).
        y: targets.
        regularization: penalties on the weights.
        key: random key of dropout; by default jax.random.key(0).
        tolerance: the maximum relative difference that passes; by default 1e-10, and 1e-3 in float32.
        samples: the number of entries of each leaf to compare with finite differences; a larger leaf is sampled with a
            fixed seed.
        leaf: the only leaf to report on, such as "dense_2/w"; by default all leaves and the input.
        precision: the precision of JAX's gradients, "float64" or "float32"; the other two gradients are in float64.

    Raises:
        UnknownLeaf: if the network does not have the requested leaf.
        ValueError: for an unknown loss, or an unknown layer in the penalties.

    >>> import fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (4,))
    >>> report = check(net, "cross_entropy", params, state, np.ones((5, 4)), np.array([0, 1, 1, 0, 1]))
    >>> report.ok, [row.name for row in report.listed][3:]
    (True, ['dense_1/w', 'dense_1/b', 'dense_2/w', 'dense_2/b'])
    """
    key = jax.random.key(0) if key is None else key
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    problem, has_rule = _problem(net, loss, params, state, x, y, regularization, key)
    f, points, data = problem.function(), problem.points(), problem.data()
    reported = _reported_leaves(points, leaf)
    by_hand, by_jax = _by_hand(problem), problem.by_jax(precision)
    parts = _parts(f, points, by_hand, by_jax)
    rounding = ROUNDING_LIMITS[precision]
    penalty = parts[-1].by_jax if regularization.penalizes else {}
    context = _contexts(examples(problem.x), jax.tree.leaves(by_jax.outputs)[0].shape, penalty)
    rows = _value_rows(by_hand, by_jax, f.parts, tolerance, max(rounding, ROUNDING))
    rows += compare_leaves(
        f, points, data, parts, samples=samples, tolerance=tolerance, rounding=rounding, precision=precision,
        constants=problem.constants(), context=context,
    )  # fmt: skip
    rows = [row for row in rows if (row.name in reported or is_forward(row)) and not _is_unpenalized(row)]
    rows.sort(key=lambda row: f.parts.index(row.part))
    rows += state_rows(net, by_hand["total"].state, by_jax.state, tolerance)
    rows += check_rates(net, problem.noise, key)
    remarks = [REMARKS[precision].format(tolerance=tolerance)]
    mode = Mode("total", True, None)
    if all(row.ok for row in rows):
        trained = problem._replace(state=by_hand["total"].state)
        for mode in modes(trained):
            problem, added = trained, check_mode(trained, mode, precision, tolerance, rounding)
            rows += [row for row in added if row.name in reported or is_forward(row)]
            if not all(row.ok for row in added):
                break
    else:
        remarks.append(UNFINISHED)
    rows = [_mark_unchecked(row, net, has_rule) for row in rows]
    report = Report(rows, tolerance, precision, remark="\n".join(filter(None, remarks)))
    if report.ok:
        return report
    culprits = find_faulty_layers(problem, train=mode.train, mask=mode.mask)
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


def _mark_unchecked(row: LeafReport, net: Layer, loss_has_rule: bool) -> LeafReport:
    """Say in the rows of layers and losses without a hand-written rule that JAX is compared with differences alone."""
    layers = ["/".join(path) for path, _ in layers_without_rule(net)]
    leaf, is_value = row.name.removeprefix("state: "), row.name.partition("/")[0] in VALUES
    inside = any(not layer or leaf.startswith(f"{layer}/") for layer in layers) and not is_value
    if not inside and (loss_has_rule or row.name != "loss"):
        return row
    if row.ok:
        return row._replace(diagnosis=UNCHECKED)
    verdict = "by JAX" if row.verdict == "both" else row.verdict
    return row._replace(verdict=verdict, diagnosis=f"{UNCHECKED}; {row.diagnosis.rpartition('differences: ')[2]}")


def _parts(f: LossFunction, points: Mapping[str, np.ndarray], by_hand: Mapping[str, Any], by_jax: ByJax) -> list[Part]:
    """Pair the gradients of the two sides; a leaf without penalty has the penalty gradient 0."""
    zeros = {name: np.zeros_like(leaf) for name, leaf in points.items()}
    return [
        Part(
            name,
            (zeros if name == "penalty" else {}) | dict(f.leaves(by_hand[name].params, by_hand[name].x)),
            gradient,
        )
        for name, gradient in zip(f.parts, by_jax.gradients, strict=True)
    ]


def _value_rows(
    by_hand: Mapping[str, reference.Result], by_jax: ByJax, parts: Sequence[str], tolerance: float, rounding: float
) -> list[LeafReport]:
    """Compare the outputs and the value of every part."""
    rows = forward_rows(pairs("outputs", by_hand["total"].outputs, by_jax.outputs), tolerance, rounding)
    for part, value in zip(parts, by_jax.values, strict=True):
        (row,) = forward_rows({"loss": (np.asarray(by_hand[part].loss), value)}, tolerance, rounding)
        rows.append(row._replace(part=part))
    return rows


def _contexts(batch: int, outputs: tuple[int, ...], penalty: Mapping[str, np.ndarray]) -> Callable[[str, str], Context]:
    """Return a function from a leaf and a part to the context of a diagnosis."""
    per_example = math.prod(outputs[1:])
    sizes = {"outputs": per_example, "batch * outputs": batch * per_example}

    def context_of(name: str, part: str) -> Context:
        return Context(name.rpartition("/")[2], batch, sizes, penalty.get(name) if part == "total" else None)

    return context_of


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
