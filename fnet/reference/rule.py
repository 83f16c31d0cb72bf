"""The hand-written rule of a layer, forward and backward, and the lookup of the rule of a kind."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fnet.core.families import FAMILIES
from fnet.core.layer import Layer

Array = Float[np.ndarray, "..."]
Params = Mapping[str, Any]
Gradients = dict[str, Any]


class Scope(NamedTuple):
    """The values that a layer's forward and backward pass use besides its input.

    params: parameters of the layer; of a container, those of its children under their names.
    state: its non-trainable state, nested likewise.
    noise: the random masks of dropout, nested likewise; a dropout layer without a mask drops nothing.
    train: whether batch statistics are computed and dropout is active, as in training.
    mask: (batch,) or (batch, time), True for real examples or steps; None if all are real.
    """

    params: Params
    state: Params = MappingProxyType({})
    noise: Params = MappingProxyType({})
    train: bool = False
    mask: np.ndarray | None = None

    def child(self, name: str) -> "Scope":
        """Return the scope of the child with this name."""
        params, state, noise = (tree.get(name, {}) for tree in (self.params, self.state, self.noise))
        return self._replace(params=params, state=state, noise=noise)

    def entry(self, number: int) -> "Scope":
        """Return the scope of one repetition of a loop, whose arrays are stacked along the first axis."""
        params, state, noise = (_entry(tree, number) for tree in (self.params, self.state, self.noise))
        return self._replace(params=params, state=state, noise=noise)


def _entry(tree: Params, number: int) -> dict[str, Any]:
    return {name: _entry(part, number) if isinstance(part, Mapping) else part[number] for name, part in tree.items()}


class Rule(NamedTuple):
    """A layer's forward and backward pass, written by hand in NumPy float64.

    forward: (layer, scope, x) -> (y, cache), where cache is what backward needs from the forward pass.
    backward: (layer, scope, cache, g) -> (dx, gradients), where g = dL/dy is the cotangent of the output, dx = dL/dx
        that of the input, and gradients contains dL/dp under the name of every parameter p.

    x, y, dx and g are arrays, or tuples or dicts of arrays for a layer with several inputs or outputs.
    """

    forward: Callable[[Layer, Scope, Any], tuple[Any, Any]]
    backward: Callable[[Layer, Scope, Any, Any], tuple[Any, Gradients]]


class NoReference(LookupError):
    """A kind of layer or a loss does not have a hand-written derivative."""

    exit_status = 2


def rule_of(kind: str) -> Rule:
    """Return the hand-written rule of a kind of layer.

    Raises:
        NoReference: if there is none, as for a user-defined layer.
    """
    for family in FAMILIES:
        rule = getattr(importlib.import_module(f"fnet.reference.{family}"), kind, None)
        if isinstance(rule, Rule):
            return rule
    raise NoReference(
        f"no hand-written backward exists for the layer '{kind}', so JAX's gradient cannot be compared with one"
    )


def forward(layer: Layer, scope: Scope, x: Any) -> tuple[Any, Any]:
    """Return the outputs of a layer or network, and the cache that `backward` needs.

    The rule of a composite is that of its expansion.

    Raises:
        NoReference: if a layer does not have a hand-written rule.
    """
    layer = _expand(layer)
    return rule_of(layer.kind).forward(layer, scope, x)


def backward(layer: Layer, scope: Scope, cache: Any, g: Any) -> tuple[Any, Gradients]:
    """Return the gradients of the input and of every parameter, from the cotangent g = dL/dy of the outputs."""
    layer = _expand(layer)
    return rule_of(layer.kind).backward(layer, scope, cache, g)


def _expand(layer: Layer) -> Layer:
    return layer if layer.expansion is None else _expand(layer.expansion)


def add_gradients(gradients: Gradients, others: Gradients) -> Gradients:
    """Return the sum of two trees of gradients, as for variables with two uses; the second tree may lack entries.

    If the shapes of two gradients differ, the first one is returned unchanged, so that the gradient check reports it.
    """

    def add(g: Any, other: Any) -> Any:
        if isinstance(g, dict):
            return add_gradients(g, other or {})
        return g + other if other is not None and np.shape(other) == np.shape(g) else g

    return {name: add(g, others.get(name)) for name, g in gradients.items()}
