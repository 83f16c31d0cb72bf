"""The config's list of layers: checked against the layers' own signatures, all problems at once."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from fnet.config.errors import Path, Problem, unknown_key
from fnet.description import Layer, build, children_of, frozen, item
from fnet.settings import in_words, model_of


def check_layers(layers: Sequence[Any], path: Path) -> Iterator[Problem]:
    """Everything that is wrong with the items of a list of layers, short of their shapes."""
    for number, data in enumerate(layers):
        yield from _check_item(data, (*path, number))


def _check_item(data: Any, path: Path) -> Iterator[Problem]:
    if isinstance(data, list):
        yield from check_layers(data, path)
        return
    try:
        kind, construct, values = item(data)
    except ValueError as error:
        yield Problem(path, str(error), at_key=True)
        return
    if isinstance(data, dict):
        path = (*path, kind)
    if children_of(construct):
        children = values.pop("layers", [])
        if isinstance(children, list):
            yield from check_layers(children, (*path, "layers") if isinstance(_value(data), dict) else path)
        else:
            yield Problem((*path, "layers"), f"{kind}: layers: expected a list of layers")
    model = model_of(construct)
    try:
        model(**{key: frozen(value) for key, value in values.items()})
    except ValidationError as error:
        grouped: dict[str, list[Any]] = {}
        for entry in error.errors():
            grouped.setdefault(str(entry["loc"][0]), []).append(entry)
        for key, entries in grouped.items():
            if entries[0]["type"] == "extra_forbidden":
                yield unknown_key((*path, key), model.model_fields, f"'{kind}'", elsewhere=False)
            else:
                yield Problem((*path, key), f"{kind}: {key}: {in_words(*entries)}")


def build_network(layers: Sequence[Any], path: Path) -> Layer | Problem:
    """The network of a checked list of layers; what is still wrong with a list as a whole is a problem."""
    try:
        return build(list(layers))
    except ValueError as error:
        return Problem(path, str(error))


def path_of(data: Any, path: Path, net: Layer, names: Sequence[str]) -> Path:
    """The path in the config's data to the layer that the names lead to in the network."""
    for name in names:
        number = [child for child, _ in net.children].index(name)
        net = net.children[number][1]
        if isinstance(data, dict):
            kind, value = next(iter(data.items()))
            path, data = (*path, kind), value
            if isinstance(data, dict):
                path, data = (*path, "layers"), data["layers"]
        path, data = (*path, number), data[number]
    return path


def _value(data: Any) -> Any:
    return next(iter(data.values())) if isinstance(data, dict) else None
