"""The layer record: plain data (kind, settings, children) and three pure functions that interpret it in JAX.

`fnet.reference` interprets the same data in NumPy. Both use this module, which imports neither JAX nor NumPy.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Protocol

from annotated_types import MinLen

from fnet.core.wording import printable, suggestion

Shape = tuple[int, ...]
"""The shape of one example, without the batch axis. Several arrays have a tuple or dict of shapes."""

Name = Annotated[str, MinLen(1)] | None


class Apply(Protocol):
    """The forward pass of a layer: (params, state, x) -> (y, state), in training or in evaluation."""

    def __call__(
        self, params: Any, state: Any, x: Any, /, *, train: bool, key: Any = None, mask: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the outputs (batch, ...) and the new state.

        Args:
            params: parameters of the layer.
            state: its non-trainable state.
            x: inputs (batch, ...); a tuple or dict of arrays for a layer with several inputs.
            train: whether batch statistics are computed and dropout is active.
            key: random key, needed only in training with dropout.
            mask: (batch,) or (batch, time), True for real examples or steps; None if all are real.
        """
        ...


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


class UnknownLayer(KeyError):
    """The network does not have a layer at this path."""

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """A layer or a network of layers: plain data and three pure functions.

    Layers are values: two calls of a constructor with equal arguments make layers that are equal and hash alike, so
    that a network can be a static argument of `jax.jit`. Layers made without a constructor are equal if their functions
    are. A layer with a traced setting cannot be hashed. Layers can be pickled if their constructor can be imported.

    A container has children. A composite is a layer that is defined by another network, its expansion: it has the
    functions and the children of the expansion, but its own kind and settings.

    Args:
        kind: name of the constructor, or its dotted path if it lies outside fnet.
        settings: None, bool, int, float, str, functions, or tuples of them; a float may be a traced number.
        shape: in_shape -> out_shape of one example, by arithmetic alone.
        init: (key, in_shape) -> (params, state).
        apply: (params, state, x, *, train, key=None, mask=None) -> (y, state).
        children: (name, layer) pairs, in order.
        name: replaces the name that a container derives by counting.
        draw: (key, shape) -> the random mask that apply draws in training for inputs of this shape, if it draws one;
            the reference receives the same mask.
        indices: number of different indices (0, 1, ...) that the input may contain, if the layer takes indices; for
            several inputs, this number or None by name.
        rearranges: whether the layer only rearranges the entries of its input, so that its input may be indices too.
        several_inputs: whether the input is a tuple or dict of arrays.
        reference: the hand-written rule, a `fnet.reference.Rule`; None for that of the kind, if there is one.

    Attributes:
        layers: the layers that the constructor received.
        constructor: the function that made the layer from `layers` and `settings`. It is None for a layer made by hand,
            such as the result of `dataclasses.replace`, whose functions its settings no longer describe.
        expansion: the network that defines a composite; None for any other layer.

    >>> import fnet
    >>> fnet.dense(3) == fnet.dense(3), fnet.dense(3) == fnet.dense(4)
    (True, False)
    >>> fnet.serial(fnet.serial(fnet.dense(3), name="trunk"), fnet.relu())["trunk/dense_1"]
    dense(units=3, bias=True, init='glorot_uniform')
    """

    kind: str
    settings: Mapping[str, Any]
    shape: Callable[[Any], Any]
    init: Callable[[Any, Any], tuple[dict[str, Any], dict[str, Any]]]
    apply: Apply
    children: tuple[tuple[str, "Layer"], ...] = ()
    name: str | None = None
    draw: Callable[[Any, Any], Any] | None = None
    _: dataclasses.KW_ONLY
    indices: int | Mapping[str, int | None] | None = None
    rearranges: bool = False
    several_inputs: bool = False
    reference: Any = None
    layers: tuple["Layer", ...] = dataclasses.field(default=(), init=False)
    constructor: Callable[..., "Layer"] | None = dataclasses.field(default=None, init=False)
    expansion: "Layer | None" = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        object.__setattr__(self, "layers", tuple(child for _, child in self.children))
        if self.name is not None and (not self.name or "/" in self.name):
            raise ValueError(f"{self.kind}: a layer's name may not be empty or contain '/', got {self.name!r}")
        if self.name is not None and printable(self.name) != self.name:
            raise ValueError(f"{self.kind}: a layer's name may not contain control characters, got {self.name!r}")

    def __getitem__(self, path: str) -> "Layer":
        """Return the layer at a path of names joined by "/", such as "block/dense_1".

        Raises:
            UnknownLayer: when there is no such layer; suggests the nearest name.
        """
        if not isinstance(path, str):
            raise TypeError(f"expected the path of a layer, such as net['block/dense_1'], got {path!r}")
        layer = self
        for name in path.split("/"):
            children = dict(layer.children)
            if name not in children:
                known = ("/".join(names) for names, _ in walk(self) if names)
                raise UnknownLayer(f"the network does not have a layer '{path}'{suggestion(path, known)}")
            layer = children[name]
        return layer

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        """What determines the layer: the call of its constructor, or all fields of a layer made by hand."""
        settings = tuple((key, _exact(value)) for key, value in self.settings.items())
        if self.constructor is not None:
            return self.constructor, settings, self.layers, self.name
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        return (*(fields | {"settings": settings}).values(),)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._identity)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Layer):
            return self is other
        try:
            return hash(self) == hash(other) and self._identity == other._identity
        except TypeError:  # a traced setting
            return False

    def __copy__(self) -> "Layer":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Layer":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.constructor is not None:
            return _call_again, (self.constructor, self.layers, dict(self.settings), self.name)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        return _layer_of, (fields | {"settings": dict(self.settings)},)

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


def _exact(value: Any) -> Any:
    """Return a setting that equals only settings of the same type and sign: in Python, 0.0 == -0.0 and 1 == True."""
    if isinstance(value, tuple):
        return tuple(map(_exact, value))
    return (type(value), value.hex()) if isinstance(value, float) else (type(value), value)


def _call_again(
    constructor: Callable[..., Layer], layers: tuple[Layer, ...], settings: dict[str, Any], name: str | None
) -> Layer:
    """Return the layer of a constructor's call, for `pickle`."""
    return constructor(*layers, **settings, **({} if name is None else {"name": name}))


def _layer_of(fields: dict[str, Any]) -> Layer:
    """Return a layer with these fields, for `pickle`."""
    return Layer(**fields)


def made_by(
    layer: Layer, constructor: Callable[..., Layer], layers: tuple[Layer, ...], expansion: Layer | None
) -> Layer:
    """Record the constructor's call that made a new layer, and return the layer."""
    for field, value in (("constructor", constructor), ("layers", layers), ("expansion", expansion)):
        object.__setattr__(layer, field, value)
    return layer


def is_shape(value: Any) -> bool:
    """Return whether a value is the shape of one array, not a tuple or dict of shapes or arrays.

    >>> is_shape((28, 28)), is_shape(()), is_shape(((3,), (4,))), is_shape({"query": (3,)})
    (True, True, False, False)
    """
    return isinstance(value, tuple) and not any(
        isinstance(part, tuple | Mapping) or hasattr(part, "shape") for part in value
    )


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
        if key not in parameters or is_scalar_array(value) or parameters[key].default != value
    ]
    return "  ".join([layer.kind, " ".join(settings)]).rstrip()


def _in_one_line(value: Any) -> str:
    """Write a setting: a function by its name; a mapping to lists, such as a graph's nodes, as `name = first(...)`."""
    if callable(value):
        return getattr(value, "__name__", str(value))
    if not is_frozen_mapping(value) or not all(entries for _, entries in value):
        return str(value)
    nodes = (f"{name} = {first}({', '.join(map(str, others))})" for name, (first, *others) in value)
    return f"({', '.join(nodes)})"


def freeze(value: Any) -> Any:
    """Convert a value to one that settings may contain.

    YAML's lists become tuples, its mappings tuples of pairs, and the scalars of NumPy and JAX Python numbers, except
    for traced numbers.
    """
    if isinstance(value, Mapping):
        return tuple((key, freeze(item)) for key, item in value.items())
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else unwrap_scalar(value)


def unwrap_scalar(value: Any) -> Any:
    """Return a scalar of NumPy or JAX as a Python number, unless it is traced, and any other value unchanged."""
    # A tracer of a derivative may have a value, but the value does not have the derivative.
    traced = any(base.__name__ == "Tracer" for base in type(value).__mro__)
    return value.item() if is_scalar_array(value) and not traced else value


def is_scalar_array(value: Any) -> bool:
    """Return whether a value is a scalar of NumPy or JAX; in the settings of a layer, only a traced number is."""
    return not isinstance(value, type) and hasattr(value, "dtype") and getattr(value, "shape", None) == ()


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
