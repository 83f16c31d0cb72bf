"""A network is plain data: a kind, its settings and its children.

`Layer` holds that data beside the three pure functions that interpret it in JAX; `fnet.reference` interprets the same
data in NumPy. This module imports neither, and serves both.
"""

import dataclasses
import importlib
import inspect
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import MinLen

from fnet import settings
from fnet.wiring import INPUT

Shape = tuple[int, ...]
Name = Annotated[str, MinLen(1)] | None

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "serial": "combine",
        "dense": "dense",
        "residual": "combine",
        "parallel": "combine",
        "repeat": "combine",
        "graph": "combine",
        "conv": "conv",
        "conv_1d": "conv",
        "conv_transpose": "conv",
        "max_pool": "pool",
        "avg_pool": "pool",
        "global_max_pool": "pool",
        "global_avg_pool": "pool",
        "flatten": "shape",
        "reshape": "shape",
        "permute": "shape",
        "zero_pad": "shape",
        "upsample": "shape",
        "batch_norm": "norm",
        "layer_norm": "norm",
        "group_norm": "norm",
        "rms_norm": "norm",
        "rnn": "recurrent",
        "gru": "recurrent",
        "lstm": "recurrent",
        "bidirectional": "recurrent",
        "attention": "attention",
        "positions": "attention",
        "sinusoidal_positions": "attention",
        "transformer": "attention",
        "embedding": "embedding",
        "one_hot": "embedding",
        "tied": "embedding",
        "dropout": "dropout",
        "spatial_dropout": "dropout",
        "identity": "activation",
        "sigmoid": "activation",
        "tanh": "activation",
        "relu": "activation",
        "leaky_relu": "activation",
        "elu": "activation",
        "softmax": "activation",
        "swish": "activation",
        "gelu": "activation",
    }
)
"""The kinds of layer and the file of each, the same in `fnet.layers` and in `fnet.reference`."""

WEIGHT_LEAVES = frozenset({"w", "u"})
"""The names of the leaves that penalties apply to: weights, not biases or scales."""


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


def headline(layer: Layer) -> str:
    """The kind of a layer and its settings other than the defaults, on one line, without its children.

    >>> import fnet
    >>> headline(fnet.dense(10)), headline(fnet.graph(nodes={"y": ("add", "input", "input")}))
    ('dense  units=10', 'graph  nodes=(y = add(input, input))')
    """
    try:
        parameters = inspect.signature(constructor_of(layer.kind)).parameters
    except ValueError:
        parameters = {}
    shown = [
        f"{key}={_shown(value)}"
        for key, value in layer.settings.items()
        if key not in parameters or parameters[key].default != value
    ]
    return "  ".join([layer.kind, " ".join(shown)]).rstrip()


def _shown(value: Any) -> str:
    if not _was_mapping(value):
        return str(value)
    nodes = (f"{name} = {operation}({', '.join(inputs)})" for name, (operation, *inputs) in value)
    return f"({', '.join(nodes)})"


def frozen(value: Any) -> Any:
    """Lists and mappings, which YAML gives, as tuples and tuples of pairs, which a layer's settings hold."""
    if isinstance(value, Mapping):
        return tuple((key, frozen(item)) for key, item in value.items())
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value


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
            raise TypeError(f"expected a layer, got {settings.shown(layer)}{hint}")
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


def walk(net: Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """Every layer with its path, the network itself first (with the empty path), in the order of the description."""
    yield path, net
    for name, child in net.children:
        yield from walk(child, (*path, name))


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
        moving = itertools.takewhile(lambda layer: FAMILIES.get(layer.kind) == "shape", first)
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
        children = (rebuilt(child, replace, (*path, name)) for name, child in net.children)
        net = dataclasses.replace(constructor_of(net.kind)(*children, **net.settings), name=net.name)
    return replace(path, net)


def describe(net: Layer) -> Any:
    """The network as plain data that YAML can hold; `build` gives the network back.

    >>> import fnet
    >>> describe(fnet.serial(fnet.flatten(), fnet.dense(3), fnet.relu()))
    ['flatten', {'dense': {'units': 3, 'bias': True, 'init': 'glorot_uniform'}}, 'relu']

    Raises:
        ValueError: for a layer made by hand whose kind is not the dotted path of a constructor.
    """
    if net.kind not in FAMILIES and "." not in net.kind:
        raise ValueError(
            f"the layer '{net.kind}' was made by hand, and its description needs its constructor's dotted path: "
            f'give it kind="my_module.{net.kind}"'
        )
    values = {key: _thawed(value) for key, value in net.settings.items()}
    if net.children:
        values["layers"] = [describe(child) for _, child in net.children]
    if net.name is not None:
        values["name"] = net.name
    if net.kind == "serial" and list(values) == ["layers"]:
        return values["layers"]
    return {net.kind: values} if values else net.kind


def _thawed(value: Any) -> Any:
    """The inverse of `frozen`."""
    if not isinstance(value, tuple):
        return value
    return {key: _thawed(item) for key, item in value} if _was_mapping(value) else [_thawed(item) for item in value]


def _was_mapping(value: Any) -> bool:
    """Whether a frozen value is that of a mapping: a tuple of (name, tuple) pairs."""
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    )


def build(data: Any) -> Layer:
    """The network that plain data describes: the inverse of `describe`, which also takes the config's short forms.

    A list is a `serial`; an item is a kind (`relu`) or a kind with its settings (`{dense: {units: 64}}`), of which the
    first may stand alone (`{dense: 64}`).

    >>> import fnet
    >>> fnet.build(["flatten", {"dense": 3}]).shape((2, 2))
    (3,)

    Raises:
        ValueError: for an item that is none of these, an unknown kind, or a setting out of bounds.
    """
    kind, construct, values = item(data)
    layers = values.pop("layers", []) if settings.children_of(construct) else []
    unknown = values.keys() - settings.named_parameters(construct).keys()
    if unknown:
        word = min(unknown)
        raise ValueError(
            f"{kind}: unknown setting '{word}'{settings.suggestion(word, settings.named_parameters(construct))}"
        )
    return construct(*(build(layer) for layer in layers), **values)


def item(data: Any) -> tuple[str, Callable[..., Layer], dict[str, Any]]:
    """One item of a description as (kind, constructor, settings), its short form written out.

    Raises:
        ValueError: when it is not of the form of an item, or its kind is unknown.
    """
    if isinstance(data, list | tuple):
        data = {"serial": {"layers": data}}
    if isinstance(data, str):
        data = {data: {}}
    if not isinstance(data, Mapping) or len(data) != 1:
        received = settings.shown(data)
        if isinstance(data, Mapping):
            received += f" with the keys {', '.join(map(str, data))}" if data else " that is empty"
        raise ValueError(f"expected a layer, such as relu or {{dense: 64}}, got {received}")
    kind, values = next(iter(data.items()))
    construct = constructor_of(kind)
    if values is None:
        return kind, construct, {}
    if isinstance(values, Mapping):
        return kind, construct, dict(values)
    first = (
        "layers"
        if settings.children_of(construct) and isinstance(values, list | tuple)
        else settings.first_parameter(construct)
    )
    if first is None:
        raise ValueError(f"{kind} takes no value on its own, got {settings.shown(values)}")
    return kind, construct, {first: values}


def constructor_of(kind: Any) -> Callable[..., Layer]:
    """The function that makes layers of this kind.

    Raises:
        ValueError: when there is none; suggests the nearest.
    """
    if not isinstance(kind, str):
        raise ValueError(f"expected the name of a layer, got {settings.shown(kind)}")
    if kind in FAMILIES:
        return getattr(importlib.import_module(f"fnet.layers.{FAMILIES[kind]}"), kind)
    module, dot, function = kind.rpartition(".")
    if not dot:
        raise ValueError(f"unknown layer '{kind}'{settings.suggestion(kind, FAMILIES)}")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"unknown layer '{kind}': {error}; a layer of your own is found beside the config, in the working folder "
            "or on PYTHONPATH"
        ) from None
    if not hasattr(found, "makes_layers") and not _says_layer(found):
        raise ValueError(f"'{kind}' makes no layers; decorate it with @fnet.constructor")
    return found


def _says_layer(found: Any) -> bool:
    """Whether a function without the decorator is annotated to return a layer."""
    return inspect.isfunction(found) and inspect.signature(found).return_annotation in (Layer, "Layer", "fnet.Layer")
