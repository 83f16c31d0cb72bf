"""fnet: functional neural networks on JAX, with every gradient checked against one written by hand.

Names are imported when they are first used, so that `fnet --help` and `fnet.reference` load no JAX.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnet import data as data
    from fnet import gradcheck as gradcheck
    from fnet import losses as losses
    from fnet import metrics as metrics
    from fnet import reference as reference
    from fnet import trace as trace
    from fnet import train as train
    from fnet.core.constructor import Parts as Parts
    from fnet.core.constructor import constructor as constructor
    from fnet.core.constructor import no_parameters as no_parameters
    from fnet.core.description import describe as describe
    from fnet.core.features import features as features
    from fnet.core.layer import Layer as Layer
    from fnet.core.layer import ShapeError as ShapeError
    from fnet.core.traversal import count as count
    from fnet.core.traversal import leaves as leaves
    from fnet.core.traversal import map_layers as map_layers
    from fnet.core.traversal import name_children as name_children
    from fnet.core.traversal import transfer as transfer
    from fnet.layers.activation import *
    from fnet.layers.attention import *
    from fnet.layers.combine import *
    from fnet.layers.combine import ChildTrees as ChildTrees
    from fnet.layers.conv import *
    from fnet.layers.dense import *
    from fnet.layers.dropout import *
    from fnet.layers.embedding import *
    from fnet.layers.norm import *
    from fnet.layers.pool import *
    from fnet.layers.recurrent import *
    from fnet.layers.shape import *
    from fnet.layers.transform import *
    from fnet.layers.vocabulary import build as build
    from fnet.regularization import Penalties as Penalties
    from fnet.runs.model_file import load as load
    from fnet.runs.model_file import save as save
    from fnet.train.generation import generate as generate

    __version__: str
    __all__: list[str]

_MODULES = ("data", "gradcheck", "losses", "metrics", "reference", "trace", "train")

_MODULE_OF = {
    "ChildTrees": "layers.combine",
    "Layer": "core.layer",
    "Parts": "core.constructor",
    "Penalties": "regularization",
    "ShapeError": "core.layer",
    "build": "layers.vocabulary",
    "constructor": "core.constructor",
    "count": "core.traversal",
    "describe": "core.description",
    "features": "core.features",
    "generate": "train.generation",
    "leaves": "core.traversal",
    "load": "runs.model_file",
    "map_layers": "core.traversal",
    "name_children": "core.traversal",
    "no_parameters": "core.constructor",
    "save": "runs.model_file",
    "transfer": "core.traversal",
}
"""Modules of the public names that are neither modules nor layers themselves."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fnet.{name}")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"fnet.{_MODULE_OF[name]}"), name)
    if name == "__version__":
        return metadata.version("fnet")
    if name == "__all__":
        return __dir__()
    if not name.startswith("_"):
        from fnet.layers.vocabulary import CONSTRUCTORS

        if name in CONSTRUCTORS:
            return CONSTRUCTORS[name]
    raise AttributeError(f"module 'fnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    from fnet.layers.vocabulary import CONSTRUCTORS

    return sorted([*_MODULES, *_MODULE_OF, *CONSTRUCTORS])
