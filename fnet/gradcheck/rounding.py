"""Measurement of the rounding errors of a gradient.

The terms of a gradient that is zero by symmetry cancel, and what remains is rounding: eps times the size of the terms,
which the gradient itself does not show. JAX's float32 and float64 gradients are the same computation, in which rounding
errors are proportional to eps. So the difference between the two is the rounding error of the float32 gradient, and
times eps_64 / eps_32 = 2^-29 that of the float64 gradient.

A gradient by hand is another computation, with rounding errors of its own, and NumPy may compute parts of it in float64
whatever the precision of its arguments. Between points that are only a few eps apart, the gradient itself hardly
changes, but its rounding errors do: they are the spread of the gradients by hand over such points.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

SAFETY = 64.0
"""The ratio of the limit to the largest error seen, because another order of the same sums has another error."""

POINTS, DISTANCE = 8, 0.01
"""The number of points of the measurement and their relative distance: at one point, an error may be small by luck."""

NEARBY = 16 * float(np.finfo(np.float64).eps)
"""The relative distance of points whose gradients differ only by rounding errors."""

RATIO = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)


def measure_rounding(
    f: Callable[[Sequence[jax.Array], Any], jax.Array],
    leaves: Mapping[str, np.ndarray],
    data: Any,
    parts: Sequence[str],
    precision: str = "float64",
) -> tuple[dict[tuple[str, str], float], np.ndarray]:
    """Return upper limits of the rounding errors of every leaf's gradient, by part and leaf, and of f's float64 values.

    Args:
        f: (leaves, data) -> (k,), one value per part.
        leaves: the point to differentiate at, in float64.
        data: the other inputs of f.
        parts: the names of the values.
        precision: the precision of the gradients whose errors are returned.
    """
    rng = np.random.default_rng(0)
    noise, errors = np.zeros(len(parts)), np.zeros((len(parts), len(leaves)))
    for number in range(POINTS):
        moved = [leaf * (1 + DISTANCE * rng.uniform(-1, 1, leaf.shape) * (number > 0)) for leaf in leaves.values()]
        # Both gradients are taken at the same point, which float32 can represent.
        moved = [leaf.astype(np.float32) for leaf in moved]
        (low_values, low), (values, high) = (gradients_of(f, moved, data, p) for p in ("float32", "float64"))
        noise = np.fmax(noise, _distances(low_values, values))
        for leaf, pair in enumerate(zip(low, high, strict=True)):
            errors[:, leaf] = np.fmax(errors[:, leaf], _distances(*pair))
    errors *= SAFETY * (RATIO if precision == "float64" else 1.0)
    limits = {(part, name): errors[k, leaf] for k, part in enumerate(parts) for leaf, name in enumerate(leaves)}
    return limits, SAFETY * RATIO * noise


def spread_by_hand(
    by_hand: Callable[[Mapping[str, np.ndarray]], Sequence[Mapping[str, Any]]],
    leaves: Mapping[str, np.ndarray],
    parts: Sequence[str],
) -> dict[tuple[str, str], float]:
    """Return upper limits of the rounding errors of every leaf's gradient by hand, by part and leaf.

    The spread is that over moved points alone, so that a gradient that is wrong only at a tie, which moving breaks,
    remains wrong. All entries of a leaf move by the same factor, so that equal values stay equal where they can.

    Args:
        by_hand: leaves -> the gradients of every part, which may lack leaves.
        leaves: the point to differentiate at, in float64.
        parts: the names of the parts.
    """
    rng = np.random.default_rng(0)
    low: dict[tuple[str, str], np.ndarray] = {}
    high: dict[tuple[str, str], np.ndarray] = {}
    for _ in range(POINTS):
        moved = {name: leaf * (1 + NEARBY * rng.uniform(-1, 1)) for name, leaf in leaves.items()}
        for part, gradients in zip(parts, by_hand(moved), strict=True):
            for name in gradients:
                place, gradient = (part, name), np.asarray(gradients[name])
                low[place] = np.fmin(low.get(place, gradient), gradient)
                high[place] = np.fmax(high.get(place, gradient), gradient)
    spreads = {place: float(np.max(high[place] - low[place], initial=0.0)) for place in low}
    return {place: SAFETY * spread for place, spread in spreads.items() if np.isfinite(spread)}


def value_limit(low: np.ndarray, high: np.ndarray, precision: str) -> float:
    """Return an upper limit of the rounding errors of values of this precision, from float32 and float64 values."""
    distance = np.max(np.abs(low.astype(np.float64) - high), initial=0.0)
    return float(distance) * SAFETY * (RATIO if precision == "float64" else 1.0) if np.isfinite(distance) else 0.0


def _distances(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the largest difference for every part, (k,); 0 where it is not finite, as after an overflow."""
    distances = np.abs(low.astype(np.float64) - high).reshape(len(high), -1).max(axis=1, initial=0.0)
    return np.where(np.isfinite(distances), distances, 0.0)


def gradients_of(
    f: Callable[[Sequence[jax.Array], Any], jax.Array], arrays: Sequence[Any], data: Any, precision: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the values of f, (k,), and their gradients with respect to every array, (k, ...), in this precision."""
    with jax.enable_x64(precision == "float64"):
        arrays, data = jax.tree.map(lambda a: as_precision(a, precision), (list(arrays), data))
        return jax.tree.map(np.asarray, _gradients(f, arrays, data, precision))


@functools.partial(jax.jit, static_argnames=("f", "precision"))
def _gradients(f, arrays, data, precision):
    def values_of(arrays):
        if precision == "float64":
            return f(arrays, data)
        # JAX keeps the float64 version of a NumPy array that f captures, if there is one: convert it explicitly.
        traced = jax.make_jaxpr(f)(arrays, data)
        constants = [as_precision(np.asarray(constant), precision) for constant in traced.consts]
        return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(*jax.tree.leaves((arrays, data)))[0]

    return values_and_gradients(values_of, arrays)


def values_and_gradients(f: Callable[[Any], jax.Array], arrays: Any) -> tuple[jax.Array, Any]:
    """Return the values of f, (k,), and their gradients with respect to every array, (k, ...)."""
    values, pull = jax.vjp(f, arrays)
    # In a loop over the values the backward pass is compiled only once.
    return values, lax.map(lambda unit: pull(unit)[0], jnp.eye(len(values), dtype=values.dtype))


def as_precision(array: Any, precision: str) -> Any:
    """Convert real numbers to the precision, and integers to 32 bits for float32; random keys stay as they are."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        return np.asarray(array).astype(precision)
    return np.asarray(array).astype(np.int32) if precision == "float32" and array.dtype == np.int64 else array
