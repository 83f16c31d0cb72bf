"""Checks of the config's list of layers against their signatures and the data."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fnet.config.errors import Path, Problem
from fnet.config.items import check_items
from fnet.core.layer import Layer, walk
from fnet.data.source import DatasetSpec
from fnet.layers.transform import MAX_LAYERS
from fnet.layers.vocabulary import CONSTRUCTORS, LAYERS

SIZES = ("classes", "labels", "vocabulary")
"""Words that may replace a whole number in a layer's settings: the number of classes, labels or tokens in the data."""


def size_of(word: str, spec: DatasetSpec) -> int | str:
    """Return the number that a word in `SIZES` stands for, or the reason why there is none."""
    if word == "vocabulary":
        if spec.vocabulary is None:
            return f"'vocabulary' is the number of tokens of a text, but {spec.name} is not a text"
        return len(spec.vocabulary)
    if spec.targets.kind == word:
        return spec.targets.number
    return f"'{word}' is the number of {word}, but {spec.name} has {spec.targets}; write the number"


def sizes_in(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the path and the word of every such setting: {dense: classes}, {embedding: {size: vocabulary}}."""
    items: Iterable[tuple[Any, Any]] = enumerate(data) if isinstance(data, list) else ()
    if isinstance(data, dict):
        items = data.items()
        yield from (((*path, key), value) for key, value in items if value in SIZES and key != "name")
    for key, value in items:
        if isinstance(value, list | dict):
            yield from sizes_in(value, (*path, key))


def check_layers(layers: Sequence[Any], path: Path) -> list[Problem]:
    """Return the problems of a list of layers, except those that depend on shapes."""
    return check_items(LAYERS, layers, path)


def build_network(layers: Sequence[Any], path: Path) -> Layer | Problem:
    """Return the network of a checked list of layers, or the problem of the list as a whole."""
    try:
        net = LAYERS.build(list(layers))
    except ValueError as error:
        return Problem(path, str(error))
    if next(itertools.islice(walk(net), MAX_LAYERS, None), None) is not None:
        return Problem(path, f"model: expected at most {MAX_LAYERS:,} layers, got more; use repeat with scan: true")
    return net


def index_incompatibility(net: Layer, spec: DatasetSpec) -> str | None:
    """Return the reason why the first layer cannot take the data: indices in place of real numbers, or vice versa.

    A user's own layer that does not declare a number of indices may take either.
    """
    number = net.indices if isinstance(net.indices, int) else None
    if number is None and any(layer.kind not in CONSTRUCTORS for _, layer in walk(net)):
        return None
    tokens = None if spec.vocabulary is None else len(spec.vocabulary)
    if number is None and spec.tokens:
        size = "N" if tokens is None else tokens
        return (
            f"{spec.name} has token indices, but the network begins with a layer for real numbers; "
            f"begin with embedding: {{size: {size}, width: 64}} or one_hot: {size}"
        )
    if number is not None and not spec.tokens:
        return (
            f"the network begins with a layer for the indices 0 ... {number - 1}, but {spec.name} has real numbers; "
            "begin with another layer, such as dense or lstm"
        )
    if number is not None and tokens is not None and number < tokens:
        return (
            f"the network begins with a layer for {number} indices, but {spec.name} has {tokens} different tokens; "
            f"set its size to {tokens}"
        )
    return None


def path_of(data: Any, path: Path, net: Layer, names: Sequence[str]) -> Path:
    """Return the path in the config's data to a layer of the network, or to the nearest item that contains it.

    The layers inside a composite, such as `repeat` or `transformer`, are not written in the config: the path ends at
    the composite.

    Args:
        data: the config's list of layers.
        path: path to this list.
        net: the network that it describes.
        names: names on the path to the layer in the network.
    """
    for name in names:
        if isinstance(data, dict):
            kind, value = next(iter(data.items()))
            if kind != net.kind or net.expansion is not None:
                return path
            path, data = (*path, kind), value
            if isinstance(data, dict):
                path, data = (*path, "layers"), data["layers"]
        elif not isinstance(data, list):
            return path
        index = [child for child, _ in net.children].index(name)
        path, data, net = (*path, index), data[index], net.children[index][1]
    return path
