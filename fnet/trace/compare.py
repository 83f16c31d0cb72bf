"""Comparison of the gradients of an expression, node by node: the computational graph by hand against JAX.

Both run the same steps of the parsed expression in float64: the graph in NumPy with the derivatives of
`fnet.trace.functions`, JAX with its own functions and `jax.grad`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.trace.expression import ExpressionError, Program, build
from fnet.trace.functions import total
from fnet.trace.graph import Backward, backward, gradient, kink
from fnet.trace.nodes import Node, Undefined
from fnet.trace.parser import parse
from fnet.trace.result import LocalDerivative, MessageTrace, NodeTrace, SecondDerivative, Trace
from fnet.trace.rounding import bounds, compare
from fnet.trace.values import check_values, parse_values


def _power(base: Any, exponent: Any) -> jax.Array:
    """Compute a small integer power by multiplication, as JAX itself computes `x**2`."""
    if isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 16:
        return jnp.asarray(base) ** int(exponent)
    return jnp.power(base, exponent)


JAX_FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": jnp.multiply,
    "divide": jnp.divide,
    "negative": jnp.negative,
    "power": _power,
    "matmul": jnp.matmul,
    "transpose": jnp.transpose,
    "exp": jnp.exp,
    "log": jnp.log,
    "sqrt": jnp.sqrt,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "swish": jax.nn.swish,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "abs": jnp.abs,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "reduce_max": jnp.max,
    "reduce_min": jnp.min,
    "sum": jnp.sum,
    "mean": jnp.mean,
    "softmax": jax.nn.softmax,
}
"""JAX's function for each operation of the graph, by the operation's name."""

MAX_STEPS_SECOND = 60
"""The maximum number of steps for second derivatives, which take long to compile."""

MAX_NUMBERS_SECOND = 12
"""The maximum number of entries, over all variables, for second derivatives."""

Pair = tuple[str, str]
"""The names of two variables."""


class ByHand(NamedTuple):
    """Results of the computational graph.

    backward: gradients and messages.
    value_bounds, gradient_bounds: the allowed rounding errors at each node.
    second: for each pair of variables, the second derivative and its allowed rounding error.
    """

    backward: Backward
    value_bounds: dict[Node, float]
    gradient_bounds: dict[Node, float]
    second: dict[Pair, tuple[np.ndarray, float]]


class ByJax(NamedTuple):
    """Results of JAX: values and gradients by the number of the step, and second derivatives by pair of variables."""

    values: dict[int, np.ndarray]
    gradients: dict[int, np.ndarray]
    second: dict[Pair, np.ndarray]


def trace(expression: str, values: Iterable[str], *, order: int = 1) -> Trace:
    """Compute the value and the gradient of every node of an expression, by hand and by JAX.

    Args:
        expression: an expression such as "(x + y) * z"; assignments may precede it, as in "q = x + y; q * z".
        values: values of its variables, such as "x=2" or "w=[1, 2, 3]".
        order: 2 to compute second derivatives as well.

    Raises:
        ExpressionError: if the expression or its derivative cannot be computed; names the place.

    >>> result = trace("(x + y) * z", ["x=-2", "y=5", "z=-4"])
    >>> [(node.name, node.value.item(), node.gradient.item(), node.jax_gradient.item()) for node in result.nodes]
    [('x', -2.0, -4.0, -4.0), ('y', 5.0, -4.0, -4.0), ('z', -4.0, 3.0, 3.0), ('a', 3.0, -4.0, -4.0),
     ('b', -12.0, 1.0, 1.0)]
    """
    point = parse_values(values)
    program = parse(expression, point)
    check_values(program, point)
    nodes = build(program, point)
    _check_size(program, nodes, order)
    by_hand = _by_hand(program, nodes, order)
    by_jax = _by_jax(program, nodes, point, order)
    messages = _messages(program, nodes, by_hand.backward)
    varying = [number for number, step in enumerate(program.steps) if step.varies]
    variables_first = sorted(varying, key=lambda number: program.steps[number].operation is not None)
    return Trace(
        program.source,
        point,
        [_node(number, program, nodes[number], messages, by_hand, by_jax) for number in variables_first],
        messages,
        [
            SecondDerivative(pair, value, by_jax.second[pair], *compare(value, by_jax.second[pair], allowed))
            for pair, (value, allowed) in by_hand.second.items()
        ],
    )


def _check_size(program: Program, nodes: Sequence[Node], order: int) -> None:
    """Check that the result is a scalar and that the expression is small enough for second derivatives."""
    whole = (0, len(program.source))
    if nodes[-1].shape:
        message = f"only a scalar has a gradient, but the result has shape {nodes[-1].shape}: take sum(…) or mean(…)"
        raise ExpressionError(message, program.source, whole)
    if order == 1:
        return
    numbers = sum(nodes[number].value.size for number in program.variables.values())
    for count, limit, unit in ((len(nodes), MAX_STEPS_SECOND, "steps"), (numbers, MAX_NUMBERS_SECOND, "numbers")):
        if count > limit:
            message = f"second derivatives are limited to {limit} {unit}, but the expression has {count}"
            raise ExpressionError(message, program.source, whole)


def _by_hand(program: Program, nodes: Sequence[Node], order: int) -> ByHand:
    try:
        return ByHand(backward(nodes[-1]), *bounds(nodes[-1]), _second_by_hand(program, nodes) if order == 2 else {})
    except Undefined as error:
        whole = (0, len(program.source))
        place = next((step.place for step, node in zip(program.steps, nodes, strict=True) if node is error.node), whole)
        raise ExpressionError(str(error), program.source, place) from None


def _messages(program: Program, nodes: Sequence[Node], backward_pass: Backward) -> list[MessageTrace]:
    """List the messages of a backward pass under the names of the steps."""
    numbers = {node: number for number, node in enumerate(nodes)}
    remaining = Counter(message.receiver for message in backward_pass.messages)
    sums: dict[Node, np.ndarray] = {}
    messages = []
    for node, receiver, position, local, value in backward_pass.messages:
        remaining[receiver] -= 1
        sums[receiver] = value.value + sums.get(receiver, 0)
        receiver_name = program.steps[numbers[receiver]].name
        formula = program.derivative_formula(numbers[node], position)
        messages.append(
            MessageTrace(
                sender=program.steps[numbers[node]].name,
                receiver=receiver_name,
                upstream=backward_pass.gradients[node].value,
                local=LocalDerivative(receiver_name, formula, None if local is None else local.value),
                value=value.value,
                partial_sum=sums[receiver],
                last=not remaining[receiver],
            )
        )
    return messages


def _node(
    number: int, program: Program, node: Node, messages: Sequence[MessageTrace], by_hand: ByHand, by_jax: ByJax
) -> NodeTrace:
    step = program.steps[number]
    gradient = by_hand.backward.gradients[node].value
    value_difference, value_ok = compare(node.value, by_jax.values[number], by_hand.value_bounds[node])
    difference, ok = compare(gradient, by_jax.gradients[number], by_hand.gradient_bounds[node])
    return NodeTrace(
        name=step.name,
        operation=program.formula(number) if step.operation else "",
        operands=tuple(program.steps[operand].name for operand in step.operands if program.steps[operand].varies),
        value=node.value,
        local_derivatives=tuple(message.local for message in messages if message.sender == step.name),
        received=tuple((message.sender, message.value) for message in messages if message.receiver == step.name),
        gradient=gradient,
        jax_value=by_jax.values[number],
        jax_gradient=by_jax.gradients[number],
        difference=max(value_difference, difference),
        ok=value_ok and ok,
        kink=kink(node),
    )


def _second_by_hand(program: Program, nodes: Sequence[Node]) -> dict[Pair, tuple[np.ndarray, float]]:
    """Return for each pair of variables the second derivative (*first, *second) and its allowed rounding error."""
    variables = {name: nodes[number] for name, number in program.variables.items()}
    gradients = dict(zip(variables, gradient(nodes[-1], *variables.values()), strict=True))
    second = {}
    for first, slope in gradients.items():
        rows: dict[str, list[np.ndarray]] = {name: [] for name in variables}
        allowed = 0.0
        for unit in np.eye(slope.value.size):
            entry = total(slope * unit.reshape(slope.shape))
            if entry.varies:
                allowed = max(allowed, *bounds(entry)[1].values())
            for name, row in zip(variables, gradient(entry, *variables.values()), strict=True):
                rows[name].append(row.value)
        for name, variable in variables.items():
            second[first, name] = np.array(rows[name]).reshape((*slope.shape, *variable.shape)), allowed
    return second


def _by_jax(program: Program, nodes: Sequence[Node], values: Mapping[str, np.ndarray], order: int) -> ByJax:
    """Compute the value and df/d(step) of every varying step, and the second derivatives, by JAX.

    df/d(step) is the derivative, at 0, with respect to a number that is added to the step. Steps that do not vary are
    passed as Python numbers: only then does JAX know that x ** 1 has a second derivative at 0.
    """
    varying = [number for number, step in enumerate(program.steps) if step.varies]
    constants = {
        number: node.value if node.shape else node.value.item() for number, node in enumerate(nodes) if not node.varies
    }

    def run(variables, added):
        results: dict[int, Any] = dict(constants)
        for number in varying:
            step = program.steps[number]
            if step.operation is None:
                value = variables[step.name]
            else:
                value = JAX_FUNCTIONS[step.operation.name](*(results[operand] for operand in step.operands))
            results[number] = value + added[number]
        return results[varying[-1]], {number: results[number] for number in varying}

    @jax.jit
    def derivatives(variables, added):
        gradients, results = jax.grad(run, argnums=1, has_aux=True)(variables, added)
        second = jax.hessian(lambda variables: run(variables, added)[0])(variables) if order == 2 else {}
        return results, gradients, second

    with jax.enable_x64(True):
        added = {number: np.zeros(nodes[number].shape) for number in varying}
        results, gradients, second = jax.tree.map(np.asarray, derivatives(dict(values), added))
    pairs = {(first, name): second[first][name] for first in second for name in second[first]}
    return ByJax(results, gradients, pairs)
