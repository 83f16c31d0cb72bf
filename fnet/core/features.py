"""Extraction of the outputs of hidden layers, as learned features."""

import dataclasses
from typing import Any

from fnet.core.layer import Layer, walk
from fnet.core.traversal import map_layers
from fnet.core.wording import suggestion

FEATURES = "features"
"""The entry that is added to a layer's state to pass on its output."""


def features(
    net: Layer, params: Any, state: Any, x: Any, name: str, *, train: bool = False, key: Any = None, mask: Any = None
) -> Any:
    """Return the output of a named layer, at any depth, for a batch of examples.

    This is a pure function that can be jitted and differentiated like `apply`; the compiler removes all later layers.

    Args:
        net: the network.
        params: its parameters.
        state: its non-trainable state.
        x: examples (batch, ...).
        name: name of the layer with the names of its containers, such as "dense_1" or "block/dense_1". If a graph uses
            the layer more than once, the last output is returned.
        train: as for `apply`.
        key: as for `apply`.
        mask: as for `apply`.

    Returns:
        The layer's output (batch, ...).

    Raises:
        ValueError: if no layer has this name; suggests the nearest known one.

    >>> import jax, jax.numpy as jnp, fnet
    >>> net = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (3,))
    >>> features(net, params, state, jnp.ones((5, 3)), "tanh_1").shape
    (5, 4)
    """
    path = tuple(name.split("/"))
    known = {"/".join(names) for names, _ in walk(net) if names}
    if name not in known:
        raise ValueError(f"the network does not have a layer '{name}'{suggestion(name, known)}")

    def add_output_to_state(layer_path: tuple[str, ...], layer: Layer) -> Layer:
        """Make the layer at the path add its output to its state, which containers pass on."""
        if layer_path != path:
            return layer

        def apply(params, state, x, **rest):
            y, state = layer.apply(params, state, x, **rest)
            return y, {**state, FEATURES: y}

        return dataclasses.replace(layer, apply=apply)

    _, tree = map_layers(net, add_output_to_state).apply(params, state, x, train=train, key=key, mask=mask)
    for part in (*path, FEATURES):
        tree = tree[part]
    return tree
