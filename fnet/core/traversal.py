"""Names and traversal: what the children of a container are called, and how to visit, list and replace layers."""

import dataclasses
import inspect
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fnet.core.layer import Layer
from fnet.core.settings import shown
from fnet.core.wiring import INPUT

WEIGHT_LEAVES = frozenset({"w", "u"})
"""The names of the leaves that penalties apply to: weights, not biases or scales."""


def named(layers: Iterable[Layer]) -> tuple[tuple[str, Layer], ...]:
    """The children of a container with their names: given ones, else counted per kind.

    Raises:
        TypeError: for something that is not a layer.
        ValueError: when two children have the same name.
    """
    counts: Counter[str] = Counter()
    children: dict[str, Layer] = {}
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = f"; did you mean {layer.__name__}()?" if inspect.isfunction(layer) else ""
            raise TypeError(f"expected a layer, got {shown(layer)}{hint}")
        kind = layer.kind.rpartition(".")[2]
        counts[kind] += 1
        name = layer.name or f"{kind}_{counts[kind]}"
        if name in children:
            raise ValueError(f"two layers of one container are named '{name}'; give one of them another name")
        children[name] = layer
    return tuple(children.items())


def key_number(name: str) -> int:
    """A stable 32-bit number for a name, to fold into a random key. The same in every process and version."""
    return zlib.crc32(name.encode())


_SHAPES = ("flatten", "reshape", "permute", "zero_pad", "upsample")


def indices_of(net: Layer) -> int | None:
    """How many different whole numbers the network's input may hold, where it begins with indices; else None.

    >>> import fnet
    >>> indices_of(fnet.serial(fnet.embedding(65, 8), fnet.gru(8))), indices_of(fnet.serial(fnet.dense(3)))
    (65, None)
    """
    if net.kind in ("embedding", "one_hot"):
        return net.settings["size"]
    layers = dict(net.children)
    first = list(layers.values())
    if net.kind == "graph":
        first = [layers[name] for _, (name, *inputs) in net.settings["nodes"] if INPUT in inputs and name in layers]
    elif net.kind != "parallel":
        moving = itertools.takewhile(lambda layer: layer.kind in _SHAPES, first)
        first = first[len(list(moving)) :][:1]
    return min(filter(None, map(indices_of, first)), default=None)


def leaves(net: Layer, params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parameters as ("dense_1/w", array) pairs: layers in the order of the description, weights before the rest."""

    def entries(params: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name in sorted(params, key=lambda name: (name not in WEIGHT_LEAVES, name)):
            value = params[name]
            if isinstance(value, Mapping):
                yield from entries(value, f"{path}{name}/")
            else:
                yield f"{path}{name}", value

    def of(layer: Layer, params: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        children = dict(layer.children)
        yield from entries({name: value for name, value in params.items() if name not in children}, path)
        for name, child in layer.children:
            if name in params:
                yield from of(child, params[name], f"{path}{name}/")

    return of(net, params, "")


def rebuilt(net: Layer, replace: Callable[[tuple[str, ...], Layer], Layer], path: tuple[str, ...] = ()) -> Layer:
    """The network with every layer replaced by `replace(path, layer)`, containers after what they contain.

    As long as kinds and given names stay, so do all names, and the parameters of the one fit the other.
    """
    if net.children:
        if net.constructor is None:
            raise ValueError(
                f"the container '{net.kind}' was made by hand and cannot be rebuilt; make it with @fnet.constructor"
            )
        children = (rebuilt(child, replace, (*path, name)) for name, child in net.children)
        net = dataclasses.replace(net.constructor(*children, **net.settings), name=net.name)
    return replace(path, net)
