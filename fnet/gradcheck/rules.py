"""Rules by JAX for the layers and losses that have no hand-written rule, so that the others are still checked by hand.

Such a rule is the layer's own derivative by JAX, so that finite differences are the only independent check of it.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.gradcheck.trees import differentiable
from fnet.losses import Loss, loss_name_of
from fnet.reference.losses import loss_of
from fnet.reference.rule import NoReference, Rule, Scope, expanded, rule_of

UNCHECKED = "no rule by hand"
"""The remark on the rows of a layer or loss without a hand-written rule."""

LossByHand = Callable[[Any, Any], tuple[np.ndarray, Any]]


def layers_without_rule(net: Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """Yield (path, layer) for every layer without a hand-written rule; the layers inside it are not visited."""
    layer = expanded(net)
    try:
        rule_of(layer)
    except NoReference:
        yield path, layer
        return
    for name, child in layer.children:
        yield from layers_without_rule(child, (*path, name))


def rules_by_jax(net: Layer, key: jax.Array) -> Mapping[Layer, Rule]:
    """Return rules by JAX for the layers of a network that have no hand-written rule.

    Args:
        net: the network.
        key: a random key of the implementation of the keys in the noise.
    """
    return {layer: _rule_by_jax(jax.random.key_impl(key)) for _, layer in layers_without_rule(net)}


def _rule_by_jax(key_implementation: Any) -> Rule:
    """Return the rule that calls JAX; its random key is the leaf "key" of the noise."""

    def arguments(scope: Scope) -> dict[str, Any]:
        data = scope.noise.get("key")
        key = None if data is None else jax.random.wrap_key_data(jnp.asarray(data), impl=key_implementation)
        return {"train": scope.train, "key": key, "mask": scope.mask}

    def forward(layer: Layer, scope: Scope, x: Any) -> tuple[Any, Any]:
        indices = layer.indices is not None or not differentiable("input", x)
        x = x.astype(np.int32) if indices else x
        with jax.enable_x64(True):

            def f(params, x):
                return layer.apply(params, scope.state, x, **arguments(scope))[0]

            params, inputs = jax.tree.map(jnp.asarray, (scope.params, x))
            if indices:
                y, pull = jax.vjp(lambda params: f(params, inputs), params)
                return np.asarray(y), lambda g: (np.zeros(x.shape), *pull(g))
            y, pull = jax.vjp(f, params, inputs)
        return jax.tree.map(np.asarray, y), lambda g: pull(g)[::-1]

    def backward(_: Layer, __: Scope, cache: Any, g: Any) -> tuple[Any, dict[str, Any]]:
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, cache(jax.tree.map(jnp.asarray, g)))

    def state(layer: Layer, scope: Scope, x: Any) -> dict[str, Any]:
        with jax.enable_x64(True):
            _, new = layer.apply(scope.params, scope.state, jax.tree.map(jnp.asarray, x), **arguments(scope))
        return jax.tree.map(np.asarray, new)

    return Rule(forward, backward, state)


def loss_by_hand(loss: Loss) -> tuple[LossByHand, bool]:
    """Return the hand-written loss with its settings, or else JAX's derivative, and whether it is hand-written."""
    name, settings = loss_name_of(loss.function) or ("", {})
    if loss.reference is not None:
        return loss.reference, True
    if name:
        return functools.partial(loss_of(name), **settings), True

    def by_jax(outputs: Any, targets: Any) -> tuple[np.ndarray, Any]:
        with jax.enable_x64(True):
            outputs, targets = jax.tree.map(jnp.asarray, (outputs, targets))
            losses, pull = jax.vjp(lambda outputs: loss.function(outputs, targets), outputs)
            return np.asarray(losses), jax.tree.map(np.asarray, pull(jnp.ones_like(losses))[0])

    return by_jax, False
