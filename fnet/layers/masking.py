"""Masks over the examples of a batch or the steps of its sequences."""

from typing import Any

import jax
import jax.numpy as jnp

from fnet.core.layer import ShapeError


def step_mask(mask: Any, x: jax.Array) -> jax.Array | None:
    """Return the (batch, time) mask of the real steps of x (batch, time, ...), or None if all steps are real.

    A (batch,) mask marks whole examples; layers that process each example independently ignore it.

    Raises:
        ShapeError: when the mask does not match x.
    """
    if mask is None or jnp.shape(mask) == x.shape[:1]:
        return None
    if jnp.shape(mask) != x.shape[:2]:
        raise ShapeError(
            f"expects a mask (batch,) or (batch, time) that matches its input {x.shape}, got {jnp.shape(mask)}; "
            "make the mask as long as the input of this layer"
        )
    return jnp.asarray(mask)


def zero_masked(mask: Any, x: jax.Array) -> jax.Array:
    """Return x (batch, time, channels) with 0 at the masked steps of a (batch, time) mask.

    Raises:
        ShapeError: when the mask does not match x.
    """
    real = step_mask(mask, x)
    return x if real is None else jnp.where(real[:, :, None], x, 0)
