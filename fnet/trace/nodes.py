"""Nodes of a computational graph, and the operations that make new nodes from them.

This module defines arithmetic and operations on shapes; `fnet.trace.functions` defines exp, sin, relu and others.

>>> x = variable(3.0)
>>> y = 2 * x**2
>>> y, y.operands[1].operation.name
(Node(multiply, 18.0), 'power')
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_numbers = itertools.count()


class Undefined(ArithmeticError):
    """A value or a derivative is not a finite number.

    node: the node whose derivative is not finite; None if a value is not finite.
    """

    exit_status = 2

    def __init__(self, message: str, node: "Node | None" = None):
        super().__init__(message)
        self.node = node


class Node:
    """A value in the graph and how it was computed; Python's operators applied to nodes make new nodes.

    value: a float64 array; a number is an array of shape ().
    operation: the operation that computed it; None for a variable or a constant.
    operands: the nodes that it was computed from.
    varies: whether it depends on a variable; a node that does not vary does not receive messages.
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
        """Shape of the value."""
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
        origin = self.operation.name if self.operation else "variable" if self.varies else "constant"
        return f"Node({origin}, {self.value!s})"


class Operation(NamedTuple):
    """A function of nodes with its derivatives; calling it makes a node.

    name: its name, such as "multiply".
    formula: its notation, with {a} and {b} for the operands.
    forward: computes its value from arrays.
    derivatives: a pair for each operand: the notation of the local derivative, in which {y} is the result; and a
        function. For an elementwise operation the function maps the nodes (y, a, b) to the derivative dy/da; for any
        other operation it maps (g, y, a, b), where g = df/dy, to the message.
    elementwise: whether it is elementwise; operands of different shapes are then broadcast.
    undefined: where its value is undefined: pairs of a test on the operands' arrays and a message.
    kink: where the left and the right derivative differ: a test on the operands' arrays, and the convention.
    """

    name: str
    formula: str
    forward: Callable[..., np.ndarray]
    derivatives: tuple[tuple[str, Callable[..., Any]], ...]
    elementwise: bool = True
    undefined: tuple[tuple[Callable[..., Any], str], ...] = ()
    kink: tuple[Callable[..., Any], str] | None = None

    def __call__(self, *operands: Any) -> Node:
        """Apply the operation to nodes, arrays or numbers.

        Raises:
            Undefined: if the value is not finite: division by zero, log of a negative number, overflow.
            ValueError: if it is not defined for the shapes of the operands.

        >>> log(-1.0)
        Traceback (most recent call last):
        fnet.trace.nodes.Undefined: logarithm of a number that is not positive
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
                raise ValueError(f"{self.name} is not defined for shapes {shapes}") from None
        if not np.isfinite(value).all():
            raise Undefined("overflow: the result exceeds the largest float64, 1.8e308")
        return Node(value, self, nodes, any(node.varies for node in nodes))


def variable(value: Any) -> Node:
    """Return a node that gradients can be taken with respect to."""
    return Node(_finite(value), None, (), varies=True)


def constant(value: Any) -> Node:
    """Return a node that gradients are not taken with respect to."""
    return Node(_finite(value), None, (), varies=False)


def as_node(value: Any) -> Node:
    """Return a node as it is, and a number or an array as a constant."""
    return value if isinstance(value, Node) else constant(value)


def _finite(value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise Undefined(f"{value} is not a finite number")
    return array


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

# b a^(b-1) is 0 for b = 0, whatever a is; a^b log(a) is taken as 0 for a = 0. In these cases the comparisons add 1 to
# the exponent or to the argument of log, so that the other factor is finite.
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
        (lambda a, b: (a < 0) & (b != np.floor(b)), "a negative number to a power that is not an integer"),
    ),
)

# Shapes


def sum_to(a: Node, shape: tuple[int, ...]) -> Node:
    """Sum over the axes along which an array of this shape was broadcast; broadcasting copies, and copy adds."""
    return a if a.shape == shape else _sum_to(shape)(a)


def _sum_to(shape: tuple[int, ...]) -> Operation:
    def forward(a: np.ndarray) -> np.ndarray:
        a = a.sum(axis=tuple(range(a.ndim - len(shape))))
        return a.sum(axis=tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True)

    return Operation(
        "sum_to", "sum({a})", forward, (("g", lambda g, y, a: broadcast_to(g, a.shape)),), elementwise=False
    )


def broadcast_to(a: Node, shape: tuple[int, ...]) -> Node:
    """Broadcast an array to a shape: the transpose of `sum_to`."""
    return Operation(
        "broadcast_to",
        "broadcast({a})",
        lambda a: np.broadcast_to(a, shape),
        (("sum(g)", lambda g, y, a: sum_to(g, a.shape)),),
        elementwise=False,
    )(a)


def reshape(a: Node, shape: tuple[int, ...]) -> Node:
    """Return the same entries in another shape."""
    return Operation(
        "reshape",
        "reshape({a})",
        lambda a: np.reshape(a, shape),
        (("g", lambda g, y, a: reshape(g, a.shape)),),
        elementwise=False,
    )(a)


transpose = Operation(
    "transpose", "transpose({a})", np.transpose, (("g^T", lambda g, y, a: transpose(g)),), elementwise=False
)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not (a.ndim in (1, 2) and b.ndim in (1, 2)):
        raise ValueError("matmul expects vectors or matrices")
    return a @ b


def _matrices(g: Node, a: Node, b: Node) -> tuple[Node, Node, Node]:
    """Return g, a and b as matrices: a vector on the left becomes a row, a vector on the right a column."""
    a = a if len(a.shape) == 2 else reshape(a, (1, *a.shape))
    b = b if len(b.shape) == 2 else reshape(b, (*b.shape, 1))
    return reshape(g, (a.shape[0], b.shape[1])), a, b


def _to_left_operand(g: Node, y: Node, a: Node, b: Node) -> Node:
    """y_ij = sum_k a_ik b_kj, so df/da_ik = sum_j g_ij b_kj: g b^T."""
    g, _, matrix = _matrices(g, a, b)
    return reshape(g @ transpose(matrix), a.shape)


def _to_right_operand(g: Node, y: Node, a: Node, b: Node) -> Node:
    """df/db_kj = sum_i a_ik g_ij: a^T g."""
    g, matrix, _ = _matrices(g, a, b)
    return reshape(transpose(matrix) @ g, b.shape)


matmul = Operation(
    "matmul",
    "{a} @ {b}",
    _matmul,
    (("g {b}^T", _to_left_operand), ("{a}^T g", _to_right_operand)),
    elementwise=False,
)
