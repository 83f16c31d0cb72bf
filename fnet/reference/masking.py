"""Masks by hand: which examples and steps are real, and what replaces the content of the others."""

from typing import Any

import numpy as np

from fnet.reference.rule import Array, Scope, first_array, map_arrays


def real_entries(scope: Scope, x: Array) -> Array:
    """Return m, the mask as numbers that broadcast against x: 1 for a real entry, else 0.

    With a (batch, time) mask and no time axis in x, an example is real if any of its steps is.
    """
    m = np.ones(len(x)) if scope.mask is None else np.asarray(scope.mask, np.float64)
    if m.ndim == 2 and x.ndim == 2:
        m = m.max(axis=1)
    return expand(m, x.ndim)


def real_steps(scope: Scope, x: Array) -> Array:
    """Return m (batch, time, 1, ...) for x (batch, time, ...): 1 for a real step, else 0.

    With a (batch,) mask all steps are real: layers that process each example independently ignore it.
    """
    if scope.mask is None or np.ndim(scope.mask) == 1:
        return np.ones((*x.shape[:2], *[1] * (x.ndim - 2)))
    return expand(np.asarray(scope.mask, np.float64), x.ndim)


def expand(m: Array, ndim: int) -> Array:
    """Return m with further axes of length 1, to broadcast against an array with the same first axes."""
    return m.reshape(*m.shape, *[1] * (ndim - m.ndim))


def without_padding(x: Any, mask: Array) -> Any:
    """Return x with every masked example replaced by the first real one, if any.

    A loss and its gradient do not depend on masked examples, but 0 times NaN is NaN.

    >>> without_padding(np.array([[np.nan], [2.0]]), np.array([False, True])).tolist()
    [[2.0], [2.0]]
    """
    rows = np.any(mask, axis=tuple(range(1, np.ndim(mask))))
    first = int(np.argmax(rows))

    def replaced(values: Array) -> Array:
        other = values[first] if rows.any() else np.zeros_like(values[first])
        return np.where(expand(rows, values.ndim), values, other)

    return map_arrays(replaced, x)


def without_masked_steps(x: Any, mask: Array) -> Any:
    """Return x with 0 at the masked steps of a (batch, time) mask; a (batch,) mask changes nothing.

    Of several arrays, real numbers without an axis of features are a vector per example, not a sequence. The transpose
    is the function itself: the cotangent of a masked step is 0.

    >>> without_masked_steps(np.array([[[3.0], [4.0]]]), np.array([[True, False]])).tolist()
    [[[3.0], [0.0]]]
    """
    several = x is not first_array(x)

    def masked(values: Array | None) -> Array | None:
        if values is None:  # the cotangent of a mask
            return None
        vector = several and values.ndim == 2 and not np.issubdtype(values.dtype, np.integer)
        sequence = values.shape[:2] == np.shape(mask) and not vector
        return np.where(expand(np.asarray(mask), values.ndim), values, np.zeros_like(values)) if sequence else values

    return map_arrays(masked, x) if np.ndim(mask) == 2 else x
