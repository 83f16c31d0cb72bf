"""A generative adversarial network: two networks, two objectives, one compiled step that updates them in turn.

The discriminator minimizes -log D(x) - log(1 - D(G(z))), then the generator -log D(G(z)). An objective takes the
parameters of its own network; it refers to the other network's as constants.

Source: Goodfellow et al., "Generative adversarial nets" (2014).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checking import check

import fnet
from fnet.train import Batch, init_state, make_step, weighted_mean

NOISE = 2
generator = fnet.serial(fnet.dense(16), fnet.tanh(), fnet.dense(1))
discriminator = fnet.serial(fnet.dense(16), fnet.tanh(), fnet.dense(1))
optimizer = optax.adam(3e-3, b1=0.5)


def generated(params, key, examples):
    return generator.apply(params, {}, jax.random.normal(key, (examples, NOISE)), train=True)[0]


def loss_of(params, x, label, batch):
    """Return the loss of a discriminator that should take x, as many as in the batch, for real (1) or generated (0)."""
    logits, _ = discriminator.apply(params, {}, x, train=True)
    return weighted_mean(fnet.losses.binary_cross_entropy(logits, jnp.full_like(logits, label)), batch)


def gan_step(g, d, batch):
    """Return the training states of generator and discriminator after one step each."""

    def discriminator_objective(params, state, batch, key):
        fake = generated(g.params, key, len(batch.x))
        return loss_of(params, batch.x, 1, batch) + loss_of(params, fake, 0, batch), (state, {})

    d, _ = make_step(discriminator, None, optimizer, objective=discriminator_objective)(d, batch)

    def generator_objective(params, state, batch, key):
        return loss_of(d.params, generated(params, key, len(batch.x)), 1, batch), (state, {})

    g, _ = make_step(generator, None, optimizer, objective=generator_objective)(g, batch)
    return g, d


def step_by_hand(g, d, x):
    """The parameters after the same step from bare JAX and Optax, with the networks as matrix products."""

    def mlp(p, x):
        return jnp.tanh(x @ p["dense_1"]["w"] + p["dense_1"]["b"]) @ p["dense_2"]["w"] + p["dense_2"]["b"]

    def noise(run):  # every step folds its number into the key of the run
        return jax.random.normal(jax.random.fold_in(run.key, run.step), (len(x), NOISE))

    def d_loss(p):  # -log sigmoid(z) = log(1 + e^-z), and -log(1 - sigmoid(z)) = log(1 + e^z)
        real, fake = mlp(p, x), mlp(p, mlp(g.params, noise(d)))
        return jnp.mean(jnp.log(1 + jnp.exp(-real))) + jnp.mean(jnp.log(1 + jnp.exp(fake)))

    def updated(run, loss):
        updates, _ = optimizer.update(jax.grad(loss)(run.params), run.opt_state)
        return optax.apply_updates(run.params, updates)

    d_params = updated(d, d_loss)
    return updated(g, lambda p: jnp.mean(jnp.log(1 + jnp.exp(-mlp(d_params, mlp(p, noise(g))))))), d_params


g = init_state(generator, optimizer, jax.random.key(0), (NOISE,))
d = init_state(discriminator, optimizer, jax.random.key(1), (1,))
data = (3 + 0.5 * np.random.default_rng(0).standard_normal((400, 64, 1))).astype("float32")

step = jax.jit(gan_step)
by_hand = step_by_hand(g, d, data[0])
for number, x in enumerate(data):
    g, d = step(g, d, Batch(x, None, jnp.ones(64, bool)))
    if number == 0:
        check("parameters after the first step", (g.params, d.params), by_hand, tolerance=1e-5)
samples = generated(g.params, jax.random.key(2), 1000)
print(f"data: mean 3.00; generated after {len(data)} steps: mean {samples.mean():.2f}")
