"""fnet: functional neural networks on JAX, with every gradient checked against one written by hand.

The names below are imported when they are first used, so that `fnet --help` and `fnet.reference` load no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fnet.description import FAMILIES as _FAMILIES

if TYPE_CHECKING:
    from fnet import data, gradcheck, losses, metrics, reference, train
    from fnet.construction import Parts, constructor, no_parameters
    from fnet.description import Layer, ShapeError, build, describe
    from fnet.feature_extraction import features
    from fnet.generation import generate
    from fnet.layers.activation import elu, gelu, identity, leaky_relu, relu, sigmoid, softmax, swish, tanh
    from fnet.layers.attention import attention, positions, sinusoidal_positions, transformer
    from fnet.layers.combine import graph, parallel, repeat, residual, serial
    from fnet.layers.conv import conv, conv_1d, conv_transpose
    from fnet.layers.dense import dense
    from fnet.layers.dropout import dropout, spatial_dropout
    from fnet.layers.embedding import embedding, one_hot, tied
    from fnet.layers.norm import batch_norm, group_norm, layer_norm, rms_norm
    from fnet.layers.pool import avg_pool, global_avg_pool, global_max_pool, max_pool
    from fnet.layers.recurrent import bidirectional, gru, lstm, rnn
    from fnet.layers.shape import flatten, permute, reshape, upsample, zero_pad
    from fnet.regularization import Penalties
    from fnet.train.folder import load

_HOME = {kind: f"fnet.layers.{family}" for kind, family in _FAMILIES.items()}
_HOME |= dict.fromkeys(["Layer", "ShapeError", "build", "describe"], "fnet.description")
_HOME |= dict.fromkeys(["Parts", "constructor", "no_parameters"], "fnet.construction")
_HOME |= {
    "Penalties": "fnet.regularization",
    "features": "fnet.feature_extraction",
    "generate": "fnet.generation",
    "load": "fnet.train.folder",
}
_MODULES = ("data", "gradcheck", "losses", "metrics", "reference", "train")

__all__ = [
    "Layer",
    "Parts",
    "Penalties",
    "ShapeError",
    "attention",
    "avg_pool",
    "batch_norm",
    "bidirectional",
    "build",
    "constructor",
    "conv",
    "conv_1d",
    "conv_transpose",
    "data",
    "dense",
    "describe",
    "dropout",
    "elu",
    "embedding",
    "features",
    "flatten",
    "gelu",
    "generate",
    "global_avg_pool",
    "global_max_pool",
    "gradcheck",
    "graph",
    "group_norm",
    "gru",
    "identity",
    "layer_norm",
    "leaky_relu",
    "load",
    "losses",
    "lstm",
    "max_pool",
    "metrics",
    "no_parameters",
    "one_hot",
    "parallel",
    "permute",
    "positions",
    "reference",
    "relu",
    "repeat",
    "reshape",
    "residual",
    "rms_norm",
    "rnn",
    "serial",
    "sigmoid",
    "sinusoidal_positions",
    "softmax",
    "spatial_dropout",
    "swish",
    "tanh",
    "tied",
    "train",
    "transformer",
    "upsample",
    "zero_pad",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fnet.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
