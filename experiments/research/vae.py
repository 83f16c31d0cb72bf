"""A variational autoencoder: an objective of its own, a random layer of its own, and a graph with two outputs.

Maximize E[log p(x | z)] - KL(N(mu, sigma^2) || N(0, I)) over encoder and decoder, with z = mu + sigma eps and
eps ~ N(0, I), so that the gradient passes through the sample (reparametrization).

Source: Kingma and Welling, "Auto-encoding variational Bayes" (2013).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checking import check
from sklearn.datasets import load_digits

import fnet

LATENT = 4


@fnet.constructor
def gaussian(*, name: str | None = None) -> fnet.Parts:
    """(mu, log sigma^2) -> z = mu + sigma eps in training, and z = mu in evaluation."""

    def apply(params, state, x, *, train, key=None, mask=None):
        mu, log_variance = jnp.split(x, 2, axis=-1)
        return mu + jnp.exp(log_variance / 2) * jax.random.normal(key, mu.shape) if train else mu, {}

    return fnet.Parts(lambda in_shape: (*in_shape[:-1], in_shape[-1] // 2), fnet.no_parameters, apply)


net = fnet.graph(
    fnet.serial(fnet.dense(32), fnet.tanh(), fnet.dense(2 * LATENT), name="encoder"),
    gaussian(name="sample"),
    fnet.serial(fnet.dense(32), fnet.tanh(), fnet.dense(64), name="decoder"),
    nodes={"code": ("encoder", "input"), "z": ("sample", "code"), "logits": ("decoder", "z")},
    output=("code", "logits"),
)


def kl_divergence(code):
    """Return KL(N(mu, sigma^2) || N(0, I)) = sum (mu^2 + sigma^2 - log sigma^2 - 1) / 2 for every example."""
    mu, log_variance = jnp.split(code, 2, axis=-1)
    return jnp.sum(mu**2 + jnp.exp(log_variance) - log_variance - 1, axis=-1) / 2


def negative_elbo(params, state, batch, key):
    """Return the mean over the real examples of the batch, and its two terms."""
    (code, logits), state = net.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
    terms = {"reconstruction": 64 * fnet.losses.binary_cross_entropy(logits, batch.x), "kl": kl_divergence(code)}
    means = {name: fnet.train.weighted_mean(term, batch) for name, term in terms.items()}
    return means["reconstruction"] + means["kl"], (state, means)


def in_standard_errors(samples, mean):
    """Return how far the mean of samples (n, ...) is from the true mean, in units of its standard error."""
    samples = np.asarray(samples, np.float64)
    return (samples.mean(axis=0) - mean) / (samples.std(axis=0) / np.sqrt(len(samples)))


x = (load_digits().data / 16).astype("float32")
fitted = fnet.train.fit(net, None, optax.adam(3e-3), (x,), objective=negative_elbo, epochs=5)
for record in fitted.history[:: len(fitted.history) - 1]:
    print(f"epoch {record.epoch}: " + ", ".join(f"{name} {value:.2f}" for name, value in record.values.items()))

code = np.asarray([0.5, -1.0, 0.3, -0.8])
mu, sigma = code[:2], np.exp(code[2:] / 2)
z = mu + sigma * np.random.default_rng(0).standard_normal((100_000, 2))
log_ratio = np.sum(z**2 / 2 - ((z - mu) / sigma) ** 2 / 2 - np.log(sigma), axis=1)  # log q(z) - log p(z)
check("KL divergence, in standard errors", in_standard_errors(log_ratio, kl_divergence(code)), 0.0, tolerance=5)


def sampled_gradient(key):
    """Return the gradient of f(z) = z_1^2 + z_2^3 with respect to the code, for one sample of z."""

    def f(code):
        z, _ = gaussian().apply({}, {}, code, train=True, key=key)
        return z[0] ** 2 + z[1] ** 3

    return jax.grad(f)(jnp.asarray(code, "float32"))


gradients = jax.jit(jax.vmap(sampled_gradient))(jax.random.split(jax.random.key(0), 20_000))
# E f = mu_1^2 + sigma_1^2 + mu_2^3 + 3 mu_2 sigma_2^2, and d sigma^2 / d log sigma^2 = sigma^2.
expected = [2 * mu[0], 3 * mu[1] ** 2 + 3 * sigma[1] ** 2, sigma[0] ** 2, 3 * mu[1] * sigma[1] ** 2]
check("reparametrized gradient, in standard errors", in_standard_errors(gradients, expected), np.zeros(4), tolerance=5)
