"""The printed form of `fnet trace`: a table of the nodes, the backward pass in steps, and JSON."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fnet.trace.compare import Local, Row, Sent, Trace

ENTRIES = 8
"""An array of more entries is shown by its shape and its ends."""


def number(value: np.ndarray, digits: int = 5) -> str:
    """A number to five digits, as the lectures have it; an array in brackets, a long one shortened.

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
    """The expression and where it is evaluated."""
    given = ", ".join(f"{name} = {number(value)}" for name, value in trace.values.items())
    return f"{trace.expression}   at {given}"


def print_trace(console: Console, trace: Trace, *, steps: bool = False) -> None:
    """The table, or the backward pass message by message; then what is shared, the kinks and the verdict."""
    _print_line(console, heading(trace), "bold")
    if steps:
        _print_steps(console, trace)
    else:
        _print_table(console, _nodes_table(trace))
    if trace.second:
        _print_table(console, _second_table(trace))
    for name, users in trace.shared.items():
        times = "twice" if len(users) == 2 else f"{len(users)} times"
        _print_line(console, f"{name} is used {times}, by {_listed(sorted(set(users)))}: the messages add up")
    for row in trace.rows:
        if row.kink:
            _print_line(console, f"{row.name} lies at a kink: {row.kink}, as JAX takes it")
    _print_line(console, trace.verdict, "green" if trace.ok else "bold red")


def _print_line(console: Console, text: str, style: str = "") -> None:
    """As it is: brackets are no markup, and a long line is not folded."""
    console.print(Text(text, style), soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    """On a terminal in its width; elsewhere as wide as the table is, so that no cell is folded."""
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
    result = trace.rows[-1].name
    for row in trace.rows:
        digits = 5 if row.ok else 15
        messages = [f"from {name}: {number(value)}" for name, value in row.messages]
        cells = (
            row.name,
            row.operation or "variable",
            number(row.value, digits),
            "\n".join(_local(row, local) for local in row.locals),
            "\n".join(messages) or f"d{result}/d{result} = 1",
            number(row.gradient, digits),
            number(row.jax_gradient, digits) if row.ok else _by_jax(row),
            "ok" if row.ok else "WRONG",
        )
        table.add_row(*map(Text, cells), style="" if row.ok else "bold red")
    return table


def _by_jax(row: Row) -> str:
    return f"{number(row.jax_gradient, 15)}\n(value {number(row.jax_value, 15)})"


def _local(row: Row, local: Local) -> str:
    return _equation(f"d{row.name}/d{local.operand}", local)


def _equation(left: str, local: Local) -> str:
    """A derivative, how it is written, and its value where that says more."""
    if local.value is None:
        return f"{left}: sends {local.written}"
    value = number(local.value)
    return f"{left} = {value}" if local.written == value else f"{left} = {local.written} = {value}"


def _second_table(trace: Trace) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("second derivative", "by hand", "by JAX", ""):
        table.add_column(title, justify="left" if title in ("second derivative", "") else "right", overflow="fold")
    result = trace.rows[-1].name
    for second in trace.second:
        first, other = second.names
        left = f"d²{result}/d{first}²" if first == other else f"d²{result}/d{first} d{other}"
        digits = 5 if second.ok else 15
        values = (number(second.value, digits), number(second.jax_value, digits))
        table.add_row(
            *map(Text, (left, *values, "ok" if second.ok else "WRONG")), style="" if second.ok else "bold red"
        )
    return table


def _print_steps(console: Console, trace: Trace) -> None:
    rows = {row.name: row for row in trace.rows}
    result = trace.rows[-1].name
    _print_line(console, "forward", "bold")
    for row in trace.rows:
        made = f" = {row.operation}" if row.operation else ""
        _print_line(console, f"  {row.name}{made} = {number(row.value)}")
    _print_line(console, "backward, a message at a time: upstream times local", "bold")
    _print_line(console, f"  d{result}/d{result} = 1")
    for sent in trace.sent:
        _print_line(console, f"  {_step(sent, result, rows)}")


def _step(sent: Sent, result: str, rows: dict[str, Row]) -> str:
    """As in `c → a: df/dc * dc/da = -0.822 * 1 = -0.822; so far df/da = -0.822`."""
    left = f"{sent.sender} → {sent.receiver}: "
    if sent.local.value is None:
        left += f"{sent.local.written}, g = d{result}/d{sent.sender}, = {number(sent.value)}"
    else:
        factors = f"{number(sent.upstream)} * {number(sent.local.value)}"
        left += f"d{result}/d{sent.sender} * d{sent.sender}/d{sent.receiver} = {factors} = {number(sent.value)}"
    if len(rows[sent.receiver].messages) == 1:
        return left
    total = f"d{result}/d{sent.receiver} = {number(sent.gradient)}"
    return f"{left}; {'the first part of' if sent.first else 'added up,'} {total}"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def as_data(trace: Trace) -> dict[str, Any]:
    """The whole trace as plain data, for JSON; the messages stand in the order of the backward pass."""
    return {
        "ok": trace.ok,
        "verdict": trace.verdict,
        "expression": trace.expression,
        "values": {name: value.tolist() for name, value in trace.values.items()},
        "nodes": [
            {
                "name": row.name,
                "operation": row.operation or None,
                "value": row.value.tolist(),
                "local": [
                    {
                        "operand": local.operand,
                        "written": local.written,
                        "value": None if local.value is None else local.value.tolist(),
                    }
                    for local in row.locals
                ],
                "gradient": row.gradient.tolist(),
                "jax_value": row.jax_value.tolist(),
                "jax_gradient": row.jax_gradient.tolist(),
                "difference": row.difference,
                "ok": row.ok,
                "kink": row.kink,
            }
            for row in trace.rows
        ],
        "messages": [{"from": sent.sender, "to": sent.receiver, "value": sent.value.tolist()} for sent in trace.sent],
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
