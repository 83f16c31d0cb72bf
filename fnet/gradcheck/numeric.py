"""Gradients by differences: the third opinion, with an estimate of its own error."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.gradcheck.branches import with_branches

STEP = 2.0**-7
"""The first step, in units of the size of the entry that is moved."""

OFFSETS = np.array([1.0, -1.0, 0.5, -0.5, 0.25, -0.25])
"""Where the function is evaluated for one step, in units of it."""

SHRINK, ATTEMPTS = 1 / 8, 6
"""Where a step crosses a kink or is too coarse, the next is this part of it; and how many are tried."""

EPSILON = float(np.finfo(np.float64).eps)

FINE = 1e-9
"""A relative error estimate that needs no further attempt."""

DISTANCES = 2.0 ** -np.arange(5, 10)
"""How far the Taylor remainder is followed along a direction, in units of the size of the point."""


class Differences(NamedTuple):
    """Derivatives by differences with respect to single entries.

    values: (n, k), for n entries and a function with k values.
    errors: (n, k), the estimated errors: what the last extrapolation changed, and rounding.
    kinks: (n,), whether every step that was tried crosses a kink, so that the values say nothing.
    """

    values: np.ndarray
    errors: np.ndarray
    kinks: np.ndarray


Function = Callable[[jax.Array], jax.Array]


def differences(f: Function, x: jax.Array, entries: jax.Array, sizes: jax.Array) -> Differences:
    """Central differences of f: (m,) -> (k,) at x with respect to some of its entries, traceable by JAX.

    D(h) = (f(x + h e) - f(x - h e)) / 2h is off by c_2 h^2 + c_4 h^4 + ..., of which two levels of Richardson
    extrapolation over h, h/2 and h/4 take away the first two terms:

        E(h) = (4 D(h/2) - D(h)) / 3,    R(h) = (16 E(h/2) - E(h)) / 15.

    |R(h) - E(h/2)| plus rounding, eps |f| / (h/4), estimates the error (Richardson 1911; Ridders 1982). A step
    crosses a kink when a comparison in f has another answer at one of the six points than at the first; it is then made
    smaller.

    Args:
        f: the function, in float64.
        x: the point.
        entries: (n,), which entries to move.
        sizes: (n,), the sizes that the steps are scaled to.
    """
    traced = with_branches(f)
    nothing, answers = jax.eval_shape(traced, x)

    def measure(entry: jax.Array, h: jax.Array):
        # One loop over the points, so that f is compiled once, and left where a point lies on another smooth piece.
        def unfinished(carry):
            number, _, _, _, crossed = carry
            return (number < len(OFFSETS)) & ~crossed

        def visit(carry):
            number, at, values, first, _ = carry
            point = x.at[entry].add(h * jnp.asarray(OFFSETS)[number])
            value, branches = traced(point)
            first = [jnp.where(number == 0, new, old) for new, old in zip(branches, first, strict=True)]
            return (
                number + 1,
                at.at[number].set(point[entry]),
                values.at[number].set(value),
                first,
                _differ(branches, first),
            )

        at, values = jnp.zeros(len(OFFSETS)), jnp.zeros((len(OFFSETS), *nothing.shape))
        first = [jnp.zeros(answer.shape, answer.dtype) for answer in answers]
        _, at, values, _, crossed = lax.while_loop(unfinished, visit, (0, at, values, first, jnp.array(False)))
        d = (values[0::2] - values[1::2]) / (at[0::2] - at[1::2])[:, None]
        e = (4 * d[1:] - d[:-1]) / 3
        r = (16 * e[1] - e[0]) / 15
        rounding = EPSILON * jnp.max(jnp.abs(values), axis=0) / (h / 4)
        return r, jnp.abs(r - e[1]) + rounding, crossed

    def of_entry(pair: tuple[jax.Array, jax.Array]):
        entry, size = pair

        def unfinished(carry):
            attempt, _, value, error, crossed = carry
            return (attempt < ATTEMPTS) & (crossed | jnp.any(error > FINE * jnp.abs(value)))

        def retry(carry):
            attempt, h, *best = carry
            value, error, crossed = measure(entry, h)
            better = ~crossed & (best[2] | (jnp.sum(error) < jnp.sum(best[1])))
            kept = [jnp.where(better, new, old) for new, old in zip((value, error, crossed), best, strict=True)]
            return attempt + 1, h * SHRINK, *kept

        start = 0, STEP * size, jnp.zeros(nothing.shape), jnp.full(nothing.shape, jnp.inf), jnp.array(True)
        _, _, value, error, kink = lax.while_loop(unfinished, retry, start)
        return value, error, kink

    return Differences(*lax.map(of_entry, (entries, sizes)))


def _differ(branches: list[jax.Array], first: list[jax.Array]) -> jax.Array:
    """Whether any comparison was answered at one point otherwise than at the first."""
    return jnp.array([jnp.any(a != b) for a, b in zip(branches, first, strict=True)] or [False]).any()


def taylor_remainders(
    f: Function, x: jax.Array, direction: jax.Array, slopes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """|f(x + h d) - f(x) - h s| for every h of `DISTANCES` and each of the k values, (len(DISTANCES), k), and f(x).

    Args:
        f: (m,) -> (k,).
        x: the point.
        direction: d, (m,).
        slopes: s = <g, d> for the gradient g on trial, (k,).
    """
    distances = jnp.array([0.0, *DISTANCES])
    start, *values = lax.map(lambda h: f(x + h * direction), distances)
    return jnp.abs(jnp.stack(values) - start - distances[1:, None] * slopes), start


def order_of(remainders: np.ndarray, value: float) -> float | None:
    """The exponent p in remainder ~ h^p, the slope of its logarithm: 2 for a right gradient, 1 for a wrong one.

    None when the remainder is rounding: f is linear along the direction.

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
