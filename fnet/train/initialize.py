"""Initial parameters and state, compiled layer by layer, and the check of those that a caller passes.

The time that XLA takes to compile the initialization of a whole network grows faster than its depth. Most layers of a
deep network are equal, and equal layers with inputs of the same shape share one small program.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fnet.core.constructor import no_parameters
from fnet.core.layer import Layer, freeze
from fnet.core.traversal import can_rebuild, loop_paths, renamed, with_children
from fnet.train.compile import compile_for

Init = Callable[[Any], tuple[Any, Any]]
"""The init of a layer for one shape, a function of the key."""


def initialize(net: Layer, key: jax.Array, in_shape: Any) -> tuple[Any, Any]:
    """Return what `net.init(key, in_shape)` returns, computed by one compiled program for each different layer.

    A container that cannot be made again with other layers is initialized by one program.
    """
    return _compiled(net, {}).init(key, in_shape)


def _compiled(layer: Layer, programs: dict[Hashable, Init]) -> Layer:
    """Return a layer that initializes itself, or the layers inside it, by programs, which equal layers share."""
    at_once = () in loop_paths(layer)  # repetitions that draw their weights together, by one small program
    if layer.children and can_rebuild(layer) and not at_once:
        return with_children(layer, [_compiled(child, programs) for _, child in layer.children])
    if inspect.unwrap(layer.init) is no_parameters:
        return layer
    return dataclasses.replace(layer, init=functools.partial(_init, layer, programs))


def _init(layer: Layer, programs: dict[Hashable, Init], key: Any, in_shape: Any) -> tuple[Any, Any]:
    """Initialize a layer by the program of an equal layer with the same shape, if there is one."""
    if isinstance(key, Tracer):  # inside a container that maps its init over several keys
        return layer.init(key, in_shape)
    call = renamed(layer, None), freeze(in_shape)
    if call not in programs:
        programs[call] = compile_for(lambda key: layer.init(key, in_shape), key)
    return programs[call](key)


def check_start(net: Layer, in_shape: Any, params: Any, state: Any) -> None:
    """Check that parameters and a state have the names and shapes of those that the network initializes.

    Raises:
        ValueError: for the first difference.

    >>> import fnet
    >>> check_start(fnet.serial(fnet.dense(2)), (3,), {"dense_1": {"w": np.zeros((3, 4)), "b": np.zeros(2)}}, {})
    Traceback (most recent call last):
        ...
    ValueError: params: 'dense_1/w' has the shape (3, 4), but the network's has the shape (3, 2); pass parameters of
    this network, such as those of net.init
    """
    expected = jax.eval_shape(lambda key: net.init(key, in_shape), jax.random.key(0))
    for what, given, wanted in zip(("params", "state"), (params, state), expected, strict=True):
        noun = "parameters" if what == "params" else "the state"
        fix = f"pass {noun} of this network, such as those of net.init"
        got, known = leaf_names(given), leaf_names(wanted)
        for name in [*(name for name in known if name not in got), *(name for name in got if name not in known)]:
            where = "misses" if name in known else "has"
            other = "has" if name in known else "does not have"
            raise ValueError(f"{what}: it {where} the entry '{name}', which the network {other}; {fix}")
        for name, leaf in got.items():
            if np.shape(leaf) != known[name].shape:
                raise ValueError(
                    f"{what}: '{name}' has the shape {np.shape(leaf)}, but the network's has the shape "
                    f"{known[name].shape}; {fix}"
                )
            dtype = jnp.result_type(leaf)
            if jnp.issubdtype(known[name].dtype, jnp.floating) and not jnp.issubdtype(dtype, jnp.floating):
                raise ValueError(f"{what}: '{name}' is {dtype}, but the network's is {known[name].dtype}; {fix}")


def leaf_names(tree: Any) -> dict[str, Any]:
    """Return the leaves of nested dicts by path.

    >>> leaf_names({"dense_1": {"w": 1.0}})
    {'dense_1/w': 1.0}
    """
    return {
        "/".join(str(getattr(entry, "key", entry)) for entry in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
