"""Per-example gradients with clipping: one step of differentially private SGD.

g = (1/n) (sum_i g_i min(1, C / |g_i|) + sigma C xi), with g_i the gradient of the loss of example i, |g_i| its norm
over all parameters, and xi ~ N(0, I). `jax.vmap` of `jax.grad` computes all g_i in one program.

Source: Abadi et al., "Deep learning with differential privacy" (2016), algorithm 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checking import check
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

import fnet

CLIP, NOISE, EXAMPLES = 4.0, 0.5, 32

pixels, labels = load_digits(return_X_y=True)
x, y = jnp.asarray(pixels[:EXAMPLES] / 16, "float32"), jnp.asarray(labels[:EXAMPLES])
net = fnet.serial(fnet.dense(16), fnet.tanh(), fnet.dense(10))
params, state = net.init(jax.random.key(0), (64,))


def loss_of_one(params, x, y):
    """Return the loss of one example, which the network receives as a batch of one."""
    logits, _ = net.apply(params, state, x[None], train=True)
    return fnet.losses.cross_entropy(logits, y[None])[0]


def clipped(gradient, clip):
    """Return a gradient scaled down to the norm `clip` if it is longer."""
    scale = jnp.minimum(1.0, clip / optax.tree.norm(gradient))
    return jax.tree.map(lambda leaf: scale * leaf, gradient)


@jax.jit
def mean_clipped_gradient(params, x, y):
    """Return the mean of the clipped gradients of all examples."""
    gradients = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), jax.vmap(clipped, (0, None))(gradients, CLIP))


def private_gradient(params, x, y, key):
    """Return the mean of the clipped gradients with Gaussian noise."""
    gradient, unravel = ravel_pytree(mean_clipped_gradient(params, x, y))
    return unravel(gradient + NOISE * CLIP / len(x) * jax.random.normal(key, gradient.shape))


def by_hand(params, x, y):
    """The same mean by a loop in NumPy, with the backward pass written by hand."""
    total, longer = jax.tree.map(np.zeros_like, params), 0
    for i in range(len(x)):
        gradient = fnet.reference.loss_and_gradients(net, params, x[i : i + 1], y[i : i + 1], "cross_entropy").params
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        longer += norm > CLIP
        total = jax.tree.map(lambda t, g, norm=norm: t + g / max(1, norm / CLIP), total, gradient)
    return jax.tree.map(lambda t: t / len(x), total), longer


expected, longer = by_hand(jax.tree.map(np.asarray, params), np.asarray(x), np.asarray(y))
print(f"{longer} of {len(x)} gradients are longer than {CLIP:g}")
noise = jax.tree.map(jnp.subtract, private_gradient(params, x, y, jax.random.key(1)), expected)
print(f"norm of the noise {optax.tree.norm(noise):.2f}, of the mean gradient {optax.tree.norm(expected):.2f}")
check("mean of the clipped gradients", mean_clipped_gradient(params, x, y), expected, tolerance=1e-6)
