"""Random dropout masks, shared by both sides of a comparison."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import Application, recorded, recording

Paths = frozenset[tuple[str, ...]]


def draw_noise(
    net: Layer, params: Any, state: Any, x: Any, key: jax.Array, keyed: Paths = frozenset()
) -> dict[str, Any]:
    """Draw the mask of every dropout layer for one batch and one key, as leaves "mask" nested like parameters.

    Beside a mask are the shapes of the layer's inputs, as "shapes".

    The network is traced in training mode, and its dropout layers record their masks. Only the masks are computed.

    Args:
        net, params, state, x, key: the arguments of the network's application.
        keyed: paths of layers whose random keys are returned instead, as data, as leaves "key".
    """
    noise: dict[str, Any] = {}
    for path, leaves in recorded(_record_noise(net, params, state, jax.tree.map(jnp.asarray, x), key, keyed)):
        node = noise
        for name in path:
            node = node.setdefault(name, {})
        node.update(jax.tree.map(np.asarray, leaves))
    return noise


@functools.partial(jax.jit, static_argnames=("net", "keyed"))
def _record_noise(net: Layer, params: Any, state: Any, x: Any, key: jax.Array, keyed: Paths) -> Any:
    """Return a new state that contains the masks and keys."""

    def noise_of(path: tuple[str, ...], layer: Layer, application: Application) -> dict[str, jax.Array] | None:
        if not application.train:
            return None
        if path in keyed:
            return {"key": jax.random.key_data(application.key)}
        if layer.draw is None:
            return None
        shapes = jax.tree.map(jnp.shape, application.x)
        return {
            "mask": layer.draw(application.key, shapes),
            "shapes": jax.tree.map(lambda x: jnp.asarray(x.shape), application.x),
        }

    return recording(net, noise_of).apply(params, state, x, train=True, key=key)[1]
