"""Containers: layers that consist of layers."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import jax
import jax.numpy as jnp
from pydantic import WithJsonSchema

from fnet.core.constructor import Parts, at_child, constructor
from fnet.core.layer import Layer, Name, Shape, ShapeError, is_shape
from fnet.core.traversal import key_number, name_children
from fnet.core.wiring import INPUT, MERGES, input_values, outputs_of, wire

__all__ = ["graph", "parallel", "residual", "serial"]

Pairs = tuple[tuple[str, tuple[str, ...]], ...]
"""The nodes of a graph as a frozen mapping."""

Nodes = Annotated[
    Pairs | Mapping[str, Sequence[str]],
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}),
]


@constructor
def serial(*layers: Layer, name: Name = None) -> Parts:
    """Layers one after another: y = f_n(... f_2(f_1(x))).

    Children without a name are named by kind and number ("dense_1", "dense_2"). The random key of a child is the
    container's key with a stable hash of the child's name folded in, so that adding a layer does not change the initial
    weights of other layers.

    Args:
        layers: the layers, first to last; without any layer, serial is the identity.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: from the first layer that does not accept the output of the layer before it, with its path.
        ValueError: when two layers have the same name.

    >>> import jax, fnet
    >>> net = fnet.serial(fnet.flatten(), fnet.dense(4), fnet.relu(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (3, 3))
    >>> {name: leaves["w"].shape for name, leaves in params.items()}
    {'dense_1': (9, 4), 'dense_2': (4, 2)}
    """
    children = name_children(layers)

    def shape(in_shape):
        for name, child in children:
            with at_child(name, child):
                in_shape = child.shape(in_shape)
        return in_shape

    def init(key, in_shape):
        trees = ChildTrees()
        for name, child in children:
            trees.init(name, child, key, in_shape)
            in_shape = child.shape(in_shape)
        return trees.params, trees.state

    def apply(params, state, x, *, train, key=None, mask=None):
        trees = ChildTrees(params, state)
        for name, child in children:
            x = trees.apply(name, child, x, train=train, key=key, mask=mask)
        return x, trees.new_state

    return Parts(shape, init, apply, children, rearranges=all(child.rearranges for _, child in children))


@constructor
def residual(*layers: Layer, name: Name = None) -> Parts:
    """A shortcut around layers in series: y = x + f(x) (He et al. 2015).

    Args:
        layers: the layers of f, first to last, named as in `serial`.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when f changes the shape.

    >>> import fnet
    >>> fnet.residual(fnet.dense(3), fnet.relu(), fnet.dense(3)).shape((3,))
    (3,)
    """
    inner = serial(*layers)

    def shape(in_shape):
        return same_shape(inner.shape(in_shape), in_shape, "use parallel with a projection as the other branch")

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(x.shape[1:])
        y, state = inner.apply(params, state, x, train=train, key=key, mask=mask)
        return x + y, state

    return Parts(shape, inner.init, apply, inner.children, several_inputs=False)


def same_shape(out_shape: Shape, in_shape: Shape, alternative: str) -> Shape:
    """Return the output shape of layers that must preserve the shape.

    Raises:
        ShapeError: when they do not; suggests an alternative.
    """
    if out_shape != in_shape:
        raise ShapeError(
            f"its layers must preserve the shape {in_shape}, but their output has shape {out_shape}; change the last "
            f"layer, or {alternative}"
        )
    return out_shape


@constructor
def parallel(
    *layers: Layer, combine: Literal["concatenate", "add", "multiply"] = "concatenate", name: Name = None
) -> Parts:
    """Branches with the same input: y = combine(f_1(x), ..., f_n(x)).

    Args:
        layers: the branches; a branch of several layers is a serial (in YAML, a list).
        combine: concatenate (along the last axis), add or multiply (elementwise).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when the outputs of the branches cannot be combined.
        ValueError: without branches.

    >>> import fnet
    >>> fnet.parallel(fnet.dense(3), fnet.dense(2)).shape((4,))
    (5,)
    """
    children = name_children(layers)
    if not children:
        raise ValueError("parallel: expected at least one branch, got none")

    def shape(in_shape):
        shapes = []
        for name, child in children:
            with at_child(name, child):
                shapes.append(child.shape(in_shape))
        return _merged_shape(combine, shapes, [name for name, _ in children])

    def init(key, in_shape):
        trees = ChildTrees()
        for name, child in children:
            trees.init(name, child, key, in_shape)
        return trees.params, trees.state

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(shapes_of(x))
        trees = ChildTrees(params, state)
        outputs = [trees.apply(name, child, x, train=train, key=key, mask=mask) for name, child in children]
        return _merge(combine, outputs), trees.new_state

    return Parts(shape, init, apply, children, indices=_fewest_indices(layers))


@constructor
def graph(
    *layers: Layer,
    nodes: Nodes,
    inputs: tuple[str, ...] | None = None,
    output: str | tuple[str, ...] | None = None,
    name: Name = None,
) -> Parts:
    """A directed acyclic graph: named values, each a layer or a merge applied to other values.

    The gradient of a value with several uses is the sum over its uses. Nodes with the same layer share its parameters,
    whose gradient is the sum over these nodes. In YAML:

        graph:
          layers: [{dense: {units: 8, name: left}}, {dense: {units: 8, name: right}}]
          nodes: {a: [left, input], b: [right, a], sum: [add, a, b]}

    With `inputs` the graph takes several arrays x, as a dict with these names or as a tuple in this order, and
    in_shape is a dict or a tuple of shapes. With several outputs it returns a tuple of arrays. A mask is passed to
    every layer; a (batch, time) mask fits only if all sequences have the same number of steps.

    Args:
        layers: the layers, in any order; nodes refer to them by their names.
        nodes: for every value its operation and the values that the operation is applied to. An operation is the name
            of a layer, or add, multiply or concatenate; `input` is the graph's input. A layer that takes several
            arrays, such as `cross_attention`, is applied to several values.
        inputs: names of the inputs, for a graph with several; by default it has one, named `input`.
        output: name of the node that is the graph's output, or a tuple of names; by default the last one.
        name: replaces the automatic name (kind and number).

    Raises:
        ValueError: for a cycle, an unknown or unused input, node or layer, or a wrong number of inputs.
        ShapeError: when the inputs of the graph or of a node do not fit.

    >>> import fnet
    >>> fnet.graph(
    ...     fnet.dense(3, name="f"), nodes={"a": ("f", "input"), "b": ("f", "a"), "y": ("concatenate", "a", "b")}
    ... ).shape((3,))
    (6,)
    >>> distance = fnet.graph(
    ...     fnet.dense(3, name="f"), nodes={"a": ("f", "left"), "b": ("f", "right")}, inputs=("left", "right"),
    ...     output=("a", "b"),
    ... )
    >>> distance.shape({"left": (5,), "right": (5,)})
    ((3,), (3,))
    """
    children = name_children(layers)
    layer_of, pairs = dict(children), cast(Pairs, nodes)
    wired = wire(pairs, output, layer_of, inputs or (INPUT,))
    outputs = outputs_of(pairs, output)

    def node_shapes(in_shape: Any) -> dict[str, Any]:
        """Return the shape of every value, and under "LAYER/" the shape of the input of every layer."""
        shapes = input_values(inputs, in_shape)
        for node in wired:
            in_shapes = [shapes[value] for value in node.inputs]
            if node.operation in MERGES:
                shapes[node.name] = _merged_shape(node.operation, in_shapes, node.inputs)
                continue
            child = layer_of[node.operation]
            received = _arguments(child, in_shapes)
            if shapes.setdefault(f"{node.operation}/", received) != received:
                raise ShapeError(
                    f"the layer '{node.operation}' is applied to {shapes[f'{node.operation}/']} and, in node "
                    f"'{node.name}', to {received}; make the shapes equal, because the parameters are shared"
                )
            with at_child(node.operation, child):
                shapes[node.name] = child.shape(received)
        return shapes

    def chosen(values: dict[str, Any]) -> Any:
        return tuple(values[name] for name in outputs) if isinstance(output, tuple) else values[outputs[0]]

    def init(key, in_shape):
        shapes, trees = node_shapes(in_shape), ChildTrees()
        for name, child in children:
            trees.init(name, child, key, shapes[f"{name}/"])
        return trees.params, trees.state

    def apply(params, state, x, *, train, key=None, mask=None):
        node_shapes(shapes_of(x))
        trees, values = ChildTrees(params, state), input_values(inputs, x)
        for node in wired:
            received = [values[value] for value in node.inputs]
            if node.operation in MERGES:
                values[node.name] = _merge(node.operation, received)
            else:
                child = layer_of[node.operation]
                values[node.name] = trees.apply(
                    node.operation, child, _arguments(child, received), train=train, key=key, mask=mask
                )
        return chosen(values), trees.new_state

    def indices_of(name: str) -> int | None:
        """Return the number of indices that an input may contain."""
        used_by = (node.operation for node in wired if name in node.inputs and node.operation in layer_of)
        return _fewest_indices(layer_of[operation] for operation in used_by)

    indices = indices_of(INPUT) if inputs is None else {name: indices_of(name) for name in inputs}
    return Parts(
        lambda in_shape: chosen(node_shapes(in_shape)),
        init,
        apply,
        children,
        indices=indices,
        several_inputs=inputs is not None,
    )


def _arguments(layer: Layer, values: Sequence[Any]) -> Any:
    """Return the input of a layer: a tuple of values if it takes several."""
    return tuple(values) if layer.several_inputs else values[0]


def shapes_of(x: Any) -> Any:
    """Return the shape of one example of every array in x, which is an array, or a tuple or dict of arrays."""
    return jax.tree.map(lambda part: tuple(part.shape[1:]), x)


class ChildTrees:
    """The parameters and states of a container's children, collected while it initializes or applies them in turn.

    A container of one's own names its children with `fnet.name_children` and calls them through these trees, which
    give each child its random key, its parameters and its state:

    >>> import fnet
    >>> @fnet.constructor
    ... def averaged(*layers: fnet.Layer, name: str | None = None) -> fnet.Parts:
    ...     children = fnet.name_children(layers)
    ...     def init(key, in_shape):
    ...         trees = fnet.ChildTrees()
    ...         for name, child in children:
    ...             trees.init(name, child, key, in_shape)
    ...         return trees.params, trees.state
    ...     def apply(params, state, x, *, train, key=None, mask=None):
    ...         trees = fnet.ChildTrees(params, state)
    ...         outputs = [trees.apply(*child, x, train=train, key=key, mask=mask) for child in children]
    ...         return sum(outputs) / len(outputs), trees.new_state
    ...     return fnet.Parts(layers[0].shape, init, apply, children)
    >>> averaged(fnet.dense(3), fnet.dense(3)).shape((2,))
    (3,)
    """

    def __init__(self, params=None, state=None):
        self.params = {} if params is None else params
        self.state = {} if state is None else state
        self.new_state = {}

    def init(self, name: str, child: Layer, key: jax.Array, in_shape: Shape) -> None:
        """Initialize a child; empty parameters or an empty state are not stored."""
        with at_child(name, child):
            params, state = child.init(child_key(key, name), in_shape)
        if params:
            self.params[name] = params
        if state:
            self.state[name] = state

    def apply(self, name: str, child: Layer, x, *, train: bool, key, mask):
        """Apply a child and store its new state, with which a second application of the same child starts."""
        with at_child(name, child):
            state = self.new_state.get(name, self.state.get(name, {}))
            y, state = child.apply(
                self.params.get(name, {}), state, x, train=train, key=child_key(key, name), mask=mask
            )
        if state:
            self.new_state[name] = state
        return y


def _fewest_indices(layers: Iterable[Layer]) -> int | None:
    """Return the number of indices that layers with the same input all accept."""
    return min((layer.indices for layer in layers if isinstance(layer.indices, int)), default=None)


def _merge(operation: str, values: Sequence[jax.Array]) -> jax.Array:
    if operation == "concatenate":
        return jnp.concatenate(values, axis=-1)
    return functools.reduce(operator.add if operation == "add" else operator.mul, values)


def _merged_shape(operation: str, shapes: Sequence[Shape], names: Sequence[str]) -> Shape:
    listed = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
    if not all(map(is_shape, shapes)):
        raise ShapeError(f"{operation} expects single arrays, got {listed}; choose one of several outputs in a graph")
    if operation != "concatenate":
        if len(set(shapes)) > 1:
            raise ShapeError(f"{operation} expects equal shapes, got {listed}; make them equal, or use concatenate")
        return shapes[0]
    if len({shape[:-1] for shape in shapes}) > 1 or not all(shapes):
        raise ShapeError(f"concatenate expects shapes that differ only in the last axis, got {listed}")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def child_key(key: jax.Array | None, name: str) -> jax.Array | None:
    """Return the random key of the child with this name."""
    return None if key is None else jax.random.fold_in(key, key_number(name))
