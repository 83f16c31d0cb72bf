"""Masks over the steps of a sequence."""

from typing import Any

import jax
import jax.numpy as jnp

from fnet.core.layer import ShapeError


def steps_of(mask: Any, x: jax.Array) -> jax.Array | None:
    """The (batch, time) mask that says which steps of x (batch, time, features) are real; None when it leaves out none.

    A (batch,) mask is about whole examples, which no layer that works on one example at a time needs to know.

    Raises:
        ShapeError: when the mask does not fit.
    """
    if mask is None or jnp.shape(mask) == x.shape[:1]:
        return None
    if jnp.shape(mask) != x.shape[:2]:
        raise ShapeError(
            f"expects a mask (batch,) or (batch, time) that fits its input {x.shape}, got {jnp.shape(mask)}; "
            "give the mask the length that the input has here"
        )
    return jnp.asarray(mask, bool)
