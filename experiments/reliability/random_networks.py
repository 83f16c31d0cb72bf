"""False alarms of the gradient check: random networks without a mistake, which must all pass.

A network is random in its layers, containers, dropout, penalties, loss, parameters and data. The check itself adds
masks and evaluation mode.
"""

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

import fnet

BATCH = 4

Shape = tuple[int, ...]


class Problem(NamedTuple):
    """A network and everything that its gradients depend on."""

    net: fnet.Layer
    loss: fnet.losses.Loss | str
    penalties: fnet.Penalties
    params: dict
    state: dict
    x: np.ndarray
    y: np.ndarray


def random_problem(seed: int) -> Problem:
    """Return the random network with this seed, with random parameters, states, examples and targets."""
    rng = np.random.default_rng(seed)
    layers, shape, indices = _inputs(rng)
    in_shape = (3,) if indices else shape
    if indices:
        shape = (3, shape[-1])
    for _ in range(rng.integers(1, 4)):
        added, shape = _stage(rng, shape)
        layers += added
    if len(shape) > 1 and (len(shape) == 3 or rng.random() < 0.6):
        added, shape = _collapse(rng, shape)
        layers += added
    out = int(rng.integers(1, 4))
    name, y = _loss_and_targets(rng, (BATCH, *shape[:-1], out))
    net = fnet.serial(*layers, fnet.dense(out))
    params, state = jax.jit(net.init, static_argnums=1)(jax.random.key(seed), in_shape)
    size = float(rng.choice([0.0, 0.3, 1.0]))
    params = jax.tree.map(lambda p: np.asarray(p) + size * rng.standard_normal(p.shape).astype(np.float32), params)
    state = jax.tree.map(lambda s: np.asarray(s) + size * rng.random(s.shape).astype(np.float32), state)
    x = rng.integers(0, indices, (BATCH, 3)) if indices else _examples(rng, in_shape)
    return Problem(net, name, _penalties(rng), params, state, x, y)


def _inputs(rng: np.random.Generator) -> tuple[list[fnet.Layer], Shape, int]:
    """Return the first layers, the shape that follows, and the number of indices if the input is indices."""
    kind = rng.choice(["vector", "sequence", "image", "indices"], p=[0.3, 0.35, 0.25, 0.1])
    if kind == "vector":
        return [], (int(rng.integers(1, 5)),), 0
    if kind == "sequence":
        return [], (int(rng.integers(2, 5)), int(rng.integers(1, 5))), 0
    if kind == "image":
        return [], (int(rng.integers(4, 6)), int(rng.integers(4, 6)), int(rng.integers(1, 3))), 0
    number, width = int(rng.integers(3, 6)), int(rng.integers(2, 5))
    layer = fnet.one_hot(number) if rng.random() < 0.3 else fnet.embedding(number, width, std=0.5)
    if rng.random() < 0.2:
        return [fnet.tied(fnet.embedding(number, width, std=0.5), fnet.tanh())], (3, number), number
    return [layer], (3, number if layer.kind == "one_hot" else width), number


def _examples(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return examples of a random size, some with entries that are exactly 0."""
    x = rng.standard_normal((BATCH, *shape)) * float(rng.choice([0.01, 1.0, 30.0], p=[0.1, 0.7, 0.2]))
    return np.where(rng.random(x.shape) < 0.2, 0.0, x) if rng.random() < 0.2 else x


def _penalties(rng: np.random.Generator) -> fnet.Penalties:
    l1, l2 = rng.choice([0.0, 0.01, 0.1], 2)
    return fnet.Penalties(l1=float(l1), l2=float(l2)) if rng.random() < 0.3 else fnet.Penalties()


def _activation(rng: np.random.Generator) -> fnet.Layer:
    makers = (
        fnet.identity, fnet.sigmoid, fnet.tanh, fnet.relu, fnet.leaky_relu, fnet.elu, fnet.softmax, fnet.swish,
        fnet.gelu, lambda: fnet.gelu(approximate=False), lambda: fnet.leaky_relu(0.3), lambda: fnet.elu(0.5),
    )  # fmt: skip
    return makers[rng.integers(len(makers))]()


def _norm(rng: np.random.Generator, channels: int) -> fnet.Layer:
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    flags = {"scale": bool(rng.random() < 0.8)}
    makers = (
        lambda: fnet.batch_norm(momentum=float(rng.choice([0.0, 0.5, 0.9])), shift=bool(rng.random() < 0.8), **flags),
        lambda: fnet.layer_norm(eps=float(rng.choice([1e-5, 0.1])), **flags),
        lambda: fnet.group_norm(groups, **flags),
        lambda: fnet.rms_norm(**flags),
    )
    return makers[rng.integers(len(makers))]()


def _dropout(rng: np.random.Generator) -> fnet.Layer:
    rate = float(rng.choice([0.0, 0.2, 0.5]))
    return fnet.spatial_dropout(rate) if rng.random() < 0.4 else fnet.dropout(rate)


def _stage(rng: np.random.Generator, shape: Shape) -> tuple[list[fnet.Layer], Shape]:
    """Return a few layers that take examples of this shape, and the shape of their outputs."""
    channels, units = shape[-1], int(rng.integers(1, 5))
    if rng.random() < 0.3:
        layers = [_norm(rng, channels), _activation(rng)]
        return [layers[rng.integers(2)], *([_dropout(rng)] if rng.random() < 0.4 else [])], shape
    if rng.random() < 0.35:
        return _container(rng, shape)
    options = [[fnet.dense(units), _norm(rng, units)], [fnet.dense(units), _activation(rng), _dropout(rng)]]
    if len(shape) == 2:
        heads = int(rng.choice([h for h in range(1, channels + 1) if channels % h == 0]))
        cell = (fnet.rnn, fnet.gru, fnet.lstm)[rng.integers(3)]
        attention = fnet.attention(heads, causal=bool(rng.random() < 0.5))
        options = [
            *options,
            [cell(units, reverse=bool(rng.random() < 0.3))],
            [fnet.conv_1d(units, 2), _norm(rng, units)],
        ]
        whole = [
            [fnet.sinusoidal_positions(), attention],
            [fnet.positions(5, std=0.5), fnet.residual(attention)],
            [fnet.transformer(channels, heads, hidden=3, rate=float(rng.choice([0.0, 0.3])))],
            [fnet.layer_norm(), attention],
        ]
        if rng.random() < 0.5:
            return whole[rng.integers(len(whole))], shape
        if rng.random() < 0.2:
            return [fnet.bidirectional(cell(units), combine="add")], (shape[0], units)
    if len(shape) == 3:
        options = [[fnet.conv(units, 3), _norm(rng, units)], [fnet.conv(units, 2), _activation(rng)]]
        if min(shape[:2]) >= 2 and rng.random() < 0.5:
            pool = (fnet.max_pool, fnet.avg_pool)[rng.integers(2)](2)
            return [pool], pool.shape(shape)
        if rng.random() < 0.2:
            whole = [[fnet.zero_pad(1), fnet.conv_transpose(units, 2)], [fnet.upsample(2)], [fnet.permute((2, 1, 3))]]
            layers = whole[rng.integers(3)]
            return layers, fnet.serial(*layers).shape(shape)
    return options[rng.integers(len(options))], (*shape[:-1], units)


def _container(rng: np.random.Generator, shape: Shape) -> tuple[list[fnet.Layer], Shape]:
    """Return a container around dense layers, activations and normalization."""
    channels, units = shape[-1], int(rng.integers(1, 4))
    branch = [fnet.dense(units), _activation(rng)]
    combine = str(rng.choice(["concatenate", "add", "multiply"]))
    options = [
        fnet.residual(_norm(rng, channels), fnet.dense(channels), _activation(rng)),
        fnet.parallel(fnet.serial(*branch), fnet.dense(units), combine=combine),
        fnet.repeat(fnet.dense(channels), _norm(rng, channels), _activation(rng), times=2),
        fnet.graph(
            fnet.dense(channels, name="f"),
            nodes={"a": ("f", "input"), "b": ("f", "a"), "c": ("multiply", "b", "input"), "y": ("add", "a", "c")},
        ),
    ]
    layer = options[rng.integers(len(options))]
    return [layer], layer.shape(shape)


def _collapse(rng: np.random.Generator, shape: Shape) -> tuple[list[fnet.Layer], Shape]:
    """Return layers that map sequences or images to vectors."""
    options = [fnet.flatten(), fnet.global_avg_pool(), fnet.global_max_pool(), fnet.reshape((-1,))]
    if len(shape) == 2:
        options.append(fnet.gru(2, sequence=False))
    layer = options[rng.integers(len(options))]
    return [layer], layer.shape(shape)


def _loss_and_targets(rng: np.random.Generator, outputs: Shape) -> tuple[fnet.losses.Loss | str, np.ndarray]:
    """Return a loss, maybe with settings, and targets for outputs of this shape."""
    distribution = rng.random(outputs) + 0.1
    distribution = distribution / distribution.sum(axis=-1, keepdims=True)
    values, labels, classes = (
        rng.standard_normal(outputs),
        rng.integers(0, 2, outputs),
        rng.integers(0, outputs[-1], outputs[:-1]),
    )
    options = [
        ("mse", values),
        (functools.partial(fnet.losses.huber, delta=0.5), values),
        ("binary_cross_entropy", labels),
        ("hinge", labels),
        ("cross_entropy", classes),
        (functools.partial(fnet.losses.cross_entropy, label_smoothing=0.1), classes),
        ("kl_divergence", distribution),
    ]
    return options[rng.integers(len(options))]


def check(problem: Problem) -> fnet.gradcheck.Report:
    """Check the gradients of a random network."""
    _, loss, penalties, *arguments = problem
    return fnet.gradcheck.check(problem.net, loss, *arguments, regularization=penalties, samples=4)


def main(argv: Sequence[str] | None = None) -> int:
    """Check a range of seeds, print every false alarm, and return 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--networks", type=int, default=20, help="the number of networks (default 20)")
    arguments = parser.parse_args(argv)
    # Every network is compiled for a single check, so that optimization costs more time than it saves.
    jax.config.update("jax_disable_most_optimizations", True)
    start, alarms, rows = time.perf_counter(), 0, 0
    for number, seed in enumerate(range(arguments.seed, arguments.seed + arguments.networks), 1):
        problem = random_problem(seed)
        report = check(problem)
        rows += len(report.rows)
        if not report.ok:
            alarms += 1
            print(f"seed {seed}, loss {problem.loss}\n{problem.net}\n{report}\n", flush=True)
        if number % 25 == 0 or number == arguments.networks:
            jax.clear_caches()
            print(
                f"{number} networks, {rows:,} rows, {alarms} false alarms, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    print(f"random networks without a mistake: {arguments.networks:,} tried, {alarms:,} failed, seed {arguments.seed}")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
