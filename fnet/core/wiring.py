"""The wiring of a `graph`: named values, each an operation on other values; plain data for both interpreters."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fnet.core.settings import suggestion

INPUT = "input"
"""The name of the value that the graph is given."""

MERGES = ("add", "multiply", "concatenate")
"""The operations on several values that are no layers."""


class Node(NamedTuple):
    """One value of a graph: the name of a layer or of a merge, and the names of the values that it is applied to."""

    name: str
    operation: str
    inputs: tuple[str, ...]


def wire(nodes: Sequence[tuple[str, tuple[str, ...]]], output: str | None, layers: Collection[str]) -> tuple[Node, ...]:
    """The nodes in an order in which every one comes after its inputs, the output last.

    >>> wire([("c", ("add", "a", "b")), ("a", ("f", "input")), ("b", ("f", "a"))], "c", ["f"])[-1]
    Node(name='c', operation='add', inputs=('a', 'b'))

    Raises:
        ValueError: for a node that is malformed, unknown, in a cycle or without use, or a layer that is in no node.
    """
    if not nodes:
        raise ValueError("graph: expected at least one node, such as {y: [dense_1, input]}")
    wired = {name: _node(name, entries, layers, [name for name, _ in nodes]) for name, entries in nodes}
    last = output or nodes[-1][0]
    if last not in wired:
        raise ValueError(f"graph: its output '{last}' is no node{suggestion(last, wired)}")
    order: list[Node] = []
    _visit(last, wired, [], order)
    unused = wired.keys() - {node.name for node in order}
    if unused:
        raise ValueError(f"graph: the node '{min(unused)}' leads nowhere; use it or remove it")
    idle = set(layers) - {node.operation for node in order}
    if idle:
        raise ValueError(f"graph: the layer '{min(idle)}' is in no node; use it or remove it")
    return tuple(order)


def _node(name: str, entries: tuple[str, ...], layers: Collection[str], names: Sequence[str]) -> Node:
    if name == INPUT or names.count(name) > 1:
        raise ValueError(f"graph: a node may not be named '{name}': that name is taken")
    if len(entries) < 2:
        raise ValueError(f"graph: node '{name}': expected an operation and its inputs, such as [dense_1, input]")
    operation, *inputs = entries
    if operation not in MERGES and operation not in layers:
        raise ValueError(
            f"graph: node '{name}': unknown layer '{operation}'{suggestion(operation, [*layers, *MERGES])}"
        )
    if operation in MERGES and len(inputs) < 2:
        raise ValueError(f"graph: node '{name}': {operation} takes at least two values, got {len(inputs)}")
    if operation not in MERGES and len(inputs) != 1:
        raise ValueError(
            f"graph: node '{name}': the layer '{operation}' takes one value, got {len(inputs)}; merge them in a node "
            f"of their own with {', '.join(MERGES)}"
        )
    for value in inputs:
        if value != INPUT and value not in names:
            raise ValueError(f"graph: node '{name}': unknown value '{value}'{suggestion(value, [*names, INPUT])}")
    return Node(name, operation, tuple(inputs))


def _visit(name: str, nodes: dict[str, Node], path: list[str], order: list[Node]) -> None:
    """Appends a node after all that it depends on."""
    if name in path:
        raise ValueError(f"graph: a cycle: {' -> '.join([*path[path.index(name) :], name])}")
    if name == INPUT or any(node.name == name for node in order):
        return
    for value in nodes[name].inputs:
        _visit(value, nodes, [*path, name], order)
    order.append(nodes[name])
