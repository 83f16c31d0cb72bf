"""Explanations of every setting, for `fnet explain`."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fnet.config.schema import ClassWeightSettings, Config
from fnet.config.sections import models_in, sections_of, tag_values, value_type
from fnet.core.settings import Strict, model_of, summary
from fnet.core.wording import format_number, format_value, nearest
from fnet.data import augment, catalog, files, synthetic
from fnet.layers.vocabulary import CONSTRUCTORS, constructor_of
from fnet.losses import DATA_PARAMETERS, LOSSES
from fnet.train.class_weights import CLASS_LOSSES
from fnet.train.optimizer import OPTIMIZERS, SCHEDULE_SUPPLIED, SCHEDULES


class Entry(NamedTuple):
    """A setting, described in words.

    key: its dotted key.
    type: its type and bounds.
    default: its default.
    meaning: what it does.
    """

    key: str
    type: str
    default: str
    meaning: str


class Explanation(NamedTuple):
    """The explanation of a key.

    heading: the key and its kind.
    text: its description.
    entries: its settings.
    """

    heading: str
    text: str
    entries: list[Entry]


class UnknownKey(LookupError):
    """A name that is neither a key of the config nor the name of a layer, dataset, optimizer and so on."""

    exit_status = 2


class _Named(NamedTuple):
    """A function that a config can name: a constructor, an optimizer, a loss and so on.

    noun: its kind: "layer".
    function: the function.
    skip: its parameters that are not settings.
    section: the section of the config that contains its settings; None for an item of a list, whose settings stand
        under its own name.
    base: a model whose settings it has too.
    """

    noun: str
    function: Callable[..., Any]
    skip: tuple[str, ...] = ()
    section: str | None = None
    base: type[Strict] = Strict

    def model(self) -> type[Strict]:
        """Return the model of its settings."""
        return model_of(self.function, None, self.skip, self.base)


def explain(key: str) -> list[Explanation]:
    """Return the explanations of a key of the config, or of anything that a config can name.

    Args:
        key: dotted (`optimizer.learning_rate`, `dense.units`), a name (`dense`, `sgd`, `tfds`), or the last part of a
            dotted key (`epochs`); empty for the top level.

    Raises:
        UnknownKey: when there is no such key; suggests the most similar one.
    """
    if not key:
        return [Explanation("the config", inspect.getdoc(Config) or "", list(_entries(Config, "")))]
    explanations = [*_in_config(key), *_in_functions(key)]
    if not explanations:
        sections = filter(None, sections_of().get(key, []))
        explanations = [e for section in sections for e in _in_config(f"{section}.{key}")]
    if not explanations:
        explanations = [e for kind in CONSTRUCTORS for e in _in_functions(f"{kind}.{key}")]
    if not explanations:
        suggestion = _suggestion(key)
        question = f"; did you mean '{suggestion}'?" if suggestion else ";"
        raise UnknownKey(f"unknown key or name {format_value(key)}{question} `fnet explain` lists the sections")
    return explanations


def _suggestion(key: str) -> str | None:
    """Return the key or name that is most similar to an unknown one."""
    owner, _, setting = key.rpartition(".")
    if owner in CONSTRUCTORS:
        return nearest(key, [f"{owner}.{name}" for name in model_of(constructor_of(owner)).model_fields])
    named = [*CONSTRUCTORS, *OPTIMIZERS, *SCHEDULES, *LOSSES, *augment.AUGMENTATIONS, *catalog.names()]
    return nearest(setting, [*sections_of(), *named, *catalog.SOURCES])


def _in_config(key: str) -> Iterator[Explanation]:
    """Yield the explanation of a dotted key of the config."""
    *sections, last = key.split(".")
    owners = _models_with(last, sections)
    entries = _entries_by_owner(key, owners)
    if not entries:
        return
    types = [model.model_fields[last].annotation for model in owners]
    members = list(dict.fromkeys(model for type_ in types for model in models_in(type_)))
    if not members:
        yield Explanation(key, "", entries)
    elif len(members) == 1:
        prefix = f"{key}.NAME." if value_type(types[0]) else f"{key}."
        yield Explanation(key, entries[0].meaning, list(_entries(members[0], prefix)))
    else:
        yield _choice(key, entries[0].meaning, members)


def _entries_by_owner(key: str, owners: Sequence[type[Strict]]) -> list[Entry]:
    """Return the entries of a key; if its owners differ, each entry names the owners that it applies to."""
    owners_of: dict[Entry, list[str]] = {}
    for owner in owners:
        for entry in _entries(owner, key[: key.rfind(".") + 1]):
            if entry.key == key:
                owners_of.setdefault(entry, []).append(owner.__name__)
    if len(owners_of) == 1:
        return list(owners_of)
    return [entry._replace(default=f"{entry.default} ({', '.join(names)})") for entry, names in owners_of.items()]


def _models_with(key: str, sections: list[str]) -> list[type[Strict]]:
    """Return the models at a path of sections that have a key."""
    types: list[Any] = [Config]
    for section in sections:
        types = [inner for type_ in types for inner in _types_under(section, type_)]
    models = [model for type_ in types if value_type(type_) is None for model in models_in(type_)]
    return [model for model in models if key in model.model_fields]


def _types_under(key: str, annotation: Any) -> list[Any]:
    """Return the types that a value under a key of a section can have."""
    if value_type(annotation):
        return [value_type(annotation)]
    return [model.model_fields[key].annotation for model in models_in(annotation) if key in model.model_fields]


def _choice(key: str, meaning: str, members: list[type[Strict]]) -> Explanation:
    """Return the explanation of a section that is one of several, with the settings that all of them share."""
    names = [Entry(name, "", "", summary(member)) for member in members for name in _names(member)]
    shared = set.intersection(*(set(_entries(member, f"{key}.")) for member in members))
    common = [e for e in _entries(members[0], f"{key}.") if e in shared and e.key != f"{key}.name"]
    text = f"{meaning}; one of the following, whose settings `fnet explain NAME` lists"
    return Explanation(key, text + (", and the settings that all share" if common else ""), [*names, *common])


def _names(member: type[Strict]) -> tuple[str, ...]:
    """Return the names that select a member of a union."""
    return tag_values(member, "name") or (f"NAME (source: {tag_values(member, 'source')[0]})",)


def _in_functions(key: str) -> Iterator[Explanation]:
    """Yield the explanations of a function, or of one of its settings, such as dense.units."""
    name, _, setting = key.partition(".")
    for named in _functions(name):
        prefix = f"{named.section or name}."
        entries = [e for e in _entries(named.model(), prefix) if not setting or e.key == f"{prefix}{setting}"]
        if entries or not setting:
            yield Explanation(f"{name} ({named.noun})", "" if setting else _prose(named.function), entries)
    if name in catalog.SOURCES["sklearn"] and not setting:
        spec = catalog.source("sklearn", name, {}).spec()
        text = f"{spec.size} examples {spec.shape} with {spec.targets}, from scikit-learn."
        yield Explanation(f"{name} (dataset)", text, [])
    if name in catalog.SOURCES and not setting:
        yield _source(name)


def _source(kind: str) -> Explanation:
    """Return the explanation of a kind of data source: its settings, or the names of its datasets."""
    members = models_in(Config.model_fields["data"].annotation)
    members = [model for model in members if kind in tag_values(model, "source")]
    if catalog.SOURCES[kind]:
        text = "Datasets with this source; `fnet explain NAME` lists the settings of each."
        entries = [Entry(name, "", "", summary(member)) for member in members for name in _names(member)]
    else:
        text = inspect.getdoc(members[0]) or ""
        entries = [
            entry._replace(default="required") if entry.key == "data.source" else entry
            for entry in _entries(members[0], "data.")
        ]
    return Explanation(f"{kind} (data source)", text, entries)


def _functions(name: str) -> Iterator[_Named]:
    """Yield all functions that a config can refer to by this name."""
    if name in CONSTRUCTORS:
        yield _Named("layer", constructor_of(name))
    if name in OPTIMIZERS:
        yield _Named("optimizer", OPTIMIZERS[name], (), "optimizer")
    if name in SCHEDULES:
        yield _Named("schedule", SCHEDULES[name], SCHEDULE_SUPPLIED, "optimizer.schedule")
    if name in augment.AUGMENTATIONS:
        yield _Named("augmentation", augment.constructor_of(name))
    if name in synthetic.GENERATORS:
        yield _Named("dataset", synthetic.GENERATORS[name].make, synthetic.SUPPLIED, "data")
    if name in files.FORMATS:
        yield _Named("dataset", files.FORMATS[name], files.SUPPLIED, "data")
    if name in LOSSES:
        base = ClassWeightSettings if name in CLASS_LOSSES else Strict
        yield _Named("loss", LOSSES[name].function, DATA_PARAMETERS, "loss", base)


def _prose(function: Callable[..., Any]) -> str:
    """Return a docstring without its `Args:` section, which the entries repeat, and without examples.

    The lines of a paragraph are joined, so that the terminal breaks them at its own width.
    """
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(_reflowed(p) for p in paragraphs if not p.startswith(("Args:", ">>>")))


def _reflowed(paragraph: str) -> str:
    """Join the lines of a paragraph, except those of indented text; a deeper line continues an entry of a section.

    >>> _reflowed("One\\nsentence.")
    'One sentence.'
    >>> _reflowed("Raises:\\n    ValueError: when it\\n        fails.\\n    TypeError: else.")
    'Raises:\\n    ValueError: when it fails.\\n    TypeError: else.'
    """
    if paragraph.startswith(" "):
        return paragraph
    lines = re.sub(r"\n {8,}", " ", paragraph)
    return re.sub(r"\n(?! )", " ", lines)


def _entries(model: type[Strict], prefix: str) -> Iterator[Entry]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _value_in_words(field.default)
        if name == "source":
            default = "implied by the name"
        meaning = re.sub(r"\bNone\b", "null", field.description or "")
        yield Entry(prefix + name, _type_in_words(schema["properties"][name]), default, meaning)


def _value_in_words(value: Any) -> str:
    match value:
        case Strict():
            return str(getattr(value, "name", "")) or "see its settings"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case "":
            return "see its meaning"
        case list() | tuple():
            return f"[{', '.join(map(_value_in_words, value))}]"
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
        [*words, *(f"{phrase} {format_number(schema[bound])}" for bound, phrase in bounds.items() if bound in schema)]
    )
