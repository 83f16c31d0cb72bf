"""The wiring of a `graph` as plain data for both interpreters: named values, each an operation on other values."""

import graphlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fnet.core.layer import Layer, ShapeError, is_shape
from fnet.core.wording import suggestion

INPUT = "input"
"""The name of the input of a graph with one input."""

MERGES = ("add", "multiply", "concatenate")
"""The operations that combine several values; every other operation is a layer."""


class GraphNode(NamedTuple):
    """One value of a graph: the name of a layer or merge, and the names of the values that it is applied to."""

    name: str
    operation: str
    inputs: tuple[str, ...]


def wire(
    nodes: Sequence[tuple[str, tuple[str, ...]]],
    output: str | tuple[str, ...] | None,
    layers: Mapping[str, Layer],
    inputs: Sequence[str] = (INPUT,),
) -> tuple[GraphNode, ...]:
    """Return the nodes in topological order: every node after its inputs.

    >>> import fnet
    >>> nodes = [("c", ("add", "a", "b")), ("a", ("f", "input")), ("b", ("f", "a"))]
    >>> wire(nodes, "c", {"f": fnet.relu()})[-1]
    GraphNode(name='c', operation='add', inputs=('a', 'b'))

    Raises:
        ValueError: for a node that is malformed, unknown, unused or part of a cycle, or an input or a layer that no
            node uses.
    """
    if not nodes:
        raise ValueError("graph: expected at least one node, such as {y: [dense_1, input]}")
    names = [*inputs, *(name for name, _ in nodes)]
    outputs = outputs_of(nodes, output)
    for name in sorted({*MERGES} & {*layers}):
        raise ValueError(f"graph: a layer may not be named '{name}', which is an operation; choose another name")
    for what, repeated in (("input", inputs), ("output", outputs)):
        if len(set(repeated)) < len(repeated):
            raise ValueError(f"graph: expected different {what}s, got {', '.join(repeated)}")
    by_name = {name: _node(name, entries, layers, names) for name, entries in nodes}
    for name in outputs:
        if name not in by_name:
            raise ValueError(f"graph: the output '{name}' is not a node{suggestion(name, by_name)}")
    try:
        order = graphlib.TopologicalSorter({node.name: node.inputs for node in by_name.values()}).static_order()
        wired = tuple(by_name[name] for name in order if name in by_name)
    except graphlib.CycleError as error:
        raise ValueError(f"graph: the nodes form a cycle: {' -> '.join(reversed(error.args[1]))}") from None
    used = {*outputs, *(value for node in wired for value in (node.operation, *node.inputs))}
    for what, known in (("node", by_name), ("layer", layers), ("input", inputs)):
        unused = set(known) - used
        if unused:
            by = "" if what == "node" else " by any node"
            raise ValueError(f"graph: the {what} '{min(unused)}' is not used{by}; use it or remove it")
    return wired


def outputs_of(nodes: Sequence[tuple[str, tuple[str, ...]]], output: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the output nodes; by default the last node is the output."""
    if output is None:
        return (nodes[-1][0],)
    return (output,) if isinstance(output, str) else output


def input_values(inputs: tuple[str, ...] | None, x: Any) -> dict[str, Any]:
    """Return the inputs of a graph by name: the arrays of a batch, or their shapes.

    Args:
        inputs: names of the inputs, or None for a single one.
        x: one value; or a dict with these names, or a tuple in this order.

    Raises:
        ShapeError: when x does not have these inputs.

    >>> input_values(None, (3,)), input_values(("a", "b"), {"b": (2,), "a": (1,)})
    ({'input': (3,)}, {'a': (1,), 'b': (2,)})
    >>> input_values(("a", "b"), ((1,), (2,)))
    {'a': (1,), 'b': (2,)}
    """
    if inputs is None:
        return {INPUT: x}
    if isinstance(x, Mapping) and set(x) == set(inputs):
        return {name: x[name] for name in inputs}
    if isinstance(x, tuple) and not is_shape(x) and len(x) == len(inputs):
        return dict(zip(inputs, x, strict=True))
    if isinstance(x, Mapping):
        received = f"a dict of {', '.join(map(str, x))}"
    else:
        received = f"a tuple of {len(x)}" if isinstance(x, tuple) and not is_shape(x) else "a single one"
    raise ShapeError(f"expects the inputs {', '.join(inputs)}, as a dict or as a tuple in this order, got {received}")


def _node(name: str, entries: tuple[str, ...], layers: Mapping[str, Layer], names: Sequence[str]) -> GraphNode:
    if names.count(name) > 1 or name == INPUT:
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
    if operation not in MERGES and len(inputs) != 1 and not layers[operation].several_inputs:
        raise ValueError(
            f"graph: node '{name}': the layer '{operation}' takes one value, got {len(inputs)}; merge them in a "
            f"separate node with {', '.join(MERGES)}"
        )
    for value in inputs:
        if value not in names:
            raise ValueError(f"graph: node '{name}': unknown value '{value}'{suggestion(value, names)}")
    return GraphNode(name, operation, tuple(inputs))
