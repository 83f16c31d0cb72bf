"""The fully connected layer."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Name, ShapeError
from fnet.layers.initializer import Initializer, initializer
from fnet.layers.sharding import is_explicit

__all__ = ["dense"]


@constructor
def dense(
    units: Annotated[int, Ge(1)],
    *,
    bias: bool = True,
    init: Initializer = "glorot_uniform",
    name: Name = None,
) -> Parts:
    """Affine map of the last axis: z = x w + b.

    Shapes: (batch, ..., in) -> (batch, ..., units). Parameters: `w` (in, units), `b` (units,).

    Args:
        units: number of outputs.
        bias: whether b is added; it is initialized to zero.
        init: initializer of w, one of jax.nn.initializers by name, a dotted path, or a function
            (key, shape, dtype).
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, or their last axis does not match w.

    The lectures write q = W x with W (out, in) for one column x; with one example per row, z = x w with w = W^T.

    >>> import jax, jax.numpy as jnp, fnet
    >>> layer = fnet.dense(2)
    >>> params, state = layer.init(jax.random.key(0), (3,))
    >>> {leaf: value.shape for leaf, value in params.items()}
    {'w': (3, 2), 'b': (2,)}
    >>> z, _ = layer.apply({"w": jnp.eye(3, 2), "b": jnp.ones(2)}, {}, jnp.array([[1., 2., 3.]]), train=False)
    >>> z.tolist()
    [[2.0, 3.0]]
    """

    def shape(in_shape):
        if not in_shape:
            raise ShapeError("expects examples with at least one axis, (..., in), got scalars; put a reshape before it")
        return (*in_shape[:-1], units)

    def init_(key, in_shape):
        shape(in_shape)
        params = {"w": initializer(init)(key, (in_shape[-1], units))}
        if bias:
            params["b"] = jnp.zeros(units)
        return params, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        w = params["w"]
        if x.ndim < 2 or x.shape[-1] != w.shape[0]:
            raise ShapeError(
                f"expects (batch, ..., {w.shape[0]}), for its w {w.shape}, got {x.shape}; "
                "put a flatten before it, or initialize it for this shape"
            )
        z = product(x, w)
        return z + params["b"] if bias else z, {}

    return Parts(shape, init_, apply)


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return x w over the last axis of x (..., in), computed as the product of two matrices.

    The gradient of w is then a product of two matrices as well, which XLA computes much faster than a sum over several
    axes. On a mesh with Explicit axes, where the sharding of such a matrix may not be expressible, it is a sum.
    """
    if is_explicit(x, w):
        return x @ w
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[1])
