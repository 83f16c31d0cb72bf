"""Gradients by finite differences, with an error estimate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.gradcheck.branches import with_branches

STEP = 2.0**-7
"""The initial step h, in units of the size of the entry."""

OFFSETS = np.array([1.0, -1.0, 0.5, -0.5, 0.25, -0.25])
"""The offsets from the entry at which the function is evaluated, in units of the step h."""

SHRINK, ATTEMPTS = 1 / 8, 6
"""A step that crosses a kink or is too coarse is multiplied by SHRINK; ATTEMPTS limits the number of steps."""

EPSILON = float(np.finfo(np.float64).eps)

FINE = 1e-9
"""Relative error estimate below which no further step is attempted."""

DISTANCES = 2.0 ** -np.arange(5, 10)
"""The distances at which the Taylor remainder is evaluated, in units of the size of the point."""


class Differences(NamedTuple):
    """Finite differences with respect to single entries.

    values: (n, k), for n entries and a function with k values.
    errors: (n, k), the estimated errors: the change due to the last extrapolation, plus rounding.
    kinks: (n,), whether every attempted step crosses a kink, so that the values are meaningless.
    """

    values: np.ndarray
    errors: np.ndarray
    kinks: np.ndarray


Function = Callable[[jax.Array], jax.Array]

Traced = Callable[[jax.Array], tuple[jax.Array, list[jax.Array]]]
"""A function that also returns the outcomes of its comparisons."""


def differences(
    f: Function, x: jax.Array, entries: jax.Array, sizes: jax.Array, noise: jax.Array | float = 0.0
) -> Differences:
    """Differentiate f: (m,) -> (k,) at x with respect to some entries by central differences; traceable by JAX.

    D(h) = (f(x + h e) - f(x - h e)) / 2h has the error c_2 h^2 + c_4 h^4 + ..., whose first two terms two levels of
    Richardson extrapolation over h, h/2 and h/4 remove:

        E(h) = (4 D(h/2) - D(h)) / 3,    R(h) = (16 E(h/2) - E(h)) / 15.

    |R(h) - E(h/2)| plus rounding, eps |f| / (h/4), estimates the error (Richardson 1911; Ridders 1982). A function that
    amplifies rounding errors of intermediate values has a larger error than eps |f|, its noise. A step crosses a kink
    if a comparison in f does not have the same outcome at all six points; the step is then reduced.

    Args:
        f: the function, in float64.
        x: the point.
        entries: (n,), indices of the entries to vary.
        sizes: (n,), the sizes that the steps are scaled by.
        noise: (k,), the rounding errors of the values of f, if larger.
    """
    traced = with_branches(f)
    shapes = jax.eval_shape(traced, x)

    def differentiate(pair: tuple[jax.Array, jax.Array]):
        entry, size = pair

        def is_unfinished(carry):
            attempt, _, value, error, crossed = carry
            return (attempt < ATTEMPTS) & (crossed | jnp.any(error > FINE * jnp.abs(value)))

        def retry(carry):
            attempt, h, *best = carry
            value, error, crossed = _extrapolate(traced, shapes, x, entry, h, noise)
            better = ~crossed & (best[2] | (jnp.sum(error) < jnp.sum(best[1])))
            best = [jnp.where(better, new, old) for new, old in zip((value, error, crossed), best, strict=True)]
            return attempt + 1, h * SHRINK, *best

        start = 0, STEP * size, jnp.zeros(shapes[0].shape), jnp.full(shapes[0].shape, jnp.inf), jnp.array(True)
        _, _, value, error, kink = lax.while_loop(is_unfinished, retry, start)
        return value, error, kink

    return Differences(*lax.map(differentiate, (entries, sizes)))


def _extrapolate(
    traced: Traced, shapes: Any, x: jax.Array, entry: jax.Array, h: jax.Array, noise: jax.Array | float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return R(h), its estimated error, and whether the step h crosses a kink."""
    at, values, crossed = _evaluate(traced, shapes, x, entry, h)
    d = (values[0::2] - values[1::2]) / (at[0::2] - at[1::2])[:, None]
    e = (4 * d[1:] - d[:-1]) / 3
    r = (16 * e[1] - e[0]) / 15
    rounding = jnp.maximum(EPSILON * jnp.max(jnp.abs(values), axis=0), noise) / (h / 4)
    return r, jnp.abs(r - e[1]) + rounding, crossed


def _evaluate(
    traced: Traced, shapes: Any, x: jax.Array, entry: jax.Array, h: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Evaluate f at the six points of a step; return the values of the entry and of f, and whether a kink is crossed.

    A loop over the points compiles f only once. It ends early at a point on a different smooth piece.
    """
    value_shape, branch_shapes = shapes

    def is_unfinished(carry):
        number, _, _, _, crossed = carry
        return (number < len(OFFSETS)) & ~crossed

    def visit(carry):
        number, at, values, first, _ = carry
        point = x.at[entry].add(h * jnp.asarray(OFFSETS)[number])
        value, branches = traced(point)
        first = [jnp.where(number == 0, new, old) for new, old in zip(branches, first, strict=True)]
        at, values = at.at[number].set(point[entry]), values.at[number].set(value)
        return number + 1, at, values, first, _differ(branches, first)

    at, values = jnp.zeros(len(OFFSETS)), jnp.zeros((len(OFFSETS), *value_shape.shape))
    first = [jnp.zeros(branch.shape, branch.dtype) for branch in branch_shapes]
    _, at, values, _, crossed = lax.while_loop(is_unfinished, visit, (0, at, values, first, jnp.array(False)))
    return at, values, crossed


def _differ(branches: list[jax.Array], first: list[jax.Array]) -> jax.Array:
    """Return whether any comparison has a different outcome than at the first point."""
    return jnp.array([jnp.any(a != b) for a, b in zip(branches, first, strict=True)] or [False]).any()


def taylor_remainders(
    f: Function, x: jax.Array, direction: jax.Array, slopes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return |f(x + h d) - f(x) - h s| for every h of `DISTANCES`, of shape (len(DISTANCES), k), and f(x).

    Args:
        f: (m,) -> (k,).
        x: the point.
        direction: d, (m,).
        slopes: s = <g, d> for the candidate gradient g, (k,).
    """
    distances = jnp.array([0.0, *DISTANCES])
    start, *values = lax.map(lambda h: f(x + h * direction), distances)
    return jnp.abs(jnp.stack(values) - start - distances[1:, None] * slopes), start


def order_of(remainders: np.ndarray, value: float) -> float | None:
    """Fit the exponent p in remainder ~ h^p: 2 for a correct gradient, 1 for a wrong one.

    p is the slope in log-log coordinates; None if the remainder is only rounding, because f is linear along the
    direction.

    >>> order_of(3.0 * DISTANCES**2, 1.0)
    2.0
    >>> order_of(0.1 * DISTANCES, 1.0)
    1.0
    >>> order_of(1e-16 * DISTANCES, 1.0) is None
    True
    """
    above = remainders > 100 * EPSILON * max(1.0, abs(value))
    if above.sum() < 2:
        return None
    slope, _ = np.polyfit(np.log2(DISTANCES[above]), np.log2(remainders[above]), 1)
    return round(float(slope), 2)
