"""Forward and both gradients of a convolution inside a compiled loop, against XLA's own outside one.

python experiments/benchmarks/convolution.py
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from fnet.layers.conv_primitives import LAYOUT, Window, convolve, resolve_padding

BATCH, SIZE, INTO, OUT, KERNEL = 128, (26, 26), 32, 64, (3, 3)
STEPS, ROUNDS = 4, 7


def xla(x, w, window: Window):
    """The convolution as JAX has it."""
    return lax.conv_general_dilated(x, w, window.stride, window.padding, dimension_numbers=LAYOUT)


def three(conv, x, w, g):
    """The forward pass and both gradients."""
    z, pull = jax.vjp(conv, x, w)
    return (z, *pull(g))


def in_loop(conv):
    """STEPS times the three, in a scan in which each step depends on the one before, so that none can be left out."""

    def run(x, w, g):
        def step(w, _):
            z, dx, dw = three(conv, x, w, g)
            return w + 1e-12 * (dw + z[0, 0, 0] + dx[0, 0, 0, 0]), None

        return lax.scan(step, w, None, length=STEPS)[0]

    return jax.jit(run)


def seconds(program, *arguments) -> float:
    """Of one call."""
    began = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - began


def main() -> None:
    """Measures both in turn, so that a machine that slows down slows both, and prints medians."""
    print(f"x ({BATCH}, {SIZE[0]}, {SIZE[1]}, {INTO}), w {(*KERNEL, INTO, OUT)}, float32, {jax.devices()[0].platform}")
    print("| stride | XLA outside a loop, ms | fnet in a scan, ms a step | ratio |\n|---|---|---|---|")
    for stride in ((1, 1), (2, 2)):
        window = Window(stride, resolve_padding("valid", SIZE, KERNEL, stride, (1, 1)), (1, 1), 1, SIZE, KERNEL)
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (BATCH, *SIZE, INTO))
        w = jax.random.normal(keys[1], (*KERNEL, INTO, OUT)) / 17
        g = jax.random.normal(keys[2], (BATCH, *window.output_size(), OUT))
        outside = jax.jit(functools.partial(three, functools.partial(xla, window=window)))
        inside = in_loop(functools.partial(convolve, window=window))
        own = three(functools.partial(convolve, window=window), x, w, g)
        assert all(jnp.allclose(a, b, rtol=1e-3, atol=1e-2) for a, b in zip(outside(x, w, g), own, strict=True))
        seconds(inside, x, w, g)
        pairs = [(seconds(outside, x, w, g), seconds(inside, x, w, g) / STEPS) for _ in range(ROUNDS)]
        a, b = (1e3 * statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for theirs, mine in pairs)
        print(f"| {stride[0]} | {a:.1f} | {b:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
