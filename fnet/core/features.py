"""Extraction of the outputs of hidden layers, as learned features."""

from typing import Any

from fnet.core.layer import Layer, walk
from fnet.core.traversal import recorded, recording, require_params
from fnet.core.wording import suggestion


def features(
    net: Layer, params: Any, state: Any, x: Any, name: str, *, train: bool, key: Any = None, mask: Any = None
) -> Any:
    """Return the output of a named layer, at any depth, for a batch of examples.

    This is a pure function that can be jitted and differentiated like `apply`; the compiler removes all later layers.

    Args:
        net: the network.
        params: its parameters.
        state: its non-trainable state.
        x: examples (batch, ...), or a tuple or dict of arrays.
        name: name of the layer with the names of its containers, such as "dense_1" or "block/dense_1". If a graph uses
            the layer more than once, the last output is returned; inside `repeat(scan=True)`, the outputs of all
            repetitions, stacked along a new first axis.
        train: as for `apply`.
        key: as for `apply`.
        mask: as for `apply`.

    Returns:
        The layer's output (batch, ...).

    Raises:
        ValueError: if no layer has this name, or it lies in a container made by hand.

    >>> import jax, jax.numpy as jnp, fnet
    >>> net = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (3,))
    >>> features(net, params, state, jnp.ones((5, 3)), "tanh_1", train=False).shape
    (5, 4)
    """
    if not isinstance(name, str):
        raise TypeError(f"features: expected the name of one layer, such as 'dense_1', got {name!r}")
    require_params("features", params)
    path = tuple(name.split("/"))
    known = {"/".join(names) for names, _ in walk(net) if names}
    if name not in known:
        raise ValueError(f"the network does not have a layer '{name}'{suggestion(name, known)}")

    observed = recording(net, lambda layer_path, _, application: application.y if layer_path == path else None)
    _, state = observed.apply(params, state, x, train=train, key=key, mask=mask)
    outputs = dict(recorded(state))
    if path not in outputs:
        raise ValueError(
            f"the output of '{name}' cannot be observed, because a container around it was made by hand; make the "
            "container with @fnet.constructor"
        )
    return outputs[path]
