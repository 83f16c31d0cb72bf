"""Containers by hand: the chain rule over their children."""

from collections.abc import Mapping

import numpy as np

from fnet.core.wiring import INPUT, MERGES, input_values, outputs_of, wire
from fnet.reference.rule import Rule, add_gradients, backward, forward, map_arrays


def _serial_forward(layer, scope, x):
    """x_l = f_l(x_(l-1)) for l = 1 ... n; backward needs each child's cache."""
    caches = []
    for name, child in layer.children:
        x, cache = forward(child, scope.child(name), x)
        caches.append(cache)
    return x, caches


def _serial_backward(layer, scope, caches, g):
    """g_(l-1) = (df_l/dx_(l-1))^T g_l, from the last layer to the first: upstream times local gradient."""
    gradients = {}
    for (name, child), cache in zip(reversed(layer.children), reversed(caches), strict=True):
        g, child_gradients = backward(child, scope.child(name), cache, g)
        if child_gradients:
            gradients[name] = child_gradients
    return g, gradients


serial = Rule(_serial_forward, _serial_backward)


def _residual_forward(layer, scope, x):
    """y = x + f(x)."""
    y, caches = _serial_forward(layer, scope, x)
    return x + y, caches


def _residual_backward(layer, scope, caches, g):
    """The gradients of both branches add up: dx = g + (df/dx)^T g."""
    dx, gradients = _serial_backward(layer, scope, caches, g)
    return g + dx, gradients


residual = Rule(_residual_forward, _residual_backward)


def _parallel_forward(layer, scope, x):
    """y = combine(f_1(x), ..., f_n(x)); backward needs each branch's cache and, for multiply, its output."""
    outputs, caches = [], []
    for name, child in layer.children:
        y, cache = forward(child, scope.child(name), x)
        outputs.append(y)
        caches.append(cache)
    return merge(layer.settings["combine"], outputs), (outputs, caches)


def _parallel_backward(layer, scope, cache, g):
    """The input is copied to every branch, so that the gradients of the branches add up."""
    outputs, caches = cache
    cotangents = unmerge(layer.settings["combine"], outputs, g)
    branches, gradients = [], {}
    for (name, child), branch_cache, cotangent in zip(layer.children, caches, cotangents, strict=True):
        dx, child_gradients = backward(child, scope.child(name), branch_cache, cotangent)
        branches.append(dx)
        if child_gradients:
            gradients[name] = child_gradients
    return map_arrays(_total, *branches), gradients


def _total(*cotangents):
    """Return the sum of cotangents, without those of masks, which are None."""
    present = [cotangent for cotangent in cotangents if cotangent is not None]
    return sum(present) if present else None


parallel = Rule(_parallel_forward, _parallel_backward)


def merge(operation, values):
    """Return the sum, the product, or the concatenation of values along the last axis."""
    if operation == "add":
        return np.sum(values, axis=0)
    if operation == "multiply":
        return np.prod(values, axis=0)
    return np.concatenate(values, axis=-1)


def unmerge(operation, values, g):
    """Return the cotangent of every value: g for add, g times the other values for multiply, else a slice of g."""
    if operation == "add":
        return [g for _ in values]
    if operation == "multiply":
        return [g * np.prod([v for j, v in enumerate(values) if j != i], axis=0) for i in range(len(values))]
    return np.split(g, np.cumsum([v.shape[-1] for v in values])[:-1], axis=-1)


def _graph_forward(layer, scope, x):
    """Compute the values in topological order; backward needs all values and each node's cache."""
    layers, inputs = dict(layer.children), layer.settings["inputs"]
    nodes = wire(layer.settings["nodes"], layer.settings["output"], layers, inputs or (INPUT,))
    values, caches = input_values(inputs, x), {}
    for node in nodes:
        received = [values[name] for name in node.inputs]
        if node.operation in MERGES:
            values[node.name] = merge(node.operation, received)
        else:
            child = layers[node.operation]
            x_child = tuple(received) if child.several_inputs else received[0]
            y, caches[node.name] = forward(child, scope.child(node.operation), x_child)
            values[node.name] = y
    output = layer.settings["output"]
    outputs = outputs_of(layer.settings["nodes"], output)
    y = tuple(values[name] for name in outputs) if isinstance(output, tuple) else values[outputs[0]]
    return y, (nodes, outputs, values, caches, x)


def _graph_backward(layer, scope, cache, g):
    """In reverse order, sum the cotangent of every value and parameter over the nodes that use it.

    The cotangent of an output is that of the graph, plus those of the nodes that use it as well.
    """
    nodes, outputs, values, caches, x = cache
    layers, inputs, gradients = dict(layer.children), layer.settings["inputs"], {}
    cotangents = dict(zip(outputs, g if isinstance(g, tuple) else (g,), strict=True))
    for node in reversed(nodes):
        g = cotangents[node.name]
        if node.operation in MERGES:
            received = unmerge(node.operation, [values[name] for name in node.inputs], g)
        else:
            child = layers[node.operation]
            dx, child_gradients = backward(child, scope.child(node.operation), caches[node.name], g)
            received = dx if child.several_inputs else [dx]
            gradients[node.operation] = add_gradients(child_gradients, gradients.get(node.operation, {}))
        for name, cotangent in zip(node.inputs, received, strict=True):
            if cotangent is not None:
                cotangents[name] = cotangents[name] + cotangent if name in cotangents else cotangent
    dx = {name: cotangents.get(name) for name in inputs or (INPUT,)}
    gradients = {name: child_gradients for name, child_gradients in gradients.items() if child_gradients}
    if inputs is None:
        return dx[INPUT], gradients
    return (dx if isinstance(x, Mapping) else tuple(dx.values())), gradients


graph = Rule(_graph_forward, _graph_backward)
