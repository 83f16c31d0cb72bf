"""Compile time of the gradient of a deep pre-norm network, unrolled and in a loop, compared with Flax, unrolled.

python experiments/benchmarks/compile_time.py [--depths 24,48,96]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

import fnet

WIDTH, BATCH, ROUNDS = 32, 8, 3


def fnet_unrolled(depth: int) -> tuple[Callable[..., Any], Any]:
    """Return fnet's network as a function of parameters and x, and the shapes of its parameters."""
    return functions_of(fnet.repeat(block(), times=depth))


def fnet_in_a_loop(depth: int) -> tuple[Callable[..., Any], Any]:
    """Return fnet's network, whose blocks run in a loop."""
    return functions_of(fnet.repeat(block(), times=depth, scan=True))


def block() -> fnet.Layer:
    """Return one block."""
    return fnet.residual(fnet.layer_norm(), fnet.dense(4 * WIDTH), fnet.gelu(), fnet.dense(WIDTH))


def functions_of(net: fnet.Layer) -> tuple[Callable[..., Any], Any]:
    """Return a network as a function of parameters and x, and the shapes of its parameters."""
    params, state = jax.eval_shape(lambda key: net.init(key, (WIDTH,)), jax.random.key(0))
    return lambda params, x: net.apply(params, state, x, train=True)[0], params


class FlaxNetwork(linen.Module):
    """The same network in Flax."""

    depth: int

    @linen.compact
    def __call__(self, x):
        """Return the output of the last block."""
        for _ in range(self.depth):
            x = x + linen.Dense(WIDTH)(linen.gelu(linen.Dense(4 * WIDTH)(linen.LayerNorm()(x))))
        return x


def flax_unrolled(depth: int) -> tuple[Callable[..., Any], Any]:
    """Return Flax's network as a function of parameters and x, and the shapes of its parameters."""
    net = FlaxNetwork(depth)
    return net.apply, jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((BATCH, WIDTH)))


NETWORKS = {"fnet": fnet_unrolled, "Flax": flax_unrolled, "fnet in a loop": fnet_in_a_loop}
"""The networks to compare, by name; the ratio is that of the first to the second."""


def cpu_seconds(make: Callable[[int], tuple[Callable[..., Any], Any]], depth: int) -> tuple[float, float]:
    """Return the CPU time of tracing and of compiling the mean loss and its gradient."""
    apply, params = make(depth)
    x = jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.float32)
    step = jax.jit(jax.value_and_grad(lambda params, x: jnp.mean(apply(params, x) ** 2)))
    began = time.process_time()
    lowered = step.lower(params, x)
    traced = time.process_time()
    lowered.compile()
    return traced - began, time.process_time() - traced


def main() -> None:
    """Measure all networks in alternation and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", default="24,48,96", help="numbers of blocks, separated by commas")
    depths = [int(depth) for depth in parser.parse_args().depths.split(",")]
    jax.config.update("jax_enable_compilation_cache", False)
    for make in NETWORKS.values():
        cpu_seconds(make, 1)
    columns = [f"{name}, {part}" for name in NETWORKS for part in ("tracing", "compiling")]
    print(f"CPU seconds, width {WIDTH}, batch size {BATCH}")
    print(f"| blocks | {' | '.join(columns)} | ratio of compiling |\n|{'---|' * (len(columns) + 2)}")
    for depth in depths:
        rounds = [[cpu_seconds(make, depth) for make in NETWORKS.values()] for _ in range(ROUNDS)]
        parts = [statistics.median(part) for times in zip(*rounds, strict=True) for part in zip(*times, strict=True)]
        ratio = statistics.median(times[0][1] / times[1][1] for times in rounds)
        print(f"| {depth} | {' | '.join(f'{part:.2f}' for part in parts)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
