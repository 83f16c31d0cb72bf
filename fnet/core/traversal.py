"""Names and traversal: name the children of a container, list parameters, and replace layers."""

import dataclasses
import inspect
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fnet.core.layer import Layer, Shape, made_by, walk
from fnet.core.wording import format_value, suggestion

WEIGHT_LEAVES = frozenset({"w", "u"})
"""Names of the leaves that penalties apply to: weights, not biases or scales."""


def name_children(layers: Iterable[Layer]) -> tuple[tuple[str, Layer], ...]:
    """Return the layers of a container with their names: the setting `name`, or the kind and a number.

    Raises:
        TypeError: for an argument that is not a layer.
        ValueError: if two children have the same name.
    """
    layers = [*layers]
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"expected a layer, got {format_value(layer)}{_hint(layer)}")
    children: dict[str, Layer] = {}
    for layer, default in zip(layers, _default_names(layers), strict=True):
        name = layer.name or default
        if name in children:
            raise ValueError(f"two layers of one container are named '{name}'; give one of them another name")
        children[name] = layer
    return tuple(children.items())


def _default_names(layers: Iterable[Layer]) -> Iterator[str]:
    """Yield the kind and the number of every layer, counted per kind."""
    counts: Counter[str] = Counter()
    for layer in layers:
        kind = layer.kind.rpartition(".")[2]
        counts[kind] += 1
        yield f"{kind}_{counts[kind]}"


def _hint(value: Any) -> str:
    """Return how to make a layer of a function."""
    if not callable(value):
        return ""
    name = getattr(value, "__name__", "f")
    if inspect.isfunction(value) and inspect.signature(value).return_annotation == Layer.__name__:
        return f"; did you mean {name}()?"
    return f"; use fnet.{name}() if fnet has this layer, or fnet.lambda_layer({name})"


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

    require_params("leaves", params)
    return leaves_below(net, params, "")


def require_params(function: str, params: Any) -> None:
    """Check that parameters are a dict.

    Raises:
        TypeError: when they are not.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"{function}: expected the params that init returned, a dict, got a {type(params).__name__}")


def count(params: Mapping[str, Any]) -> int:
    """Return the number of parameters, which is the number of entries of all arrays.

    >>> import jax, fnet
    >>> params, _ = fnet.dense(3).init(jax.random.key(0), (4,))
    >>> count(params)
    15
    """
    require_params("count", params)
    return sum(count(leaf) if isinstance(leaf, Mapping) else math.prod(leaf.shape) for leaf in params.values())


def transfer(params: Mapping[str, Any], into: Mapping[str, Any], *, only: str = "*") -> dict[str, Any]:
    """Return the parameters `into`, with the leaves of `params` in place of those that the pattern selects.

    Args:
        params: the parameters to take leaves from, such as those of a trained network.
        into: the parameters of the new network.
        only: pattern of leaf names in which * stands for any text, such as "trunk/*" or "*/w".

    Raises:
        ValueError: when the pattern selects no leaf of `into`, or a selected leaf is missing in `params` or has another
            shape there.

    >>> import jax, fnet
    >>> old, new = (fnet.serial(fnet.dense(4, name="trunk"), fnet.dense(n, name="head")) for n in (3, 2))
    >>> trained, _ = old.init(jax.random.key(0), (5,))
    >>> fresh, _ = new.init(jax.random.key(1), (5,))
    >>> params = transfer(trained, fresh, only="trunk/*")
    >>> bool((params["trunk"]["w"] == trained["trunk"]["w"]).all()), params["head"]["w"].shape
    (True, (4, 2))
    """
    for tree in (params, into):
        require_params("transfer", tree)
    available = dict(_flat(params))
    selected = [name for name, _ in _flat(into) if _matches(name, only)]
    if not selected:
        inside = f"{only}/*"
        hint = f"did you mean {inside!r}" if any(_matches(name, inside) for name, _ in _flat(into)) else ""
        raise ValueError(f"transfer: only={only!r} selects no parameter; {hint or f'known: {_listed(into)}'}")

    def chosen(leaf: Any, name: str) -> Any:
        if name not in selected:
            return leaf
        if name not in available:
            raise ValueError(
                f"transfer: the source does not have a parameter '{name}'{suggestion(name, available)}; select others "
                "with only="
            )
        if available[name].shape != leaf.shape:
            raise ValueError(
                f"transfer: '{name}' has the shape {available[name].shape} in the source, but {leaf.shape} in the "
                "target; select others with only="
            )
        return available[name]

    def copied(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {
            name: copied(part, f"{path}{name}/") if isinstance(part, Mapping) else chosen(part, f"{path}{name}")
            for name, part in tree.items()
        }

    return copied(into, "")


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern, in which * stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(name for name, _ in _flat(params))


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in tree.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{path}{name}/")
        else:
            yield f"{path}{name}", part


def map_layers(f: Callable[[str, Layer], Layer], net: Layer) -> Layer:
    """Return the network with every layer replaced by f(path, layer), the layers inside a container before it.

    Layers keep their names, so that the remaining layers take the same parameters. A composite whose layers change
    becomes the network that defines it.

    Args:
        f: (path, layer) -> layer, with paths such as "block/dense_1"; the path of the network itself is "".
        net: the network.

    Raises:
        ValueError: when a layer changes inside a container that cannot be made again from its layers and settings.

    >>> import fnet
    >>> net = fnet.serial(fnet.dense(4), fnet.relu(), fnet.residual(fnet.relu(), name="block"))
    >>> map_layers(lambda path, layer: fnet.gelu() if layer.kind == "relu" else layer, net)["block/relu_1"].kind
    'gelu'
    """

    def mapped(layer: Layer, path: tuple[str, ...]) -> Layer:
        return f("/".join(path), with_children(layer, [mapped(child, (*path, name)) for name, child in layer.children]))

    return mapped(net, ())


def with_children(net: Layer, layers: Iterable[Layer]) -> Layer:
    """Return a container with other layers under the names of its children, or itself if no layer differs."""
    layers = [*layers]
    if all(new is old for new, (_, old) in zip(layers, net.children, strict=True)):
        return net
    if net.expansion is not None:
        return renamed(with_children(net.expansion, layers), net.name)
    _require_constructor(net)
    named = (
        layer if (layer.name or default) == name else renamed(layer, name)
        for layer, default, (name, _) in zip(layers, _default_names(layers), net.children, strict=True)
    )
    return renamed(net.constructor(*named, **net.settings), net.name)  # pyright: ignore[reportOptionalCall]


def renamed(layer: Layer, name: str | None) -> Layer:
    """Return the layer with another name."""
    if layer.name == name:
        return layer
    copy = dataclasses.replace(layer, name=name)
    return copy if layer.constructor is None else made_by(copy, layer.constructor, layer.layers, layer.expansion)


def _require_constructor(net: Layer) -> None:
    if not can_rebuild(net):
        raise ValueError(
            f"the layers of the container '{net.kind}' cannot be replaced, because it was not made by a constructor "
            "that receives them; make it with @fnet.constructor and a parameter *layers"
        )


def can_rebuild(net: Layer) -> bool:
    """Return whether a container, or the network that defines a composite, can be made again with other layers."""
    net = expanded(net)
    return net.constructor is not None and net.layers == tuple(child for _, child in net.children)


def expanded(layer: Layer) -> Layer:
    """Return the network that defines a composite, and any other layer itself."""
    return layer if layer.expansion is None else expanded(layer.expansion)


def frozen_paths(net: Layer) -> tuple[tuple[str, ...], ...]:
    """Return the paths of the layers that are not trained.

    >>> import fnet
    >>> frozen_paths(fnet.serial(fnet.dense(2), fnet.frozen(fnet.dense(3))))
    (('frozen_1',),)
    """
    return tuple(path for path, layer in walk(net) if expanded(layer).kind == "frozen")


def loop_paths(net: Layer) -> tuple[tuple[str, ...], ...]:
    """Return the paths of the loops over repeated layers, whose arrays are stacked along an additional first axis.

    >>> import fnet
    >>> loop_paths(fnet.serial(fnet.repeat(fnet.relu(), times=2, scan=True), fnet.repeat(fnet.relu(), times=2)))
    (('repeat_1',),)
    """
    loops = (path for path, layer in walk(net) if expanded(layer).kind == "repeat" and expanded(layer).settings["scan"])
    return tuple(loops)


Change = Callable[[tuple[str, ...], Layer], Layer]


def rewire(net: Layer, change: Change, path: tuple[str, ...] = ()) -> Layer:
    """Return the network whose layers have the functions of change(path, layer), to observe it.

    Kinds, settings and names remain, so that the new network takes the same parameters. The layers inside a container
    that cannot be made again remain as they are.
    """
    if net.expansion is not None:
        expansion = _rewire_children(net.expansion, change, path)
        functions = {"shape": expansion.shape, "init": expansion.init, "apply": expansion.apply}
        inner = dataclasses.replace(net, children=expansion.children, **functions)
    else:
        inner = _rewire_children(net, change, path)
    return change(path, inner)


def _rewire_children(net: Layer, change: Change, path: tuple[str, ...]) -> Layer:
    if net.expansion is not None:
        return _rewire_children(net.expansion, change, path)
    if not net.children or not can_rebuild(net):
        return net
    children = (rewire(child, change, (*path, name)) for name, child in net.children)
    return dataclasses.replace(net.constructor(*children, **net.settings), name=net.name)  # pyright: ignore[reportOptionalCall]


def in_shapes(net: Layer, in_shape: Shape) -> dict[tuple[str, ...], Shape]:
    """Return the shape of the input of every layer by path, without the layers that `rewire` cannot observe.

    >>> import fnet
    >>> in_shapes(fnet.serial(fnet.dense(4), fnet.relu()), (3,))
    {('dense_1',): (3,), ('relu_1',): (4,), (): (3,)}
    """
    shapes: dict[tuple[str, ...], Shape] = {}

    def observed(path: tuple[str, ...], layer: Layer) -> Layer:
        def shape(in_shape: Shape) -> Shape:
            out_shape = layer.shape(in_shape)
            shapes[path] = in_shape
            return out_shape

        return dataclasses.replace(layer, shape=shape)

    rewire(net, observed).shape(in_shape)
    return shapes


RECORDED = "/recorded"
"""The entry of a layer's new state that contains what was recorded; the name of a parameter never contains "/"."""


class Application(NamedTuple):
    """The arguments and the outputs of one application of a layer."""

    params: Any
    state: Any
    x: Any
    y: Any
    train: bool
    key: Any
    mask: Any


def recording(net: Layer, what: Callable[[tuple[str, ...], Layer, Application], Any]) -> Layer:
    """Return the network whose layers also record a value in their new state, which containers pass on.

    The network remains a pure function: it can be compiled and differentiated, and a layer inside a loop records the
    values of all its rounds, stacked.

    Args:
        net: the network.
        what: (path, layer, application) -> the arrays to record, or None for nothing.
    """

    def observed(path: tuple[str, ...], layer: Layer) -> Layer:
        def apply(params, state, x, *, train, key=None, mask=None):
            state = {name: value for name, value in state.items() if name != RECORDED}
            y, after = layer.apply(params, state, x, train=train, key=key, mask=mask)
            value = what(path, layer, Application(params, state, x, y, train, key, mask))
            return y, after if value is None else {**after, RECORDED: value}

        return dataclasses.replace(layer, apply=apply)

    return rewire(net, observed)


def recorded(state: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) for every value that the layers of a `recording` network put into their new state."""
    for name, value in state.items():
        if name == RECORDED:
            yield path, value
        elif isinstance(value, Mapping):
            yield from recorded(value, (*path, name))
