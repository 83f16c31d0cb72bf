"""The layers by kind: what a description, a config or `fnet explain` can name."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.core.description import Registry
from fnet.core.families import FAMILIES
from fnet.core.layer import Layer

CONSTRUCTORS: Mapping[str, Callable[..., Layer]] = MappingProxyType(
    {
        kind: getattr(module, kind)
        for module in (importlib.import_module(f"fnet.layers.{family}") for family in FAMILIES)
        for kind in module.__all__
    }
)
"""The constructor of each kind."""

LAYERS = Registry("layer", "relu or {dense: 64}", "fnet.constructor", Layer, CONSTRUCTORS, of_list="serial")

constructor_of = LAYERS.constructor_of


def build(data: Any) -> Layer:
    """Return the network that plain data describe: the inverse of `describe`, which also accepts the short forms.

    A list is a `serial`. An item is a kind (`relu`) or a kind with its settings (`{dense: {units: 64}}`), of which the
    first may stand alone (`{dense: 64}`).

    >>> import fnet
    >>> fnet.build(["flatten", {"dense": 3}]).shape((2, 2))
    (3,)

    Raises:
        ValueError: for an item of another form, an unknown kind, or an invalid setting.
    """
    return LAYERS.build(data)
