"""The output of `fnet trace`: a table of the nodes, the backward pass message by message, and JSON."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fnet.trace.result import LocalDerivative, MessageTrace, NodeTrace, SecondDerivative, Trace

ENTRIES = 8
"""An array with more entries is abbreviated to its shape and its first and last entry."""

DIGITS, ALL_DIGITS = 5, 15
"""Significant digits of a number, as in the lectures, and of a wrong number."""


def number(value: np.ndarray, digits: int = DIGITS) -> str:
    """Write a number, or an array in brackets; a large array is abbreviated.

    >>> number(np.array(-182.86594)), number(np.array([1.0, 2.5])), number(np.zeros((3, 4)))
    ('-182.87', '[1 2.5]', '(3, 4): 0 … 0')
    """

    def one(entry: float) -> str:
        return f"{entry + 0.0:.{digits}g}"

    def bracketed(entries: Any) -> str:
        return f"[{' '.join(map(bracketed, entries))}]" if isinstance(entries, list) else one(entries)

    if value.size > ENTRIES:
        return f"{value.shape}: {one(value.flat[0])} … {one(value.flat[-1])}"
    return bracketed(value.tolist())


def heading(trace: Trace) -> str:
    """Write the expression and the values of its variables on one line."""
    values = ", ".join(f"{name} = {number(value)}" for name, value in trace.values.items())
    return f"{trace.expression}   at {values}"


def print_trace(console: Console, trace: Trace, *, steps: bool = False) -> None:
    """Print the table of nodes or, with `steps`, every message; then shared nodes, kinks and the verdict."""
    _print_line(console, heading(trace), "bold")
    if steps:
        _print_steps(console, trace)
    else:
        _print_table(console, _nodes_table(trace))
    if trace.second:
        _print_table(console, _second_table(trace))
    for name, users in trace.shared.items():
        times = "twice" if len(users) == 2 else f"{len(users)} times"
        _print_line(console, f"{name} is used {times}, by {_join_names(sorted(set(users)))}: the messages add up")
    for node in trace.nodes:
        if node.kink:
            _print_line(console, f"{node.name} is at a kink: {node.kink}, as in JAX")
    _print_line(console, trace.verdict, "green" if trace.ok else "bold red")


def _print_line(console: Console, text: str, style: str = "") -> None:
    """Print text verbatim: brackets are not markup, and long lines are not wrapped."""
    console.print(Text(text, style), soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    """Print a table, on a terminal within its width, elsewhere in the full width of the table."""
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def _nodes_table(trace: Trace) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title, justify in {
        "node": "left",
        "operation": "left",
        "value": "right",
        "local derivatives": "left",
        "messages received": "left",
        "gradient": "right",
        "by JAX": "right",
        "": "left",
    }.items():
        table.add_column(title, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    result = trace.nodes[-1].name
    for node in trace.nodes:
        digits = DIGITS if node.ok else ALL_DIGITS
        messages = [f"from {name}: {number(value)}" for name, value in node.received]
        cells = (
            node.name,
            node.operation or "variable",
            number(node.value, digits),
            "\n".join(_local_derivative(node, local) for local in node.local_derivatives),
            "\n".join(messages) or f"d{result}/d{result} = 1",
            number(node.gradient, digits),
            number(node.jax_gradient, digits) if node.ok else _by_jax(node),
            "ok" if node.ok else "WRONG",
        )
        table.add_row(*map(Text, cells), style="" if node.ok else "bold red")
    return table


def _by_jax(node: NodeTrace) -> str:
    return f"{number(node.jax_gradient, ALL_DIGITS)}\n(value {number(node.jax_value, ALL_DIGITS)})"


def _local_derivative(node: NodeTrace, local: LocalDerivative) -> str:
    """Write a local derivative as an equation, such as `da/dx = 2 x = 4`."""
    left = f"d{node.name}/d{local.operand}"
    if local.value is None:
        return f"{left}: sends {local.formula}"
    value = number(local.value)
    return f"{left} = {value}" if local.formula == value else f"{left} = {local.formula} = {value}"


def _second_table(trace: Trace) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("second derivative", "by hand", "by JAX", ""):
        table.add_column(title, justify="left" if title in ("second derivative", "") else "right", overflow="fold")
    result = trace.nodes[-1].name
    for second in trace.second:
        table.add_row(*map(Text, _second_row(second, result)), style="" if second.ok else "bold red")
    return table


def _second_row(second: SecondDerivative, result: str) -> tuple[str, str, str, str]:
    first, other = second.names
    left = f"d²{result}/d{first}²" if first == other else f"d²{result}/d{first} d{other}"
    digits = DIGITS if second.ok else ALL_DIGITS
    return left, number(second.value, digits), number(second.jax_value, digits), "ok" if second.ok else "WRONG"


def _print_steps(console: Console, trace: Trace) -> None:
    nodes = {node.name: node for node in trace.nodes}
    result = trace.nodes[-1].name
    _print_line(console, "forward", "bold")
    for node in trace.nodes:
        operation = f" = {node.operation}" if node.operation else ""
        _print_line(console, f"  {node.name}{operation} = {number(node.value)}")
    _print_line(console, "backward, one message at a time: upstream gradient times local derivative", "bold")
    _print_line(console, f"  d{result}/d{result} = 1")
    for message in trace.messages:
        _print_line(console, f"  {_message(message, result, nodes[message.receiver])}")


def _message(message: MessageTrace, result: str, receiver: NodeTrace) -> str:
    """Write a message, such as `c → a: df/dc * dc/da = -0.822 * 1 = -0.822; partial sum: df/da = -0.822`."""
    text = f"{message.sender} → {message.receiver}: "
    upstream = f"d{result}/d{message.sender}"
    if message.local.value is None:
        text += f"{message.local.formula} with g = {upstream} gives {number(message.value)}"
    else:
        factors = f"{number(message.upstream)} * {number(message.local.value)}"
        text += f"{upstream} * d{message.sender}/d{message.receiver} = {factors} = {number(message.value)}"
    if len(receiver.received) == 1:
        return text
    total = f"d{result}/d{message.receiver} = {number(message.partial_sum)}"
    return f"{text}; {'sum' if message.last else 'partial sum'}: {total}"


def _join_names(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def as_data(trace: Trace) -> dict[str, Any]:
    """Return the whole trace as plain data for JSON; messages are in the order of the backward pass."""
    return {
        "ok": trace.ok,
        "verdict": trace.verdict,
        "expression": trace.expression,
        "values": {name: value.tolist() for name, value in trace.values.items()},
        "nodes": [_node_data(node) for node in trace.nodes],
        "messages": [
            {"from": message.sender, "to": message.receiver, "value": message.value.tolist()}
            for message in trace.messages
        ],
        "second": [
            {
                "names": list(second.names),
                "value": second.value.tolist(),
                "jax_value": second.jax_value.tolist(),
                "difference": second.difference,
                "ok": second.ok,
            }
            for second in trace.second
        ],
    }


def _node_data(node: NodeTrace) -> dict[str, Any]:
    return {
        "name": node.name,
        "operation": node.operation or None,
        "value": node.value.tolist(),
        "local": [
            {
                "operand": local.operand,
                "formula": local.formula,
                "value": None if local.value is None else local.value.tolist(),
            }
            for local in node.local_derivatives
        ],
        "gradient": node.gradient.tolist(),
        "jax_value": node.jax_value.tolist(),
        "jax_gradient": node.jax_gradient.tolist(),
        "difference": node.difference,
        "ok": node.ok,
        "kink": node.kink,
    }
