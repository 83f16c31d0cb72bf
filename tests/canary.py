"""A module that leaves a trace when it is imported, and the descriptions that name it."""

import contextlib
import sys
import tempfile
from pathlib import Path

import jax
import pytest

import fnet

NAME = "canary_of_a_stranger"

CODE = '''
from pathlib import Path

TRACE = Path(__file__).with_name("trace")
TRACE.write_text("imported")

from typing import Any

import fnet
from fnet.data.augment import Transform, augmentation


@fnet.constructor
def layer(factor: float = 1.5, *, name: str | None = None) -> fnet.Parts:
    """y = factor x."""
    return fnet.Parts(lambda shape: shape, fnet.no_parameters, lambda params, state, x, **_: (factor * x, {}))


@fnet.constructor
def block(*layers: fnet.Layer, name: str | None = None) -> fnet.Layer:
    """Layers in series."""
    return fnet.serial(*layers)


def plain(units: int) -> fnet.Layer:
    TRACE.write_text("called")
    return fnet.dense(units)


def init(key, shape, dtype):
    TRACE.write_text("called")
    return fnet.layers.initializer.jnp.ones(shape, dtype)


def phi(x: Any) -> Any:
    TRACE.write_text("called")
    return x


@augmentation
def noise() -> Transform:
    """No noise."""
    return Transform(lambda key, shape: None, lambda images, drawn: images, lambda height, width: None)
'''

LAYERS = {
    "kind": f"{NAME}.layer",
    "setting": {f"{NAME}.layer": 2.0},
    "settings": {f"{NAME}.layer": {"factor": 2.0}},
    "own container": {f"{NAME}.block": ["relu"]},
    "function": {f"{NAME}.plain": 2},
    "submodule": f"{NAME}.inner.layer",
    "function of the package": {"lambda_layer": f"{NAME}.TRACE.write_text"},
    "initializer": {"dense": {"units": 2, "init": f"{NAME}.init"}},
    "initializer of attention": {"attention": {"heads": 1, "init": f"{NAME}.init"}},
    "initializer of lstm": {"lstm": {"units": 2, "init": f"{NAME}.init"}},
    "initializer of conv": {"conv": {"filters": 2, "kernel_size": 3, "init": f"{NAME}.init"}},
    "lambda_layer": {"lambda_layer": f"{NAME}.phi"},
    "in a list": ["relu", [f"{NAME}.layer"]],
    "in a named list": {"serial": {"layers": [f"{NAME}.layer"], "name": "trunk"}},
    "in residual": {"residual": [f"{NAME}.layer"]},
    "in parallel": {"parallel": {"layers": ["relu", {"dense": {"units": 2, "init": f"{NAME}.init"}}]}},
    "in repeat": {"repeat": {"layers": [f"{NAME}.layer"], "times": 2}},
    "in remat": {"remat": [f"{NAME}.layer"]},
    "in frozen": {"frozen": [{"lambda_layer": f"{NAME}.phi"}]},
    "in graph": {"graph": {"layers": [{f"{NAME}.layer": {"name": "f"}}], "nodes": {"y": ["f", "input"]}}},
}
"""Items of a description that name the module, by the place where they do."""

SHAPES = {"initializer of attention": (3, 2), "initializer of lstm": (3, 2), "initializer of conv": (5, 5, 1)}
"""Shapes of an example other than (2,)."""

UNSAVED = {"function", "function of the package"}
"""Items that do not describe a layer, or describe one of fnet's."""


def write(folder: Path) -> Path:
    """Write the module as a package with a submodule; return the file that an import of either would leave."""
    (folder / NAME / "inner").mkdir(parents=True)
    (folder / NAME / "__init__.py").write_text(CODE)
    (folder / NAME / "inner" / "__init__.py").write_text(CODE.replace("__file__", "__path__[0]"))
    return folder / NAME / "trace"


def forget() -> None:
    """Unload the module."""
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def is_loaded() -> bool:
    return any(name.partition(".")[0] == NAME for name in sys.modules)


def save(file: Path, item, in_shape: tuple[int, ...]) -> None:
    """Write the model file of a network that names the module, which is imported for it, and unload the module."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write(Path(folder))
        stack.enter_context(pytest.MonkeyPatch.context()).syspath_prepend(folder)
        net = fnet.build([item], trust=[NAME])
        fnet.save(file, net, *net.init(jax.random.key(0), in_shape))
    forget()
