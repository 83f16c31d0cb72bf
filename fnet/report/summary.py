"""The rows of `fnet summary`: output shape, parameters and FLOPs of every layer."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnet.core.layer import Layer, Shape, headline, walk
from fnet.core.traversal import in_shapes, map_layers


class SummaryRow(NamedTuple):
    """The row of one layer.

    path: the names of its containers and of the layer; empty for the network itself.
    layer: its kind and settings.
    out_shape: the output shape of one example.
    parameters: the number of parameters, including those of all layers inside.
    flops: the number of floating-point operations in the forward pass of one example, as counted by XLA; a
        multiplication and an addition count as two.
    """

    path: tuple[str, ...]
    layer: str
    out_shape: Shape
    parameters: int
    flops: int


def summarize(net: Layer, in_shape: Shape) -> list[SummaryRow]:
    """Return the rows of a network's layers for examples of a given shape; the first row is the network, with totals.

    >>> import fnet
    >>> for row in summarize(fnet.serial(fnet.dense(4), fnet.relu()), (3,)):
    ...     print("/".join(row.path), row.out_shape, row.parameters, row.flops)
     (4,) 16 32
    dense_1 (4,) 16 28
    relu_1 (4,) 0 4
    """
    shapes = in_shapes(net, in_shape)
    return [
        SummaryRow(path, headline(layer), layer.shape(shapes[path]), *_costs(layer, shapes[path]))
        for path, layer in walk(net)
    ]


def _costs(layer: Layer, in_shape: Shape) -> tuple[int, int]:
    """Return the numbers of parameters and FLOPs; nothing is computed or compiled."""
    layer = map_layers(_unrolled, layer)  # XLA counts the operations of a loop once
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, state = jax.eval_shape(_with_shape(layer.init, in_shape), key)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))

    def forward(params: Any, state: Any, x: Any) -> Any:
        return layer.apply(params, state, x, train=False)[0]

    dtype = jnp.float32 if layer.indices is None else jnp.int32
    x = jax.ShapeDtypeStruct((1, *in_shape), dtype)
    analysis = jax.jit(forward).lower(params, state, x).cost_analysis() or {}
    return parameters, round(analysis.get("flops", 0.0))


def _unrolled(_: str, layer: Layer) -> Layer:
    """Return a loop over repeated layers without the loop, and any other layer as it is."""
    if layer.kind != "repeat" or layer.constructor is None or not layer.settings["scan"]:
        return layer
    return layer.constructor(*layer.layers, **{**layer.settings, "scan": False})


def _with_shape(init: Callable[[Any, Shape], Any], in_shape: Shape) -> Callable[[Any], Any]:
    return lambda key: init(key, in_shape)
