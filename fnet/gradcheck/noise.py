"""Dropout's random masks, drawn once and handed to both sides of a comparison."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.description import Layer, rebuilt


def draw_noise(net: Layer, params: Any, state: Any, x: Any, key: jax.Array) -> dict[str, Any]:
    """The mask of every dropout layer for one batch and one key, nested as parameters are, each a leaf named "mask".

    The network is run once, in training mode, with its random layers replaced by ones that take down the mask that they
    draw.
    """
    noise: dict[str, Any] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        draw = layer.draw
        if draw is None:
            return layer

        def apply(params, state, x, *, train, key=None, mask=None):
            node = noise
            for name in path:
                node = node.setdefault(name, {})
            node["mask"] = np.asarray(draw(key, x.shape))
            return layer.apply(params, state, x, train=train, key=key, mask=mask)

        return dataclasses.replace(layer, apply=apply)

    rebuilt(net, recording).apply(params, state, jnp.asarray(x), train=True, key=key)
    return noise
