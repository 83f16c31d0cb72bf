"""What kind of mistake it is, in words: a wrong array against the right one.

Every remark states something that holds of the two arrays, and what is usually behind it. They are tried in order, from
the particular to the general, and the first that holds is given.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CLOSE = 1e-6
"""Relative difference up to which a remark is taken to hold."""

NOTABLE = 1e-9
"""Relative difference from which an entry counts as a wrong one."""


class Context(NamedTuple):
    """What is known of the place that a gradient comes from.

    leaf: the last part of its name: "w", "b", "input".
    batch: the number of examples, of which a mean is taken.
    sizes: other numbers of things that one may average over or forget to, by what they are: {"outputs": 10}.
    penalty: the gradient of the penalty at this leaf, if there is one.
    at_kinks: whether the derivatives by differences were left out at the wrong entries, since they lie on kinks.
    """

    leaf: str
    batch: int | None = None
    sizes: Mapping[str, int] = {}
    penalty: np.ndarray | None = None
    at_kinks: bool = False


def diagnosed(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """A remark on the wrong array, or "" when nothing is known to say.

    >>> right = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> diagnosed(right / 64, right, Context("w", batch=64))
    'norm ratio 1/64 = 1/batch: mean and sum mixed up'
    >>> diagnosed(-right, right, Context("w"))
    'sign: the negative of the right one'
    >>> diagnosed(right.T, right, Context("w"))
    'transposed'
    >>> diagnosed(np.zeros(2), np.array([1.0, 2.0]), Context("b"))
    'bias missing: the gradient is zero'
    """
    if wrong.shape != right.shape:
        return _of_shapes(wrong, right)
    if not np.isfinite(wrong).all():
        places = np.argwhere(~np.isfinite(wrong))
        return f"NaN or infinite in {_count(len(places), wrong.size)}, first at {_place(places[0])}"
    return (
        _zero(wrong, context)
        or _scaled(wrong, right, context)
        or _regularizer(wrong, right, context)
        or (context.at_kinks and "the derivative at the kink: the entries that differ lie on one")
        or _few(wrong, right)
        or _rearranged(wrong, right)
        or _per_axis(wrong, right)
        or _summed(wrong, right)
        or _constant(wrong, right)
        or _direction(wrong, right)
    )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    size = float(np.max(np.abs(b), initial=0.0))
    return bool(np.max(np.abs(a - b), initial=0.0) <= CLOSE * size)


def _place(index: Sequence[int]) -> str:
    return f"[{', '.join(str(int(n)) for n in index)}]"


def _count(wrong: int, of: int) -> str:
    return f"{wrong} of {of} entries"


def _of_shapes(wrong: np.ndarray, right: np.ndarray) -> str:
    if wrong.shape == right.shape[::-1] and _same(wrong, right.T):
        return f"transposed: of shape {wrong.shape} where {right.shape} is right"
    return f"of shape {wrong.shape} where {right.shape} is right"


def _zero(wrong: np.ndarray, context: Context) -> str:
    if wrong.any():
        return ""
    what = {"b": "bias", "input": "gradient of the input"}.get(context.leaf, "gradient")
    return f"{what} missing: the gradient is zero"


def _scaled(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """wrong = c right, for one number c."""
    norm = float(np.vdot(right, right))
    c = float(np.vdot(right, wrong)) / norm if norm else 0.0
    if not c or not _same(wrong, c * right):
        return ""
    if abs(c + 1) < CLOSE:
        return "sign: the negative of the right one"
    sign = "sign, and " if c < 0 else ""
    named = {"batch": context.batch, **context.sizes}
    for name, n in named.items():
        if n and n > 1:
            for value, words in ((1 / n, f"1/{n} = 1/{name}"), (n, f"{n} = {name}")):
                if abs(abs(c) / value - 1) < CLOSE:
                    return f"{sign}norm ratio {words}: mean and sum mixed up"
    for value, words in ((2.0, "2"), (0.5, "1/2")):
        if abs(abs(c) / value - 1) < CLOSE:
            return f"{sign}norm ratio {words}: a factor of 2, as the derivative of a square or a term counted twice has"
    return f"{sign}norm ratio {abs(c):.6g}: a constant factor throughout"


def _regularizer(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """wrong - right = c times the gradient of the penalty."""
    p = context.penalty
    if p is None or not p.any():
        return ""
    c = float(np.vdot(p, wrong - right)) / float(np.vdot(p, p))
    if abs(c) < CLOSE or not _same(wrong - right, c * p):
        return ""
    how = {-1.0: "left out", 1.0: "counted twice", -0.5: "half left out"}.get(round(c, 6), f"{1 + c:.6g} times itself")
    return f"off by the regularizer: the gradient of the penalty is {how}"


def _off(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.abs(wrong - right) > NOTABLE * np.max(np.abs(right), initial=0.0)


def _few(wrong: np.ndarray, right: np.ndarray) -> str:
    """Some entries are wrong and the others right: single ones, or those with one index."""
    off = _off(wrong, right)
    count = int(off.sum())
    if not 0 < count < off.size:
        return ""
    places = np.argwhere(off)
    for axis in range(off.ndim):
        wrong_indices = np.unique(places[:, axis])
        if off.ndim > 1 and len(wrong_indices) == 1 and off.shape[axis] > 2 and count > 1:
            return f"only entries with index {wrong_indices[0]} of axis {axis} are wrong"
    if count <= max(1, off.size // 10):
        more = "" if count == 1 else ", first"
        be = "is" if count == 1 else "are"
        return f"{_count(count, off.size)} {be} wrong{more} at {_place(places[0])}"
    if not wrong[off].any():
        return f"{_count(count, off.size)} are zero: a mask, a border or a term left out"
    return ""


def _rearranged(wrong: np.ndarray, right: np.ndarray) -> str:
    """The same numbers in another order."""
    for axes in itertools.permutations(range(right.ndim)):
        moved = right.transpose(axes)
        if axes != tuple(range(right.ndim)) and moved.shape == wrong.shape and _same(wrong, moved):
            return "transposed" if right.ndim == 2 else f"transposed: axes in the order {axes}"
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if _same(wrong, np.flip(right, axes)):
                return f"flipped along axis {' and '.join(map(str, axes))}"
    for axis in range(right.ndim):
        for shift in (1, -1):
            if _same(wrong, np.roll(right, shift, axis)):
                return f"shifted by one along axis {axis}"
    if _same(np.sort(wrong, axis=None), np.sort(right, axis=None)):
        return "the right numbers in another order: axes or indices mixed up"
    return ""


def _per_axis(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong = c right, with a factor c that depends on the index of one axis."""
    if right.ndim < 2:
        return ""
    for axis in range(right.ndim):
        others = tuple(n for n in range(right.ndim) if n != axis)
        squares = np.sum(right * right, others, keepdims=True)
        if 1 in (right.shape[axis], right.size // right.shape[axis]) or not squares.all():
            continue
        c = np.sum(wrong * right, others, keepdims=True) / squares
        if _same(wrong, c * right):
            return f"a factor for every index of axis {axis}: one left out or wrong, such as a scale or a derivative"
    return ""


def _summed(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong is constant along an axis along which the right one is not."""
    for axis in range(right.ndim):
        if right.shape[axis] > 1 and _same(wrong, np.broadcast_to(wrong.mean(axis, keepdims=True), wrong.shape)):
            for reduced, words in ((right.sum(axis, keepdims=True), "sum"), (right.mean(axis, keepdims=True), "mean")):
                if _same(wrong, np.broadcast_to(reduced, wrong.shape)):
                    return f"the wrong axis: the {words} of the right one along axis {axis}, everywhere"
            return f"the wrong axis: constant along axis {axis}, where the right one is not"
    return ""


def _constant(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong - right is constant, along all axes or all but one."""
    off = wrong - right
    if right.size > 1 and _same(off, np.full_like(off, off.mean())):
        return f"off by a constant, {off.mean():.3g}"
    for axis in range(right.ndim):
        constant = np.broadcast_to(off.mean(axis, keepdims=True), off.shape)
        if 1 < right.shape[axis] < right.size and _same(off, constant):
            return f"a term is missing that is constant along axis {axis}, such as that of a mean"
    return ""


def _direction(wrong: np.ndarray, right: np.ndarray) -> str:
    """What is left: how far the directions are from each other."""
    cosine = cosine_of(wrong, right)
    if cosine > 0.999:
        return f"nearly right (cosine {cosine:.6f}): a factor or term that is nearly 1 or 0 is left out"
    if cosine > 0.5:
        return f"a term is missing or too many (cosine {cosine:.3f}), such as one of several that should add up"
    if cosine < -0.5:
        return f"a wrong sign in one of several terms (cosine {cosine:.3f})"
    return f"another quantity (cosine {cosine:.3f}): a stale or wrong value in a product"


def cosine_of(a: np.ndarray, b: np.ndarray) -> float:
    """<a, b> / (|a| |b|); 1 when both are zero, 0 when one is."""
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms else float(not a.any() and not b.any())


def ratio_of(a: np.ndarray, b: np.ndarray) -> float:
    """|a| / |b|; 1 when both are zero, infinite when b is."""
    of_a, of_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return of_a / of_b if of_b else (1.0 if not of_a else float("inf"))
