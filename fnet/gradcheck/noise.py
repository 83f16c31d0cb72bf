"""Random dropout masks, shared by both sides of a comparison."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import rewire


def draw_noise(net: Layer, params: Any, state: Any, x: Any, key: jax.Array) -> dict[str, Any]:
    """Draw the mask of every dropout layer for one batch and one key, as leaves "mask" nested like parameters.

    The network is traced in training mode, with its dropout layers replaced by layers that record their masks. Only the
    masks are computed.
    """
    return jax.tree.map(np.asarray, _masks(net, params, state, jax.tree.map(jnp.asarray, x), key))


@functools.partial(jax.jit, static_argnames="net")
def _masks(net: Layer, params: Any, state: Any, x: Any, key: jax.Array) -> dict[str, Any]:
    noise: dict[str, Any] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        draw = layer.draw
        if draw is None:
            return layer

        def apply(params, state, x, *, train, key=None, mask=None):
            node = noise
            for name in path:
                node = node.setdefault(name, {})
            node["mask"] = draw(key, jax.tree.map(jnp.shape, x))
            return layer.apply(params, state, x, train=train, key=key, mask=mask)

        return dataclasses.replace(layer, apply=apply)

    rewire(net, recording).apply(params, state, x, train=True, key=key)
    return noise
