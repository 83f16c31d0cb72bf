"""The layers by kind: what a description, a config or `fnet explain` can name."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.core import description
from fnet.core.layer import Layer
from fnet.core.settings import shown, suggestion
from fnet.layers import activation, attention, combine, conv, dense, dropout, embedding, norm, pool, recurrent, shape

FAMILIES = (combine, dense, conv, pool, shape, norm, recurrent, attention, embedding, dropout, activation)
"""The files of layers, in the order in which they are listed; the same files are in `fnet.reference`."""

CONSTRUCTORS: Mapping[str, Callable[..., Layer]] = MappingProxyType(
    {kind: getattr(family, kind) for family in FAMILIES for kind in family.__all__}
)
"""The constructor of each kind."""


def constructor_of(kind: Any) -> Callable[..., Layer]:
    """The constructor of a kind: one of fnet's layers, or one of the user's own by its dotted path.

    Raises:
        ValueError: for an unknown kind; suggests the nearest.
    """
    if not isinstance(kind, str):
        raise ValueError(f"expected the name of a layer, got {shown(kind)}")
    if kind in CONSTRUCTORS:
        return CONSTRUCTORS[kind]
    module, dot, function = kind.rpartition(".")
    if not dot:
        raise ValueError(f"unknown layer '{kind}'{suggestion(kind, CONSTRUCTORS)}")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"unknown layer '{kind}': {error}; a layer of your own is found beside the config, in the working folder "
            "or on PYTHONPATH"
        ) from None
    if not hasattr(found, "makes_layers") and not _returns_layer(found):
        raise ValueError(f"'{kind}' makes no layers; decorate it with @fnet.constructor")
    return found


def _returns_layer(found: Any) -> bool:
    """Whether a function without the decorator is annotated to return a layer."""
    return inspect.isfunction(found) and inspect.signature(found).return_annotation in (Layer, "Layer", "fnet.Layer")


def item(data: Any) -> tuple[str, Callable[..., Layer], dict[str, Any]]:
    """One item of a description as (kind, constructor, settings), its short form written out.

    Raises:
        ValueError: when it is not of the form of an item, or its kind is unknown.
    """
    return description.item(data, constructor_of)


def build(data: Any) -> Layer:
    """The network that plain data describes: the inverse of `describe`, which also takes the config's short forms.

    A list is a `serial`; an item is a kind (`relu`) or a kind with its settings (`{dense: {units: 64}}`), of which the
    first may stand alone (`{dense: 64}`).

    >>> import fnet
    >>> fnet.build(["flatten", {"dense": 3}]).shape((2, 2))
    (3,)

    Raises:
        ValueError: for an item that is none of these, an unknown kind, or a setting out of bounds.
    """
    return description.build(data, constructor_of)
