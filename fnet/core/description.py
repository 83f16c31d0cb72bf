"""A network as plain data that YAML can hold, and back."""

from collections.abc import Callable, Mapping
from typing import Any

from fnet.core import settings
from fnet.core.layer import Layer, thawed

ConstructorOf = Callable[[Any], Callable[..., Layer]]


def describe(net: Layer) -> Any:
    """The network as plain data that YAML can hold; `build` gives the network back.

    >>> import fnet
    >>> describe(fnet.serial(fnet.flatten(), fnet.dense(3), fnet.relu()))
    ['flatten', {'dense': {'units': 3, 'bias': True, 'init': 'glorot_uniform'}}, 'relu']

    Raises:
        ValueError: for a layer made by hand whose kind is not the dotted path of a constructor.
    """
    if net.constructor is None and "." not in net.kind:
        raise ValueError(
            f"the layer '{net.kind}' was made by hand, and its description needs its constructor's dotted path: "
            f'give it kind="my_module.{net.kind}"'
        )
    values = {key: thawed(value) for key, value in net.settings.items()}
    if net.children:
        values["layers"] = [describe(child) for _, child in net.children]
    if net.name is not None:
        values["name"] = net.name
    if net.kind == "serial" and list(values) == ["layers"]:
        return values["layers"]
    return {net.kind: values} if values else net.kind


def build(data: Any, constructor_of: ConstructorOf) -> Layer:
    """The network that plain data describes: the inverse of `describe`.

    Args:
        data: as `fnet.build` takes it.
        constructor_of: the constructor of a kind; raises a ValueError for an unknown one.

    Raises:
        ValueError: for data of another form, an unknown kind, or a setting out of bounds.
    """
    kind, construct, values = item(data, constructor_of)
    layers = values.pop("layers", []) if settings.children_of(construct) else []
    unknown = values.keys() - settings.named_parameters(construct).keys()
    if unknown:
        word = min(unknown)
        raise ValueError(
            f"{kind}: unknown setting '{word}'{settings.suggestion(word, settings.named_parameters(construct))}"
        )
    return construct(*(build(layer, constructor_of) for layer in layers), **values)


def item(data: Any, constructor_of: ConstructorOf) -> tuple[str, Callable[..., Layer], dict[str, Any]]:
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
