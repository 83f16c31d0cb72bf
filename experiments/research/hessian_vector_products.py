"""Hessian-vector products by forward mode over reverse mode, and the sharpness of a loss by power iteration.

H v is the derivative of the gradient in the direction v: `jax.jvp` of `jax.grad`. It costs about two gradients and
never forms H, so that the largest eigenvalue of H can be found for a network of any size.

Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994).
"""

import jax
import jax.numpy as jnp
import numpy as np
from checking import check
from jax.flatten_util import ravel_pytree

import fnet

net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((20, 4)), rng.integers(2, size=20)


def loss(params):
    logits, _ = net.apply(params, {}, x, train=True)
    return fnet.losses.cross_entropy(logits, y).mean()


@jax.jit
def hessian_vector_product(params, direction):
    """Return H v for a direction v, a pytree like the parameters."""
    return jax.jvp(jax.grad(loss), (params,), (direction,))[1]


def sharpness(params, direction, iterations=300):
    """Return the eigenvalue of H of the largest absolute value."""

    def iterate(v, _):
        h_v, unravel = ravel_pytree(hessian_vector_product(params, v))
        return unravel(h_v / jnp.linalg.norm(h_v)), None

    v = jax.lax.scan(iterate, direction, length=iterations)[0]
    return ravel_pytree(v)[0] @ ravel_pytree(hessian_vector_product(params, v))[0]


def hessian_by_hand(params, step=1e-5):
    """Return the matrix H: central differences of the gradient that is written by hand in NumPy."""
    flat, unravel = ravel_pytree(params)

    def gradient(flat):
        by_hand = fnet.reference.loss_and_gradients(net, jax.tree.map(np.asarray, unravel(flat)), x, y, "cross_entropy")
        return np.asarray(ravel_pytree(by_hand.params)[0])

    basis = step * np.eye(len(flat))
    return np.stack([(gradient(flat + e) - gradient(flat - e)) / (2 * step) for e in basis], axis=1)


with jax.enable_x64(True):
    params, _ = net.init(jax.random.key(0), (4,))
    direction, _ = net.init(jax.random.key(1), (4,))  # any pytree like the parameters will do
    hessian = hessian_by_hand(params)
    h_v = ravel_pytree(hessian_vector_product(params, direction))[0]
    check("Hessian-vector product", h_v, hessian @ ravel_pytree(direction)[0], tolerance=1e-8)
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    print(f"eigenvalues of the {len(hessian)} x {len(hessian)} Hessian: {eigenvalues[0]:.3f} ... {eigenvalues[-1]:.3f}")
    check("sharpness", jax.jit(sharpness)(params, direction), eigenvalues[-1], tolerance=1e-6)
