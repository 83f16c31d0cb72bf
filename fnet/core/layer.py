"""The layer record: plain data (kind, settings, children) and three pure functions that interpret it in JAX.

`fnet.reference` interprets the same data in NumPy. Both use this module, which imports neither JAX nor NumPy.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import MinLen

Shape = tuple[int, ...]
Name = Annotated[str, MinLen(1)] | None


class ShapeError(ValueError):
    """A layer received an input of an invalid shape.

    Args:
        message: what was expected, what was received and how to fix it.
        path: names of the layers that lead to the error, outermost first.
        kind: kind of the layer, shown instead of the path while the path is empty.
    """

    def __init__(self, message: str, path: tuple[str, ...] = (), kind: str | None = None):
        super().__init__(message)
        self.message = message
        self.path = path
        self.kind = kind

    def __str__(self) -> str:
        place = "/".join(self.path) or self.kind
        return f"{place}: {self.message}" if place else self.message


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """A layer or a network of layers: plain data and three pure functions. It is compared and hashed by identity.

    A container has children. A composite is a layer that is defined by another network, its expansion: it has the
    functions and the children of the expansion, but its own kind and settings.

    Args:
        kind: name of the constructor, or its dotted path if it lies outside fnet.
        settings: None, bool, int, float, str, or tuples of them.
        shape: in_shape -> out_shape of one example, by arithmetic alone.
        init: (key, in_shape) -> (params, state).
        apply: (params, state, x, *, train, key=None, mask=None) -> (y, state).
        children: (name, layer) pairs, in order.
        name: replaces the name that a container derives by counting.
        draw: (key, shape) -> the random mask that apply draws in training for inputs of this shape, if it draws one;
            the reference receives the same mask.
        layers: the layers that a composite's constructor received; for any other layer, its children.
        constructor: the function that made the layer from `layers` and `settings`; None for a hand-made layer.
        expansion: the network that defines a composite; None for any other layer.
        indices: number of different indices (0, 1, ...) that the input may contain, if the layer takes indices.
        rearranges: whether the layer only rearranges the entries of its input, so that its input may be indices too.
    """

    kind: str
    settings: Mapping[str, Any]
    shape: Callable[[Shape], Shape]
    init: Callable[[Any, Shape], tuple[dict[str, Any], dict[str, Any]]]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    children: tuple[tuple[str, "Layer"], ...] = ()
    name: str | None = None
    draw: Callable[[Any, Shape], Any] | None = None
    _: dataclasses.KW_ONLY
    layers: tuple["Layer", ...] = ()
    constructor: Callable[..., "Layer"] | None = None
    expansion: "Layer | None" = None
    indices: int | None = None
    rearranges: bool = False
    reference: Any = None

    def __post_init__(self):
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        if self.expansion is None:
            object.__setattr__(self, "layers", tuple(child for _, child in self.children))
        if self.name is not None and (not self.name or "/" in self.name):
            raise ValueError(f"{self.kind}: a layer's name may not be empty or contain '/', got {self.name!r}")

    def __repr__(self) -> str:
        arguments = [repr(layer) for layer in self.layers]
        arguments += [f"{key}={value!r}" for key, value in self.settings.items()]
        if self.name is not None:
            arguments.append(f"name={self.name!r}")
        return f"{self.kind}({', '.join(arguments)})"

    def __str__(self) -> str:
        """Return the table of layers, one per line: indented name, kind and settings."""
        rows = [("  " * (len(path) - 1) + path[-1] if path else "network", layer) for path, layer in walk(self)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {headline(layer)}".rstrip() for name, layer in rows)


def walk(net: Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """Yield (path, layer) pairs in the order of the description; the network itself comes first, with an empty path."""
    yield path, net
    for name, child in net.children:
        yield from walk(child, (*path, name))


def headline(layer: Layer) -> str:
    """Return the kind of a layer and its non-default settings on one line, without its children.

    >>> import fnet
    >>> headline(fnet.dense(10)), headline(fnet.graph(nodes={"y": ("add", "input", "input")}))
    ('dense  units=10', 'graph  nodes=(y = add(input, input))')
    """
    parameters = inspect.signature(layer.constructor).parameters if layer.constructor is not None else {}
    settings = [
        f"{key}={_in_one_line(value)}"
        for key, value in layer.settings.items()
        if key not in parameters or parameters[key].default != value
    ]
    return "  ".join([layer.kind, " ".join(settings)]).rstrip()


def _in_one_line(value: Any) -> str:
    """Write a setting; a mapping to lists, such as the nodes of a graph, as `name = first(the others)`."""
    if not is_frozen_mapping(value) or not all(entries for _, entries in value):
        return str(value)
    nodes = (f"{name} = {first}({', '.join(map(str, others))})" for name, (first, *others) in value)
    return f"({', '.join(nodes)})"


def freeze(value: Any) -> Any:
    """Convert YAML's lists to tuples and its mappings to tuples of pairs, which settings may contain."""
    if isinstance(value, Mapping):
        return tuple((key, freeze(item)) for key, item in value.items())
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """Convert a setting back to YAML's lists and mappings; the inverse of `freeze`."""
    if not isinstance(value, tuple):
        return value
    return {key: thaw(item) for key, item in value} if is_frozen_mapping(value) else [thaw(item) for item in value]


def is_frozen_mapping(value: Any) -> bool:
    """Return whether a frozen value was a mapping: a tuple of (name, tuple) pairs."""
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    )
