"""Random networks without mistakes must pass the check."""

import jax
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check

SEEDS = range(10)

ACTIVATIONS = (fnet.relu, fnet.tanh, fnet.leaky_relu, fnet.elu, fnet.gelu, fnet.swish, fnet.sigmoid, fnet.softmax)


def network(rng: np.random.Generator) -> tuple[fnet.Layer, tuple[int, ...], str, fnet.Penalties]:
    """Return a random network, its input shape, a loss and penalties."""
    layers, shape = [], (int(rng.integers(2, 6)),)
    if rng.random() < 0.4:
        shape = (6, 5, 2)
        pool = fnet.max_pool if rng.random() < 0.5 else fnet.avg_pool
        layers += [fnet.conv(3, 3, stride=int(rng.integers(1, 3))), activation(rng), pool(2), fnet.flatten()]
    for _ in range(rng.integers(1, 3)):
        units = int(rng.integers(2, 6))
        options = [
            [fnet.dense(units), activation(rng)],
            [fnet.dense(units), fnet.batch_norm(), activation(rng)],
            [fnet.dense(units), fnet.layer_norm(), activation(rng)],
            [fnet.dense(units), activation(rng), fnet.dropout(0.3)],
            [fnet.dense(4), fnet.residual(fnet.dense(4), activation(rng))],
            [fnet.parallel(fnet.dense(2), fnet.dense(2), combine=str(rng.choice(["add", "multiply", "concatenate"])))],
        ]
        layers += options[rng.integers(len(options))]
    loss = str(rng.choice(["cross_entropy", "mse", "huber", "hinge"]))
    penalties = fnet.Penalties(l1=0.01, l2=0.1) if rng.random() < 0.3 else fnet.Penalties()
    return fnet.serial(*layers, fnet.dense(3)), shape, loss, penalties


def activation(rng: np.random.Generator) -> fnet.Layer:
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]()


@pytest.mark.parametrize("number", range(20))
def test_no_false_alarm(number):
    net, shape, loss, penalties = network(np.random.default_rng(number))
    for seed in SEEDS:
        rng = np.random.default_rng([number, seed])
        params, state = net.init(jax.random.key(seed), shape)
        x = rng.standard_normal((5, *shape))
        y = {"cross_entropy": rng.integers(0, 3, 5), "hinge": rng.integers(0, 2, (5, 3))}.get(
            loss, rng.standard_normal((5, 3))
        )
        key = jax.random.key(seed)
        report = check(net, loss, params, state, x, y, regularization=penalties, key=key, samples=3)
        assert report.ok, f"{net}\n{loss}, seed {seed}\n{report}"
        assert sum(row.checked for row in report.rows) > sum(row.kinks for row in report.rows)
