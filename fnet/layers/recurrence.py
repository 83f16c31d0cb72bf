"""A cell applied step by step, with a derivative that forms the gradient of the recurrent weights in one product.

A cell takes the state before a step to the state after it. What the state is multiplied by, u, is the same at every
step, and JAX's own derivative of the loop would add up its gradient step by step, one small product each. Here a
change of the states is written as

    the change through z_t,  e_t = da_t + (h_(t-1) du),   and   dh_t = push(e_t, dh_(t-1))

in which all h_(t-1) du, for every t, are one product before the loop, and the loop is linear in e_t and dh_(t-1).
Its transpose collects the cotangents of e_t in a loop from the last step to the first, and the gradient of u is one
product of them with all h_(t-1) after it. It is a rule of forward mode, from which JAX derives reverse mode and every
order; `vmap` and all else work as they do for the operations it consists of.

Shapes: a (time, batch, gates * units), states (time, batch, units), u (units, gates * units), mask (time, batch).
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

State = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """What a kind of recurrent layer does in one step. Its state is a tuple, of which the first entry is its output h.

    gates: the number of blocks, each of as many columns as there are units, of a and of u.
    parts: the number of arrays in the state.
    step: (a, u, state) -> (the state after, what the derivative needs to know of the step).
    through_u: (kept, before, du) -> what a change of u adds to every z, for all steps at once.
    factors: (kept, before, after) -> the local derivatives that `push` multiplies by, for all steps at once.
    push: (factors, u, e, change) -> the change of the state after a step; linear in e, the change through z, and in the
        change of the state before.
    """

    gates: int
    parts: int
    step: Callable[[jax.Array, jax.Array, State], tuple[State, State]]
    through_u: Callable[[State, State, jax.Array], jax.Array]
    factors: Callable[[State, State, State], State]
    push: Callable[[State, jax.Array, jax.Array, State], State]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The outputs h (time, batch, units) after every step, from a first state of zeros.

    A step that the mask leaves out changes nothing: its state is that of the step before.
    """
    return _states(cell, a, u, mask)[0][0]


def _recur_jvp(cell: Cell, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    a, u, mask = primals
    da, du, _ = tangents
    after, kept = _states(cell, a, u, mask)
    before = tuple(jnp.concatenate([jnp.zeros_like(part[:1]), part[:-1]]) for part in after)
    e = da + cell.through_u(kept, before, du)
    factors = cell.factors(kept, before, after)

    def body(change, step):
        e, factors, real = step
        change = _held(real, cell.push(factors, u, e, change), change)
        return change, change[0]

    _, dh = lax.scan(body, tuple(jnp.zeros_like(part[0]) for part in after), (e, factors, mask))
    return after[0], dh


recur.defjvp(_recur_jvp)


def _states(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> tuple[State, State]:
    """The states after every step, and what the cell keeps of every step."""

    def body(state, step):
        a, real = step
        after, kept = cell.step(a, u, state)
        after = _held(real, after, state)
        return after, (after, kept)

    first = tuple(jnp.zeros((a.shape[1], u.shape[0]), a.dtype) for _ in range(cell.parts))
    return lax.scan(body, first, (a, mask))[1]


def _held(real: jax.Array | None, after: State, before: State) -> State:
    """The state after a step where the step is real, else that before it."""
    if real is None:
        return after
    return tuple(jnp.where(real[:, None], new, old) for new, old in zip(after, before, strict=True))


def _through_h(kept, before, du):
    """For z = a + h_- u, where h_- is the h of the step before."""
    return before[0] @ du


def _plain(phi: Callable[[jax.Array], jax.Array], derivative: Callable[[jax.Array], jax.Array]) -> Cell:
    """h = phi(z) with z = a + h_- u; the derivative phi' is given as a function of h."""

    def step(a, u, state):
        h = phi(a + state[0] @ u)
        return (h,), (h,)

    def factors(kept, before, after):
        return (derivative(kept[0]),)

    def push(factors, u, e, change):
        return (factors[0] * (e + change[0] @ u),)

    return Cell(1, 1, step, _through_h, factors, push)


PLAIN: Mapping[str, Cell] = MappingProxyType(
    {
        "tanh": _plain(jnp.tanh, lambda h: 1 - h**2),
        "sigmoid": _plain(jax.nn.sigmoid, lambda h: h * (1 - h)),
        "relu": _plain(jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
    }
)
"""The simple cell, by its activation; relu'(0) = 0."""


def _gated_step(a, u, state):
    """r, s = sigmoid(z_r, z_s), n = tanh(z_n) and h = s h_- + (1 - s) n.

    z_r and z_s are a + h_- u in their blocks, z_n is a + (r h_-) u in its own.
    """
    (h,) = state
    two = 2 * h.shape[-1]
    r, s = jnp.split(jax.nn.sigmoid(a[:, :two] + h @ u[:, :two]), 2, axis=-1)
    n = jnp.tanh(a[:, two:] + (r * h) @ u[:, two:])
    return (s * h + (1 - s) * n,), (r, s, n)


def _gated_through_u(kept, before, du):
    two = 2 * du.shape[0]
    return jnp.concatenate([before[0] @ du[:, :two], (kept[0] * before[0]) @ du[:, two:]], axis=-1)


def _gated_factors(kept, before, after):
    (r, s, n), (h,) = kept, before
    return r, s, r * (1 - r) * h, s * (1 - s) * (h - n), (1 - s) * (1 - n**2)


def _gated_push(factors, u, e, change):
    (r, s, of_r, of_s, of_n), (dh,) = factors, change
    two = 2 * dh.shape[-1]
    dr, ds = jnp.split(e[:, :two] + dh @ u[:, :two], 2, axis=-1)
    dn = e[:, two:] + (of_r * dr + r * dh) @ u[:, two:]
    return (of_s * ds + s * dh + of_n * dn,)


GATED = Cell(3, 1, _gated_step, _gated_through_u, _gated_factors, _gated_push)
"""The cell of the gated recurrent unit."""


def _memory_step(a, u, state):
    """i, f, o = sigmoid(z_i, z_f, z_o), g = tanh(z_g), c = f c_- + i g and h = o tanh(c).

    z = a + h_- u has the blocks i, f, g, o.
    """
    h, c = state
    i, f, g, o = jnp.split(a + h @ u, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o)


def _memory_factors(kept, before, after):
    i, f, g, o = kept
    t = jnp.tanh(after[1])
    gates = [g * i * (1 - i), before[1] * f * (1 - f), i * (1 - g**2), t * o * (1 - o)]
    return jnp.concatenate(gates, axis=-1), f, o * (1 - t**2)


def _memory_push(factors, u, e, change):
    (of_gates, f, of_c), (dh, dc) = factors, change
    di, df, dg, do = jnp.split(of_gates * (e + dh @ u), 4, axis=-1)
    dc = f * dc + di + df + dg
    return of_c * dc + do, dc


MEMORY = Cell(4, 2, _memory_step, _through_h, _memory_factors, _memory_push)
"""The cell of long short-term memory; its state is (h, c)."""
