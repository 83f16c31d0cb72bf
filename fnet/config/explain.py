"""`fnet schema` and `fnet explain`: the schema of the config as JSON Schema, and in words."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fnet.config.model import SIZES
from fnet.config.schema import Config, homes, models_in, value_of
from fnet.core.settings import Strict, children_of, first_parameter, model_of, number, suggestion
from fnet.data import augment, catalog, files, synthetic
from fnet.layers.vocabulary import CONSTRUCTORS, constructor_of
from fnet.losses import LOSSES, SUPPLIED
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES

DOTTED = r"^[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)+$"
"""The form of a dotted path, as in JSON Schema."""


class Entry(NamedTuple):
    """One thing that can be set: its dotted key, type, default and meaning, in words."""

    key: str
    type: str
    default: str
    meaning: str


class Explanation(NamedTuple):
    """What there is to say of a key: a heading, a text, and the entries that it consists of."""

    heading: str
    text: str
    entries: list[Entry]


class UnknownKey(LookupError):
    """Nothing that can be explained has this name."""

    exit_status = 2


def explain(key: str) -> list[Explanation]:
    """Everything that a key can mean: a place in the config, a layer, an optimizer, a schedule, a data set or a loss.

    Args:
        key: dotted (`optimizer.learning_rate`, `dense.units`), a name (`dense`, `sgd`), or any last part (`epochs`);
            empty for the top level.

    Raises:
        UnknownKey: when there is none; suggests the nearest.
    """
    if not key:
        return [Explanation("the config", inspect.getdoc(Config) or "", list(_entries(Config, "")))]
    found = [*_in_config(key), *_in_functions(key)]
    if not found:
        found = [e for home in homes().get(key, []) if home for e in _in_config(f"{home}.{key}")]
    if not found:
        found = [e for kind in CONSTRUCTORS for e in _in_functions(f"{kind}.{key}")]
    if not found:
        known = [*homes(), *CONSTRUCTORS, *OPTIMIZERS, *SCHEDULES, *LOSSES, *augment.AUGMENTATIONS, *_data_sets()]
        owner, _, setting = key.rpartition(".")
        if owner in CONSTRUCTORS:
            known = [f"{owner}.{name}" for name in model_of(constructor_of(owner)).model_fields]
            setting = key
        near = suggestion(setting, known, listing=False)
        raise UnknownKey(f"nothing is called '{key}'{near}; `fnet explain` lists the sections")
    return found


def _in_config(key: str) -> Iterator[Explanation]:
    annotations: list[Any] = [Config]
    *sections, last = key.split(".")
    for section in sections:
        annotations = [inner for annotation in annotations for inner in _under(section, annotation)]
    prefix = ".".join([*sections, ""])
    owners = [
        model
        for annotation in annotations
        if value_of(annotation) is None
        for model in models_in(annotation)
        if last in model.model_fields
    ]
    told = [(e, model.__name__) for model in owners for e in _entries(model, prefix) if e.key == key]
    entries = list(dict.fromkeys(entry for entry, _ in told))
    if len(entries) > 1:
        entries = [entry._replace(default=f"{entry.default} ({owner})") for entry, owner in told]
    if not entries:
        return
    fields = [model.model_fields[last].annotation for model in owners]
    inner = list(dict.fromkeys(model for annotation in fields for model in models_in(annotation)))
    if len(inner) == 1:
        place = f"{key}.NAME." if value_of(fields[0]) else f"{key}."
        yield Explanation(key, entries[0].meaning, list(_entries(inner[0], place)))
    elif inner:
        names = [Entry(name, "", "", _summary(member)) for member in inner for name in _names(member)]
        shared = set.intersection(*(set(_entries(member, f"{key}.")) for member in inner))
        common = [e for e in _entries(inner[0], f"{key}.") if e in shared and e.key != f"{key}.name"]
        text = f"{entries[0].meaning}; one of these, `fnet explain NAME` lists its settings"
        yield Explanation(key, text + (", and what all of them take" if common else ""), [*names, *common])
    else:
        yield Explanation(key, "", entries)


def _under(key: str, annotation: Any) -> list[Any]:
    """The types that a value under a key of a section can have."""
    if value_of(annotation):
        return [value_of(annotation)]
    return [model.model_fields[key].annotation for model in models_in(annotation) if key in model.model_fields]


def _names(member: type[Strict]) -> list[str]:
    properties = member.model_json_schema()["properties"]
    name = properties["name"]
    if "enum" not in name and "const" not in name:
        return [f"NAME (source: {properties['source']['const']})"]
    return name.get("enum", [name.get("const")])


def _in_functions(key: str) -> Iterator[Explanation]:
    name, _, setting = key.partition(".")
    candidates: list[tuple[str, Callable[..., Any], type[Strict]]] = []
    if name in CONSTRUCTORS:
        construct = constructor_of(name)
        candidates.append(("layer", construct, model_of(construct)))
    if name in OPTIMIZERS:
        candidates.append(("optimizer", OPTIMIZERS[name], model_of(OPTIMIZERS[name])))
    if name in SCHEDULES:
        candidates.append(("schedule", SCHEDULES[name], model_of(SCHEDULES[name], None, ("rate", "steps"))))
    if name in augment.AUGMENTATIONS:
        construct = augment.constructor_of(name)
        candidates.append(("augmentation", construct, model_of(construct)))
    if name in synthetic.GENERATORS:
        make = synthetic.GENERATORS[name].make
        candidates.append(("data set", make, model_of(make, None, ("rng",))))
    if name in files.FORMATS:
        candidates.append(("data set", files.FORMATS[name], model_of(files.FORMATS[name])))
    if name in LOSSES:
        function = LOSSES[name].function
        candidates.append(("loss", function, model_of(function, None, SUPPLIED)))
    for noun, function, model in candidates:
        entries = [e for e in _entries(model, f"{name}.") if not setting or e.key == key]
        if entries or not setting:
            yield Explanation(f"{name} ({noun})", "" if setting else _prose(function), entries)
    if name in catalog.SOURCES["sklearn"] and not setting:
        spec = catalog.source("sklearn", name, {}).spec()
        yield Explanation(
            f"{name} (data set)",
            f"{spec.size} examples {spec.shape} with {spec.targets}, shipped by scikit-learn.",
            [],
        )


def _prose(function: Callable[..., Any]) -> str:
    """A docstring without its `Args:` section, which the entries repeat, and without examples."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(p for p in paragraphs if not p.startswith(("Args:", ">>>")))


def _summary(model: type[Strict]) -> str:
    return (inspect.getdoc(model) or "").partition("\n")[0]


def _data_sets() -> list[str]:
    return [name for names in catalog.SOURCES.values() for name in names]


def _entries(model: type[Strict], prefix: str) -> Iterator[Entry]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _value_in_words(field.default)
        if name == "source":
            default = "by the name"
        yield Entry(prefix + name, _type_in_words(schema["properties"][name]), default, field.description or "")


def _value_in_words(value: Any) -> str:
    match value:
        case Strict():
            return str(getattr(value, "name", "")) or "see its entries"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case "":
            return "see its meaning"
        case _:
            return str(value)


def _type_in_words(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(map(_type_in_words, schema[union])))
    nouns = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    nouns |= {"null": "null", "array": "list"}
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    words = [nouns.get(schema.get("type", ""), "mapping")]
    if "pattern" in schema:
        words = ["dotted path"]
    return ", ".join(
        [*words, *(f"{phrase} {number(schema[bound])}" for bound, phrase in bounds.items() if bound in schema)]
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a config file, short forms included, for editors and other programs."""
    schema = Config.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    for definition in definitions.values():
        name = definition["properties"].get("name", {})
        if "source" in definition["properties"] and ("enum" in name or "const" in name):
            definition["required"].remove("source")  # the name alone says which it is
    definitions["adam"]["required"].remove("name")
    embedded = [name for name in _data_sets() if "path" not in definitions.get(name, {}).get("required", ())]
    properties["data"] = _or_name(properties["data"], embedded)
    properties["data"]["anyOf"].append(_by_path(definitions))
    properties["optimizer"] = _or_name(properties["optimizer"], OPTIMIZERS)
    properties["loss"] = _or_name(properties["loss"], LOSSES)
    for name in OPTIMIZERS:
        inner = definitions[name]["properties"]
        inner["schedule"] = _or_name(inner["schedule"], SCHEDULES)
    definitions["layer"] = {
        "anyOf": [
            {
                "enum": [
                    kind
                    for kind in CONSTRUCTORS
                    if not model_of(constructor_of(kind)).model_json_schema().get("required")
                ]
            },
            *(_layer_schema(kind, constructor_of(kind), SIZES) for kind in CONSTRUCTORS),
            {"type": "string", "pattern": DOTTED},
            {"type": "object", "patternProperties": {DOTTED: {}}, "minProperties": 1, "additionalProperties": False},
            {"type": "array", "items": {"$ref": "#/$defs/layer"}},
        ]
    }
    definitions["layers"] = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/layer"}}
    _describe_augmentations(definitions)
    properties["model"] = {"$ref": "#/$defs/layers", "description": properties["model"]["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fnet config"}


def _by_path(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Files whose ending says the format: what any of the formats takes, without a name."""
    settings = {key: value for name in files.FORMATS for key, value in definitions[name]["properties"].items()}
    del settings["name"]
    return {"type": "object", "properties": settings, "required": ["path"], "additionalProperties": False}


def _describe_augmentations(definitions: dict[str, Any]) -> None:
    """Writes the items that a list of augmentations takes in place of anything."""
    definitions["augmentation"] = {
        "anyOf": [
            {"enum": list(augment.AUGMENTATIONS)},
            *(_layer_schema(kind, augment.constructor_of(kind)) for kind in augment.AUGMENTATIONS),
        ]
    }
    for definition in definitions.values():
        if "augment" in definition.get("properties", ()):
            definition["properties"]["augment"]["items"] = {"$ref": "#/$defs/augmentation"}


def _or_name(schema: dict[str, Any], names: Any) -> dict[str, Any]:
    """A section, or one of its names alone."""
    outer = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    for form in (schema, *schema.get("anyOf", ())):
        form.pop("discriminator", None)
    return {"anyOf": [{"enum": list(names)}, schema], **outer}


def _layer_schema(kind: str, construct: Callable[..., Any], words: Sequence[str] = ()) -> dict[str, Any]:
    """A layer or the like with its settings: {dense: {units: 64}}, or with the first of them alone: {dense: 64}.

    Words may stand for whole numbers.
    """
    settings = model_of(construct).model_json_schema()
    settings["title"] = kind
    for setting, known in settings["properties"].items():
        if words and known.get("type") == "integer":
            outer = {key: known.pop(key) for key in ("description", "default") if key in known}
            settings["properties"][setting] = {"anyOf": [known, {"enum": list(words)}], **outer}
    forms: list[dict[str, Any]] = [settings]
    if not settings.get("required"):
        forms.append({"type": "null"})
    if children_of(construct):
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
        "description": (inspect.getdoc(construct) or "").partition("\n")[0],
    }
