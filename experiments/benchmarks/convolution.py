"""Forward pass and both gradients of a convolution inside a compiled loop, compared with XLA's own outside a loop.

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
    """Return JAX's own convolution."""
    return lax.conv_general_dilated(x, w, window.stride, window.padding, dimension_numbers=LAYOUT)


def forward_and_gradients(conv, x, w, g):
    """Return the result of the forward pass and both gradients."""
    z, pull = jax.vjp(conv, x, w)
    return (z, *pull(g))


def in_loop(conv):
    """Return a compiled scan of STEPS steps; each depends on the previous one, so that none is optimized away."""

    def run(x, w, g):
        def step(w, _):
            z, dx, dw = forward_and_gradients(conv, x, w, g)
            return w + 1e-12 * (dw + z[0, 0, 0] + dx[0, 0, 0, 0]), None

        return lax.scan(step, w, None, length=STEPS)[0]

    return jax.jit(run)


def seconds(program, *arguments) -> float:
    """Return the duration of one call."""
    began = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - began


def main() -> None:
    """Measure both in alternation, so that changes in the machine's speed affect both, and print medians."""
    print(f"x ({BATCH}, {SIZE[0]}, {SIZE[1]}, {INTO}), w {(*KERNEL, INTO, OUT)}, float32, {jax.devices()[0].platform}")
    print("| stride | XLA outside a loop, ms | fnet in a scan, ms per step | ratio |\n|---|---|---|---|")
    for stride in ((1, 1), (2, 2)):
        window = Window(stride, resolve_padding("valid", SIZE, KERNEL, stride, (1, 1)), (1, 1), 1, SIZE, KERNEL)
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (BATCH, *SIZE, INTO))
        w = jax.random.normal(keys[1], (*KERNEL, INTO, OUT)) / 17
        g = jax.random.normal(keys[2], (BATCH, *window.output_size(), OUT))
        outside = jax.jit(functools.partial(forward_and_gradients, functools.partial(xla, window=window)))
        inside = in_loop(functools.partial(convolve, window=window))
        results = forward_and_gradients(functools.partial(convolve, window=window), x, w, g)
        assert all(jnp.allclose(a, b, rtol=1e-3, atol=1e-2) for a, b in zip(outside(x, w, g), results, strict=True))
        seconds(inside, x, w, g)
        pairs = [(seconds(outside, x, w, g), seconds(inside, x, w, g) / STEPS) for _ in range(ROUNDS)]
        a, b = (1e3 * statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for theirs, mine in pairs)
        print(f"| {stride[0]} | {a:.1f} | {b:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
