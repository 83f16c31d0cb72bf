"""The computational graph of the lectures: values forward, gradients backward, one message at a time.

Backward, the nodes are visited from the output f to the inputs. A node y whose gradient df/dy is complete sends each
operand a the message df/dy * dy/da, upstream gradient times local derivative, and the messages that a node receives add
up to its gradient. So

    add distributes:  y = a + b sends g to both;
    multiply swaps:   y = a b sends g b to a, and g a to b;
    max routes:       y = max(a, b) sends g to the greater, 0 to the other;
    copy adds:        a node that is used twice receives two messages, and its gradient is their sum.

A message is itself made of nodes. Thus the gradient is a graph too, which can be differentiated again.

For f = sqrt(c) + cos(c) with c = a + exp(a) and a = x^2:

>>> from fnet.trace.functions import cos, exp, sqrt
>>> x = variable(2.0)
>>> a = x**2
>>> c = a + exp(a)
>>> f = sqrt(c) + cos(c)
>>> df_da, df_dx = gradient(f, a, x)
>>> print(f"{f:.3f} {df_da:.3f} {df_dx:.2f}")
7.194 -45.717 -182.87

The second derivative is the gradient of a gradient:

>>> x = variable(1.0)
>>> (slope,) = gradient(2 * x**3 + 2 * exp(2 * x), x)
>>> (curvature,) = gradient(slope, x)
>>> print(f"{slope:.3f} {curvature:.3f}")
35.556 71.112
"""

from typing import NamedTuple

import numpy as np

from fnet.trace.nodes import Node, Undefined, as_node, constant, sum_to
from fnet.trace.nodes import variable as variable


class Message(NamedTuple):
    """A message from one node to another in the backward pass.

    sender: the node y.
    receiver: the node a, an operand of y.
    position: the index of the operand; a node used twice by one operation receives two messages from it.
    local: dy/da for an elementwise operation, else None.
    value: df/dy * dy/da, of the shape of a; for an operation that is not elementwise, the corresponding
        vector-Jacobian product, such as a matrix product.
    """

    sender: Node
    receiver: Node
    position: int
    local: Node | None
    value: Node


class Backward(NamedTuple):
    """The gradient of every node that a backward pass reached, and its messages in the order they were sent."""

    gradients: dict[Node, Node]
    messages: list[Message]


def ancestors(output: Node) -> list[Node]:
    """List the varying nodes that the output depends on, each after its operands; the output is the last."""
    visited: set[Node] = set()
    pending = [output]
    while pending:
        node = pending.pop()
        if node.varies and node not in visited:
            visited.add(node)
            pending.extend(node.operands)
    return sorted(visited, key=lambda node: node.number)


def backward(output: Node) -> Backward:
    """Compute the gradient of a scalar with respect to every node that it depends on.

    Raises:
        ValueError: if the output is not a scalar.
        Undefined: if a derivative is infinite, such as that of sqrt at 0; `node` is the node with that derivative.
    """
    if output.shape:
        raise ValueError(f"only a scalar has a gradient, but the output has shape {output.shape}: take its sum or mean")
    gradients = {output: constant(1.0)}
    messages = []
    for node in reversed(ancestors(output)):
        for position, operand in enumerate(node.operands):
            if not operand.varies:
                continue
            local, message = send(node, position, gradients[node])
            messages.append(Message(node, operand, position, local, message))
            gradients[operand] = gradients[operand] + message if operand in gradients else message
    return Backward(gradients, messages)


def send(node: Node, position: int, g: Node) -> tuple[Node | None, Node]:
    """Return dy/da for one operand a of the node y, if elementwise, and the message: upstream times local."""
    assert node.operation is not None
    operand = node.operands[position]
    _, derivative = node.operation.derivatives[position]
    try:
        if not node.operation.elementwise:
            return None, derivative(g, node, *node.operands)
        local = as_node(derivative(node, *node.operands))
        return local, sum_to(g * local, operand.shape)
    except Undefined as error:
        raise Undefined(f"the derivative of {node.operation.name} is not finite here ({error})", node) from None


def gradient(output: Node, *nodes: Node) -> tuple[Node, ...]:
    """Return df/d(node) for each of the nodes; it is 0 for a node that the output does not depend on.

    >>> x, y, z = variable(-2.0), variable(5.0), variable(-4.0)
    >>> [float(g) for g in gradient((x + y) * z, x, y, z)]
    [-4.0, -4.0, 3.0]
    """
    gradients = backward(output).gradients
    return tuple(gradients[node] if node in gradients else constant(np.zeros(node.shape)) for node in nodes)


def kink(node: Node) -> str | None:
    """Return the convention for the derivative if the operands of a node lie at a kink, else None."""
    if node.operation is None or node.operation.kink is None:
        return None
    at_kink, convention = node.operation.kink
    return convention if np.any(at_kink(*(operand.value for operand in node.operands))) else None
