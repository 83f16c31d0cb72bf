"""What a hand-written layer is, and where to find the one of a kind."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fnet.core.layer import Layer

FAMILIES = (
    "combine",
    "dense",
    "conv",
    "pool",
    "shape",
    "norm",
    "recurrent",
    "attention",
    "embedding",
    "dropout",
    "activation",
)
"""The files of rules, named as those in `fnet.layers`."""

Array = Float[np.ndarray, "..."]
Params = Mapping[str, Any]
Gradients = dict[str, Any]


class Given(NamedTuple):
    """What a layer's pass is given beside its input.

    params: the layer's parameters; for a container, its children's under their names.
    state: its non-trainable state, likewise.
    noise: the random masks that dropout was handed, likewise; a dropout layer without one drops nothing.
    train: whether batch statistics are computed and dropout drops, as in training.
    mask: (batch,) or (batch, time), True for real examples or steps; None when all are.
    """

    params: Params
    state: Params = MappingProxyType({})
    noise: Params = MappingProxyType({})
    train: bool = False
    mask: np.ndarray | None = None

    def child(self, name: str) -> "Given":
        """What the child of this name is given."""
        params, state, noise = (tree.get(name, {}) for tree in (self.params, self.state, self.noise))
        return self._replace(params=params, state=state, noise=noise)


class Rule(NamedTuple):
    """A layer's forward and backward pass, by hand, in NumPy float64.

    forward: (layer, given, x) -> (y, cache), where cache is what backward needs of the forward pass.
    backward: (layer, given, cache, g) -> (dx, gradients), where g = dL/dy is the cotangent of the output, dx = dL/dx
        that of the input, and gradients holds dL/dp for every parameter p, under its name.
    """

    forward: Callable[[Layer, Given, Array], tuple[Array, Any]]
    backward: Callable[[Layer, Given, Any, Array], tuple[Array, Gradients]]


class NoReference(LookupError):
    """There is no hand-written backward for a kind of layer."""

    exit_status = 2


def rule_of(kind: str) -> Rule:
    """The hand-written rule for a kind of layer.

    Raises:
        NoReference: when there is none, as for a user's own layer.
    """
    for family in FAMILIES:
        rule = getattr(importlib.import_module(f"fnet.reference.{family}"), kind, None)
        if isinstance(rule, Rule):
            return rule
    raise NoReference(f"no hand-written backward exists for the layer '{kind}': there is nothing to compare JAX's with")


def plus(gradients: Gradients, others: Gradients) -> Gradients:
    """The sum of two trees of gradients: those of a variable that is used twice add up. The second may lack entries.

    A gradient of another shape than the one that is to be added stays as it is, for the check to name.
    """

    def summed(g: Any, other: Any) -> Any:
        if isinstance(g, dict):
            return plus(g, other or {})
        return g + other if other is not None and np.shape(other) == np.shape(g) else g

    return {name: summed(g, others.get(name)) for name, g in gradients.items()}
