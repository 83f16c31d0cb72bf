"""The layer record: a kind, its settings and its children, beside the three pure functions that interpret them in JAX.

`fnet.reference` interprets the same data in NumPy. This module imports neither, and serves both.
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
    """A layer received an input of a shape that it cannot take.

    Args:
        message: what was expected, what was received and how to mend it.
        path: the names of the layers that lead to the place, outermost first.
        kind: the kind of the layer, which stands for its name as long as no container has named it.
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
    """One layer, or a network of them: plain data and three pure functions. Compared and hashed by identity.

    Args:
        kind: the constructor's name, or its dotted path when it is not fnet's own.
        settings: None, bool, int, float, str, or tuples of them.
        shape: in_shape -> out_shape of one example, by arithmetic alone.
        init: (key, in_shape) -> (params, state).
        apply: (params, state, x, *, train, key=None, mask=None) -> (y, state).
        children: (name, layer) pairs, in order.
        name: replaces the name that a container would count.
        constructor: the function that made it from its settings and children; None for a layer made by hand.
        draw: (key, shape) -> the random mask that apply draws in training for inputs of a shape, for a layer that does,
            so that the reference can be handed the same.
    """

    kind: str
    settings: Mapping[str, Any]
    shape: Callable[[Shape], Shape]
    init: Callable[[Any, Shape], tuple[dict[str, Any], dict[str, Any]]]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    children: tuple[tuple[str, "Layer"], ...] = ()
    name: str | None = None
    constructor: Callable[..., "Layer"] | None = None
    draw: Callable[[Any, Shape], Any] | None = None

    def __post_init__(self):
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        if self.name is not None and (not self.name or "/" in self.name):
            raise ValueError(f"{self.kind}: a layer's name may not be empty or hold '/', got {self.name!r}")

    def __repr__(self) -> str:
        arguments = [repr(child) for _, child in self.children]
        arguments += [f"{key}={value!r}" for key, value in self.settings.items()]
        if self.name is not None:
            arguments.append(f"name={self.name!r}")
        return f"{self.kind}({', '.join(arguments)})"

    def __str__(self) -> str:
        """The table of layers, one a line: indented name, kind and settings."""
        rows = [("  " * (len(path) - 1) + path[-1] if path else "network", layer) for path, layer in walk(self)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {headline(layer)}".rstrip() for name, layer in rows)


def walk(net: Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """Every layer with its path, the network itself first (with the empty path), in the order of the description."""
    yield path, net
    for name, child in net.children:
        yield from walk(child, (*path, name))


def headline(layer: Layer) -> str:
    """The kind of a layer and its settings other than the defaults, on one line, without its children.

    >>> import fnet
    >>> headline(fnet.dense(10)), headline(fnet.graph(nodes={"y": ("add", "input", "input")}))
    ('dense  units=10', 'graph  nodes=(y = add(input, input))')
    """
    parameters = inspect.signature(layer.constructor).parameters if layer.constructor is not None else {}
    shown = [
        f"{key}={_shown(value)}"
        for key, value in layer.settings.items()
        if key not in parameters or parameters[key].default != value
    ]
    return "  ".join([layer.kind, " ".join(shown)]).rstrip()


def _shown(value: Any) -> str:
    if not was_mapping(value):
        return str(value)
    nodes = (f"{name} = {operation}({', '.join(inputs)})" for name, (operation, *inputs) in value)
    return f"({', '.join(nodes)})"


def frozen(value: Any) -> Any:
    """Lists and mappings, which YAML gives, as tuples and tuples of pairs, which a layer's settings hold."""
    if isinstance(value, Mapping):
        return tuple((key, frozen(item)) for key, item in value.items())
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value


def thawed(value: Any) -> Any:
    """The inverse of `frozen`."""
    if not isinstance(value, tuple):
        return value
    return {key: thawed(item) for key, item in value} if was_mapping(value) else [thawed(item) for item in value]


def was_mapping(value: Any) -> bool:
    """Whether a frozen value is that of a mapping: a tuple of (name, tuple) pairs."""
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    )
