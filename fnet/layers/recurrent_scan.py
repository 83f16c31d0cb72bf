"""Application of a recurrent cell step by step, with a derivative that computes the gradient of u in one product.

A cell maps the state before a step to the state after it. The recurrent weights u are the same at every step, and
JAX's derivative of the loop would accumulate their gradient with one small product per step. Here e_t, the tangent of
z_t, and the tangent of the states are computed as

    e_t = da_t + h_(t-1) du   and   dh_t = push(e_t, dh_(t-1))

where h_(t-1) du is one product for all t before the loop, and the loop is linear in e_t and dh_(t-1). Its transpose
collects the cotangents of e_t in a loop from the last step to the first, after which the gradient of u is one product
of them with all h_(t-1). This is a rule for forward mode, from which JAX derives reverse mode and higher orders;
`vmap` and other transformations work as for any composition of JAX operations.

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
    """One step of a recurrent layer. Its state is a tuple of arrays, the first of which is the output h.

    gates: number of blocks of a and of u, each with as many columns as units.
    parts: number of arrays in the state.
    step: (a, u, state) -> (the next state, the factors of u, the local derivatives for `push`).
    through_u: (the factors of u, du) -> the tangent of every z due to du, for all steps at once.
    push: (local derivatives, u^T, e, tangent of the state) -> the tangent of the next state; linear in e, the tangent
        of z, and in the tangent of the state. u^T and e are passed as one block per gate.
    """

    gates: int
    parts: int
    step: Callable[[jax.Array, jax.Array, State], tuple[State, State, State]]
    through_u: Callable[[State, jax.Array], jax.Array]
    push: Callable[[State, State, State, State], State]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Return the outputs h (time, batch, units) of all steps, from an initial state of zeros.

    Masked steps leave the state unchanged.
    """
    return _steps(cell, a, u, mask)[0]


def _recur_jvp(cell: Cell, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    a, u, mask = primals
    da, du, _ = tangents
    h, factors, derivatives = _steps(cell, a, u, mask)
    e = tuple(jnp.split(da + cell.through_u(factors, du), cell.gates, axis=-1))
    # The transpose of the loop multiplies by u^T. Transposing u here avoids transposing it again at every step.
    u_t = tuple(lax.optimization_barrier(block.T) for block in jnp.split(u, cell.gates, axis=-1))

    def body(tangent, step):
        e, derivatives, real = step
        tangent = _where_real(real, cell.push(derivatives, u_t, e, tangent), tangent)
        return tangent, tangent[0]

    _, dh = lax.scan(body, _zeros(cell, a, u), (e, derivatives, mask))
    return h, dh


recur.defjvp(_recur_jvp)


def _steps(cell: Cell, a: jax.Array, u: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, State, State]:
    """Return the outputs, the factors of u, and the local derivatives of all steps."""

    def body(state, step):
        a, real = step
        after, factors, derivatives = cell.step(a, u, state)
        after = _where_real(real, after, state)
        return after, (after[0], factors, derivatives)

    return lax.scan(body, _zeros(cell, a, u), (a, mask))[1]


def _zeros(cell: Cell, a: jax.Array, u: jax.Array) -> State:
    # Like a, so that on a mesh and inside `jax.shard_map` the state has the type that every step returns.
    return tuple(jnp.zeros_like(a.sum(axis=0)[:, : u.shape[0]]) for _ in range(cell.parts))


def _where_real(real: jax.Array | None, after: State, before: State) -> State:
    """Return the next state where the step is real, else the previous state."""
    if real is None:
        return after
    return tuple(jnp.where(real[:, None], new, old) for new, old in zip(after, before, strict=True))


def _times(x: jax.Array, u_t: jax.Array) -> jax.Array:
    """Return x u from the transpose of u, as one product whose transpose multiplies by u_t without transposing it."""
    return lax.dot_general(x, u_t, (((1,), (1,)), ((), ())))


def _through_h(factors, du):
    """Return the tangent of z = a + h_- u due to du, where h_- is the h of the previous step."""
    return product(factors[0], du)


def _plain(phi: Callable[[jax.Array], jax.Array], derivative: Callable[[jax.Array], jax.Array]) -> Cell:
    """Return the cell h = phi(z) with z = a + h_- u; the derivative phi' is a function of h."""

    def step(a, u, state):
        h = phi(a + state[0] @ u)
        return (h,), state, (derivative(h),)

    def push(derivatives, u_t, e, tangent):
        return (derivatives[0] * (e[0] + _times(tangent[0], u_t[0])),)

    return Cell(1, 1, step, _through_h, push)


PLAIN: Mapping[str, Cell] = MappingProxyType(
    {
        "tanh": _plain(jnp.tanh, lambda h: 1 - h**2),
        "sigmoid": _plain(jax.nn.sigmoid, lambda h: h * (1 - h)),
        "relu": _plain(jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
    }
)
"""The simple cell for each activation; relu'(0) = 0."""


def _gates(z: jax.Array, sigmoid: tuple[bool, ...]) -> tuple[jax.Array, ...]:
    """Return the blocks of z, each passed through a sigmoid where `sigmoid` is True, else through a tanh.

    Since sigmoid(z) = (1 + tanh(z / 2)) / 2, a single tanh over all of z is enough, which XLA compiles to fast code.
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


def _gated_through_u(factors, du):
    two = 2 * du.shape[0]
    return jnp.concatenate([product(factors[0], du[:, :two]), product(factors[1], du[:, two:])], axis=-1)


def _gated_push(derivatives, u_t, e, tangent):
    (r, s, local_r, local_s, local_n), (dh,) = derivatives, tangent
    dz_r, dz_s = (e_k + _times(dh, u_k) for e_k, u_k in zip(e[:2], u_t[:2], strict=True))
    dz_n = e[2] + _times(local_r * dz_r + r * dh, u_t[2])
    return (local_s * dz_s + s * dh + local_n * dz_n,)


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
    local_gates = g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), t * o * (1 - o)
    return (o * t, after), (h,), (*local_gates, f, o * (1 - t**2))


def _memory_push(derivatives, u_t, e, tangent):
    (*local_gates, f, local_c), (dh, dc) = derivatives, tangent
    through_i, through_f, through_g, through_o = (
        local * (e_k + _times(dh, u_k)) for local, e_k, u_k in zip(local_gates, e, u_t, strict=True)
    )
    dc = f * dc + through_i + through_f + through_g
    return local_c * dc + through_o, dc


MEMORY = Cell(4, 2, _memory_step, _through_h, _memory_push)
"""The cell of long short-term memory; its state is (h, c)."""
