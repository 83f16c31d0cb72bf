"""Settings read from signatures.

A setting is named, typed, bounded and given its default in one place: the annotated signature of the function that
takes it, whose docstring explains it. Layers, optimizers, schedules and data sets are all such functions. This module
turns a signature into a pydantic model, from which validation, the JSON Schema and `fnet explain` follow.
"""

import collections
import difflib
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model


class MissingExtra(ImportError):
    """An optional part of fnet that a setting asks for is not installed."""

    exit_status = 2


class Strict(BaseModel, frozen=True):
    """A pydantic model that converts nothing, ignores nothing and cannot be changed."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)


@functools.cache
def model_of(
    function: Callable[..., Any],
    tag: str | None = None,
    skip: tuple[str, ...] = (),
    base: type[Model] = Strict,
) -> type[Model]:
    """The pydantic model of a function's settings: one field per named parameter.

    Args:
        function: a function with an annotated signature.
        tag: adds a field `name` that only takes this value, to tell the models of a union apart.
        skip: parameters that the caller supplies and no user sets.
        base: a model whose fields are added.
    """
    hints = collections.defaultdict(lambda: Any, typing.get_type_hints(inspect.unwrap(function), include_extras=True))
    meanings = explanations(function)
    fields: dict[str, Any] = {}
    if tag is not None:
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        fields["name"] = (Literal[tag], Field(description=summary))
    for name, parameter in named_parameters(function).items():
        if name not in skip:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], Field(default, description=meanings.get(name)))
    return create_model(function.__name__, __base__=base, __doc__=inspect.getdoc(function), **fields)


def named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that can be set by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in named}


def first_parameter(function: Callable[..., Any]) -> str | None:
    """The parameter whose value may stand alone, as in `dense: 64`: the first positional one, if any."""
    for name, parameter in named_parameters(function).items():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            return name
    return None


def children_of(function: Callable[..., Any]) -> str | None:
    """The name of the parameter that takes a container's layers (`*layers`), if the function has one."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return name
    return None


def explanations(function: Callable[..., Any]) -> dict[str, str]:
    """What each parameter means, from the `Args:` section of the docstring.

    >>> def f(units):
    ...     '''Summary.
    ...
    ...     Args:
    ...         units: how many
    ...             outputs there are.
    ...     '''
    >>> explanations(f)
    {'units': 'how many outputs there are.'}
    """
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", inspect.getdoc(function) or "", re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def checked(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with defaults filled in, after checking them against the function's signature.

    Raises:
        ValueError: for the first value that does not fit; names the function, the setting and what was expected.
    """
    try:
        model = model_of(function)(**values)
    except ValidationError as error:
        setting, errors = next(iter(by_setting(error).items()))
        if errors[0]["type"] == "extra_forbidden":
            known = named_parameters(function)
            raise ValueError(f"{function.__name__}: unknown setting '{setting}'{suggestion(setting, known)}") from None
        raise ValueError(f"{function.__name__}: {setting}: {in_words(*errors)}") from None
    return {name: getattr(model, name) for name in type(model).model_fields}


def by_setting(error: ValidationError) -> dict[str, list[Any]]:
    """Pydantic's errors by the setting that they are about; of those about the members of a union, the innermost."""
    grouped: dict[str, list[Any]] = {}
    for entry in error.errors():
        grouped.setdefault(str(entry["loc"][0]), []).append(entry)
    for setting, entries in grouped.items():
        depth = max(len(entry["loc"]) for entry in entries)
        grouped[setting] = [entry for entry in entries if len(entry["loc"]) == depth]
    return grouped


def in_words(*errors: Mapping[str, Any]) -> str:
    """Pydantic's errors about one value as a sentence that says what was expected and what was received.

    Several errors are those of the members of a union.

    >>> in_words({"type": "greater_than_equal", "ctx": {"ge": 1}, "input": 0})
    'expected a value of at least 1, got 0'
    """
    first = errors[0]
    if first["type"] == "missing":
        return "required, but not given"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    # A number beyond a bound is not told that it might be text.
    bounds = [error for error in errors if error["type"].startswith(("greater_than", "less_than"))]
    fitting = [error for error in errors if not error["type"].endswith("_type")] if bounds else errors
    expected = list(dict.fromkeys(map(_expectation, fitting)))
    near = ""
    if first["type"] == "literal_error":
        near = suggestion(str(first["input"]), re.findall(r"'([^']+)'", first["ctx"]["expected"]), listing=False)
    return f"expected {' or '.join(expected)}, got {shown(first['input'])}{near}"


def _expectation(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return f"a value of at least {number(context['ge'])}"
        case "greater_than":
            return f"a value greater than {number(context['gt'])}"
        case "less_than_equal":
            return f"a value of at most {number(context['le'])}"
        case "less_than":
            return f"a value less than {number(context['lt'])}"
        case "int_type" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type":
            return "true or false"
        case "string_type" | "invalid_key":
            return "text"
        case "string_too_short":
            return "text that is not empty"
        case "none_required":
            return "nothing (null)"
        case "list_type" | "tuple_type":
            return "a list"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "a mapping of settings"
        case "literal_error":
            return context["expected"]
        case _:
            return f"something else ({error['msg'][:1].lower()}{error['msg'][1:]})"


def number(value: float) -> str:
    """A bound as one writes it: 1, 0.5, 4294967296.

    >>> number(2**32), number(0.5), number(1.0)
    ('4294967296', '0.5', '1')
    """
    return str(value) if isinstance(value, int) else f"{value:g}"


def shown(value: Any) -> str:
    """A value as the user would write it, shortened."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            text = f"'{value}'"
        case Mapping():
            text = "a mapping"
        case list() | tuple():
            text = "a list"
        case _:
            text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(word: str, known: Iterable[str], *, listing: bool = True) -> str:
    """`; did you mean 'x'?` for the nearest known word, or else the words that exist.

    Args:
        word: what was written.
        known: what could have been.
        listing: whether to list the words that exist when none is near.

    >>> suggestion("lerning_rate", ["learning_rate", "momentum"])
    "; did you mean 'learning_rate'?"
    >>> suggestion("zzz", ["b", "a"])
    '; known: a, b'
    """
    known = sorted(known)
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(known)}" if known and listing else ""
