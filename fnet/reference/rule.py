"""The hand-written rule of a layer, forward and backward, and the lookup of the rule of a kind."""

import importlib
from collections.abc import Callable, Mapping, Sequence
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
    new_state: receives the new state of every layer, nested likewise; None if it is not needed.
    rules: rules of layers that have no hand-written rule.
    """

    params: Params
    state: Params = MappingProxyType({})
    noise: Params = MappingProxyType({})
    train: bool = False
    mask: np.ndarray | None = None
    new_state: dict[str, Any] | None = None
    rules: Mapping[Layer, "Rule"] = MappingProxyType({})

    def child(self, name: str) -> "Scope":
        """Return the scope of the child with this name."""
        params, state, noise = (tree.get(name, {}) for tree in (self.params, self.state, self.noise))
        new_state = None if self.new_state is None else self.new_state.setdefault(name, {})
        return self._replace(params=params, state=state, noise=noise, new_state=new_state)

    def entry(self, number: int) -> "Scope":
        """Return the scope of one repetition of a loop, whose arrays are stacked along the first axis."""
        params, state, noise = (_entry(tree, number) for tree in (self.params, self.state, self.noise))
        new_state = None if self.new_state is None else self.new_state.setdefault(ENTRY.format(number), {})
        return self._replace(params=params, state=state, noise=noise, new_state=new_state)


ENTRY = "/{}"
"""The name of the new state of one repetition of a loop; the name of a layer does not contain "/"."""


def _entry(tree: Params, number: int) -> dict[str, Any]:
    return {name: _entry(part, number) if isinstance(part, Mapping) else part[number] for name, part in tree.items()}


class Rule(NamedTuple):
    """A layer's forward and backward pass, written by hand in NumPy float64.

    A layer of one's own receives its rule from its constructor: `@fnet.constructor(reference=Rule(forward, backward))`.

    forward: (layer, scope, x) -> (y, cache), where cache is what backward needs from the forward pass.
    backward: (layer, scope, cache, g) -> (dx, gradients), where g = dL/dy is the cotangent of the output, dx = dL/dx
        that of the input, and gradients contains dL/dp under the name of every parameter p.
    state: (layer, scope, x) -> the new state, for a layer with non-trainable state.

    x, y, dx and g are arrays, or tuples or dicts of arrays for a layer with several inputs or outputs.
    """

    forward: Callable[[Layer, Scope, Any], tuple[Any, Any]]
    backward: Callable[[Layer, Scope, Any, Any], tuple[Any, Gradients]]
    state: Callable[[Layer, Scope, Any], dict[str, Any]] | None = None


class NoReference(LookupError):
    """A kind of layer or a loss does not have a hand-written derivative."""

    exit_status = 2


def rule_of(layer: Layer) -> Rule:
    """Return the hand-written rule of a layer: its own, or that of its kind.

    Raises:
        NoReference: if there is none, as for a layer of one's own whose constructor does not name a rule.
    """
    if layer.reference is not None:
        return layer.reference
    for family in FAMILIES:
        rule = getattr(importlib.import_module(f"fnet.reference.{family}"), layer.kind, None)
        if isinstance(rule, Rule):
            return rule
    raise NoReference(
        f"no hand-written backward exists for the layer '{layer.kind}', so JAX's gradient cannot be compared with one; "
        "give its constructor one: @fnet.constructor(reference=fnet.reference.Rule(forward, backward))"
    )


def forward(layer: Layer, scope: Scope, x: Any) -> tuple[Any, Any]:
    """Return the outputs of a layer or network, and the cache that `backward` needs.

    The rule of a composite is that of its expansion, unless it has one of its own. A layer that is used several times
    updates its state at every use.

    Raises:
        NoReference: if a layer does not have a hand-written rule.
    """
    layer = expanded(layer)
    rule = scope.rules.get(layer) or rule_of(layer)
    y, cache = rule.forward(layer, scope, x)
    if scope.new_state is not None and rule.state is not None:
        current = scope._replace(state=scope.new_state or scope.state)
        scope.new_state.update(rule.state(layer, current, x))
    return y, cache


def backward(layer: Layer, scope: Scope, cache: Any, g: Any) -> tuple[Any, Gradients]:
    """Return the gradients of the input and of every parameter, from the cotangent g = dL/dy of the outputs."""
    layer = expanded(layer)
    rule = scope.rules.get(layer) or rule_of(layer)
    return rule.backward(layer, scope, cache, g)


def expanded(layer: Layer) -> Layer:
    """Return the layer that has a rule: the expansion of a composite without one of its own, else the layer."""
    return layer if layer.expansion is None or layer.reference is not None else expanded(layer.expansion)


def add_gradients(gradients: Gradients, others: Gradients) -> Gradients:
    """Return the sum of two trees of gradients, as for variables with two uses; the second tree may lack entries.

    If the shapes of two gradients differ, the first one is returned unchanged, so that the gradient check reports it.
    """

    def add(g: Any, other: Any) -> Any:
        if isinstance(g, dict):
            return add_gradients(g, other or {})
        return g + other if other is not None and np.shape(other) == np.shape(g) else g

    return {name: add(g, others.get(name)) for name, g in gradients.items()}


def collect_state(new_state: Params) -> dict[str, Any]:
    """Return the new state of a network that a scope has received: the states of repetitions are stacked.

    >>> collect_state({"dense_1": {}, "repeat_1": {"/0": {"var": np.ones(2)}, "/1": {"var": np.zeros(2)}}})
    {'repeat_1': {'var': array([[1., 1.],
           [0., 0.]])}}
    """
    tree = {name: collect_state(part) if isinstance(part, Mapping) else part for name, part in new_state.items()}
    tree = {name: part for name, part in tree.items() if not isinstance(part, Mapping) or part}
    if ENTRY.format(0) in tree:
        return stacked([tree[ENTRY.format(number)] for number in range(len(tree))])
    return tree


def stacked(trees: Sequence[Any]) -> Any:
    """Return one tree whose arrays are those of all trees, stacked along a new first axis.

    >>> stacked([{"w": np.ones(2)}, {"w": np.zeros(2)}])
    {'w': array([[1., 1.],
           [0., 0.]])}
    """
    if isinstance(trees[0], Mapping):
        return {name: stacked([tree[name] for tree in trees]) for name in trees[0]}
    return np.stack(trees)


def map_arrays(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """Apply f to every array of the inputs or outputs of a layer, which may be a tuple or a dict of arrays.

    >>> map_arrays(lambda a, b: a + b, {"left": 1, "right": (2, 3)}, {"left": 10, "right": (20, 30)})
    {'left': 11, 'right': (22, 33)}
    """
    if isinstance(x, Mapping):
        return {name: map_arrays(f, part, *(other[name] for other in others)) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(map_arrays(f, *parts) for parts in zip(x, *others, strict=True))
    return f(x, *others)


def first_array(x: Any) -> Array:
    """Return the first array of the inputs of a layer."""
    while isinstance(x, Mapping | tuple):
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    return x
