"""The computational graph of the lectures: values forward, gradients back, one message at a time.

A node holds the value of one operation on other nodes. Backward, the nodes are visited from the output f to the inputs.
A node y whose gradient df/dy is complete sends each operand a the message df/dy * dy/da, upstream times local
derivative, and the messages that a node receives add up to its gradient. So

    add distributes:  y = a + b sends g to both;
    multiply swaps:   y = a b sends g b to a, and g a to b;
    max routes:       y = max(a, b) sends g to the greater, 0 to the other;
    copy adds:        a node that is used twice receives two messages, and its gradient is their sum.

A message is made of nodes itself. The gradient is thereby a graph too, which can be differentiated again.

Here are the arithmetic operations; `fnet.trace.functions` has exp, sin, relu and the others. For
f = sqrt(c) + cos(c) with c = a + exp(a) and a = x^2:

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

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_numbers = itertools.count()


class Undefined(ArithmeticError):
    """A value, or a derivative, that is no finite number. `node` is the one whose derivative it is, if it is one."""

    exit_status = 2

    def __init__(self, message: str, node: "Node | None" = None):
        super().__init__(message)
        self.node = node


class Node:
    """A value in the graph, and how it was made. Operators and this module's functions make new nodes of nodes.

    value: a float64 array; a number is an array of shape ().
    operation: what made it; None for a variable or a constant.
    operands: what it was made of.
    varies: whether it depends on a variable; a node that does not receives no message.
    """

    __slots__ = ("number", "operands", "operation", "value", "varies")
    __array_ufunc__ = None  # array + node is node.__radd__(array), not an array of nodes

    def __init__(self, value: np.ndarray, operation: "Operation | None", operands: "tuple[Node, ...]", varies: bool):
        self.value = value
        self.operation = operation
        self.operands = operands
        self.varies = varies
        self.number = next(_numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return self.value.shape

    def __add__(self, other: Any) -> "Node":
        return add(self, other)

    def __radd__(self, other: Any) -> "Node":
        return add(other, self)

    def __sub__(self, other: Any) -> "Node":
        return subtract(self, other)

    def __rsub__(self, other: Any) -> "Node":
        return subtract(other, self)

    def __mul__(self, other: Any) -> "Node":
        return multiply(self, other)

    def __rmul__(self, other: Any) -> "Node":
        return multiply(other, self)

    def __truediv__(self, other: Any) -> "Node":
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> "Node":
        return divide(other, self)

    def __pow__(self, other: Any) -> "Node":
        return power(self, other)

    def __rpow__(self, other: Any) -> "Node":
        return power(other, self)

    def __matmul__(self, other: Any) -> "Node":
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Node":
        return matmul(other, self)

    def __neg__(self) -> "Node":
        return negative(self)

    def __float__(self) -> float:
        return self.value.item()

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __repr__(self) -> str:
        made = self.operation.name if self.operation else "variable" if self.varies else "constant"
        return f"Node({made}, {self.value!s})"


class Operation(NamedTuple):
    """A function of nodes with its derivatives; calling it makes a node.

    name: as in "multiply".
    form: how it is written, with {a} and {b} for the operands.
    forward: its value, of arrays.
    derivatives: a pair for each operand: how the local derivative is written, in which {y} is the result; and, for an
        operation entry by entry, the derivative dy/da as a function of (y, a, b), all nodes; for any other, the message
        as a function of (g, y, a, b), where g = df/dy.
    pointwise: whether it works entry by entry; operands of different shapes are then broadcast.
    undefined: where there is no value: pairs of a test of the operands' arrays, and what to say.
    kink: where the left and the right derivative differ: a test of the operands' arrays, and which value is taken.
    """

    name: str
    form: str
    forward: Callable[..., np.ndarray]
    derivatives: tuple[tuple[str, Callable[..., Any]], ...]
    pointwise: bool = True
    undefined: tuple[tuple[Callable[..., Any], str], ...] = ()
    kink: tuple[Callable[..., Any], str] | None = None

    def __call__(self, *operands: Any) -> Node:
        """The node of this operation on nodes, arrays or numbers.

        Raises:
            Undefined: when the value is no finite number: division by zero, log of a negative number, overflow.
            ValueError: when the shapes of the operands do not fit.

        >>> log(-1.0)
        Traceback (most recent call last):
        fnet.reference.graph.Undefined: logarithm of a number that is not positive
        """
        nodes = tuple(as_node(operand) for operand in operands)
        arrays = [node.value for node in nodes]
        for test, message in self.undefined:
            if np.any(test(*arrays)):
                raise Undefined(message)
        with np.errstate(all="ignore"):
            try:
                value = np.asarray(self.forward(*arrays), dtype=np.float64)
            except ValueError:
                shapes = " and ".join(str(array.shape) for array in arrays)
                raise ValueError(f"{self.name}: the shapes {shapes} do not fit") from None
        if not np.isfinite(value).all():
            raise Undefined("overflow: the result exceeds the largest number in float64, 1.8e308")
        return Node(value, self, nodes, any(node.varies for node in nodes))


class Message(NamedTuple):
    """What one node sends another in the backward pass.

    sender: y.
    receiver: a, an operand of y.
    position: which operand: a node that is used twice by one operation receives two messages of it.
    local: dy/da, for an operation entry by entry.
    value: df/dy * dy/da, of the shape of a; for an operation that is not entry by entry, the matrix product or the like
        that this stands for.
    """

    sender: Node
    receiver: Node
    position: int
    local: Node | None
    value: Node


class Backward(NamedTuple):
    """A backward pass: the gradient of every node that it reached, and the messages in the order they were sent."""

    gradients: dict[Node, Node]
    messages: list[Message]


def variable(value: Any) -> Node:
    """A node that gradients are taken with respect to."""
    return Node(_finite(value), None, (), varies=True)


def constant(value: Any) -> Node:
    """A node that never changes."""
    return Node(_finite(value), None, (), varies=False)


def as_node(value: Any) -> Node:
    """The node itself, or the constant of a number or array."""
    return value if isinstance(value, Node) else constant(value)


def _finite(value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise Undefined(f"{value} is no finite number")
    return array


def ancestors(output: Node) -> list[Node]:
    """The nodes that the output is made of and that vary, each after its operands; the output is the last."""
    found: set[Node] = set()
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node.varies and node not in found:
            found.add(node)
            waiting.extend(node.operands)
    return sorted(found, key=lambda node: node.number)


def backward(output: Node) -> Backward:
    """The gradient of a number with respect to every node that it was computed from.

    Raises:
        ValueError: when the output is not one number.
        Undefined: when a derivative is infinite, as that of sqrt at 0; its `node` is the one with that derivative.
    """
    if output.shape:
        raise ValueError(
            f"a gradient is taken of one number, but this has the shape {output.shape}: take the sum or mean"
        )
    gradients = {output: constant(1.0)}
    messages = []
    for node in reversed(ancestors(output)):  # operands are older than what is made of them
        for position, operand in enumerate(node.operands):
            if not operand.varies:
                continue
            local, message = send(node, position, gradients[node])
            messages.append(Message(node, operand, position, local, message))
            gradients[operand] = gradients[operand] + message if operand in gradients else message
    return Backward(gradients, messages)


def send(node: Node, position: int, g: Node) -> tuple[Node | None, Node]:
    """dy/da for one operand a of the node y, if it works entry by entry, and the message: upstream times local."""
    assert node.operation is not None
    operand = node.operands[position]
    _, derivative = node.operation.derivatives[position]
    try:
        if not node.operation.pointwise:
            return None, derivative(g, node, *node.operands)
        local = as_node(derivative(node, *node.operands))
        return local, sum_to(g * local, operand.shape)
    except Undefined as error:
        raise Undefined(f"the derivative of {node.operation.name} is no finite number here ({error})", node) from None


def gradient(output: Node, *nodes: Node) -> tuple[Node, ...]:
    """df/d(node) for each of the nodes; 0 for one that the output does not depend on.

    >>> x, y, z = variable(-2.0), variable(5.0), variable(-4.0)
    >>> [float(g) for g in gradient((x + y) * z, x, y, z)]
    [-4.0, -4.0, 3.0]
    """
    gradients = backward(output).gradients
    return tuple(gradients[node] if node in gradients else constant(np.zeros(node.shape)) for node in nodes)


def kink(node: Node) -> str | None:
    """Which derivative is taken, when a node's operands lie where the left and the right one differ."""
    if node.operation is None or node.operation.kink is None:
        return None
    test, words = node.operation.kink
    return words if np.any(test(*(operand.value for operand in node.operands))) else None


# Arithmetic

add = Operation("add", "{a} + {b}", np.add, (("1", lambda y, a, b: 1), ("1", lambda y, a, b: 1)))

subtract = Operation("subtract", "{a} - {b}", np.subtract, (("1", lambda y, a, b: 1), ("-1", lambda y, a, b: -1)))

multiply = Operation("multiply", "{a} * {b}", np.multiply, (("{b}", lambda y, a, b: b), ("{a}", lambda y, a, b: a)))

divide = Operation(
    "divide",
    "{a} / {b}",
    np.divide,
    (("1 / {b}", lambda y, a, b: 1 / b), ("-{y} / {b}", lambda y, a, b: -y / b)),
    undefined=((lambda a, b: b == 0, "division by zero"),),
)

negative = Operation("negative", "-{a}", np.negative, (("-1", lambda y, a: -1),))

log = Operation(
    "log",
    "log({a})",
    np.log,
    (("1 / {a}", lambda y, a: 1 / a),),
    undefined=((lambda a: a <= 0, "logarithm of a number that is not positive"),),
)

# b a^(b-1) is 0 for b = 0, whatever a; a^b log(a) is taken as 0 for a = 0. The comparisons add 1 where they hold.
power = Operation(
    "power",
    "{a} ** {b}",
    np.power,
    (
        ("{b} {a}^({b} - 1)", lambda y, a, b: b * a ** (b - 1 + (b.value == 0))),
        ("{y} log({a})", lambda y, a, b: y * log(a + (a.value == 0))),
    ),
    undefined=(
        (lambda a, b: (a == 0) & (b < 0), "0 to a negative power is a division by zero"),
        (lambda a, b: (a < 0) & (b != np.floor(b)), "a negative number to a power that is not whole"),
    ),
)

# Shapes


def sum_to(a: Node, shape: tuple[int, ...]) -> Node:
    """The sum over the axes along which an array of this shape was broadcast: each entry was copied, and copy adds."""
    return a if a.shape == shape else _sum_to(shape)(a)


def _sum_to(shape: tuple[int, ...]) -> Operation:
    def forward(a: np.ndarray) -> np.ndarray:
        a = a.sum(axis=tuple(range(a.ndim - len(shape))))
        return a.sum(axis=tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True)

    return Operation("sum_to", "sum({a})", forward, (("g", lambda g, y, a: broadcast_to(g, a.shape)),), pointwise=False)


def broadcast_to(a: Node, shape: tuple[int, ...]) -> Node:
    """The array repeated up to this shape: the converse of `sum_to`."""
    return Operation(
        "broadcast_to",
        "broadcast({a})",
        lambda a: np.broadcast_to(a, shape),
        (("sum(g)", lambda g, y, a: sum_to(g, a.shape)),),
        pointwise=False,
    )(a)


def reshape(a: Node, shape: tuple[int, ...]) -> Node:
    """The same entries in another shape."""
    return Operation(
        "reshape",
        "reshape({a})",
        lambda a: np.reshape(a, shape),
        (("g", lambda g, y, a: reshape(g, a.shape)),),
        pointwise=False,
    )(a)


transpose = Operation(
    "transpose", "transpose({a})", np.transpose, (("g^T", lambda g, y, a: transpose(g)),), pointwise=False
)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not (a.ndim in (1, 2) and b.ndim in (1, 2)):
        raise ValueError("matmul takes vectors and matrices")
    return a @ b


def _matrices(g: Node, a: Node, b: Node) -> tuple[Node, Node, Node]:
    """The same product with a vector on the left as one row, and on the right as one column."""
    a = a if len(a.shape) == 2 else reshape(a, (1, *a.shape))
    b = b if len(b.shape) == 2 else reshape(b, (*b.shape, 1))
    return reshape(g, (a.shape[0], b.shape[1])), a, b


def _to_left(g: Node, y: Node, a: Node, b: Node) -> Node:
    """y_ij = sum_k a_ik b_kj, so df/da_ik = sum_j g_ij b_kj: g b^T."""
    g, _, matrix = _matrices(g, a, b)
    return reshape(g @ transpose(matrix), a.shape)


def _to_right(g: Node, y: Node, a: Node, b: Node) -> Node:
    """df/db_kj = sum_i a_ik g_ij: a^T g."""
    g, matrix, _ = _matrices(g, a, b)
    return reshape(transpose(matrix) @ g, b.shape)


matmul = Operation("matmul", "{a} @ {b}", _matmul, (("g {b}^T", _to_left), ("{a}^T g", _to_right)), pointwise=False)
