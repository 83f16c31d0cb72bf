"""What a hand-written layer is, and where to find the one of a kind."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fnet.description import FAMILIES, Layer

Array = Float[np.ndarray, "..."]
Params = Mapping[str, Any]
Gradients = dict[str, Any]


class Rule(NamedTuple):
    """A layer's forward and backward pass, by hand, in NumPy float64.

    forward: (layer, params, x) -> (y, cache), where cache is what backward needs of the forward pass.
    backward: (layer, params, cache, g) -> (dx, gradients), where g = dL/dy is the cotangent of the output, dx = dL/dx
        that of the input, and gradients holds dL/dp for every parameter p, under its name.
    """

    forward: Callable[[Layer, Params, Array], tuple[Array, Any]]
    backward: Callable[[Layer, Params, Any, Array], tuple[Array, Gradients]]


class NoReference(LookupError):
    """There is no hand-written backward for a kind of layer."""


def rule_of(kind: str) -> Rule:
    """The hand-written rule for a kind of layer.

    Raises:
        NoReference: when there is none, as for a user's own layer.
    """
    if kind in FAMILIES:
        return getattr(importlib.import_module(f"fnet.reference.{FAMILIES[kind]}"), kind)
    raise NoReference(f"no hand-written backward exists for the layer '{kind}'")
