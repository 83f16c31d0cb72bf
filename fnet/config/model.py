"""The config's list of layers: checked against the layers' own signatures, all problems at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from fnet.config.errors import Path, Problem, unknown_key
from fnet.core.layer import Layer, frozen, walk
from fnet.core.settings import by_setting, children_of, in_words, model_of
from fnet.core.traversal import indices_of
from fnet.data.source import Spec
from fnet.layers.vocabulary import CONSTRUCTORS, build, constructor_of, item

SIZES = ("classes", "vocabulary")
"""What may stand for a number in a layer's settings: how many classes, or token numbers, the data have."""


def size_of(word: str, spec: Spec) -> int | str:
    """The number that a word of `SIZES` stands for, or why there is none."""
    if word == "vocabulary":
        known = spec.vocabulary
        return (
            f"'vocabulary' is the number of tokens of a text, and {spec.name} has none" if known is None else len(known)
        )
    if spec.targets.kind == "classes":
        return spec.targets.number
    return f"{spec.name} has {spec.targets}, and no classes; write the number"


def sizes_in(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where in layers' settings such words stand: {dense: classes}, {embedding: {size: vocabulary}}."""
    items: Iterable[tuple[Any, Any]] = enumerate(data) if isinstance(data, list) else ()
    if isinstance(data, dict):
        items = data.items()
        yield from (((*path, key), value) for key, value in items if value in SIZES and key != "name")
    for key, value in items:
        if isinstance(value, list | dict):
            yield from sizes_in(value, (*path, key))


def check_layers(layers: Sequence[Any], path: Path) -> list[Problem]:
    """Everything that is wrong with the items of a list of layers, short of their shapes."""
    return [problem for number, data in enumerate(layers) for problem in _check_item(data, (*path, number))]


def _check_item(data: Any, path: Path) -> list[Problem]:
    if isinstance(data, list):
        return check_layers(data, path) or _check_whole(data, path)
    try:
        kind, construct, values = item(data)
    except ValueError as error:
        return [Problem(path, str(error), at_key=True)]
    if isinstance(data, dict):
        path = (*path, kind)
    problems = []
    if children_of(construct):
        children = values.pop("layers", [])
        if isinstance(children, list):
            problems += check_layers(children, (*path, "layers") if isinstance(_value(data), dict) else path)
        else:
            problems.append(Problem((*path, "layers"), f"{kind}: layers: expected a list of layers"))
    problems += _check_settings(kind, construct, values, path)
    return problems or _check_whole(data, path)


def _check_settings(kind: str, construct: Callable[..., Any], values: dict[str, Any], path: Path) -> Iterator[Problem]:
    model = model_of(construct)
    try:
        model(**{key: frozen(value) for key, value in values.items()})
    except ValidationError as error:
        for key, entries in by_setting(error).items():
            if entries[0]["type"] == "extra_forbidden":
                yield unknown_key((*path, key), model.model_fields, f"'{kind}'", elsewhere=False)
            else:
                yield Problem((*path, key), f"{kind}: {key}: {in_words(*entries)}")


def _check_whole(data: Any, path: Path) -> list[Problem]:
    """What only shows when a layer is made of parts that are right one by one."""
    try:
        build(data)
    except (ValueError, TypeError) as error:
        return [Problem(path, str(error))]
    return []


def build_network(layers: Sequence[Any], path: Path) -> Layer | Problem:
    """The network of a checked list of layers; what is still wrong with a list as a whole is a problem."""
    try:
        return build(list(layers))
    except ValueError as error:
        return Problem(path, str(error))


def index_misfit(net: Layer, spec: Spec) -> str | None:
    """What is wrong when indices meet a layer for real numbers, real numbers one for indices, or indices too few.

    Layers of a user's own may take either, and are not judged.
    """
    if any(layer.kind not in CONSTRUCTORS for _, layer in walk(net)):
        return None
    number = indices_of(net)
    tokens = None if spec.vocabulary is None else len(spec.vocabulary)
    if number is None and spec.tokens:
        size = "N" if tokens is None else tokens
        return (
            f"{spec.name} has token numbers, and the network begins with a layer for real numbers; "
            f"begin with embedding: {{size: {size}, width: 64}} or one_hot: {size}"
        )
    if number is not None and not spec.tokens:
        return (
            f"the network begins with a layer for the indices 0 ... {number - 1}, and {spec.name} has real numbers; "
            "begin with another layer, such as dense or lstm"
        )
    if number is not None and tokens is not None and number < tokens:
        return (
            f"the network begins with a layer for {number} indices, and {spec.name} has {tokens} token numbers; "
            f"make its size {tokens}"
        )
    return None


def path_of(data: Any, path: Path, net: Layer, names: Sequence[str]) -> Path:
    """The path in the config's data to the layer that the names lead to in the network, as far as it is written there.

    What a `repeat` or a `bidirectional` contains is written once and built several times: the path ends at it.
    """
    for name in names:
        number = [child for child, _ in net.children].index(name)
        net = net.children[number][1]
        if isinstance(data, dict):
            kind, value = next(iter(data.items()))
            if not hasattr(constructor_of(kind), "makes_layers"):
                return path
            path, data = (*path, kind), value
            if isinstance(data, dict):
                path, data = (*path, "layers"), data["layers"]
        path, data = (*path, number), data[number]
    return path


def _value(data: Any) -> Any:
    return next(iter(data.values())) if isinstance(data, dict) else None
