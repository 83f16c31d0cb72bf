"""The JSON Schema of a config file, for editors and other programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fnet.config.model import SIZES
from fnet.config.schema import Config
from fnet.core.settings import first_parameter, layers_parameter, model_of, summary
from fnet.data import augment, catalog, files
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.losses import LOSSES
from fnet.train.optimizer import DEFAULT_OPTIMIZER, OPTIMIZERS, SCHEDULES

DOTTED = r"^[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)+$"
"""Pattern of a dotted path."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, short forms included."""
    schema = Config.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    _make_tags_optional(definitions)
    _allow_names(definitions, properties)
    definitions["layer"] = _layer_schema()
    definitions["layers"] = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/layer"}}
    definitions["augmentation"] = _augmentation_schema()
    for definition in definitions.values():
        if "augment" in definition.get("properties", ()):
            definition["properties"]["augment"]["items"] = {"$ref": "#/$defs/augmentation"}
    properties["model"] = {"$ref": "#/$defs/layers", "description": properties["model"]["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fnet config"}


def _make_tags_optional(definitions: Mapping[str, Any]) -> None:
    """Make optional the source of a dataset whose name implies it, and the name of the default optimizer."""
    for definition in definitions.values():
        name = definition["properties"].get("name", {})
        if "source" in definition["properties"] and ("enum" in name or "const" in name):
            definition["required"].remove("source")
    definitions[DEFAULT_OPTIMIZER]["required"].remove("name")


def _allow_names(definitions: Mapping[str, Any], properties: dict[str, Any]) -> None:
    """Allow just a name in place of a section, and files without the name of their format."""
    embedded = [name for name in catalog.names() if "path" not in definitions.get(name, {}).get("required", ())]
    properties["data"] = _or_name(properties["data"], embedded)
    properties["data"]["anyOf"].append(_files_by_path(definitions))
    properties["optimizer"] = _or_name(properties["optimizer"], OPTIMIZERS)
    properties["loss"] = _or_name(properties["loss"], LOSSES)
    for name in OPTIMIZERS:
        inner = definitions[name]["properties"]
        inner["schedule"] = _or_name(inner["schedule"], SCHEDULES)


def _or_name(schema: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the schema of a section that may also be just one of these names."""
    outer = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    for form in (schema, *schema.get("anyOf", ())):
        form.pop("discriminator", None)
    return {"anyOf": [{"enum": list(names)}, schema], **outer}


def _files_by_path(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of files whose extension determines the format: all formats' settings, without a name."""
    settings = {key: value for name in files.FORMATS for key, value in definitions[name]["properties"].items()}
    del settings["name"]
    return {"type": "object", "properties": settings, "required": ["path"], "additionalProperties": False}


def _layer_schema() -> dict[str, Any]:
    """Return the schema of an item in a list of layers."""
    alone = [kind for kind, construct in CONSTRUCTORS.items() if not _settings_schema(construct).get("required")]
    return {
        "anyOf": [
            {"enum": alone},
            *(_item_schema(kind, construct, SIZES) for kind, construct in CONSTRUCTORS.items()),
            {"type": "string", "pattern": DOTTED},
            {"type": "object", "patternProperties": {DOTTED: {}}, "minProperties": 1, "additionalProperties": False},
            {"type": "array", "items": {"$ref": "#/$defs/layer"}},
        ]
    }


def _augmentation_schema() -> dict[str, Any]:
    """Return the schema of an item in a list of augmentations."""
    kinds = list(augment.AUGMENTATIONS)
    return {"anyOf": [{"enum": kinds}, *(_item_schema(kind, augment.constructor_of(kind)) for kind in kinds)]}


def _settings_schema(construct: Callable[..., Any]) -> dict[str, Any]:
    return model_of(construct).model_json_schema()


def _item_schema(kind: str, construct: Callable[..., Any], size_words: Sequence[str] = ()) -> dict[str, Any]:
    """Return the schema of {dense: {units: 64}}, or with just its first setting: {dense: 64}.

    Args:
        kind: name of the layer or augmentation.
        construct: its constructor.
        size_words: words that may replace whole numbers.
    """
    settings = _settings_schema(construct)
    settings["title"] = kind
    if size_words:
        _allow_words(settings["properties"], size_words)
    forms: list[dict[str, Any]] = [settings]
    if not settings.get("required"):
        forms.append({"type": "null"})
    if layers_parameter(construct):
        layers = {"$ref": "#/$defs/layers"}
        settings["properties"]["layers"] = layers
        forms.append(layers)
    first = first_parameter(construct)
    if first is not None:
        forms.append({k: v for k, v in settings["properties"][first].items() if k not in ("title", "default")})
    return {
        "type": "object",
        "properties": {kind: {"anyOf": forms}},
        "required": [kind],
        "additionalProperties": False,
        "description": summary(construct),
    }


def _allow_words(properties: dict[str, Any], words: Sequence[str]) -> None:
    """Allow these words in place of whole numbers."""
    for setting, schema in properties.items():
        if schema.get("type") == "integer":
            outer = {key: schema.pop(key) for key in ("description", "default") if key in schema}
            properties[setting] = {"anyOf": [schema, {"enum": list(words)}], **outer}
