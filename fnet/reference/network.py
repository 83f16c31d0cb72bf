"""A whole network by hand: its outputs, its training loss, and the gradient of every parameter and of the input."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import WEIGHT_LEAVES
from fnet.reference.losses import loss_of
from fnet.reference.rule import Array, Gradients, Params, Scope, add_gradients, backward, forward
from fnet.regularization import Penalties


class Result(NamedTuple):
    """What one forward and one backward pass give.

    outputs: the network's outputs, (batch, ...).
    loss: the training loss, sum(mask * L_i) / sum(mask) plus the penalty.
    params: dloss/dp for every parameter p, nested as the parameters are.
    x: dloss/dx, of the shape of the input.
    """

    outputs: Array
    loss: float
    params: Gradients
    x: Array


def loss_and_gradients(
    net: Layer,
    params: Params,
    x: Array,
    targets: np.ndarray,
    loss: str | Callable[..., tuple[Array, Array]],
    *,
    state: Params = MappingProxyType({}),
    noise: Params = MappingProxyType({}),
    mask: np.ndarray | None = None,
    regularization: Penalties = Penalties(),
) -> Result:
    """Backpropagation of the training loss L = sum_i m_i L_i / sum_i m_i + the penalty on the weights.

    The cotangent of example i is m_i / sum(m) times that of its own loss: the gradient of a mean is the mean of the
    gradients. With a mask (batch, time) and outputs (batch, time, ...) every step is an example of its own; where the
    outputs have no time axis, an example counts when any of its steps does.

    Args:
        net: the network, as a description; its functions are not used.
        params: nested dicts of arrays, computed with in float64.
        x: a batch of examples, (batch, ...).
        targets: what the loss compares the outputs with.
        loss: the name of the loss, or a function (outputs, targets) -> (losses, cotangents) as in
            `fnet.reference.losses`, such as `functools.partial(huber, delta=2.0)`.
        state: non-trainable state.
        noise: the random masks that dropout layers are handed, nested as the parameters are.
        mask: (batch,), True for real examples, or (batch, time) for real steps.
        regularization: the penalties; max_norm is no part of the loss.

    Raises:
        NoReference: when a layer or the loss has no hand-written rule.
    """
    params, x = _float64(params), np.asarray(x, np.float64)
    scope = Scope(params, _float64(state), noise, True, mask)
    weights = np.ones(len(x)) if mask is None else np.asarray(mask, np.float64)
    outputs, cache = forward(net, scope, x)
    examples = outputs
    if weights.ndim == 2 and outputs.ndim > 2:
        examples, targets = (part.reshape(-1, *part.shape[2:]) for part in (outputs, targets))
        weights = weights.reshape(-1)
    elif weights.ndim == 2:
        weights = weights.max(axis=1)
    weights = weights / weights.sum()
    losses, cotangents = (loss_of(loss) if isinstance(loss, str) else loss)(examples, targets)
    g = cotangents * weights.reshape(-1, *[1] * (examples.ndim - 1))
    dx, gradients = backward(net, scope, cache, g.reshape(outputs.shape))
    of_weights, of_penalty = penalty(params, regularization)
    return Result(outputs, float(weights @ losses + of_weights), add_gradients(gradients, of_penalty), dx)


def penalty(params: Params, regularization: Penalties, path: tuple[str, ...] = ()) -> tuple[float, Gradients]:
    """Sum over the weights w of l1 sum|w| + (l2/2) sum w^2, and its gradient l1 sign(w) + l2 w at each of them.

    l1 and l2 are those of the layer whose weight w is; sign(0) = 0.

    Args:
        params: of the layer that the path leads to.
        regularization: the penalties.
        path: the names that lead there; empty for the whole network.
    """
    l1, l2 = regularization.coefficients_of(path)
    total, gradients = 0.0, {}
    for name, p in params.items():
        if isinstance(p, Mapping):
            of_child, gradients[name] = penalty(p, regularization, (*path, name))
            total += of_child
        elif name in WEIGHT_LEAVES:
            total += l1 * np.abs(p).sum() + l2 / 2 * np.sum(p**2)
            gradients[name] = l1 * np.sign(p) + l2 * p
    return total, gradients


def _float64(params: Params) -> dict[str, Any]:
    return {name: _float64(p) if isinstance(p, Mapping) else np.asarray(p, np.float64) for name, p in params.items()}
