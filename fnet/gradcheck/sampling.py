"""Statistical check of dropout: the fraction of entries that it keeps, and the scale of what it keeps.

Both sides of a comparison use the same mask, so that gradients do not show whether the mask is drawn with the right
probability.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer, walk
from fnet.gradcheck.report import LeafReport

DRAWS = 2**18
"""The minimum number of random numbers in a mask that is checked: a rate that is off by 0.01 is at least 10 sigma."""

DEVIATIONS = 6.0
"""The largest deviation that passes, in standard deviations: more has a probability of 2e-9."""


def check_rates(net: Layer, noise: Any, key: jax.Array) -> list[LeafReport]:
    """Compare the fraction of entries that every dropout layer keeps with 1 - rate, and the mean of its outputs with 1.

    The fraction kept of n independent entries has the standard deviation sqrt(r (1 - r) / n). For inputs of 1, the mean
    of the outputs m / (1 - r) is 1, with the standard deviation sqrt(r / ((1 - r) n)).

    Args:
        net: the network.
        noise: the dropout masks of one batch, which have the shapes of the masks to draw.
        key: random key.
    """
    rows: list[LeafReport] = []
    for path, layer in walk(net):
        mask = _at(noise, path)
        if layer.draw is None or mask is None or not 0 < (rate := layer.settings.get("rate", 0)) < 1:
            continue
        label = "/".join(path) or layer.kind
        shape = (math.ceil(DRAWS / max(1, math.prod(mask.shape[1:]))), *mask.shape[1:])
        kept = np.asarray(layer.draw(key, shape))
        sigma = math.sqrt(rate * (1 - rate) / kept.size)
        rows.append(_row(f"kept: {label}", kept.shape, kept.mean(), 1 - rate, sigma, "the fraction of entries kept"))
        ones = jnp.ones(shape, jnp.float32)
        if np.array_equal(layer.apply({}, {}, ones, train=False, key=key)[0], ones):
            y = np.asarray(layer.apply({}, {}, ones, train=True, key=key)[0], np.float64)
            what = "the mean of the outputs for inputs of 1"
            rows.append(_row(f"scale: {label}", y.shape, y.mean(), 1.0, sigma / (1 - rate), what))
    return rows


def _row(name: str, shape: tuple[int, ...], measured: float, expected: float, sigma: float, what: str) -> LeafReport:
    absolute = abs(float(measured) - expected)
    ok = absolute <= DEVIATIONS * sigma
    return LeafReport(
        name,
        shape,
        absolute,
        absolute / expected,
        "ok" if ok else "forward",
        part="dropout",
        values=(expected, float(measured), None),
        diagnosis="" if ok else f"{what} is {measured:.4f} instead of {expected:.4f} ({absolute / sigma:.0f} sigma)",
    )


def _at(noise: Any, path: tuple[str, ...]) -> Any:
    """Return the mask of the layer at this path, if one was drawn."""
    for name in path:
        noise = noise.get(name, {})
    return noise.get("mask")
