"""Expansion of the short forms of a config, before it is validated."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fnet.config import schema
from fnet.config.errors import Path, Problem
from fnet.config.experiment import data_source
from fnet.config.model import size_of, sizes_in
from fnet.core.wording import format_value, nearest, required
from fnet.data import catalog, files
from fnet.data.source import DataError, DatasetSpec
from fnet.train.optimizer import DEFAULT_OPTIMIZER

NAMED_SECTIONS = ("data", "loss", "optimizer", "schedule")
"""The sections that may be just a name."""


def expand(data: dict[str, Any]) -> list[Problem]:
    """Expand all short forms in place, and return their problems."""
    _expand_names(data)
    return [*_expand_data(data), *_replace_size_words(data)]


def _expand_names(data: dict[str, Any]) -> None:
    """Expand names without settings, and settings without a name."""
    for section in (data, data.get("optimizer")):
        for key in NAMED_SECTIONS:
            if isinstance(section, dict) and isinstance(section.get(key), str):
                section[key] = {"name": section[key]}
    optimizer = data.get("optimizer")
    if isinstance(optimizer, dict):
        data["optimizer"] = {"name": DEFAULT_OPTIMIZER} | optimizer


def _expand_data(data: dict[str, Any]) -> Iterator[Problem]:
    """Add the source, and for files the format, if `data` omits them."""
    settings = data.get("data")
    if not isinstance(settings, dict) or "source" in settings:
        return
    if "name" not in settings and _is_path(settings.get("path")):
        try:
            settings = {"name": files.format_of(settings["path"])} | settings
        except DataError as error:
            yield Problem(("data", "path"), f"data.path: {error}")
            return
    if "name" not in settings:
        yield Problem(("data", "name"), required("data.name"))
        return
    if not isinstance(settings["name"], str):
        yield Problem(("data", "name"), f"data.name: expected text, got {format_value(settings['name'])}")
        return
    source = catalog.source_of(settings["name"])
    if source is None:
        yield _unknown_dataset(settings["name"])
    else:
        data["data"] = {"source": source} | settings


def _is_path(value: Any) -> bool:
    """Return whether a value is a path, or one path per split."""
    paths = list(value.values()) if isinstance(value, dict) else [value]
    return bool(paths) and all(isinstance(path, str) for path in paths)


def _unknown_dataset(name: str) -> Problem:
    known = sorted(catalog.names())
    message, suggestion = f"unknown dataset {format_value(name)}", nearest(name, known)
    if suggestion is not None:
        return Problem(("data", "name"), message, suggestion=suggestion)
    fix = f"known: {', '.join(known)}; for a dataset of TensorFlow Datasets, add source: tfds"
    return Problem(("data", "name"), message, fix=fix)


def _replace_size_words(data: dict[str, Any]) -> Iterator[Problem]:
    """Replace words that stand for a size of the data, such as {dense: classes}, with numbers."""
    words = list(sizes_in(data.get("model"), ("model",)))
    spec = _spec_if_valid(data.get("data")) if words else None
    for path, word in words:
        size = 1 if spec is None else size_of(word, spec)  # without a spec, the problem with the data is reported
        if isinstance(size, str):
            yield Problem(path, size)
            size = 1
        _replace(data, path, size)


def _spec_if_valid(settings: Any) -> DatasetSpec | None:
    with contextlib.suppress(ValidationError, DataError):
        return data_source(TypeAdapter(schema.Data).validate_python(settings)).spec()
    return None


def _replace(data: Any, path: Path, value: Any) -> None:
    *outer, key = path
    for part in outer:
        data = data[part]
    data[key] = value
