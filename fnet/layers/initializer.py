"""Weight initializers: those of `jax.nn.initializers` by name, or any function (key, shape, dtype) by dotted path."""

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from pydantic import AfterValidator, WithJsonSchema

from fnet.core.layer import Shape
from fnet.core.wording import suggestion

FACTORIES = (
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "truncated_normal",
    "uniform",
)
PLAIN = ("ones", "zeros")


def _imported(name: str) -> Callable[..., Any]:
    """Return the function at a dotted path."""
    module, dot, function = name.rpartition(".")
    if not dot:
        raise ValueError(f"unknown initializer '{name}'{suggestion(name, FACTORIES + PLAIN)}")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"unknown initializer '{name}': {error}") from None


def _known(name: str) -> str:
    if name not in FACTORIES + PLAIN:
        _imported(name)
    return name


Initializer = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": [*FACTORIES, *PLAIN]}, {"type": "string", "pattern": r"\."}]}),
]


def initializer(name: str) -> Callable[[Any, Shape], jax.Array]:
    """Return the initializer (key, shape) -> float32 array for a name or a dotted path.

    Weights are always drawn in float32, so that a check in float64 uses the same network.

    Raises:
        ValueError: when a name is unknown or a dotted path cannot be imported.
    """
    if name in PLAIN:
        draw = getattr(jax.nn.initializers, name)
    elif name in FACTORIES:
        draw = getattr(jax.nn.initializers, name)()
    else:
        draw = _imported(name)
    return lambda key, shape: draw(key, shape, jnp.float32)
