"""Three gradients of one function side by side, leaf by leaf: by hand, by JAX, and by differences."""

import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.gradcheck import numeric
from fnet.gradcheck.diagnosis import Context, cosine_of, diagnosed, ratio_of
from fnet.gradcheck.report import Row, Verdict

SAMPLES = 20
"""How many entries of a leaf are compared with differences, unless told otherwise."""

ROUNDING = 1e-13
"""Differences up to this are rounding, whatever the size of the gradient: it may itself be zero but for rounding."""

AGREEMENT = 1e-6
"""To how much of a leaf's largest entry a derivative by differences must agree, beside its own estimated error."""

Leaves = Mapping[str, np.ndarray]

#: (leaves, data) -> (k,): the values whose gradients are examined. Compared and hashed, so that a function that is
#: examined twice is compiled once.
Function = Callable[[Sequence[jax.Array], Any], jax.Array]


class Part(NamedTuple):
    """One value of the function: its name, and its gradient on the two sides; a leaf may be missing by hand."""

    name: str
    by_hand: Leaves
    by_jax: Leaves


def examine(
    f: Function,
    leaves: Leaves,
    data: Any,
    parts: Sequence[Part],
    *,
    samples: int = SAMPLES,
    tolerance: float = 1e-10,
    rounding: float = ROUNDING,
    context: Callable[[str, str], Context] | None = None,
) -> list[Row]:
    """A row for every leaf and part, the first part first.

    Args:
        f: (leaves, data) -> (k,), one value per part, computed by JAX.
        leaves: what it is differentiated with respect to, in float64.
        data: what else it needs.
        parts: the gradients.
        samples: how many entries of each leaf are compared with differences: all when there are no more; else a sample
            that depends on the leaf's name and size alone, and the entry where the two sides differ most.
        tolerance: the greatest relative difference between the two sides.
        rounding: absolute differences that pass whatever the size of the gradient.
        context: (name of the leaf, name of the part) -> what a diagnosis may use.
    """
    chosen = {name: _chosen(name, leaf, parts, samples) for name, leaf in leaves.items()}
    starts = dict(zip(leaves, np.cumsum([0, *(leaf.size for leaf in leaves.values())]), strict=False))
    flat = np.concatenate([leaf.reshape(-1) for leaf in leaves.values()])
    entries = np.concatenate([starts[name] + where for name, where in chosen.items()])
    typical = {name: _typical(leaf) for name, leaf in leaves.items()}
    sizes = np.concatenate([np.maximum(np.abs(leaves[n].reshape(-1)[i]), typical[n]) for n, i in chosen.items()])
    bounds = np.array([(starts[name], starts[name] + leaf.size) for name, leaf in leaves.items()])
    on_trial = np.stack([np.concatenate([_on_trial(part, name).reshape(-1) for name in leaves]) for part in parts])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], flat.size)
    shapes = tuple(leaf.shape for leaf in leaves.values())
    with jax.enable_x64(True):
        scales = np.array(list(typical.values()))
        found, remainders, values = jax.tree.map(
            np.asarray, _measure(f, shapes, flat, data, entries, sizes, bounds, scales, signs, on_trial)
        )
    rows, at = [], np.cumsum([0, *map(len, chosen.values())])
    for number, part in enumerate(parts):
        for leaf_number, name in enumerate(leaves):
            own = slice(at[leaf_number], at[leaf_number + 1])
            differences = _Sample(chosen[name], found.values[own, number], found.errors[own, number], found.kinks[own])
            order = numeric.order_of(remainders[leaf_number, :, number], float(values[number]))
            known = context(name, part.name) if context else Context(name.rpartition("/")[2])
            row = _row(name, part, differences, tolerance, rounding, known)
            rows.append(row._replace(order=order))
    return rows


@functools.partial(jax.jit, static_argnames=("f", "shapes"))
def _measure(f, shapes, flat, data, entries, sizes, bounds, typical, signs, on_trial):
    """Differences at the entries, Taylor remainders along the signs in every leaf, and the values of f."""
    splits = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def of_flat(flat):
        return f([part.reshape(shape) for part, shape in zip(jnp.split(flat, splits), shapes, strict=True)], data)

    def remainders(leaf):
        (start, stop), scale = leaf
        inside = (jnp.arange(flat.size) >= start) & (jnp.arange(flat.size) < stop)
        direction = jnp.where(inside, signs, 0.0)
        direction *= scale / jnp.sqrt(stop - start)
        return numeric.taylor_remainders(of_flat, flat, direction, on_trial @ direction)

    followed, values = lax.map(remainders, (bounds, typical))
    return numeric.differences(of_flat, flat, entries, sizes), followed, values[0]


class _Sample(NamedTuple):
    """The entries of one leaf that differences were formed at: flat indices, derivatives, errors, whether on a kink."""

    entries: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    kinks: np.ndarray


def _chosen(name: str, leaf: np.ndarray, parts: Sequence[Part], samples: int) -> np.ndarray:
    """Flat indices of a leaf."""
    if leaf.size <= samples:
        return np.arange(leaf.size)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    worst = [int(np.argmax(np.abs(_on_trial(part, name) - part.by_jax[name]))) for part in parts]
    return np.concatenate([np.sort(rng.choice(leaf.size, samples, replace=False)), worst])


def _on_trial(part: Part, name: str) -> np.ndarray:
    """The gradient by hand, or JAX's where it is missing or of another shape."""
    by_hand, by_jax = part.by_hand.get(name), part.by_jax[name]
    fits = by_hand is not None and by_hand.shape == by_jax.shape and np.isfinite(by_hand).all()
    return np.asarray(by_hand if fits else by_jax, np.float64)


def _typical(leaf: np.ndarray) -> float:
    """The root mean square of its entries, or 1 where all are 0."""
    return float(np.sqrt(np.mean(np.square(leaf)))) or 1.0 if leaf.size else 1.0


def _row(name: str, part: Part, sample: _Sample, tolerance: float, rounding: float, context: Context) -> Row:
    by_hand, by_jax = part.by_hand.get(name), part.by_jax[name]
    row = contrast(name, by_hand, by_jax, tolerance, rounding, context)._replace(part=part.name)
    usable = ~sample.kinks
    row = row._replace(checked=int(usable.sum()), kinks=int(sample.kinks.sum()))
    if by_hand is None or row.worst is None:
        return row
    h, j = (array.reshape(-1)[sample.entries] for array in (by_hand, by_jax))
    largest = max(np.max(np.abs(by_hand), initial=0.0), np.max(np.abs(by_jax), initial=0.0))
    allowed = AGREEMENT * largest + 4 * sample.errors + rounding
    differ = np.abs(h - j) > max(tolerance * largest, rounding)
    here = np.flatnonzero(sample.entries == np.ravel_multi_index(row.worst, by_jax.shape))
    if len(here) and usable[here[0]]:
        row = row._replace(values=(*row.values[:2], float(sample.values[here[0]])))
    if row.ok:
        off = usable & (np.abs(sample.values - j) > allowed)
        if off.any():
            worst = int(np.argmax(np.where(off, np.abs(sample.values - j), -1.0)))
            place = tuple(map(int, np.unravel_index(sample.entries[worst], by_jax.shape)))
            values = float(h[worst]), float(j[worst]), float(sample.values[worst])
            said = f"both sides agree, but not with differences: {diagnosed(j[off], sample.values[off], context)}"
            return row._replace(verdict="both", worst=place, values=values, diagnosis=said)
        return row
    verdict = _outvoted(h, j, sample.values, allowed, usable & differ)
    right, wrong = (by_hand, by_jax) if verdict == "by JAX" else (by_jax, by_hand)
    at_kinks = bool(differ.any() and sample.kinks[differ].all())
    said = diagnosed(wrong, right, context._replace(at_kinks=at_kinks))
    return row._replace(verdict=verdict, diagnosis=said)


def _outvoted(h: np.ndarray, j: np.ndarray, n: np.ndarray, allowed: np.ndarray, differ: np.ndarray) -> Verdict:
    """Who is wrong, by the entries where the two sides differ by more than the differences may be off."""
    telling = differ & (np.abs(h - j) > 2 * allowed)
    if not telling.any():
        return "unclear"
    hand_stands, jax_stands = (bool(np.all(np.abs(n - side)[telling] <= allowed[telling])) for side in (h, j))
    return "by JAX" if hand_stands else "by hand" if jax_stands else "both"


def contrast(
    name: str,
    by_hand: np.ndarray | None,
    by_jax: np.ndarray,
    tolerance: float,
    rounding: float = ROUNDING,
    context: Context | None = None,
) -> Row:
    """The row of two arrays, before differences are looked at: "by hand" stands for whichever of the two is wrong.

    >>> row = contrast("w", np.array([1.0, 2.0]), np.array([1.0, 4.0]), 1e-10)
    >>> row.relative, row.worst, row.values[:2], row.verdict
    (0.5, (1,), (2.0, 4.0), 'by hand')
    """
    by_jax = np.asarray(by_jax)
    infinite = float("inf")
    wrong = Row(name, by_jax.shape, infinite, infinite, "by hand")
    if by_hand is None:
        return wrong._replace(diagnosis="no gradient by hand")
    by_hand = np.asarray(by_hand)
    if by_hand.shape != by_jax.shape or not np.isfinite(by_hand).all():
        return wrong._replace(diagnosis=diagnosed(by_hand, by_jax, context or Context(name)))
    if not np.isfinite(by_jax).all():
        return wrong._replace(verdict="by JAX", diagnosis=diagnosed(by_jax, by_hand, context or Context(name)))
    difference = np.abs(by_hand - by_jax)
    absolute = float(np.max(difference, initial=0))
    largest = float(max(np.max(np.abs(by_hand), initial=0), np.max(np.abs(by_jax), initial=0)))
    relative = absolute / largest if largest else 0.0
    worst = tuple(map(int, np.unravel_index(np.argmax(difference), by_jax.shape))) if by_jax.size else None
    ok = relative <= tolerance or absolute <= rounding
    return Row(
        name,
        by_jax.shape,
        absolute,
        relative,
        "ok" if ok else "by hand",
        cosine=cosine_of(by_hand, by_jax),
        ratio=ratio_of(by_hand, by_jax),
        worst=worst,
        values=(float(by_hand[worst]), float(by_jax[worst]), None) if worst is not None else (None, None, None),
        diagnosis="0 but for rounding" if ok and relative > tolerance else "",
    )


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves under names such as "dense_1/w" as nested dicts.

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
