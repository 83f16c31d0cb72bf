"""Checks of the items in a config's lists of layers and augmentations against the constructors' signatures."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from fnet.config.errors import MAX_PROBLEMS, Path, Problem, unknown_key
from fnet.core.description import Registry
from fnet.core.layer import freeze
from fnet.core.settings import by_setting, layers_parameter, model_of
from fnet.core.wording import errors_in_words


def check_items(registry: Registry[Any], items: Sequence[Any], path: Path) -> list[Problem]:
    """Return the first problems of the items of a list, except those that depend on the shape of the data.

    Args:
        registry: the constructors that an item can name.
        items: the list.
        path: path to the list in the config's data.
    """
    problems: list[Problem] = []
    for index, data in enumerate(items):
        problems += _check_item(registry, data, (*path, index))
        if len(problems) > MAX_PROBLEMS:
            break
    return problems


def _check_item(registry: Registry[Any], data: Any, path: Path) -> list[Problem]:
    if isinstance(data, list) and registry.list_kind is not None:
        return check_items(registry, data, path) or _check_whole(registry, data, path)
    try:
        kind, construct, settings = registry.parse(data)
    except ValueError as error:
        return [Problem(path, str(error), at_key=True)]
    path = (*path, kind) if isinstance(data, dict) else path
    problems = []
    if layers_parameter(construct):
        layers = settings.pop("layers", [])
        if isinstance(layers, list):
            written_out = isinstance(data, dict) and isinstance(data[kind], dict)
            problems += check_items(registry, layers, (*path, "layers") if written_out else path)
        else:
            problems.append(Problem((*path, "layers"), f"{kind}: layers: expected a list of layers"))
    problems += _check_settings(kind, construct, settings, path)
    return problems or _check_whole(registry, data, path)


def _check_settings(
    kind: str, construct: Callable[..., Any], settings: dict[str, Any], path: Path
) -> Iterator[Problem]:
    model = model_of(construct)
    known = {*model.model_fields, *(["layers"] if layers_parameter(construct) else [])}
    try:
        model(**{key: freeze(value) for key, value in settings.items()})
    except ValidationError as error:
        for key, entries in by_setting(error).items():
            if entries[0]["type"] == "extra_forbidden":
                yield unknown_key((*path, key), known, f"'{kind}'", elsewhere=False)
            else:
                yield Problem((*path, key), f"{kind}: {key}: {errors_in_words(*entries)}")


def _check_whole(registry: Registry[Any], data: Any, path: Path) -> list[Problem]:
    """Return the problem of an item as a whole, when each of its parts is valid."""
    try:
        registry.build(data)
    except (ValueError, TypeError) as error:
        return [Problem(path, str(error))]
    return []
