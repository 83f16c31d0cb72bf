"""The comparison at the end of every file here."""

import sys
from typing import Any

import jax
import numpy as np


def check(what: str, value: Any, expected: Any, *, tolerance: float) -> None:
    """Print the largest absolute difference of two equal pytrees, and exit with status 1 if it exceeds the tolerance.

    The difference of arrays of different shapes, and of NaN to anything, is infinite.
    """
    differences = jax.tree.leaves(jax.tree.map(_largest_difference, value, expected))
    largest = max(differences)
    print(f"{what}: largest difference {largest:.1e}, tolerance {tolerance:.0e}")
    if not largest <= tolerance:
        sys.exit(1)


def _largest_difference(value: Any, expected: Any) -> float:
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    if value.shape != expected.shape:
        return np.inf
    return float(np.nan_to_num(np.abs(value - expected), nan=np.inf, posinf=np.inf).max(initial=0.0))
