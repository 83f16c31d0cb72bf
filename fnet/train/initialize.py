"""Initial parameters and state, compiled layer by layer.

XLA takes time to compile the initialization of a whole network that grows faster than its depth. Most layers of a deep
network are equal, and equal layers with inputs of the same shape share one small program.
"""

import dataclasses
import functools
import inspect
from typing import Any

import jax
from jax.core import Tracer

from fnet.core.constructor import no_parameters
from fnet.core.layer import Layer, Shape
from fnet.core.traversal import map_layers
from fnet.train.compile import compile_for


def initialize(net: Layer, key: jax.Array, in_shape: Shape) -> tuple[Any, Any]:
    """Return what `net.init(key, in_shape)` returns, computed by one compiled program for each different layer.

    A network with a container that cannot be made again with other layers, because it was made by hand, is initialized
    by one program.
    """
    try:
        by_layer = map_layers(net, _Compiled())
    except ValueError:
        return compile_for(lambda key: net.init(key, in_shape), key)(key)
    return by_layer.init(key, in_shape)


class _Compiled:
    """Replacement of layers without children by layers that compile their init, once for equal layers and shapes."""

    def __init__(self):
        self._programs: dict[tuple[Layer, Shape], Any] = {}

    def __call__(self, path: tuple[str, ...], layer: Layer) -> Layer:
        del path
        if layer.children or layer.expansion is not None or inspect.unwrap(layer.init) is no_parameters:
            return layer
        return dataclasses.replace(layer, init=functools.partial(self._init, layer))

    def _init(self, layer: Layer, key: Any, in_shape: Shape) -> tuple[Any, Any]:
        if isinstance(key, Tracer):
            return layer.init(key, in_shape)
        if (layer, in_shape) not in self._programs:
            self._programs[layer, in_shape] = compile_for(lambda key: layer.init(key, in_shape), key)
        return self._programs[layer, in_shape](key)
