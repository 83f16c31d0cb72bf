"""Comparison of pytrees."""

import jax
import numpy as np


def same(first, second):
    """Return whether two trees of arrays, or of random keys, have equal structure and bitwise equal leaves."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        np.shape(a) == np.shape(b) and bool(np.all(a == b)) for a, b in pairs
    )
