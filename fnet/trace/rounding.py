"""Bounds on rounding errors: how far a computed value or gradient may be from the exact one."""

import numpy as np

from fnet.trace.graph import ancestors, backward, send
from fnet.trace.nodes import Node, constant

ROUNDING = 1e-12
"""The allowed relative rounding error of one operation; a correctly rounded operation has at most 1.1e-16."""

SATURATING = ("tanh", "sigmoid", "softplus", "swish", "gelu", "elu", "softmax")
"""Operations that saturate, where 1 - y loses most digits: their derivatives have an absolute error of ROUNDING."""


def bounds(output: Node) -> tuple[dict[Node, float], dict[Node, float]]:
    """Bound the rounding error of the value and of the gradient of every node.

    Errors propagate from node to node like gradients, scaled by the size of the local derivatives, and every operation
    and message adds its own. The bounds therefore include the errors caused by cancellation, as in (1 + x) - 1.
    """
    gains = _gains(output)
    values = _value_bounds(output, gains)
    return values, _gradient_bounds(output, gains)


def _gains(output: Node) -> dict[tuple[Node, int], float]:
    """Return, for every node and index of an operand, the factor by which an error of the operand is amplified."""
    gains = {}
    for node in ancestors(output):
        for position, operand in enumerate(node.operands):
            if operand.varies:
                _, message = send(node, position, constant(np.ones(node.shape)))
                gains[node, position] = _size(message)
    return gains


def _value_bounds(output: Node, gains: dict[tuple[Node, int], float]) -> dict[Node, float]:
    allowed: dict[Node, float] = {}
    for node in ancestors(output):
        inherited = sum(gains[node, i] * allowed[operand] for i, operand in enumerate(node.operands) if operand.varies)
        allowed[node] = inherited + ROUNDING * (_size(node) + _saturates(node))
    return allowed


def _gradient_bounds(output: Node, gains: dict[tuple[Node, int], float]) -> dict[Node, float]:
    order = ancestors(output)
    gradients = backward(output).gradients
    allowed = dict.fromkeys(order, 0.0)
    for node in reversed(order):
        upstream = _size(gradients[node])
        for position, operand in enumerate(node.operands):
            if operand.varies:
                gain = gains[node, position]
                allowed[operand] += gain * allowed[node] + ROUNDING * upstream * (gain + _saturates(node))
    return allowed


def _size(node: Node) -> float:
    return float(np.max(np.abs(node.value), initial=0))


def _saturates(node: Node) -> bool:
    return node.operation is not None and node.operation.name in SATURATING


def compare(by_hand: np.ndarray, by_jax: np.ndarray, allowed: float) -> tuple[float, bool]:
    """Return the relative difference of two arrays, and whether the absolute one is allowed.

    >>> compare(np.array([1.0, 2.0]), np.array([1.0, 4.0]), 1e-9)
    (0.5, False)
    """
    if by_hand.shape != by_jax.shape or not np.isfinite(by_jax).all():
        return float("inf"), False
    absolute = float(np.max(np.abs(by_hand - by_jax), initial=0))
    largest = float(np.max(np.abs([by_hand, by_jax]), initial=0))
    return (absolute / largest if largest else 0.0), absolute <= allowed
