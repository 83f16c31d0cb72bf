"""Comparison of pytrees."""

import jax
import numpy as np


def same(first, second):
    """Return whether two trees of arrays have the same structure and equal arrays, to the bit."""
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
