"""Names and traversal: name the children of a container, list parameters, and replace layers."""

import dataclasses
import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fnet.core.layer import Layer
from fnet.core.wording import format_value

WEIGHT_LEAVES = frozenset({"w", "u"})
"""Names of the leaves that penalties apply to: weights, not biases or scales."""


def name_children(layers: Iterable[Layer]) -> tuple[tuple[str, Layer], ...]:
    """Return the layers of a container with their names: the setting `name`, or the kind and a number.

    Raises:
        TypeError: for an argument that is not a layer.
        ValueError: if two children have the same name.
    """
    counts: Counter[str] = Counter()
    children: dict[str, Layer] = {}
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = f"; did you mean {layer.__name__}()?" if inspect.isfunction(layer) else ""
            raise TypeError(f"expected a layer, got {format_value(layer)}{hint}")
        kind = layer.kind.rpartition(".")[2]
        counts[kind] += 1
        name = layer.name or f"{kind}_{counts[kind]}"
        if name in children:
            raise ValueError(f"two layers of one container are named '{name}'; give one of them another name")
        children[name] = layer
    return tuple(children.items())


def key_number(name: str) -> int:
    """Return a 32-bit hash of a name to fold into a random key; it is the same in every process."""
    return zlib.crc32(name.encode())


def leaves(net: Layer, params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parameters as ("dense_1/w", array) pairs: layers in the order of the description, weights first."""

    def own_leaves(params: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name in sorted(params, key=lambda name: (name not in WEIGHT_LEAVES, name)):
            value = params[name]
            if isinstance(value, Mapping):
                yield from own_leaves(value, f"{path}{name}/")
            else:
                yield f"{path}{name}", value

    def leaves_below(layer: Layer, params: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        children = dict(layer.children)
        yield from own_leaves({name: value for name, value in params.items() if name not in children}, path)
        for name, child in layer.children:
            if name in params:
                yield from leaves_below(child, params[name], f"{path}{name}/")

    return leaves_below(net, params, "")


Replace = Callable[[tuple[str, ...], Layer], Layer]


def map_layers(net: Layer, replace: Replace, path: tuple[str, ...] = ()) -> Layer:
    """Return the network with every layer replaced by `replace(path, layer)`, children before their containers.

    If `replace` changes neither kinds nor names, the new network takes the same parameters. The layers inside a
    composite are replaced in its expansion; its description does not change.
    """
    return replace(path, _map_children(net, replace, path))


def _map_children(net: Layer, replace: Replace, path: tuple[str, ...]) -> Layer:
    if net.expansion is not None:
        expansion = _map_children(net.expansion, replace, path)
        functions = {"shape": expansion.shape, "init": expansion.init, "apply": expansion.apply}
        return dataclasses.replace(net, expansion=expansion, children=expansion.children, **functions)
    if not net.children:
        return net
    if net.constructor is None:
        raise ValueError(
            f"the layers of the container '{net.kind}' cannot be replaced, because it was made without a constructor; "
            "make it with @fnet.constructor"
        )
    children = (map_layers(child, replace, (*path, name)) for name, child in net.children)
    return dataclasses.replace(net.constructor(*children, **net.settings), name=net.name)
