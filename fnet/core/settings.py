"""Settings derived from signatures.

The annotated signature of a function is the one place where its settings are named, typed, bounded and given defaults;
its docstring explains them. Layers, augmentations, optimizers, schedules and datasets are all such functions. This
module turns a signature into a pydantic model. Validation, the JSON Schema and `fnet explain` are derived from it.
"""

import collections
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PydanticSchemaGenerationError, ValidationError, create_model

from fnet.core.layer import is_scalar_array, unwrap_scalar
from fnet.core.wording import errors_in_words, format_number, suggestion


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
    hints = _hints_of(function)
    meanings = explanations(function)
    fields: dict[str, Any] = {}
    if tag is not None:
        fields["name"] = (Literal[tag], Field(description=summary(function)))
    for name, parameter in named_parameters(function).items():
        if name not in skip:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], Field(default, description=meanings.get(name)))
    try:
        return create_model(function.__name__, __base__=base, __doc__=inspect.getdoc(function), **fields)
    except PydanticSchemaGenerationError as error:
        raise TypeError(
            f"{function.__name__}: a setting is annotated with a type that settings do not have: use None, bool, int, "
            "float, str, Callable, Literal or tuples of them; a container takes its layers as *layers: fnet.Layer"
        ) from error


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

    A traced number is accepted where a float is; its bounds are not checked.

    Raises:
        ValueError: for the first invalid setting; names the function, the setting and the expected value.
    """
    values = {name: unwrap_scalar(value) for name, value in values.items()}
    known = named_parameters(function)
    traced = {name: value for name, value in values.items() if name in known and is_scalar_array(value)}
    for name in traced:
        if not _takes_float(_hints_of(function)[name]):
            raise ValueError(
                f"{function.__name__}: {name}: expected a Python value, because it determines the structure, got a "
                "traced number; only float settings may be traced"
            )
    try:
        concrete = {name: value for name, value in values.items() if name not in traced}
        model = model_of(function, skip=tuple(traced))(**concrete)
    except ValidationError as error:
        setting, errors = next(iter(by_setting(error).items()))
        if errors[0]["type"] == "extra_forbidden":
            raise ValueError(f"{function.__name__}: unknown setting '{setting}'{suggestion(setting, known)}") from None
        raise ValueError(f"{function.__name__}: {setting}: {errors_in_words(*errors)}") from None
    return {name: traced[name] if name in traced else getattr(model, name) for name in known}


def is_zero(value: Any) -> bool:
    """Return whether a float setting is known to be 0; a traced number is not.

    >>> is_zero(0.0), is_zero(0.5)
    (True, False)
    """
    return isinstance(value, int | float) and value == 0


def _takes_float(annotation: Any) -> bool:
    members = [annotation, *typing.get_args(annotation)]
    return float in members or any(map(_takes_float, typing.get_args(annotation)))


class _Text(str):
    """Text that a signature shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def shown_signature(function: Callable[..., Any], returned: type) -> inspect.Signature:
    """Return a function's signature with its types and bounds as `help` should show them.

    >>> from annotated_types import Interval
    >>> def drop(rate: typing.Annotated[float, Interval(ge=0, lt=1)], *, name: str | None = None): ...
    >>> shown_signature(drop, dict)
    <Signature (rate: 0 <= float < 1, *, name: str | None = None) -> dict>
    """
    signature, hints = inspect.signature(function), _hints_of(function)
    parameters = [
        parameter.replace(annotation=_Text(_in_words(hints[name]))) if name in hints else parameter
        for name, parameter in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters, return_annotation=_Text(returned.__name__))


def _hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations of the parameters; one without an annotation accepts anything."""
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    return collections.defaultdict(lambda: Any, hints)


def _in_words(annotation: Any) -> str:
    """Return a type and its bounds as text.

    >>> from annotated_types import Ge
    >>> _in_words(typing.Annotated[int, Ge(1)] | None)
    'int >= 1 | None'
    """
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _with_bounds(_in_words(arguments[0]), arguments[1:])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(_in_words, arguments))
    if isinstance(annotation, type) and not arguments:
        return "None" if annotation is type(None) else annotation.__name__
    if origin is tuple:
        return f"tuple[{', '.join('...' if part is ... else _in_words(part) for part in arguments)}]"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _with_bounds(name: str, constraints: Sequence[Any]) -> str:
    lower = upper = ""
    for constraint in constraints:
        for bound, symbol in (("ge", "<="), ("gt", "<")):
            value = getattr(constraint, bound, None)
            lower = lower if value is None else f"{format_number(value)} {symbol} "
        for bound, symbol in (("le", "<="), ("lt", "<")):
            value = getattr(constraint, bound, None)
            upper = upper if value is None else f" {symbol} {format_number(value)}"
    if lower and not upper:
        value, symbol = lower.split()
        return f"{name} {'>=' if symbol == '<=' else '>'} {value}"
    return f"{lower}{name}{upper}"


def by_setting(error: ValidationError) -> dict[str, list[Any]]:
    """Group pydantic's errors by setting; for a union, keep only the most deeply nested errors."""
    grouped: dict[str, list[Any]] = {}
    for entry in error.errors():
        grouped.setdefault(str(entry["loc"][0]), []).append(entry)
    for setting, entries in grouped.items():
        depth = max(len(entry["loc"]) for entry in entries)
        grouped[setting] = [entry for entry in entries if len(entry["loc"]) == depth]
    return grouped
