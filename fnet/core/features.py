"""The outputs of hidden layers, as learned features."""

import dataclasses
from typing import Any

from fnet.core.layer import Layer, walk
from fnet.core.traversal import map_layers
from fnet.core.wording import suggestion

TAP = "features"


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
        name: name of the layer: "dense_1", or with the names of its containers, "block/dense_1". If a graph uses the
            layer more than once, the last output is returned.
        train: as for `apply`.
        key: as for `apply`.
        mask: as for `apply`.

    Returns:
        The layer's output (batch, ...).

    Raises:
        ValueError: if there is no layer of this name; suggests the nearest.

    >>> import jax, jax.numpy as jnp, fnet
    >>> net = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (3,))
    >>> features(net, params, state, jnp.ones((5, 3)), "tanh_1").shape
    (5, 4)
    """
    path = tuple(name.split("/"))
    known = {"/".join(place) for place, _ in walk(net) if place}
    if name not in known:
        raise ValueError(f"the network has no layer '{name}'{suggestion(name, known)}")

    def tapped(place: tuple[str, ...], layer: Layer) -> Layer:
        """Return the layer at the path with its output added to its state, which containers pass on."""
        if place != path:
            return layer

        def apply(params, state, x, **rest):
            y, state = layer.apply(params, state, x, **rest)
            return y, {**state, TAP: y}

        return dataclasses.replace(layer, apply=apply)

    _, after = map_layers(net, tapped).apply(params, state, x, train=train, key=key, mask=mask)
    for part in (*path, TAP):
        after = after[part]
    return after
