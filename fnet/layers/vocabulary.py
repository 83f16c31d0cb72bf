"""The constructors of layers by kind, as descriptions, configs and `fnet explain` name them."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.core import imports
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

LAYERS = Registry("layer", "relu or {dense: 64}", "fnet.constructor", Layer, CONSTRUCTORS, list_kind="serial")

constructor_of = LAYERS.constructor_of


def build(data: Any, *, trust: Iterable[str] = ()) -> Layer:
    """Build the network that plain data describe; the inverse of `describe`, but short forms are accepted too.

    A list is a `serial`. An item is a kind (`relu`) or a kind with its settings (`{dense: {units: 64}}`); a value alone
    is the first setting (`{dense: 64}`).

    A dotted path, such as `my_module.my_layer`, imports nothing: it may name a layer of a module that is loaded, or a
    function of `jax.nn`, `jax.nn.initializers`, `jax.numpy`, `jax.lax`, `jax.random` or `jax.scipy.special`. Anything
    else must be trusted.

    Args:
        data: the description.
        trust: modules that may be imported, each with its submodules.

    >>> import fnet
    >>> fnet.build(["flatten", {"dense": 3}]).shape((2, 2))
    (3,)

    Raises:
        ValueError: for data that are not an item, an unknown kind, a module that is not trusted, or an invalid setting.
    """
    with imports.gate(trust) if trust else imports.closed():
        return LAYERS.build(data)
