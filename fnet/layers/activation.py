"""Activations y = phi(z): those of `jax.nn`, and any other function without parameters."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge
from pydantic import PlainValidator, WithJsonSchema

from fnet.core.constructor import Parts, constructor, no_parameters
from fnet.core.functions import accepted_function, blamed, function_at, named_by_path
from fnet.core.layer import Name, ShapeError
from fnet.core.wording import format_value

__all__ = ["elu", "gelu", "identity", "lambda_layer", "leaky_relu", "relu", "sigmoid", "softmax", "swish", "tanh"]


def _in_dtype_of(z: Any, setting: float) -> jax.Array:
    """Convert a setting to the dtype of z, which a traced float32 number would otherwise widen."""
    return jnp.asarray(setting, jnp.result_type(z, 0.0))


def _elementwise(phi) -> Parts:
    def apply(params, state, x, *, train, key=None, mask=None):
        return phi(x), {}

    return Parts(lambda in_shape: in_shape, no_parameters, apply)


@constructor
def identity(*, name: Name = None) -> Parts:
    """The identity y = z, for the outputs of a linear regression.

    Args:
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(lambda z: z)


@constructor
def sigmoid(*, name: Name = None) -> Parts:
    """The logistic function y = 1 / (1 + e^-z), with derivative y (1 - y).

    Args:
        name: replaces the automatic name (kind and number).

    >>> import jax.numpy as jnp, fnet
    >>> float(fnet.sigmoid().apply({}, {}, jnp.zeros(()), train=False)[0])
    0.5
    """
    return _elementwise(jax.nn.sigmoid)


@constructor
def tanh(*, name: Name = None) -> Parts:
    """Hyperbolic tangent y = tanh(z) = (e^z - e^-z) / (e^z + e^-z), with derivative 1 - y^2.

    Args:
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(jnp.tanh)


@constructor
def relu(*, name: Name = None) -> Parts:
    """Rectified linear unit y = max(0, z), with derivative 1 for z > 0, else 0; ReLU'(0) = 0, as in jax.nn.relu.

    Args:
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(jax.nn.relu)


@constructor
def leaky_relu(slope: Annotated[float, Ge(0)] = 0.01, *, name: Name = None) -> Parts:
    """Leaky ReLU: y = z for z >= 0, else slope * z; the derivative at 0 is 1, as in jax.nn.leaky_relu.

    The default slope is that of Maas et al. (2013) and of most libraries. One lecture uses 0.01, another 0.1.

    Args:
        slope: a in max(a z, z), the slope for negative z.
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(lambda z: jax.nn.leaky_relu(z, _in_dtype_of(z, slope)))


@constructor
def elu(alpha: Annotated[float, Ge(0)] = 1.0, *, name: Name = None) -> Parts:
    """Exponential linear unit: y = z for z > 0, else alpha (e^z - 1); the derivative at 0 is alpha, as in jax.nn.elu.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by ELUs" (2015).

    Args:
        alpha: the output approaches -alpha as z goes to minus infinity.
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(lambda z: jax.nn.elu(z, _in_dtype_of(z, alpha)))


@constructor
def softmax(*, name: Name = None) -> Parts:
    """Probabilities over the last axis: y_c = e^(z_c) / sum_k e^(z_k), computed after subtracting max_k z_k.

    The losses take logits: a network trained with cross_entropy must not end with softmax, and the config refuses it.

    Args:
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, without an axis to normalize over.
    """

    def shape(in_shape):
        if not in_shape:
            raise ShapeError("expects examples with at least one axis, (..., classes), got scalars")
        return in_shape

    return _elementwise(lambda z: jax.nn.softmax(z, axis=-1))._replace(shape=shape)


@constructor
def swish(*, name: Name = None) -> Parts:
    """Swish y = z sigmoid(z), also known as SiLU.

    Source: Ramachandran, Zoph and Le, "Searching for activation functions" (2017), with beta = 1.

    Args:
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(jax.nn.swish)


@constructor
def gelu(approximate: bool = True, *, name: Name = None) -> Parts:
    """Gaussian error linear unit y = z Phi(z), where Phi is the standard normal distribution function.

    The approximation, used in the lectures, is 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))); the exact function is
    0.5 z (1 + erf(z / sqrt 2)). They differ by less than 5e-4.

    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016); the default is that of jax.nn.gelu.

    Args:
        approximate: whether to use the approximation by tanh, or the exact function.
        name: replaces the automatic name (kind and number).
    """
    return _elementwise(lambda z: jax.nn.gelu(z, approximate=approximate))


def _function(function: Any) -> Any:
    if callable(function):
        return named_by_path(function)
    if not isinstance(function, str):
        raise ValueError(
            f"expected a function of an array, or its dotted path such as jax.nn.mish, got {format_value(function)}"
        )
    function_at(function)
    return function


Function = Annotated[
    str | Callable[..., Any],
    PlainValidator(_function),
    WithJsonSchema({"type": "string", "pattern": r"\."}),
]


@constructor
def lambda_layer(function: Function, *, name: Name = None) -> Parts:
    """A function without parameters as a layer: y = function(x), the same in training and evaluation.

    The function is applied to the whole batch (batch, ...). It must keep the batch as the first axis and process every
    example, and with masked steps every step, independently, as an elementwise function does. The shape of the output
    is inferred by tracing the function for a batch of float inputs. In YAML the function is a dotted path:

        lambda_layer: jax.nn.mish

    Its derivative is JAX's: there is none by hand, so that a gradient check compares it with numeric differences only.

    Args:
        function: a function of an array, or the dotted path of one. Only a function of a module can be described and
            saved; a lambda or a local function runs, but `fnet.describe` refuses it.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when the function does not keep the batch as the first axis.

    >>> import jax, fnet
    >>> fnet.describe(fnet.lambda_layer(jax.nn.mish))
    {'lambda_layer': {'function': 'jax.nn.mish'}}
    >>> fnet.lambda_layer(lambda x: x[..., :2] ** 2).shape((4, 3))
    (4, 2)
    """
    phi = accepted_function(function) if isinstance(function, str) else function

    def shape(in_shape):
        shapes = set()
        for batch in (3, 4):  # another axis may have the size of one of them
            with blamed(function, (batch, *in_shape)):
                y = jax.eval_shape(phi, jax.ShapeDtypeStruct((batch, *in_shape), jnp.result_type(float)))
            if not isinstance(y, jax.ShapeDtypeStruct):
                raise ShapeError(f"its function must return one array, but returns a {type(y).__name__}")
            shapes.add(y.shape[1:])
            if y.shape[:1] != (batch,) or len(shapes) > 1:
                raise ShapeError(
                    f"its function must keep the batch as the first axis, but maps {(batch, *in_shape)} to {y.shape}; "
                    "reduce or rearrange other axes only"
                )
        return shapes.pop()

    return _elementwise(phi)._replace(shape=shape)
