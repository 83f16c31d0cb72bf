"""Conversion of a network to plain data that YAML can represent, and back."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from fnet.core import imports
from fnet.core.layer import Layer, is_scalar_array, thaw
from fnet.core.settings import first_parameter, layers_parameter, named_parameters
from fnet.core.wording import format_value, suggestion

Record = TypeVar("Record")

MAX_VALUES = 50_000
"""Number of values in a description or a config, those of an alias counted at each of its uses."""


def describe(net: Layer) -> Any:
    """Return the network as plain data that YAML can represent; `build` is the inverse.

    >>> import fnet
    >>> describe(fnet.serial(fnet.flatten(), fnet.dense(3), fnet.relu()))
    ['flatten', {'dense': {'units': 3, 'bias': True, 'init': 'glorot_uniform'}}, 'relu']
    >>> describe(fnet.repeat(fnet.relu(), times=2))
    {'repeat': {'times': 2, 'scan': False, 'layers': ['relu']}}

    Raises:
        ValueError: for a layer made by hand, unless its kind is the dotted path of the function that made it; for one
            whose constructor has no dotted path; and for a setting that is a traced number, or a function without a
            dotted path, such as a lambda.
    """
    at_path = imports.loaded(net.kind)
    if net.constructor is None and ("." not in net.kind or hasattr(at_path, "record")):
        raise ValueError(
            f"the layer '{net.kind}' was made or changed without a constructor, so that its settings do not describe "
            "what it computes: make it with @fnet.constructor, or in a function that returns it, and give it the "
            f'dotted path of this function, kind="my_module.{net.kind.rpartition(".")[2]}"'
        )
    if net.constructor is not None and "." in net.kind and at_path is not net.constructor:
        raise ValueError(
            f"the layer '{net.kind}' has a constructor that this path does not lead to, because it was defined inside "
            "a function, or defined again since; define it once, at the top of a module"
        )
    layers = [describe(layer) for layer in net.layers]
    if net.kind == "serial" and layers and net.name is None:
        return layers
    children = {"layers": layers} if layers else {}
    name = {} if net.name is None else {"name": net.name}
    return describe_item(net.kind, {**net.settings, **children, **name})


def describe_item(kind: str, settings: Mapping[str, Any]) -> Any:
    """Return a kind and its settings as an item of a description; `Registry.build` is the inverse.

    >>> describe_item("relu", {}), describe_item("reshape", {"shape": (4, 4)})
    ('relu', {'reshape': {'shape': [4, 4]}})
    """
    for key, value in settings.items():
        if is_scalar_array(value):
            raise ValueError(f"{kind}: {key}: a description cannot contain a traced number; give a Python number")
        if callable(value):
            raise ValueError(
                f"{kind}: {key}: a description cannot contain the function {getattr(value, '__qualname__', value)}, "
                f"because no dotted path leads to it; define it in a module with def: {key}='my_module.my_function'"
            )
    return {kind: {key: thaw(value) for key, value in settings.items()}} if settings else kind


class Item(NamedTuple, Generic[Record]):
    """An item of a description with its short form expanded: a kind, its constructor and its settings."""

    kind: str
    constructor: Callable[..., Record]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Registry(Generic[Record]):
    """The constructors that a description can name, by kind; parses and builds the items of a description.

    Args:
        noun: what the constructors make, such as "layer".
        example: example items for messages, such as "relu or {dense: 64}".
        decorator: the decorator that makes such constructors, for messages.
        record: the type that the constructors return.
        constructors: fnet's own constructors; others are imported by their dotted path.
        list_kind: the kind that a list stands for, if any.
    """

    noun: str
    example: str
    decorator: str
    record: type[Record]
    constructors: Mapping[str, Callable[..., Record]]
    list_kind: str | None = None

    def constructor_of(self, kind: Any) -> Callable[..., Record]:
        """Return the constructor of a kind: one of fnet's, or a user's own by its dotted path.

        Raises:
            ValueError: for an unknown kind, suggesting the nearest known one, and for a dotted path whose module may
                not be imported, as `fnet.core.imports` says.
        """
        if not isinstance(kind, str):
            raise ValueError(f"expected the name of {self._a_noun}, got {format_value(kind)}")
        if kind in self.constructors:
            return self.constructors[kind]
        if "." not in kind:
            raise ValueError(f"unknown {self.noun} '{kind}'{suggestion(kind, self.constructors)}")
        try:
            with imports.closed():
                function = imports.lookup(kind, from_loaded=True)
        except ValueError as error:
            raise type(error)(f"cannot import the {self.noun} '{kind}': {error}") from error
        if not self._makes_records(function):
            raise ValueError(f"'{kind}' is not a constructor of {self.noun}s; decorate it with @{self.decorator}")
        return function

    def parse(self, data: Any) -> Item[Record]:
        """Return an item of a description with its short form expanded: relu, {dense: 64} or {dense: {units: 64}}.

        Raises:
            ValueError: for data that are not an item, or an unknown kind.
        """
        if self.list_kind is not None and isinstance(data, list | tuple):
            data = {self.list_kind: {"layers": data}}
        if isinstance(data, str):
            data = {data: {}}
        if not isinstance(data, Mapping) or len(data) != 1:
            received = format_value(data)
            if isinstance(data, Mapping):
                received = f"a mapping with the keys {', '.join(map(str, data))}" if data else "an empty mapping"
            raise ValueError(f"expected {self._a_noun}, such as {self.example}, got {received}")
        kind, value = next(iter(data.items()))
        construct = self.constructor_of(kind)
        if value is None:
            return Item(kind, construct, {})
        if isinstance(value, Mapping):
            return Item(kind, construct, dict(value))
        takes_layers = layers_parameter(construct) and isinstance(value, list | tuple)
        first = "layers" if takes_layers else first_parameter(construct)
        if first is None:
            raise ValueError(f"{kind} takes no value on its own, got {format_value(value)}")
        return Item(kind, construct, {first: value})

    def build(self, data: Any) -> Record:
        """Build the record that an item describes.

        Raises:
            ValueError: for data that are not an item, an unknown kind, or an invalid setting.
        """
        with imports.closed():
            kind, construct, settings = self.parse(data)
            layers = settings.pop("layers", []) if layers_parameter(construct) else []
            known = named_parameters(construct)
            unknown = settings.keys() - known.keys()
            if unknown:
                setting = min(unknown)
                raise ValueError(f"{kind}: unknown setting '{setting}'{suggestion(setting, known)}")
            return construct(*map(self.build, layers), **settings)

    def _makes_records(self, function: Any) -> bool:
        """Return whether a function is annotated to return this type of record, as `make_constructor` does.

        Functions of fnet that are not constructors do not count: `fnet.build` could be told what to import.
        """
        if not callable(function):
            return False
        if getattr(function, "record", None) is self.record:
            return True
        name = self.record.__name__
        accepted = (self.record, name, f"fnet.{name}")
        own = inspect.isfunction(function) and not f"{function.__module__}.".startswith("fnet.")
        return own and inspect.signature(function).return_annotation in accepted

    @property
    def _a_noun(self) -> str:
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"
