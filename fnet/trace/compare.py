"""The gradients of an expression: the computational graph by hand beside JAX, node by node.

Both follow the same steps of the parsed expression, the graph in NumPy with the derivatives of
`fnet.reference`, JAX with its own functions and `jax.grad`, in float64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.trace.expression import ExpressionError, Program, build
from fnet.trace.functions import total
from fnet.trace.graph import Node, Undefined, ancestors, backward, constant, gradient, kink, send
from fnet.trace.parser import check_values, parse, parse_values


def _power(base: Any, exponent: Any) -> jax.Array:
    """By products for a small whole number, as JAX computes `x**2` itself."""
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
    "largest": jnp.max,
    "smallest": jnp.min,
    "sum": jnp.sum,
    "mean": jnp.mean,
    "softmax": jax.nn.softmax,
}
"""JAX's function for each operation of the graph."""

ROUNDING = 1e-12
"""What rounding may change in one operation, relative to its result; exact arithmetic has 1.1e-16."""

SATURATING = ("tanh", "sigmoid", "softplus", "swish", "gelu", "elu", "softmax")
"""Operations that become flat: there 1 - y keeps few digits, and their derivatives are right to ROUNDING absolutely."""

MAX_STEPS_SECOND = 60
"""The most steps of which second derivatives are taken: compiling them takes long."""

MAX_SECOND = 12
"""The most numbers of which all second derivatives are taken."""


class Local(NamedTuple):
    """A local derivative: of the row's node with respect to the operand, how it is written, and its value.

    The value is None where the operation does not work entry by entry.
    """

    operand: str
    written: str
    value: np.ndarray | None


class Sent(NamedTuple):
    """A message of the backward pass, in the order of sending.

    upstream: the gradient of the sender.
    local: the local derivative that it is multiplied by.
    value: the message.
    gradient: that of the receiver as far as it is known, this message included.
    first: whether the receiver had none before.
    """

    sender: str
    receiver: str
    upstream: np.ndarray
    local: Local
    value: np.ndarray
    gradient: np.ndarray
    first: bool


class Row(NamedTuple):
    """One node.

    name: the variable's, an assigned one, or a letter.
    operation: as written; empty for a variable.
    operands: the names of those that vary.
    value: forward.
    locals: its local derivatives, with respect to each of the operands.
    messages: the names of the nodes that sent it a message, and what they sent; their sum is the gradient.
    gradient: by hand.
    jax_value, jax_gradient: the same by JAX.
    difference: the larger relative difference of the two.
    ok: whether both agree but for rounding.
    kink: which derivative was taken at a kink, if it lies at one.
    """

    name: str
    operation: str
    operands: tuple[str, ...]
    value: np.ndarray
    locals: tuple[Local, ...]
    messages: tuple[tuple[str, np.ndarray], ...]
    gradient: np.ndarray
    jax_value: np.ndarray
    jax_gradient: np.ndarray
    difference: float
    ok: bool
    kink: str | None


class Second(NamedTuple):
    """A second derivative with respect to two variables: by hand, by JAX, and whether they agree but for rounding."""

    names: tuple[str, str]
    value: np.ndarray
    jax_value: np.ndarray
    difference: float
    ok: bool


class Trace(NamedTuple):
    """What `trace` found.

    expression: the text.
    values: of the variables.
    rows: the nodes, variables first, then in the order of computation; the last is the result.
    sent: the messages of the backward pass, in their order.
    second: the second derivatives, if asked for.
    """

    expression: str
    values: Mapping[str, np.ndarray]
    rows: Sequence[Row]
    sent: Sequence[Sent]
    second: Sequence[Second]

    @property
    def ok(self) -> bool:
        """Whether hand and JAX agree everywhere."""
        return all(item.ok for item in (*self.rows, *self.second))

    @property
    def shared(self) -> dict[str, list[str]]:
        """The nodes that are used more than once, each with those that use it."""
        uses = {row.name: [name for name, _ in row.messages] for row in self.rows}
        return {name: users for name, users in uses.items() if len(users) > 1}

    @property
    def verdict(self) -> str:
        """One sentence."""
        wrong = [row.name for row in self.rows if not row.ok]
        wrong += ["second derivative " + ", ".join(item.names) for item in self.second if not item.ok]
        if wrong:
            return f"hand and JAX disagree at: {', '.join(wrong)}"
        largest = max(item.difference for item in (*self.rows, *self.second))
        return (
            f"every value and gradient agrees with JAX's but for rounding (largest relative difference {largest:.2g})"
        )


def trace(expression: str, values: Iterable[str], *, order: int = 1) -> Trace:
    """Values and gradients of every node of an expression.

    Args:
        expression: as in "(x + y) * z"; assignments may precede it, as in "q = x + y; q * z".
        values: of its variables, as in "x=2" or "w=[1, 2, 3]".
        order: 2 for the second derivatives as well.

    Raises:
        ExpressionError: when the expression, or its derivative, cannot be computed; with the place.

    >>> result = trace("(x + y) * z", ["x=-2", "y=5", "z=-4"])
    >>> [(row.name, row.value.item(), row.gradient.item(), row.jax_gradient.item()) for row in result.rows]
    [('x', -2.0, -4.0, -4.0), ('y', 5.0, -4.0, -4.0), ('z', -4.0, 3.0, 3.0), ('a', 3.0, -4.0, -4.0),
     ('b', -12.0, 1.0, 1.0)]
    """
    given = parse_values(values)
    program = parse(expression, given)
    check_values(program, given)
    nodes = build(program, given)
    whole = (0, len(program.source))
    if nodes[-1].shape:
        raise ExpressionError(
            f"the result has the shape {nodes[-1].shape}, but a gradient is taken of one number: "
            "take the sum(…) or mean(…)",
            program.source,
            whole,
        )
    if order == 2 and len(nodes) > MAX_STEPS_SECOND:
        raise ExpressionError(
            f"second derivatives are taken of at most {MAX_STEPS_SECOND} steps, but there are {len(nodes)}",
            program.source,
            whole,
        )
    numbers = {node: number for number, node in enumerate(nodes)}
    try:
        by_hand = backward(nodes[-1])
        of_nodes, of_gradients = bounds(nodes[-1])
        second = _second_by_hand(program, nodes) if order == 2 else {}
    except Undefined as error:
        place = program.steps[numbers[error.node]].place if error.node in numbers else whole
        raise ExpressionError(str(error), program.source, place) from None
    with jax.enable_x64(True):
        values_by_jax, gradients_by_jax, second_by_jax = _by_jax(program, nodes, given, order)

    names = [step.name for step in program.steps]
    sent = []
    sums: dict[Node, np.ndarray] = {}
    for message in by_hand.messages:
        first = message.receiver not in sums
        sums[message.receiver] = message.value.value + sums.get(message.receiver, 0)
        sender, receiver = numbers[message.sender], numbers[message.receiver]
        local = Local(
            names[receiver],
            program.derivative(sender, message.position),
            None if message.local is None else message.local.value,
        )
        upstream = by_hand.gradients[message.sender].value
        sent.append(
            Sent(names[sender], names[receiver], upstream, local, message.value.value, sums[message.receiver], first)
        )

    def row(number: int) -> Row:
        step, node, name = program.steps[number], nodes[number], names[number]
        found = by_hand.gradients[node].value
        pairs = (
            (node.value, values_by_jax[number], of_nodes[node]),
            (found, gradients_by_jax[number], of_gradients[node]),
        )
        differences = [_difference(*pair) for pair in pairs]
        return Row(
            name,
            program.written(number) if step.operation else "",
            tuple(names[operand] for operand in step.operands if program.steps[operand].varies),
            node.value,
            tuple(message.local for message in sent if message.sender == name),
            tuple((message.sender, message.value) for message in sent if message.receiver == name),
            found,
            values_by_jax[number],
            gradients_by_jax[number],
            max(relative for relative, _ in differences),
            all(ok for _, ok in differences),
            kink(node),
        )

    varying = [number for number, step in enumerate(program.steps) if step.varies]
    ordered = sorted(varying, key=lambda number: program.steps[number].operation is not None)
    seconds = [
        Second(pair, value, second_by_jax[pair], *_difference(value, second_by_jax[pair], bound))
        for pair, (value, bound) in second.items()
    ]
    return Trace(program.source, given, [row(number) for number in ordered], sent, seconds)


def bounds(output: Node) -> tuple[dict[Node, float], dict[Node, float]]:
    """How far rounding may carry the value of each node, and its gradient, from the exact ones.

    Errors pass from node to node as gradients do, by the local derivative's size, and every operation and message adds
    its own. So cancellation, as in (1 + x) - 1, allows as much as it costs.
    """
    order = ancestors(output)
    gradients = backward(output).gradients
    values: dict[Node, float] = {}
    gains: dict[tuple[Node, int], float] = {}
    for node in order:
        inherited = 0.0
        for position, operand in enumerate(node.operands):
            if operand.varies:
                _, message = send(node, position, constant(np.ones(node.shape)))
                gains[node, position] = _size(message)
                inherited += gains[node, position] * values[operand]
        values[node] = inherited + ROUNDING * (_size(node) + _saturates(node))
    allowed = dict.fromkeys(order, 0.0)
    for node in reversed(order):
        upstream = _size(gradients[node])
        for position, operand in enumerate(node.operands):
            if operand.varies:
                gain = gains[node, position]
                allowed[operand] += gain * allowed[node] + ROUNDING * upstream * (gain + _saturates(node))
    return values, allowed


def _size(node: Node) -> float:
    return float(np.max(np.abs(node.value), initial=0))


def _saturates(node: Node) -> bool:
    return node.operation is not None and node.operation.name in SATURATING


def _difference(by_hand: np.ndarray, by_jax: np.ndarray, allowed: float) -> tuple[float, bool]:
    """The relative difference, and whether the absolute one is allowed."""
    if by_hand.shape != by_jax.shape or not np.isfinite(by_jax).all():
        return float("inf"), False
    absolute = float(np.max(np.abs(by_hand - by_jax), initial=0))
    largest = float(np.max(np.abs([by_hand, by_jax]), initial=0))
    return (absolute / largest if largest else 0.0), absolute <= allowed


def _second_by_hand(program: Program, nodes: Sequence[Node]) -> dict[tuple[str, str], tuple[np.ndarray, float]]:
    """For each pair of variables the second derivatives, of shape (*first, *second), and what rounding allows."""
    variables = {name: nodes[number] for name, number in program.variables.items()}
    count = sum(variable.value.size for variable in variables.values())
    if count > MAX_SECOND:
        raise ExpressionError(
            f"second derivatives are taken of at most {MAX_SECOND} numbers, but there are {count}",
            program.source,
            (0, len(program.source)),
        )
    slopes = dict(zip(variables, gradient(nodes[-1], *variables.values()), strict=True))
    found = {}
    for first, slope in slopes.items():
        rows: dict[str, list[np.ndarray]] = {name: [] for name in variables}
        allowed = 0.0
        for entry in np.eye(slope.value.size):
            chosen = total(slope * entry.reshape(slope.shape))
            if chosen.varies:
                allowed = max(allowed, *bounds(chosen)[1].values())
            for name, second in zip(variables, gradient(chosen, *variables.values()), strict=True):
                rows[name].append(second.value)
        for name, variable in variables.items():
            found[first, name] = np.array(rows[name]).reshape((*slope.shape, *variable.shape)), allowed
    return found


def _by_jax(program: Program, nodes: Sequence[Node], values: Mapping[str, np.ndarray], order: int) -> Any:
    """The value of every step that varies and df/d(step), by the steps' numbers; the second derivatives; all by JAX.

    df/d(step) is the derivative with respect to a number that is added to the step, taken at 0. Steps that do not vary
    are constants, given as numbers: only of those does JAX know that x ** 1 has a second derivative at 0.
    """
    varying = [number for number, step in enumerate(program.steps) if step.varies]
    fixed = {
        number: node.value if node.shape else node.value.item() for number, node in enumerate(nodes) if not node.varies
    }

    def run(variables, added):
        results: dict[int, Any] = dict(fixed)
        for number in varying:
            step = program.steps[number]
            if step.operation is None:
                value = variables[step.name]
            else:
                value = JAX_FUNCTIONS[step.operation.name](*(results[operand] for operand in step.operands))
            results[number] = value + added[number]
        return results[varying[-1]], {number: results[number] for number in varying}

    @jax.jit
    def all_of(variables, added):
        gradients, results = jax.grad(run, argnums=1, has_aux=True)(variables, added)
        second = jax.hessian(lambda variables: run(variables, added)[0])(variables) if order == 2 else {}
        return results, gradients, second

    added = {number: np.zeros(nodes[number].shape) for number in varying}
    results, gradients, second = jax.tree.map(np.asarray, all_of(dict(values), added))
    return results, gradients, {(first, name): second[first][name] for first in second for name in second[first]}
