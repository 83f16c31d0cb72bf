"""Operations whose result JAX cannot type by itself on an Explicit mesh or inside `jax.shard_map`.

On a mesh with Explicit axes the type of an array says how it is sharded, and JAX asks for the sharding of some results.
Inside `jax.shard_map` the type says over which axes the devices have different values; the operands of a primitive must
vary over the same axes, as JAX ensures for its own primitives. The batch is the first axis of the examples.
"""

from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, PartitionSpec


def is_explicit(*arrays: Any) -> bool:
    """Return whether an array lies on a mesh with Explicit axes."""
    return any(AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types for array in arrays)


def sharded_like_batch(x: Any, ndim: int) -> PartitionSpec | None:
    """Return the sharding of a result with `ndim` axes, of which only the first is sharded: as the first axis of x.

    It is None if x is not on an Explicit mesh, where JAX derives it.
    """
    return PartitionSpec(jax.typeof(x).sharding.spec[0], *[None] * (ndim - 1)) if is_explicit(x) else None


def vary_over_same_axes(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x and w, both marked as varying over the axes of `jax.shard_map` over which either of them varies."""
    axes = _varying(x) | _varying(w)
    return _vary_over(axes - _varying(x), x), _vary_over(axes - _varying(w), w)


def _varying(x: jax.Array) -> frozenset[Any]:
    return jax.typeof(x).mat.varying


def _vary_over(axes: frozenset[Any], x: jax.Array) -> jax.Array:
    return lax.pcast(x, tuple(axes), to="varying") if axes else x
