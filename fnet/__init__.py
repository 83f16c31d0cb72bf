"""fnet: functional neural networks on JAX, with every gradient checked against one written by hand.

The names below are imported when they are first used, so that `fnet --help` and `fnet.reference` load no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fnet.description import FAMILIES as _FAMILIES

if TYPE_CHECKING:
    from fnet import data, gradcheck, losses, metrics, reference, train
    from fnet.description import Layer, Parts, ShapeError, build, constructor, describe, no_parameters
    from fnet.layers.activation import elu, gelu, identity, leaky_relu, relu, sigmoid, softmax, swish, tanh
    from fnet.layers.combine import serial
    from fnet.layers.dense import dense
    from fnet.layers.shape import flatten
    from fnet.train.folder import load

_HOME = {kind: f"fnet.layers.{family}" for kind, family in _FAMILIES.items()}
_HOME |= dict.fromkeys(
    ["Layer", "Parts", "ShapeError", "build", "constructor", "describe", "no_parameters"], "fnet.description"
)
_HOME |= {"load": "fnet.train.folder"}
_MODULES = ("data", "gradcheck", "losses", "metrics", "reference", "train")

__all__ = [
    "Layer",
    "Parts",
    "ShapeError",
    "build",
    "constructor",
    "data",
    "dense",
    "describe",
    "elu",
    "flatten",
    "gelu",
    "gradcheck",
    "identity",
    "leaky_relu",
    "load",
    "losses",
    "metrics",
    "no_parameters",
    "reference",
    "relu",
    "serial",
    "sigmoid",
    "softmax",
    "swish",
    "tanh",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fnet.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
