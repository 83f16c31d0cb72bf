"""Statistical check of dropout: the fraction of entries that it keeps, and the scale of what it keeps.

Both sides of a comparison use the same mask, so that gradients do not show whether the mask is drawn with the right
probability.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer, is_shape, walk
from fnet.core.traversal import leaves
from fnet.gradcheck.report import LeafReport

DRAWS = 2**18
"""The minimum number of random numbers in a mask that is checked: a rate that is off by 0.01 is at least 10 sigma."""

DEVIATIONS = 6.0
"""The largest deviation that passes, in standard deviations: more has a probability of 2e-9."""


def check_rates(net: Layer, params: Any, state: Any, noise: Any, key: jax.Array) -> list[LeafReport]:
    """Compare the fraction of entries that every dropout layer keeps with 1 - rate, and the mean of its outputs with 1.

    The fraction of n independent entries that is kept has the standard deviation sqrt(r (1 - r) / n). For inputs of 1,
    the mean of the outputs m / (1 - r) is 1, with the standard deviation sqrt(r / ((1 - r) n)). The mean is checked for
    layers that have one input and neither parameters nor state, unlike attention.

    Args:
        net: the network.
        params, state: its parameters and its non-trainable state.
        noise: the dropout masks of one batch, which have the shapes of the masks to draw.
        key: random key.
    """
    rows: list[LeafReport] = []
    owners = [name for tree in (params, state) for name, _ in leaves(net, tree)]
    for path, layer in walk(net):
        drawn = _at(noise, path)
        if layer.draw is None or "mask" not in drawn or not 0 < (rate := layer.settings.get("rate", 0)) < 1:
            continue
        label = "/".join(path) or layer.kind
        batch = _shape(jax.tree.leaves(drawn["shapes"])[0])[0]
        loops = np.asarray(jax.tree.leaves(drawn["shapes"])[0])[..., 0].size
        larger = math.ceil(DRAWS * batch * loops / drawn["mask"].size)
        shapes = jax.tree.map(functools.partial(_shape, batch=larger), drawn["shapes"])
        mask = np.asarray(layer.draw(key, shapes))
        sigma = math.sqrt(rate * (1 - rate) / mask.size)
        rows.append(_row(f"kept: {label}", mask.shape, mask.mean(), 1 - rate, sigma, "the fraction of entries kept"))
        inside = "".join(f"{name}/" for name in path)
        if is_shape(shapes) and not any(name.startswith(inside) for name in owners):
            ones = jnp.ones(shapes, jnp.float32)
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


def _shape(recorded: Any, batch: int | None = None) -> tuple[int, ...]:
    """Return a recorded shape, with another number of examples unless it is None.

    The shapes of a loop's repetitions are stacked, and equal.
    """
    recorded = np.asarray(recorded)
    first, *others = map(int, recorded.reshape(-1, recorded.shape[-1])[0])
    return (first if batch is None else batch, *others)


def _at(noise: Any, path: tuple[str, ...]) -> Any:
    """Return what was drawn for the layer at this path."""
    for name in path:
        noise = noise.get(name, {})
    return noise
