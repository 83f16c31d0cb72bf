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
import numpy as np
from jax import lax

from fnet.layers.dense import product

State = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """What a kind of recurrent layer does in one step. Its state is a tuple, of which the first entry is its output h.

    gates: the number of blocks, each of as many columns as there are units, of a and of u.
    parts: the number of arrays in the state.
    step: (a, u, state) -> (the state after, what u is multiplied by, the local derivatives that `push` multiplies by).
    through_u: (what u is multiplied by, du) -> what a change of u adds to every z, for all steps at once.
    push: (local derivatives, u^T, e, change) -> the change of the state after a step; linear in e, the change through
        z, and in the change of the state before. u^T and e are given block by block.
    """

    gates: int
    parts: int
    step: Callable[[jax.Array, jax.Array, State], tuple[State, State, State]]
    through_u: Callable[[State, jax.Array], jax.Array]
    push: Callable[[State, State, State, State], State]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The outputs h (time, batch, units) after every step, from a first state of zeros.

    A step that the mask leaves out changes nothing: its state is that of the step before.
    """
    return _steps(cell, a, u, mask)[0]


def _recur_jvp(cell: Cell, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    a, u, mask = primals
    da, du, _ = tangents
    h, multiplied, derivatives = _steps(cell, a, u, mask)
    e = tuple(jnp.split(da + cell.through_u(multiplied, du), cell.gates, axis=-1))
    # The transpose of the loop multiplies by u^T: laid out before it, that is not done again at every step.
    u_t = tuple(lax.optimization_barrier(block.T) for block in jnp.split(u, cell.gates, axis=-1))

    def body(change, step):
        e, derivatives, real = step
        change = _held(real, cell.push(derivatives, u_t, e, change), change)
        return change, change[0]

    _, dh = lax.scan(body, _zeros(cell, a, u), (e, derivatives, mask))
    return h, dh


recur.defjvp(_recur_jvp)


def _steps(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, State, State]:
    """Of all steps the outputs, what u is multiplied by, and the local derivatives."""

    def body(state, step):
        a, real = step
        after, multiplied, derivatives = cell.step(a, u, state)
        after = _held(real, after, state)
        return after, (after[0], multiplied, derivatives)

    return lax.scan(body, _zeros(cell, a, u), (a, mask))[1]


def _zeros(cell: Cell, a: jax.Array, u: jax.Array) -> State:
    return tuple(jnp.zeros((a.shape[1], u.shape[0]), a.dtype) for _ in range(cell.parts))


def _held(real: jax.Array | None, after: State, before: State) -> State:
    """The state after a step where the step is real, else that before it."""
    if real is None:
        return after
    return tuple(jnp.where(real[:, None], new, old) for new, old in zip(after, before, strict=True))


def _times(x: jax.Array, u_t: jax.Array) -> jax.Array:
    """x u for the transpose of u, as one product whose own transpose multiplies by u_t as it lies."""
    return lax.dot_general(x, u_t, (((1,), (1,)), ((), ())))


def _through_h(multiplied, du):
    """For z = a + h_- u, where h_- is the h of the step before."""
    return product(multiplied[0], du)


def _plain(phi: Callable[[jax.Array], jax.Array], derivative: Callable[[jax.Array], jax.Array]) -> Cell:
    """h = phi(z) with z = a + h_- u; the derivative phi' is given as a function of h."""

    def step(a, u, state):
        h = phi(a + state[0] @ u)
        return (h,), state, (derivative(h),)

    def push(derivatives, u_t, e, change):
        return (derivatives[0] * (e[0] + _times(change[0], u_t[0])),)

    return Cell(1, 1, step, _through_h, push)


PLAIN: Mapping[str, Cell] = MappingProxyType(
    {
        "tanh": _plain(jnp.tanh, lambda h: 1 - h**2),
        "sigmoid": _plain(jax.nn.sigmoid, lambda h: h * (1 - h)),
        "relu": _plain(jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
    }
)
"""The simple cell, by its activation; relu'(0) = 0."""


def _gates(z: jax.Array, sigmoid: tuple[bool, ...]) -> tuple[jax.Array, ...]:
    """The blocks of z, each through a sigmoid, where it says so, or else a tanh.

    One tanh over all of z is what XLA compiles to fast code, and sigmoid(z) = (1 + tanh(z / 2)) / 2.
    """
    inner = np.repeat(np.where(sigmoid, 0.5, 1.0), z.shape[-1] // len(sigmoid)).astype(z.dtype)
    blocks = jnp.split(jnp.tanh(z * inner), len(sigmoid), axis=-1)
    return tuple(0.5 + 0.5 * block if half else block for block, half in zip(blocks, sigmoid, strict=True))


def _gated_step(a, u, state):
    """r, s = sigmoid(z_r, z_s), n = tanh(z_n) and h = s h_- + (1 - s) n.

    z_r and z_s are a + h_- u in their blocks, z_n is a + (r h_-) u in its own.
    """
    (h,) = state
    two = 2 * h.shape[-1]
    r, s = _gates(a[:, :two] + h @ u[:, :two], (True, True))
    n = jnp.tanh(a[:, two:] + (r * h) @ u[:, two:])
    derivatives = r, s, r * (1 - r) * h, s * (1 - s) * (h - n), (1 - s) * (1 - n**2)
    return (s * h + (1 - s) * n,), (h, r * h), derivatives


def _gated_through_u(multiplied, du):
    two = 2 * du.shape[0]
    return jnp.concatenate([product(multiplied[0], du[:, :two]), product(multiplied[1], du[:, two:])], axis=-1)


def _gated_push(derivatives, u_t, e, change):
    (r, s, of_r, of_s, of_n), (dh,) = derivatives, change
    dr, ds = (e_k + _times(dh, u_k) for e_k, u_k in zip(e[:2], u_t[:2], strict=True))
    dn = e[2] + _times(of_r * dr + r * dh, u_t[2])
    return (of_s * ds + s * dh + of_n * dn,)


GATED = Cell(3, 1, _gated_step, _gated_through_u, _gated_push)
"""The cell of the gated recurrent unit."""


def _memory_step(a, u, state):
    """i, f, o = sigmoid(z_i, z_f, z_o), g = tanh(z_g), c = f c_- + i g and h = o tanh(c).

    z = a + h_- u has the blocks i, f, g, o.
    """
    h, c = state
    i, f, g, o = _gates(a + h @ u, (True, True, False, True))
    after = f * c + i * g
    t = jnp.tanh(after)
    of_gates = g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), t * o * (1 - o)
    return (o * t, after), (h,), (*of_gates, f, o * (1 - t**2))


def _memory_push(derivatives, u_t, e, change):
    (*of_gates, f, of_c), (dh, dc) = derivatives, change
    di, df, dg, do = (of * (e_k + _times(dh, u_k)) for of, e_k, u_k in zip(of_gates, e, u_t, strict=True))
    dc = f * dc + di + df + dg
    return of_c * dc + do, dc


MEMORY = Cell(4, 2, _memory_step, _through_h, _memory_push)
"""The cell of long short-term memory; its state is (h, c)."""
