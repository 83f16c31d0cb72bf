"""Random dropout masks, shared by both sides of a comparison."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import map_layers


def draw_noise(
    net: Layer, params: Any, state: Any, x: Any, key: jax.Array, keyed: frozenset[Layer] = frozenset()
) -> dict[str, Any]:
    """Draw the mask of every dropout layer for one batch and one key, as leaves "mask" nested like parameters.

    The layers in `keyed` get their random keys instead, as data, as leaves "key".

    The network is traced in training mode, with its dropout layers replaced by layers that record their masks. Only the
    masks are computed.
    """
    return jax.tree.map(np.asarray, _masks(net, params, state, jnp.asarray(x), key, keyed))


@functools.partial(jax.jit, static_argnames=("net", "keyed"))
def _masks(net, params, state, x, key, keyed):
    """Return the masks and keys by layer."""
    noise: dict[str, Any] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        draw = layer.draw
        if draw is None and layer not in keyed:
            return layer

        def apply(params, state, x, *, train, key=None, mask=None):
            node = noise
            for name in path:
                node = node.setdefault(name, {})
            if layer in keyed:
                node["key"] = jax.random.key_data(key)
            elif draw is not None:
                node["mask"] = draw(key, x.shape)
            return layer.apply(params, state, x, train=train, key=key, mask=mask)

        return dataclasses.replace(layer, apply=apply)

    map_layers(net, recording).apply(params, state, x, train=True, key=key)
    return noise
