"""The result of tracing an expression: nodes, messages of the backward pass, and the gradients on both sides."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class LocalDerivative(NamedTuple):
    """The derivative of a node with respect to one of its operands.

    operand: the operand's name.
    formula: notation of the derivative, such as "1 / (2 d)".
    value: its value; None for an operation that is not elementwise.
    """

    operand: str
    formula: str
    value: np.ndarray | None


class MessageTrace(NamedTuple):
    """One message of the backward pass.

    sender, receiver: the names of the two nodes.
    upstream: the gradient of the sender.
    local: the local derivative that it is multiplied by.
    value: the message.
    partial_sum: the sum of the messages that the receiver has received so far, this one included.
    last: whether it is the last message to the receiver, so that the partial sum is the receiver's gradient.
    """

    sender: str
    receiver: str
    upstream: np.ndarray
    local: LocalDerivative
    value: np.ndarray
    partial_sum: np.ndarray
    last: bool


class NodeTrace(NamedTuple):
    """One node, computed by hand and by JAX.

    name: the variable's name, an assigned name, or a letter.
    operation: the notation of the operation, such as "a + b"; empty for a variable.
    operands: the names of the operands that depend on a variable.
    value: the forward value.
    local_derivatives: its derivatives with respect to each of the operands.
    received: the messages that it received, as pairs of the sender's name and the value; they sum to the gradient.
    gradient: the gradient of the result with respect to the node, by hand.
    jax_value, jax_gradient: the value and the gradient by JAX.
    difference: the larger of the relative differences of value and gradient.
    ok: whether value and gradient agree with JAX's up to rounding.
    kink: the convention for the derivative if the node lies at a kink, else None.
    """

    name: str
    operation: str
    operands: tuple[str, ...]
    value: np.ndarray
    local_derivatives: tuple[LocalDerivative, ...]
    received: tuple[tuple[str, np.ndarray], ...]
    gradient: np.ndarray
    jax_value: np.ndarray
    jax_gradient: np.ndarray
    difference: float
    ok: bool
    kink: str | None


class SecondDerivative(NamedTuple):
    """A second derivative with respect to a pair of variables.

    names: the names of the two variables.
    value: the second derivative by hand, of shape (*first, *second).
    jax_value: the second derivative by JAX.
    difference: the relative difference of the two.
    ok: whether they agree up to rounding.
    """

    names: tuple[str, str]
    value: np.ndarray
    jax_value: np.ndarray
    difference: float
    ok: bool


class Trace(NamedTuple):
    """The computational graph of an expression, by hand and by JAX.

    expression: the text of the expression.
    values: the values of the variables.
    nodes: the nodes, variables first, then in the order of computation; the last is the result.
    messages: the messages of the backward pass, in the order they were sent.
    second: the second derivatives; empty unless requested.
    """

    expression: str
    values: Mapping[str, np.ndarray]
    nodes: Sequence[NodeTrace]
    messages: Sequence[MessageTrace]
    second: Sequence[SecondDerivative]

    @property
    def ok(self) -> bool:
        """Return whether all values and gradients agree with JAX's up to rounding."""
        return all(item.ok for item in (*self.nodes, *self.second))

    @property
    def shared(self) -> dict[str, list[str]]:
        """Return the nodes that are used more than once, each with the nodes that use it."""
        uses = {node.name: [sender for sender, _ in node.received] for node in self.nodes}
        return {name: users for name, users in uses.items() if len(users) > 1}

    @property
    def verdict(self) -> str:
        """Return a sentence that says that everything agrees, or which nodes do not."""
        wrong = [node.name for node in self.nodes if not node.ok]
        wrong += ["second derivative " + ", ".join(item.names) for item in self.second if not item.ok]
        if wrong:
            return f"hand and JAX disagree at: {', '.join(wrong)}"
        largest = max(item.difference for item in (*self.nodes, *self.second))
        return f"all values and gradients agree with JAX's up to rounding (largest relative difference {largest:.2g})"
