"""Backpropagation through a whole network by hand: the training loss and the gradients of parameters and input."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import WEIGHT_LEAVES
from fnet.reference.losses import loss_of
from fnet.reference.masking import expand, without_masked_steps, without_padding
from fnet.reference.rule import (
    Array,
    Gradients,
    Params,
    Rule,
    Scope,
    add_gradients,
    backward,
    collect_state,
    first_array,
    forward,
    map_arrays,
)
from fnet.regularization import Penalties


class Result(NamedTuple):
    """Results of one forward and one backward pass.

    outputs: the network's outputs (batch, ...), or a tuple or dict of arrays.
    loss: the training loss, sum(mask * L_i) / sum(mask) plus the penalty.
    params: dloss/dp for every parameter p, nested as the parameters are.
    x: dloss/dx, with the shape of the input.
    state: the new non-trainable state of the layers that have one, nested as the parameters are.
    """

    outputs: Any
    loss: float
    params: Gradients
    x: Any
    state: dict[str, Any]


def loss_and_gradients(
    net: Layer,
    params: Params,
    x: Any,
    targets: Any,
    loss: str | Callable[..., tuple[Array, Array]],
    *,
    state: Params = MappingProxyType({}),
    noise: Params = MappingProxyType({}),
    mask: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    train: bool = True,
    regularization: Penalties = Penalties(),
    rules: Mapping[Layer, Rule] = MappingProxyType({}),
) -> Result:
    """Backpropagate the training loss L = sum_i w_i m_i L_i / sum_i w_i m_i + the penalty on the parameters.

    The cotangent of example i is w_i m_i / sum(w m) times the cotangent of its loss: the gradient of a mean is the mean
    of the gradients. With a mask (batch, time) and outputs (batch, time, ...) every step is an example of its own. If
    the outputs do not have a time axis, an example is real if any of its steps is. Masked examples become copies of the
    first real one, and masked steps 0, so that nothing depends on their content; their dloss/dx is 0.

    Args:
        net: the network; only its description is used, not its functions.
        params: nested dicts of arrays, converted to float64.
        x: examples (batch, ...), or a tuple or dict of arrays.
        targets: targets of the loss, (batch, ...), or a tuple or dict of arrays.
        loss: the name of the loss, or a function (outputs, targets) -> (losses, cotangents) as in
            `fnet.reference.losses`, such as `functools.partial(huber, delta=2.0)`.
        state: non-trainable state.
        noise: the random masks of dropout layers, nested like the parameters.
        mask: (batch,), True for real examples, or (batch, time) for real steps.
        weight: (batch,), the weights w of the examples, or (batch, time) of their steps; by default 1.
        train: whether the network is in training mode.
        regularization: the penalties; max_norm is not part of the loss.
        rules: rules of layers that have no hand-written rule.

    Raises:
        NoReference: if a layer or the loss does not have a hand-written rule.
    """
    params, x = _float64(params), map_arrays(_real, x)
    if mask is not None:
        targets = map_arrays(np.asarray, targets)
        x, targets = without_masked_steps(without_padding(x, mask), mask), without_padding(targets, mask)
    scope = Scope(params, _float64(state), noise, train, mask, {}, rules)
    weights = np.ones(len(first_array(x))) if mask is None else np.asarray(mask, np.float64)
    weights = weights if weight is None else (weights.T * np.asarray(weight, np.float64).T).T
    outputs, cache = forward(net, scope, x)
    examples = outputs
    if weights.ndim == 2 and first_array(outputs).ndim > 2:
        examples, targets = (map_arrays(_flat_steps, part) for part in (outputs, targets))
        weights = weights.reshape(-1)
    elif weights.ndim == 2:
        weights = weights.max(axis=1)
    weights = weights / weights.sum()
    losses, cotangents = (loss_of(loss) if isinstance(loss, str) else loss)(examples, targets)

    def weighted(cotangent: Array, y: Array) -> Array:
        return (cotangent * expand(weights, cotangent.ndim)).reshape(y.shape)

    dx, gradients = backward(net, scope, cache, map_arrays(weighted, cotangents, outputs))
    dx = dx if mask is None else without_masked_steps(dx, mask)
    penalty_value, penalty_gradients = penalty(params, regularization.for_network(net))
    value, gradients = float(weights @ losses + penalty_value), add_gradients(gradients, penalty_gradients)
    return Result(outputs, value, gradients, dx, collect_state(scope.new_state or {}))


def penalty(params: Params, regularization: Penalties, path: tuple[str, ...] = ()) -> tuple[float, Gradients]:
    """Return the sum over weights w of l1 sum|w| + (l2/2) sum w^2, and its gradients l1 sign(w) + l2 w.

    l1 and l2 are the coefficients for the layer that w belongs to; sign(0) = 0.

    Args:
        params: parameters of the layer at `path`.
        regularization: the penalties.
        path: names that lead to the layer; empty for the whole network.
    """
    l1, l2 = regularization.coefficients_of(path)
    total, gradients = 0.0, {}
    for name, p in params.items():
        if isinstance(p, Mapping):
            child_total, gradients[name] = penalty(p, regularization, (*path, name))
            total += child_total
        elif name in WEIGHT_LEAVES:
            total += l1 * np.abs(p).sum() + l2 / 2 * np.sum(p**2)
            gradients[name] = l1 * np.sign(p) + l2 * p
    return total, gradients


def _float64(params: Params) -> dict[str, Any]:
    return {name: _float64(p) if isinstance(p, Mapping) else np.asarray(p, np.float64) for name, p in params.items()}


def _flat_steps(values: Array) -> Array:
    """(batch, time, ...) -> (batch * time, ...)."""
    return values.reshape(-1, *values.shape[2:])


def _real(x: Any) -> np.ndarray:
    """Convert real numbers to float64; indices stay as they are."""
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float64)
