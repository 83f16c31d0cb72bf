"""The functions of the lectures as operations of the computational graph, each with its derivative.

At a kink, where the left and the right derivative differ, each follows JAX's convention, which its `kink` states:
relu'(0) = 0, abs'(0) = 1, leaky_relu'(0) = 1, and equal operands of max and min receive equal shares.

>>> from fnet.trace.graph import gradient, variable
>>> x = variable(0.0)
>>> [float(slope) for function in (sigmoid, tanh, relu) for slope in gradient(function(x), x)]
[0.25, 1.0, 0.0]
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fnet.reference.activation import logistic
from fnet.trace.nodes import Node, Operation, broadcast_to, log, matmul, transpose

exp = Operation("exp", "exp({a})", np.exp, (("{y}", lambda y, a: y),))

sqrt = Operation(
    "sqrt",
    "sqrt({a})",
    np.sqrt,
    (("1 / (2 {y})", lambda y, a: 1 / (2 * y)),),
    undefined=((lambda a: a < 0, "square root of a negative number"),),
)

sin = Operation("sin", "sin({a})", np.sin, (("cos({a})", lambda y, a: cos(a)),))

cos = Operation("cos", "cos({a})", np.cos, (("-sin({a})", lambda y, a: -sin(a)),))

tan = Operation("tan", "tan({a})", np.tan, (("1 + {y}^2", lambda y, a: 1 + y**2),))

tanh = Operation("tanh", "tanh({a})", np.tanh, (("1 - {y}^2", lambda y, a: 1 - y**2),))


sigmoid = Operation("sigmoid", "sigmoid({a})", logistic, (("{y} (1 - {y})", lambda y, a: y * (1 - y)),))

softplus = Operation(  # log(1 + e^a)
    "softplus", "softplus({a})", lambda a: np.logaddexp(a, 0), (("sigmoid({a})", lambda y, a: sigmoid(a)),)
)

swish = Operation(
    "swish",
    "swish({a})",
    lambda a: a * logistic(a),
    (("s + {y} (1 - s), s = sigmoid({a})", lambda y, a: sigmoid(a) + y * (1 - sigmoid(a))),),
)

_GELU = math.sqrt(2 / math.pi)


def _gelu_slope(y: Node, a: Node) -> Node:
    """(1 + t) / 2 + a / 2 (1 - t^2) du/da, with t = tanh(u) and u = sqrt(2/pi) (a + 0.044715 a^3)."""
    t = tanh(_GELU * (a + 0.044715 * a**3))
    return 0.5 * (1 + t) + 0.5 * a * (1 - t**2) * (_GELU * (1 + 3 * 0.044715 * a**2))


gelu = Operation(  # the lectures' form: a / 2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3)))
    "gelu",
    "gelu({a})",
    lambda a: 0.5 * a * (1 + np.tanh(_GELU * (a + 0.044715 * a**3))),
    (("gelu'({a})", _gelu_slope),),
)

relu = Operation(
    "relu",
    "relu({a})",
    lambda a: np.maximum(a, 0),
    (("1[{a} > 0]", lambda y, a: a.value > 0),),
    kink=(lambda a: a == 0, "relu'(0) is taken as 0"),
)

leaky_relu = Operation(
    "leaky_relu",
    "leaky_relu({a}, {b})",
    lambda a, b: np.where(a >= 0, a, b * a),
    (
        ("1 if {a} >= 0 else {b}", lambda y, a, b: (a.value >= 0) + (a.value < 0) * b),
        ("0 if {a} >= 0 else {a}", lambda y, a, b: (a.value < 0) * a),
    ),
    kink=(lambda a, b: (a == 0) & (b != 1), "leaky_relu'(0) is taken as 1"),
)

elu = Operation(  # with alpha = 1 the slope is 1 on both sides of 0
    "elu",
    "elu({a})",
    lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    (("1 if {a} > 0 else {y} + 1", lambda y, a: (a.value > 0) + (a.value <= 0) * (y + 1)),),
)

absolute = Operation(
    "abs",
    "abs({a})",
    np.abs,
    (("1 if {a} >= 0 else -1", lambda y, a: np.where(a.value >= 0, 1, -1)),),
    kink=(lambda a: a == 0, "abs'(0) is taken as 1"),
)


def _share(first: Node, second: Node) -> np.ndarray:
    """Return 1 where the first node is greater, 0 where the second is, and 1/2 where they are equal."""
    return np.heaviside(first.value - second.value, 0.5)


maximum = Operation(
    "max",
    "max({a}, {b})",
    np.maximum,
    (("1[{a} > {b}]", lambda y, a, b: _share(a, b)), ("1[{b} > {a}]", lambda y, a, b: _share(b, a))),
    kink=(np.equal, "max of equal numbers sends half of the gradient to each"),
)

minimum = Operation(
    "min",
    "min({a}, {b})",
    np.minimum,
    (("1[{a} < {b}]", lambda y, a, b: _share(b, a)), ("1[{b} < {a}]", lambda y, a, b: _share(a, b))),
    kink=(np.equal, "min of equal numbers sends half of the gradient to each"),
)

# Operations on whole arrays are not elementwise: instead of a local derivative, each defines its message

total = Operation(
    "sum", "sum({a})", np.sum, (("g for each", lambda g, y, a: broadcast_to(g, a.shape)),), elementwise=False
)

mean = Operation(
    "mean",
    "mean({a})",
    np.mean,
    (("g / n for each", lambda g, y, a: broadcast_to(g / a.value.size, a.shape)),),
    elementwise=False,
    undefined=((lambda a: a.size == 0, "mean of no numbers"),),
)


def _route(g: Node, y: Node, a: Node) -> Node:
    """Send equal shares of g to all entries that are equal to the result."""
    extreme = a.value == y.value
    return broadcast_to(g, a.shape) * (extreme / extreme.sum())


def _has_tie(extreme: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], bool]:
    """Return a test whether several entries of an array are equal to its extreme."""
    return lambda a: int(np.count_nonzero(a == extreme(a))) > 1


reduce_max = Operation(
    "reduce_max",
    "max({a})",
    np.max,
    (("g to the max", _route),),
    elementwise=False,
    kink=(_has_tie(np.max), "max of an array sends equal shares of the gradient to its largest entries"),
)

reduce_min = Operation(
    "reduce_min",
    "min({a})",
    np.min,
    (("g to the min", _route),),
    elementwise=False,
    kink=(_has_tie(np.min), "min of an array sends equal shares of the gradient to its smallest entries"),
)


def _softmax(a: np.ndarray) -> np.ndarray:
    """Compute e^(a_i) / sum_k e^(a_k) along the last axis, after subtracting max_k a_k to avoid overflow."""
    if a.ndim == 0:
        raise ValueError("softmax expects a vector or a matrix")
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _through_softmax(g: Node, y: Node, a: Node) -> Node:
    """dy_i/da_k = y_i (1[i=k] - y_k), so df/da_k = y_k (g_k - sum_i g_i y_i)."""
    size = a.shape[-1]
    sums = (g * y) @ np.ones((size, size))  # the sum along the last axis, repeated in each of its entries
    return y * (g - sums)


softmax = Operation(
    "softmax", "softmax({a})", _softmax, (("{y} (g - sum(g {y}))", _through_softmax),), elementwise=False
)


class Function(NamedTuple):
    """A function in expressions: an operation for each number of arguments, and defaults for the last arguments."""

    operations: Mapping[int, Operation]
    defaults: tuple[float, ...] = ()


def _unary(*operations: Operation) -> dict[str, Function]:
    return {operation.name: Function({1: operation}) for operation in operations}


FUNCTIONS: Mapping[str, Function] = {
    **_unary(exp, log, sqrt, sin, cos, tan, tanh, sigmoid, softplus, swish, gelu, relu, elu, absolute),
    "logistic": Function({1: sigmoid}),
    "ln": Function({1: log}),
    "leaky_relu": Function({2: leaky_relu}, defaults=(0.01,)),
    "max": Function({1: reduce_max, 2: maximum}),
    "min": Function({1: reduce_min, 2: minimum}),
    "sum": Function({1: total}),
    "mean": Function({1: mean}),
    "softmax": Function({1: softmax}),
    "dot": Function({2: matmul}),
    "transpose": Function({1: transpose}),
}
"""The functions that expressions may call, by name."""
