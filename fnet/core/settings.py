"""Settings derived from signatures.

The annotated signature of a function is the one place where its settings are named, typed, bounded and given defaults;
its docstring explains them. Layers, augmentations, optimizers, schedules and datasets are all such functions. This
module turns a signature into a pydantic model. Validation, the JSON Schema and `fnet explain` are derived from it.
"""

import collections
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from fnet.core.wording import errors_in_words, suggestion


class MissingExtra(ImportError):
    """An optional dependency that a setting requires is not installed."""

    exit_status = 2


class Strict(BaseModel, frozen=True):
    """An immutable pydantic model that does not convert values and rejects unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)


@functools.cache
def model_of(
    function: Callable[..., Any],
    tag: str | None = None,
    skip: tuple[str, ...] = (),
    base: type[Model] = Strict,
) -> type[Model]:
    """Return the pydantic model of a function's settings, with one field per named parameter.

    Args:
        function: a function with an annotated signature.
        tag: adds a field `name` that accepts only this value, to discriminate the members of a union.
        skip: parameters that the caller supplies and users cannot set.
        base: a model whose fields are included.
    """
    hints = collections.defaultdict(lambda: Any, typing.get_type_hints(inspect.unwrap(function), include_extras=True))
    meanings = explanations(function)
    fields: dict[str, Any] = {}
    if tag is not None:
        fields["name"] = (Literal[tag], Field(description=summary(function)))
    for name, parameter in named_parameters(function).items():
        if name not in skip:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], Field(default, description=meanings.get(name)))
    return create_model(function.__name__, __base__=base, __doc__=inspect.getdoc(function), **fields)


def summary(documented: Callable[..., Any]) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be set by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in kinds}


def first_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the first positional parameter, whose value may stand alone, as in `dense: 64`, if any."""
    for name, parameter in named_parameters(function).items():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            return name
    return None


def layers_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that takes a container's layers (`*layers`), if any."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return name
    return None


def explanations(function: Callable[..., Any]) -> dict[str, str]:
    """Return the meaning of each parameter, from the `Args:` section of the docstring.

    >>> def f(units):
    ...     '''Summary.
    ...
    ...     Args:
    ...         units: the number
    ...             of outputs.
    ...     '''
    >>> explanations(f)
    {'units': 'the number of outputs.'}
    """
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", inspect.getdoc(function) or "", re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def check_settings(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against the function's signature and return them with defaults filled in.

    Raises:
        ValueError: for the first invalid setting; names the function, the setting and the expected value.
    """
    try:
        model = model_of(function)(**values)
    except ValidationError as error:
        setting, errors = next(iter(by_setting(error).items()))
        if errors[0]["type"] == "extra_forbidden":
            known = named_parameters(function)
            raise ValueError(f"{function.__name__}: unknown setting '{setting}'{suggestion(setting, known)}") from None
        raise ValueError(f"{function.__name__}: {setting}: {errors_in_words(*errors)}") from None
    return {name: getattr(model, name) for name in type(model).model_fields}


def is_zero(value: Any) -> bool:
    """Return whether a setting is a concrete 0; a traced number is not."""
    return isinstance(value, int | float) and value == 0


def by_setting(error: ValidationError) -> dict[str, list[Any]]:
    """Group pydantic's errors by setting; for a union, keep only the most deeply nested errors."""
    grouped: dict[str, list[Any]] = {}
    for entry in error.errors():
        grouped.setdefault(str(entry["loc"][0]), []).append(entry)
    for setting, entries in grouped.items():
        depth = max(len(entry["loc"]) for entry in entries)
        grouped[setting] = [entry for entry in entries if len(entry["loc"]) == depth]
    return grouped
