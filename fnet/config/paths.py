"""Paths in a config: relative to the file that contains them, and on the command line to the current directory."""

import functools
import os
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from fnet.config import schema
from fnet.config.document import Document
from fnet.config.errors import Path
from fnet.config.sections import models_in
from fnet.data.path import ABSOLUTE, absolute


def resolve_paths(source: Document) -> frozenset[Path]:
    """Make the relative paths in a document absolute, in place, and return where they are in its data.

    A hint is added to the document for a file that exists in the current directory only.
    """
    relative = set()
    folder = os.path.dirname(os.path.abspath(source.file))
    for path, holder in _paths_in(source.data):
        text = holder[path[-1]]
        if not text or os.path.isabs(os.path.expanduser(text)):
            continue
        relative.add(path)
        here = absolute(text)
        holder[path[-1]] = here if source.is_overridden(path) else absolute(text, folder)
        if not _exists(holder[path[-1]]) and _exists(here):
            key = ".".join(map(str, path))
            hint = (
                f"; a path in a config is relative to the folder of the config, and '{text}' exists in the current "
                f"directory: write {_relative(here, folder)}, or {key}={text} on the command line"
            )
            source.hints |= {path[:2]: hint, ("data", "name"): hint}
    return frozenset(relative)


def with_relative_paths(data: dict[str, Any], relative: Iterable[Path], folder: str) -> dict[str, Any]:
    """Return the data of a config in which the paths at these places are relative to a folder."""
    return {
        key: with_relative_paths(value, [path[1:] for path in relative if path[0] == key], folder)
        if isinstance(value, dict)
        else _relative(value, folder)
        if (key,) in relative
        else value
        for key, value in data.items()
    }


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return path


def _paths_in(data: dict[str, Any]) -> Iterator[tuple[Path, dict[Any, Any]]]:
    """Yield where the paths are in the data of a config, and the mapping that contains each."""
    settings = data.get("data")
    if not isinstance(settings, dict):
        return
    for name in _path_settings():
        value = settings.get(name)
        if isinstance(value, str):
            yield ("data", name), settings
        elif isinstance(value, dict):
            yield from ((("data", name, key), value) for key, inner in value.items() if isinstance(inner, str))


@functools.cache
def _path_settings() -> tuple[str, ...]:
    """Return the names of the settings of data that are paths."""
    fields = (item for member in models_in(schema.Data) for item in member.model_fields.items())
    return tuple(dict.fromkeys(name for name, field in fields if _is_path((field.annotation, *field.metadata))))


def _is_path(annotations: Iterable[Any]) -> bool:
    return any(part is ABSOLUTE or _is_path(typing.get_args(part)) for part in annotations)


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a name with NUL, in some versions of Python
        return False
