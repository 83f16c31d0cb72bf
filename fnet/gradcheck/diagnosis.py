"""Diagnosis of a mistake from a wrong array and the correct one.

Every diagnosis states a fact about the two arrays and its usual cause. The diagnoses are tried in order, from specific
to general, and the first one that applies is returned.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CLOSE = 1e-6
"""Relative difference up to which two arrays count as equal."""

NOTABLE = 1e-9
"""Relative difference above which an entry counts as wrong."""


class Context(NamedTuple):
    """Where a gradient comes from.

    leaf: the last part of its name, such as "w", "b" or "input".
    batch: the number of examples, over which the loss is averaged.
    sizes: other numbers that a mean or a sum may be taken over, by name, such as {"outputs": 10}.
    penalty: the gradient of the penalty with respect to this leaf, if any.
    at_kinks: whether all wrong entries lie on kinks, where there are no finite differences.
    has_rule: whether there is a hand-written rule; else the gradient by hand is JAX's.
    """

    leaf: str
    batch: int | None = None
    sizes: Mapping[str, int] = {}
    penalty: np.ndarray | None = None
    at_kinks: bool = False
    has_rule: bool = True


def diagnose(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """Describe how an array differs from the correct one.

    >>> right = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> diagnose(right / 64, right, Context("w", batch=64))
    'norm ratio 1/64 = 1/batch: mean in place of sum'
    >>> diagnose(-right, right, Context("w"))
    'sign flipped: every entry is negated'
    >>> diagnose(right.T, right, Context("w"))
    'transposed'
    >>> diagnose(np.zeros(2), np.array([1.0, 2.0]), Context("b"))
    'bias gradient missing: it is zero everywhere'
    """
    if wrong.shape != right.shape:
        return _wrong_shape(wrong, right)
    if not np.isfinite(wrong).all():
        indices = np.argwhere(~np.isfinite(wrong))
        return f"NaN or infinite in {_count(len(indices), wrong.size)}, first at {_format(indices[0])}"
    return (
        _zero(wrong, context)
        or _scaled(wrong, right, context)
        or _penalty(wrong, right, context)
        or (context.at_kinks and "derivative at a kink: every entry that differs lies on one")
        or _few_entries(wrong, right)
        or _rearranged(wrong, right)
        or _scaled_per_index(wrong, right)
        or _wrong_axis(wrong, right)
        or _constant_offset(wrong, right)
        or _direction(wrong, right)
    )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    size = float(np.max(np.abs(b), initial=0.0))
    return bool(np.max(np.abs(a - b), initial=0.0) <= CLOSE * size)


def _format(index: Sequence[int]) -> str:
    return f"[{', '.join(str(int(n)) for n in index)}]"


def _count(wrong: int, size: int) -> str:
    return f"{wrong} of {size} entries"


def _wrong_shape(wrong: np.ndarray, right: np.ndarray) -> str:
    transposed = wrong.shape == right.shape[::-1] and _same(wrong, right.T)
    return f"{'transposed' if transposed else 'wrong shape'}: {wrong.shape} instead of {right.shape}"


def _zero(wrong: np.ndarray, context: Context) -> str:
    if wrong.any():
        return ""
    what = {"b": "bias gradient", "input": "gradient of the input"}.get(context.leaf, "gradient")
    return f"{what} missing: it is zero everywhere"


def _scaled(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """wrong = c right, for one number c."""
    squared_norm = float(np.vdot(right, right))
    c = float(np.vdot(right, wrong)) / squared_norm if squared_norm else 0.0
    if not c or not _same(wrong, c * right):
        return ""
    if abs(c + 1) < CLOSE:
        return "sign flipped: every entry is negated"
    return f"{'sign flipped, and ' if c < 0 else ''}{_ratio(abs(c), context)}"


def _ratio(c: float, context: Context) -> str:
    """Explain the ratio c of two norms by the number of examples or outputs, or by a factor of 2."""
    for name, n in {"batch": context.batch, **context.sizes}.items():
        if n and n > 1 and abs(c * n - 1) < CLOSE:
            return f"norm ratio 1/{n} = 1/{name}: mean in place of sum"
        if n and n > 1 and abs(c / n - 1) < CLOSE:
            return f"norm ratio {n} = {name}: sum in place of mean"
    for factor, text in ((2.0, "2"), (0.5, "1/2")):
        if abs(c / factor - 1) < CLOSE:
            return f"norm ratio {text}: a factor of 2, such as from the derivative of a square or a term counted twice"
    return f"norm ratio {c:.6g}: the same factor in every entry"


def _penalty(wrong: np.ndarray, right: np.ndarray, context: Context) -> str:
    """wrong - right = c times the gradient of the penalty."""
    p = context.penalty
    if p is None or not p.any():
        return ""
    c = float(np.vdot(p, wrong - right)) / float(np.vdot(p, p))
    if abs(c) < CLOSE or not _same(wrong - right, c * p):
        return ""
    mistake = {-1.0: "missing", 1.0: "counted twice", -0.5: "halved"}.get(round(c, 6), f"multiplied by {1 + c:.6g}")
    return f"regularization: the gradient of the penalty is {mistake}"


def _is_wrong(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.abs(wrong - right) > NOTABLE * np.max(np.abs(right), initial=0.0)


def _few_entries(wrong: np.ndarray, right: np.ndarray) -> str:
    """Some entries are wrong: a few, those with one index along an axis, or those that are zero."""
    mask = _is_wrong(wrong, right)
    count = int(mask.sum())
    if not 0 < count < mask.size:
        return ""
    indices = np.argwhere(mask)
    for axis in range(mask.ndim):
        along_axis = np.unique(indices[:, axis])
        if mask.ndim > 1 and len(along_axis) == 1 and mask.shape[axis] > 2 and count > 1:
            return f"only entries with index {along_axis[0]} of axis {axis} are wrong"
    if count == 1:
        return f"1 of {mask.size} entries is wrong, at {_format(indices[0])}"
    if count <= mask.size // 10:
        return f"{_count(count, mask.size)} are wrong, first at {_format(indices[0])}"
    if not wrong[mask].any():
        return f"{_count(count, mask.size)} are zero but should not be: a mask, a border or a missing term"
    return ""


def _rearranged(wrong: np.ndarray, right: np.ndarray) -> str:
    """The entries are correct, but in a different order."""
    for axes in itertools.permutations(range(right.ndim)):
        moved = right.transpose(axes)
        if axes != tuple(range(right.ndim)) and moved.shape == wrong.shape and _same(wrong, moved):
            return "transposed" if right.ndim == 2 else f"transposed: the axes are in the order {axes}"
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if _same(wrong, np.flip(right, axes)):
                return f"flipped along {'axis' if count == 1 else 'axes'} {' and '.join(map(str, axes))}"
    for axis in range(right.ndim):
        for shift in (1, -1):
            if _same(wrong, np.roll(right, shift, axis)):
                return f"shifted by one along axis {axis}"
    if _same(np.sort(wrong, axis=None), np.sort(right, axis=None)):
        return "correct entries in the wrong order: axes or indices mixed up"
    return ""


def _scaled_per_index(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong = c right, with a factor c that depends on the index along one axis."""
    if right.ndim < 2:
        return ""
    for axis in range(right.ndim):
        others = tuple(n for n in range(right.ndim) if n != axis)
        squares = np.sum(right * right, others, keepdims=True)
        if 1 in (right.shape[axis], right.size // right.shape[axis]) or not squares.all():
            continue
        c = np.sum(wrong * right, others, keepdims=True) / squares
        if _same(wrong, c * right):
            return f"a different factor for each index of axis {axis}: a missing or wrong scale or derivative"
    return ""


def _wrong_axis(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong is constant along an axis along which right varies."""
    for axis in range(right.ndim):
        if right.shape[axis] > 1 and _same(wrong, np.broadcast_to(wrong.mean(axis, keepdims=True), wrong.shape)):
            for reduced, name in ((right.sum(axis, keepdims=True), "sum"), (right.mean(axis, keepdims=True), "mean")):
                if _same(wrong, np.broadcast_to(reduced, wrong.shape)):
                    return f"wrong axis: every entry is the {name} of the correct ones along axis {axis}"
            return f"wrong axis: constant along axis {axis}, where the correct entries vary"
    return ""


def _constant_offset(wrong: np.ndarray, right: np.ndarray) -> str:
    """wrong - right is constant, along all axes or one."""
    offset = wrong - right
    if right.size > 1 and _same(offset, np.full_like(offset, offset.mean())):
        return f"off by the constant {offset.mean():.3g}"
    for axis in range(right.ndim):
        constant = np.broadcast_to(offset.mean(axis, keepdims=True), offset.shape)
        if 1 < right.shape[axis] < right.size and _same(offset, constant):
            return f"a term that is constant along axis {axis} is missing or extra, such as the term from a mean"
    return ""


def _direction(wrong: np.ndarray, right: np.ndarray) -> str:
    """The general case: the angle between the two arrays."""
    cosine = cosine_of(wrong, right)
    if cosine > 0.999:
        return f"nearly correct (cosine {cosine:.6f}): a factor close to 1 or a term close to 0 is missing"
    if cosine > 0.5:
        return f"a term is missing or extra (cosine {cosine:.3f}), such as one of several that should be summed"
    if cosine < -0.5:
        return f"one of several terms has the wrong sign (cosine {cosine:.3f})"
    return f"unrelated to the correct values (cosine {cosine:.3f}): a stale or wrong factor in a product"


def cosine_of(a: np.ndarray, b: np.ndarray) -> float:
    """Return <a, b> / (|a| |b|); 1 if both are zero, 0 if one is."""
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms else float(not a.any() and not b.any())


def ratio_of(a: np.ndarray, b: np.ndarray) -> float:
    """Return |a| / |b|; 1 if both are zero, infinite if only b is."""
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return norm_a / norm_b if norm_b else (1.0 if not norm_a else float("inf"))
