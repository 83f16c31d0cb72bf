"""Comparison of three gradients of one function, leaf by leaf: by hand, by JAX, and by finite differences."""

import functools
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.core.wording import suggestion
from fnet.gradcheck import numeric
from fnet.gradcheck.diagnosis import Context, cosine_of, diagnose, ratio_of
from fnet.gradcheck.report import LeafReport, Verdict
from fnet.gradcheck.rounding import measure_rounding, spread_by_hand

SAMPLES = 20
"""The default number of entries of a leaf that are compared with finite differences."""

ROUNDING = 1e-13
"""Differences up to this fraction of the largest gradient of the network count as rounding: a gradient may be zero.

A gradient that is zero by symmetry, such as that of a bias before a normalization, is a sum of terms that cancel. Its
rounding error is relative to these terms, which are of the size of other gradients.
"""

ROUNDING_LIMITS = {"float64": ROUNDING, "float32": 1e-6}
"""The same limit by the precision of JAX's gradients."""

DIFFERENT = 1000
"""The maximum number of entries of a leaf that are searched for kinks because the two gradients differ there."""

AGREEMENT = 1e-6
"""Tolerance of a finite difference relative to the leaf's largest entry, on top of its estimated error."""

Leaves = Mapping[str, np.ndarray]

#: (leaves, data) -> (k,): the values whose gradients are compared. It is hashed by value, so that a function that is
#: compared twice is compiled once.
Function = Callable[[Sequence[jax.Array], Any], jax.Array]


class Part(NamedTuple):
    """One value of the function: its name, and its gradient by hand, which may lack leaves, and by JAX."""

    name: str
    by_hand: Leaves
    by_jax: Leaves


def compare_leaves(
    f: Function,
    leaves: Leaves,
    data: Any,
    parts: Sequence[Part],
    *,
    samples: int = SAMPLES,
    tolerance: float = 1e-10,
    rounding: float = ROUNDING,
    precision: str = "float64",
    exclude_kinks: bool = False,
    constants: Collection[str] = (),
    context: Callable[[str, str], Context] | None = None,
    by_hand: Callable[[Leaves], Sequence[Leaves]] | None = None,
) -> list[LeafReport]:
    """Compare the gradients of every part with respect to every leaf; the reports of the first part come first.

    If gradients differ, the rounding errors of both sides are measured, and differences below them pass.

    Args:
        f: (leaves, data) -> (k,), one value per part, computed by JAX.
        leaves: the point to differentiate at, in float64.
        data: the other inputs of f.
        parts: the gradients to compare.
        samples: the number of entries of each leaf to compare with finite differences. A leaf with more entries is
            sampled with a seed that depends only on its name, and the entry that differs most is added.
        tolerance: the maximum relative difference between the two sides.
        rounding: the difference that passes regardless of the size of a leaf's gradient, relative to the largest
            gradient of any leaf.
        precision: the precision of JAX's gradients, "float64" or "float32".
        constants: leaves whose gradient is 0 by definition although the value depends on them, such as those of
            `fnet.frozen`; finite differences do not apply to them.
        exclude_kinks: whether entries on a kink count as equal, whatever the gradients there are.
        context: (name of the leaf, name of the part) -> the context of the diagnosis.
        by_hand: leaves -> the gradients of every part by hand. Without it, their rounding errors are taken to be those
            of JAX's.
    """
    context = context or (lambda name, _: Context(name.rpartition("/")[2]))
    differing = tolerance if exclude_kinks else None
    entries = {name: _sampled_entries(name, leaf, parts, samples, differing) for name, leaf in leaves.items()}
    entries |= {name: np.zeros(0, int) for name in constants}
    numeric_gradients, values = _differentiate(f, leaves, data, parts, entries)
    if exclude_kinks:
        parts = [_without_kinks(part, numeric_gradients) for part in parts]
    limits = {
        (part.name, name): rounding * _gradient_scale(part, value)
        for part, value in zip(parts, values, strict=True)
        for name in leaves
    }

    def compare() -> list[LeafReport]:
        return [
            _compare_leaf(name, part, numeric_gradients[place], tolerance, limits[place], context(name, part.name))
            for part in parts
            for name in leaves
            for place in [(part.name, name)]
        ]

    reports = compare()
    if all(report.ok for report in reports):
        return reports
    measured, noise = measure_rounding(f, leaves, data, [part.name for part in parts], precision)
    spread = spread_by_hand(by_hand, leaves, [part.name for part in parts]) if by_hand else {}
    limits = {place: max(limit, measured[place], spread.get(place, 0.0)) for place, limit in limits.items()}
    numeric_gradients, _ = _differentiate(f, leaves, data, parts, entries, noise)
    return compare()


def _gradient_scale(part: Part, value: float) -> float:
    """Return the largest gradient of any leaf. If all are tiny, a value of the function below 1 is the scale."""
    sizes = [np.max(np.abs(gradient), initial=0.0, where=np.isfinite(gradient)) for gradient in part.by_jax.values()]
    return float(max([*sizes, min(1.0, abs(value))]))


def _without_kinks(part: Part, differences: Mapping[tuple[str, str], "_Numeric"]) -> Part:
    """Replace the gradient by hand with JAX's at all entries on a kink."""
    by_hand = dict(part.by_hand)
    for name, gradient in part.by_jax.items():
        candidate, numeric_gradient = by_hand.get(name), differences[part.name, name]
        if candidate is not None and candidate.shape == gradient.shape:
            on_kink = numeric_gradient.entries[numeric_gradient.kinks]
            by_hand[name] = candidate.astype(np.float64)
            by_hand[name].flat[on_kink] = gradient.flat[on_kink]
    return part._replace(by_hand=by_hand)


def _sampled_entries(
    name: str, leaf: np.ndarray, parts: Sequence[Part], samples: int, tolerance: float | None
) -> np.ndarray:
    """Choose the flat indices of a leaf's entries to compare with finite differences.

    With a tolerance, they include the entries that differ by more, up to `DIFFERENT`, since each may lie on a kink.
    """
    if leaf.size <= samples:
        return np.arange(leaf.size)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    distances = [np.abs(_candidate(part, name) - part.by_jax[name]).reshape(-1) for part in parts]
    chosen = [np.sort(rng.choice(leaf.size, samples, replace=False)), [int(np.argmax(d)) for d in distances]]
    if tolerance is not None:
        for part, distance in zip(parts, distances, strict=True):
            chosen.append(np.flatnonzero(distance > tolerance * np.max(np.abs(part.by_jax[name])))[:DIFFERENT])
        return np.unique(np.concatenate(chosen).astype(int))
    return np.concatenate(chosen).astype(int)


def _candidate(part: Part, name: str) -> np.ndarray:
    """Return the gradient by hand, or JAX's if it is missing, not finite or of a different shape."""
    by_hand, by_jax = part.by_hand.get(name), part.by_jax[name]
    usable = by_hand is not None and by_hand.shape == by_jax.shape and np.isfinite(by_hand).all()
    return np.asarray(by_hand if usable else by_jax, np.float64)


class _Numeric(NamedTuple):
    """Finite differences at some entries of one leaf.

    entries: flat indices of the entries.
    values, errors, kinks: as in `numeric.Differences`.
    order: the exponent of the Taylor remainder of the candidate gradient.
    """

    entries: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    kinks: np.ndarray
    order: float | None


def _differentiate(
    f: Function,
    leaves: Leaves,
    data: Any,
    parts: Sequence[Part],
    entries: Mapping[str, np.ndarray],
    noise: np.ndarray | None = None,
) -> tuple[dict[tuple[str, str], _Numeric], np.ndarray]:
    """Differentiate f numerically with respect to some entries of every leaf.

    noise, (k,), is the rounding error of f's values, if it is larger than usual.

    Returns:
        The finite differences by part and leaf, and the value of every part.
    """
    flat = np.concatenate([leaf.reshape(-1) for leaf in leaves.values()])
    ends = np.cumsum([leaf.size for leaf in leaves.values()])
    starts = ends - [leaf.size for leaf in leaves.values()]
    scales = np.array([_scale(leaf) for leaf in leaves.values()])
    indices = np.concatenate([start + entries[name] for name, start in zip(leaves, starts, strict=True)])
    sizes = np.concatenate(
        [np.maximum(np.abs(leaf.reshape(-1)[entries[name]]), _scale(leaf)) for name, leaf in leaves.items()]
    )
    candidates = np.stack([np.concatenate([_candidate(part, name).reshape(-1) for name in leaves]) for part in parts])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], flat.size)
    shapes = tuple(leaf.shape for leaf in leaves.values())
    noise = np.zeros(len(parts)) if noise is None else noise
    ranges = np.stack([starts, ends], axis=1)
    with jax.enable_x64(True):
        differences, remainders, values = jax.tree.map(
            np.asarray, _measure(f, shapes, flat, data, indices, sizes, ranges, scales, signs, candidates, noise)
        )
    offsets = np.cumsum([0, *map(len, entries.values())])
    # At the edge of its domain, such as sqrt at 0, a function has no two-sided derivative either.
    kinks = differences.kinks | ~np.isfinite(differences.values).all(axis=1)
    results = {
        (part.name, name): _Numeric(
            entries[name],
            differences.values[offsets[leaf] : offsets[leaf + 1], k],
            differences.errors[offsets[leaf] : offsets[leaf + 1], k],
            kinks[offsets[leaf] : offsets[leaf + 1]],
            numeric.order_of(remainders[leaf, :, k], float(values[k])),
        )
        for k, part in enumerate(parts)
        for leaf, name in enumerate(leaves)
    }
    return results, values


@functools.partial(jax.jit, static_argnames=("f", "shapes"))
def _measure(f, shapes, flat, data, indices, sizes, ranges, scales, signs, candidates, noise):
    """Return differences at the indices, Taylor remainders along the signs within each leaf, and the values of f."""
    splits = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def f_of_flat(flat):
        return f([part.reshape(shape) for part, shape in zip(jnp.split(flat, splits), shapes, strict=True)], data)

    def remainders_of_leaf(leaf):
        (start, stop), scale = leaf
        inside = (jnp.arange(flat.size) >= start) & (jnp.arange(flat.size) < stop)
        direction = jnp.where(inside, signs, 0.0) * scale / jnp.sqrt(stop - start)
        return numeric.taylor_remainders(f_of_flat, flat, direction, candidates @ direction)

    remainders, values = lax.map(remainders_of_leaf, (ranges, scales))
    return numeric.differences(f_of_flat, flat, indices, sizes, noise), remainders, values[0]


def _scale(leaf: np.ndarray) -> float:
    """Return the root mean square of the entries, or 1 if all are 0."""
    return float(np.sqrt(np.mean(np.square(leaf)))) or 1.0 if leaf.size else 1.0


def _compare_leaf(
    name: str, part: Part, differences: _Numeric, tolerance: float, rounding: float, context: Context
) -> LeafReport:
    by_hand, by_jax = part.by_hand.get(name), part.by_jax[name]
    usable = ~differences.kinks
    report = compare_arrays(name, by_hand, by_jax, tolerance, rounding, context)._replace(
        part=part.name, checked=int(usable.sum()), kinks=int(differences.kinks.sum()), order=differences.order
    )
    if by_hand is None or report.worst is None:
        return report
    worst = np.flatnonzero(differences.entries == np.ravel_multi_index(report.worst, by_jax.shape))
    if len(worst) and usable[worst[0]]:
        report = report._replace(values=(*report.values[:2], float(differences.values[worst[0]])))
    largest = max(np.max(np.abs(by_hand), initial=0.0), np.max(np.abs(by_jax), initial=0.0))
    allowed = max(AGREEMENT, tolerance) * largest + 4 * differences.errors + rounding
    if report.ok:
        return _check_both(report, part, differences, allowed, context)
    return _find_wrong_side(report, part, differences, allowed, max(tolerance * largest, rounding), context)


def _check_both(
    report: LeafReport, part: Part, differences: _Numeric, allowed: np.ndarray, context: Context
) -> LeafReport:
    """Check two gradients that agree against the finite differences."""
    h, j = (side[report.name].reshape(-1)[differences.entries] for side in (part.by_hand, part.by_jax))
    distances = np.abs(differences.values - j)
    wrong = ~differences.kinks & (distances > allowed)
    if not wrong.any():
        return report
    worst = int(np.argmax(np.where(wrong, distances, -1.0)))
    diagnosis = diagnose(j[wrong], differences.values[wrong], context)
    if context.has_rule:
        diagnosis = f"hand and JAX agree, but not with finite differences: {diagnosis}"
    return report._replace(
        verdict="both" if context.has_rule else "by JAX",
        worst=tuple(map(int, np.unravel_index(differences.entries[worst], report.shape))),
        values=(float(h[worst]), float(j[worst]), float(differences.values[worst])),
        diagnosis=diagnosis,
    )


def _find_wrong_side(
    report: LeafReport, part: Part, differences: _Numeric, allowed: np.ndarray, threshold: float, context: Context
) -> LeafReport:
    """Determine which of two different gradients is wrong, and diagnose it."""
    by_hand, by_jax = part.by_hand[report.name], part.by_jax[report.name]
    h, j = (array.reshape(-1)[differences.entries] for array in (by_hand, by_jax))
    differ = np.abs(h - j) > threshold
    verdict = _outvote(h, j, differences.values, allowed, differ & ~differences.kinks)
    right, wrong = (by_hand, by_jax) if verdict == "by JAX" else (by_jax, by_hand)
    at_kinks = bool(differ.any() and differences.kinks[differ].all())
    return report._replace(verdict=verdict, diagnosis=diagnose(wrong, right, context._replace(at_kinks=at_kinks)))


def _outvote(h: np.ndarray, j: np.ndarray, n: np.ndarray, allowed: np.ndarray, differ: np.ndarray) -> Verdict:
    """Determine which of h and j is wrong, from the entries that differ by more than the error of n.

    The gradients h by hand and j by JAX are compared with the finite differences n.
    """
    decisive = differ & (np.abs(h - j) > 2 * allowed)
    if not decisive.any():
        return "unclear"
    hand_agrees, jax_agrees = (bool(np.all(np.abs(n - side)[decisive] <= allowed[decisive])) for side in (h, j))
    return "by JAX" if hand_agrees else "by hand" if jax_agrees else "both"


def compare_arrays(
    name: str,
    by_hand: np.ndarray | None,
    by_jax: np.ndarray,
    tolerance: float,
    rounding: float = ROUNDING,
    context: Context | None = None,
) -> LeafReport:
    """Compare two arrays without finite differences; if they differ and both are finite, the one by hand is wrong.

    >>> report = compare_arrays("w", np.array([1.0, 2.0]), np.array([1.0, 4.0]), 1e-10)
    >>> report.relative, report.worst, report.values[:2], report.verdict
    (0.5, (1,), (2.0, 4.0), 'by hand')
    """
    by_jax = np.asarray(by_jax)
    context = context or Context(name)
    wrong = LeafReport(name, by_jax.shape, float("inf"), float("inf"), "by hand")
    if by_hand is None:
        return wrong._replace(diagnosis="no gradient by hand")
    by_hand = np.asarray(by_hand)
    if by_hand.shape != by_jax.shape or not np.isfinite(by_hand).all():
        return wrong._replace(diagnosis=diagnose(by_hand, by_jax, context))
    if not np.isfinite(by_jax).all():
        return wrong._replace(verdict="by JAX", diagnosis=diagnose(by_jax, by_hand, context))
    difference = np.abs(by_hand - by_jax)
    absolute = float(np.max(difference, initial=0))
    largest = float(max(np.max(np.abs(by_hand), initial=0), np.max(np.abs(by_jax), initial=0)))
    relative = absolute / largest if largest else 0.0
    worst = tuple(map(int, np.unravel_index(np.argmax(difference), by_jax.shape))) if by_jax.size else None
    ok = relative <= tolerance or absolute <= rounding
    return LeafReport(
        name,
        by_jax.shape,
        absolute,
        relative,
        "ok" if ok else "by hand",
        cosine=cosine_of(by_hand, by_jax),
        ratio=ratio_of(by_hand, by_jax),
        worst=worst,
        values=(float(by_hand[worst]), float(by_jax[worst]), None) if worst is not None else (None, None, None),
        diagnosis=_remark(largest, rounding) if ok and relative > tolerance else "",
    )


def _remark(largest: float, rounding: float) -> str:
    return "zero up to rounding" if largest <= rounding else "equal up to measured rounding"


def check_choice(function: str, name: str, value: str, choices: Collection[str]) -> None:
    """Check an argument that is one of a few words.

    Raises:
        ValueError: when it is not.
    """
    if value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ValueError(
            f"{function}: {name}: expected {expected}, got {value!r}{suggestion(value, choices, listing=False)}"
        )


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Convert leaves with names such as "dense_1/w" to nested dicts.

    >>> nested({"block/dense_1/w": 1, "block/dense_1/b": 2, "scale": 3})
    {'block': {'dense_1': {'w': 1, 'b': 2}}, 'scale': 3}
    """
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree
