"""Checks of the data that run on the host, because compiled code would silently produce NaN."""

from typing import Any

import jax
import numpy as np

from fnet.core.layer import Layer
from fnet.data.arrays import Rows, chunks
from fnet.losses import Loss, loss_name_of


def check_examples(net: Layer, x: Any, mask: Any = None) -> None:
    """Check that indices are within the range of the first layer, and that every sequence has at least one real step.

    Args:
        net: the network.
        x: examples (n, ...).
        mask: (n, time), True for real steps, if there is one.

    Raises:
        ValueError: for the first example that fails.

    >>> import fnet
    >>> check_examples(fnet.embedding(65, 8), np.array([[3, 64], [70, 0]]))
    Traceback (most recent call last):
        ...
    ValueError: example 1 contains the index 70, but the first layer of the network takes the indices 0 ... 64; set its
    size to 71, or remove the index
    """
    x = _as_rows(x)
    size = net.indices
    if isinstance(size, int):
        _check_indices(x, size)
    if mask is not None:
        _check_mask(_as_rows(mask), x.shape)


def _check_indices(x: Rows, size: int) -> None:
    takes = f"the first layer of the network takes the indices 0 ... {size - 1}"
    if not np.issubdtype(x.dtype, np.integer):
        raise ValueError(
            f"{takes}, but the examples are {x.dtype}; convert indices with x.astype(int), and use a dense layer for "
            "real numbers"
        )
    for rows in chunks(x):
        outside = np.argwhere((x[rows] < 0) | (x[rows] >= size))
        if len(outside):
            index = x[rows][tuple(outside[0])]
            largest = max(x[rows].max() for rows in chunks(x))
            fix = f"set its size to {largest + 1}, or remove" if index >= size else "remove"
            raise ValueError(
                f"example {rows.start + outside[0][0]} contains the index {index}, but {takes}; {fix} the index"
            )


def _check_mask(mask: Rows, shape: tuple[int, ...]) -> None:
    if mask.shape != shape[:2]:
        raise ValueError(f"expected a mask of shape {shape[:2]} for examples of shape {shape}, got {mask.shape}")
    for rows in chunks(mask):
        empty = np.flatnonzero(~np.asarray(mask[rows], bool).any(axis=1))
        if len(empty):
            raise ValueError(
                f"example {rows.start + empty[0]} has no real steps: its row of the mask is all False; "
                "remove the example"
            )


def check_labels(loss: Loss, targets: Any, out_shape: tuple[int, ...], mask: Any = None) -> None:
    """Check that integer labels are within the range of the outputs, except where a mask (n, time) is False.

    Raises:
        ValueError: for the first label outside.
    """
    targets = _as_rows(targets)
    name, _ = loss_name_of(loss.function) or (None, {})
    if name != "cross_entropy" or not np.issubdtype(targets.dtype, np.integer) or not out_shape:
        return
    if targets.shape[1:] == out_shape:
        return
    mask = None if mask is None or targets.shape != np.shape(mask) else _as_rows(mask)
    for rows in chunks(targets):
        labels = targets[rows]
        outside = (labels < 0) | (labels >= out_shape[-1])
        if mask is not None:
            outside &= np.asarray(mask[rows], bool)
        if outside.any():
            row, *position = np.argwhere(outside)[0]
            raise ValueError(
                f"the label of example {rows.start + row} is {labels[row, *position]}, but the network has "
                f"{out_shape[-1]} outputs, for the classes 0 ... {out_shape[-1] - 1}"
            )


def _as_rows(x: Any) -> Rows:
    """Return device arrays and lists as NumPy arrays, and other rows unchanged, to be read in chunks."""
    return np.asarray(x) if isinstance(x, jax.Array | list | tuple) else x
