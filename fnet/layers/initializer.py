"""Weight initializers: those of `jax.nn.initializers` by name, or any function (key, shape, dtype)."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from pydantic import PlainValidator, WithJsonSchema

from fnet.core.functions import accepted_function, blamed, function_at, named_by_path
from fnet.core.layer import Layer, Shape, ShapeError, walk
from fnet.core.wording import format_value, suggestion

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


Function = Callable[..., Any]


def _known(init: Any) -> Any:
    if callable(init):
        return named_by_path(init)
    if not isinstance(init, str):
        raise ValueError(
            "expected an initializer of jax.nn.initializers by name, a dotted path, or a function (key, shape, dtype), "
            f"got {format_value(init)}"
        )
    if "." in init:
        function_at(init)
    elif init not in FACTORIES + PLAIN:
        raise ValueError(f"unknown initializer '{init}'{suggestion(init, FACTORIES + PLAIN)}")
    return init


Initializer = Annotated[
    str | Function,
    PlainValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": [*FACTORIES, *PLAIN]}, {"type": "string", "pattern": r"\."}]}),
]


def initializer(init: str | Function) -> Callable[[Any, Shape], jax.Array]:
    """Return the initializer (key, shape) -> array for a name, a dotted path, or a function (key, shape, dtype).

    Weights are always drawn in float32 and then converted to JAX's default float type, so that a check in float64 uses
    the same network.

    Raises:
        ShapeError: from the initializer, when a function returns an array of another shape.
    """
    if not isinstance(init, str):
        draw = init
    elif init in PLAIN:
        draw = getattr(jax.nn.initializers, init)
    elif init in FACTORIES:
        draw = getattr(jax.nn.initializers, init)()
    else:
        draw = accepted_function(init)

    def initial(key, shape):
        with blamed(init, shape):
            weights = jnp.asarray(draw(key, shape, jnp.float32))
        if weights.shape != shape:
            raise ShapeError(f"its initializer was called for the shape {shape}, but returned {weights.shape}")
        return default_float(weights)

    return initial


def check_initializers(net: Layer, in_shape: Any) -> None:
    """Trace the initialization of a network if it contains an initializer that is named by a dotted path.

    Args:
        net: the network.
        in_shape: shape of one example.

    Raises:
        ShapeError: when an initializer fails, or returns an array of another shape.
    """
    settings = (item for _, layer in walk(net) for item in layer.settings.items())
    if any(name.endswith("init") and "." in init for name, init in settings if isinstance(init, str)):
        jax.eval_shape(lambda key: net.init(key, in_shape), jax.random.key(0))


def default_float(weights: jax.Array) -> jax.Array:
    """Convert weights to JAX's default float type: float32, or float64 under `jax_enable_x64`."""
    return weights.astype(jnp.result_type(float))
