"""Lookup in the schema: the models, keys and choices at a path."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fnet.config.schema import Config
from fnet.core.settings import Strict

TAGS = ("source", "name")
"""The keys that select a member of a union, the outer one first."""


class Tag(NamedTuple):
    """The key that selects a member of a union.

    key: source or name.
    values: its possible values.
    """

    key: str
    values: list[str]


def models_in(annotation: Any) -> list[type[Strict]]:
    """Return the models that a field's type consists of, without the models of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def value_type(annotation: Any) -> Any:
    """Return the type of the values of a mapping with arbitrary keys; None for any other type."""
    return typing.get_args(annotation)[1] if typing.get_origin(annotation) is dict else None


def model_at(path: Sequence[str | int], data: Any) -> type[Strict]:
    """Return the model of the section at a path; for a union, the member that the tags in the data select."""
    return _chosen_member(*_section_at(path, data))


def members_at(path: Sequence[str | int], data: Any) -> list[type[Strict]]:
    """Return all members of the union at a path; none if the section is not a union."""
    members = models_in(_section_at(path, data)[0])
    return members if len(members) > 1 else []


def tag_at(path: Sequence[str | int], data: Any) -> Tag:
    """Return the first tag of the union at a path whose value in the data is missing or unknown, else the last tag."""
    annotation, section = _section_at(path, data)
    members = models_in(annotation)
    tag = Tag("name", [])
    for key in TAGS:
        if key in members[0].model_fields:
            tag = Tag(key, list(dict.fromkeys(value for member in members for value in tag_values(member, key))))
            if section.get(key) not in tag.values:
                break
            members = [member for member in members if section[key] in tag_values(member, key)]
    return tag


def tag_values(member: type[Strict], key: str) -> tuple[str, ...]:
    """Return the values of a tag that select this member of a union; none if any value does."""
    return typing.get_args(member.model_fields[key].annotation) if key in member.model_fields else ()


def sections_of(model: type[Strict] = Config, path: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return the sections that contain each key; the top level is '': {"epochs": ["train"], "seed": [""], ...}."""
    sections: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        sections.setdefault(name, []).append(".".join(path))
        for inner in () if value_type(field.annotation) else models_in(field.annotation):
            for key, inner_sections in sections_of(inner, (*path, name)).items():
                sections.setdefault(key, []).extend(inner_sections)
    return {key: list(dict.fromkeys(names)) for key, names in sections.items()}


def _section_at(path: Sequence[str | int], data: Any) -> tuple[Any, Any]:
    """Return the type of the section at a path, and its data."""
    annotation: Any = Config
    for part in path:
        inner = value_type(annotation)
        annotation = inner or _chosen_member(annotation, data).model_fields[str(part)].annotation
        data = data[part]
    return annotation, data


def _chosen_member(annotation: Any, data: Mapping[str, Any]) -> type[Strict]:
    members = models_in(annotation)
    return next((member for member in members if _is_chosen(member, data)), members[0])


def _is_chosen(member: type[Strict], data: Mapping[str, Any]) -> bool:
    return all(data.get(key) in (tag_values(member, key) or (data.get(key),)) for key in TAGS)
