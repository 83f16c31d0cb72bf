"""The wiring of a `graph` as plain data for both interpreters: named values, each an operation on other values."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fnet.core.wording import suggestion

INPUT = "input"
"""The name of the graph's input."""

MERGES = ("add", "multiply", "concatenate")
"""The operations that combine several values; every other operation is a layer."""


class GraphNode(NamedTuple):
    """One value of a graph: the name of a layer or merge, and the names of the values that it is applied to."""

    name: str
    operation: str
    inputs: tuple[str, ...]


def wire(
    nodes: Sequence[tuple[str, tuple[str, ...]]], output: str | None, layers: Collection[str]
) -> tuple[GraphNode, ...]:
    """Return the nodes in topological order: every node after its inputs, the output last.

    >>> wire([("c", ("add", "a", "b")), ("a", ("f", "input")), ("b", ("f", "a"))], "c", ["f"])[-1]
    GraphNode(name='c', operation='add', inputs=('a', 'b'))

    Raises:
        ValueError: for a node that is malformed, unknown, unused or part of a cycle, or a layer that no node uses.
    """
    if not nodes:
        raise ValueError("graph: expected at least one node, such as {y: [dense_1, input]}")
    by_name = {name: _node(name, entries, layers, [name for name, _ in nodes]) for name, entries in nodes}
    last = output or nodes[-1][0]
    if last not in by_name:
        raise ValueError(f"graph: the output '{last}' is not a node{suggestion(last, by_name)}")
    order: list[GraphNode] = []
    _append_after_inputs(last, by_name, [], order)
    unused_nodes = by_name.keys() - {node.name for node in order}
    if unused_nodes:
        raise ValueError(f"graph: the node '{min(unused_nodes)}' is not used; use it or remove it")
    unused_layers = set(layers) - {node.operation for node in order}
    if unused_layers:
        raise ValueError(f"graph: the layer '{min(unused_layers)}' is not used by any node; use it or remove it")
    return tuple(order)


def _node(name: str, entries: tuple[str, ...], layers: Collection[str], names: Sequence[str]) -> GraphNode:
    if name == INPUT or names.count(name) > 1:
        raise ValueError(f"graph: a node may not be named '{name}': the name is taken; choose another one")
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
            f"graph: node '{name}': the layer '{operation}' takes one value, got {len(inputs)}; merge them in a "
            f"separate node with {', '.join(MERGES)}"
        )
    for value in inputs:
        if value != INPUT and value not in names:
            raise ValueError(f"graph: node '{name}': unknown value '{value}'{suggestion(value, [*names, INPUT])}")
    return GraphNode(name, operation, tuple(inputs))


def _append_after_inputs(name: str, nodes: dict[str, GraphNode], path: list[str], order: list[GraphNode]) -> None:
    """Append a node to the order after all nodes that it depends on."""
    if name in path:
        raise ValueError(f"graph: the nodes form a cycle: {' -> '.join([*path[path.index(name) :], name])}")
    if name == INPUT or any(node.name == name for node in order):
        return
    for value in nodes[name].inputs:
        _append_after_inputs(value, nodes, [*path, name], order)
    order.append(nodes[name])
