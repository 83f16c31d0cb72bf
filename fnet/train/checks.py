"""What only the host can refuse: in a compiled program a wrong label or index would give NaN, and no message."""

from typing import Any

import jax
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import indices_of
from fnet.data.arrays import Rows, chunks
from fnet.losses import Loss, identified


def check_examples(net: Layer, x: Any, mask: Any = None) -> None:
    """Refuses indices that the network has no place for, and sequences without any real step.

    Args:
        net: the network.
        x: examples (n, ...).
        mask: (n, time), True for real steps, if there is one.

    Raises:
        ValueError: with the first such example.

    >>> import fnet
    >>> check_examples(fnet.embedding(65, 8), np.array([[3, 64], [70, 0]]))
    Traceback (most recent call last):
        ...
    ValueError: example 1 holds the index 70, but the network begins with a layer for the indices 0 ... 64; make its
    size 71, or leave the index out
    """
    x = _rows(x)
    number = indices_of(net)
    if number is not None:
        if not np.issubdtype(x.dtype, np.integer):
            raise ValueError(
                f"the network begins with a layer for the indices 0 ... {number - 1}, but the examples are {x.dtype}; "
                "convert what are indices with x.astype(int), and put real numbers into a dense layer"
            )
        for rows in chunks(x):
            wrong = np.argwhere((x[rows] < 0) | (x[rows] >= number))
            if len(wrong):
                index = x[rows][tuple(wrong[0])]
                greatest = max(x[rows].max() for rows in chunks(x))
                mend = f"make its size {greatest + 1}, or leave" if index >= number else "leave"
                raise ValueError(
                    f"example {rows.start + wrong[0][0]} holds the index {index}, but the network begins with a layer "
                    f"for the indices 0 ... {number - 1}; {mend} the index out"
                )
    if mask is not None:
        mask = _rows(mask)
        if mask.shape != x.shape[:2]:
            raise ValueError(
                f"a mask says of every step of every example whether it is real: it must be {x.shape[:2]} for "
                f"examples {x.shape}, got {mask.shape}"
            )
        for rows in chunks(mask):
            empty = np.flatnonzero(~np.asarray(mask[rows], bool).any(axis=1))
            if len(empty):
                raise ValueError(
                    f"example {rows.start + empty[0]} has no real step: its row of the mask is False throughout; "
                    "leave the example out"
                )


def check_labels(loss: Loss, targets: Any, out_shape: tuple[int, ...], mask: Any = None) -> None:
    """Refuses integer labels that the outputs have no place for, but where a mask (n, time) leaves the label out.

    Raises:
        ValueError: with the first such label.
    """
    targets = _rows(targets)
    name, _ = identified(loss.function) or (None, {})
    if name != "cross_entropy" or not np.issubdtype(targets.dtype, np.integer) or not out_shape:
        return
    if targets.shape[1:] == out_shape:
        return
    mask = None if mask is None or targets.shape != np.shape(mask) else _rows(mask)
    for rows in chunks(targets):
        labels = targets[rows]
        outside = (labels < 0) | (labels >= out_shape[-1])
        if mask is not None:
            outside &= np.asarray(mask[rows], bool)
        if outside.any():
            row, *place = np.argwhere(outside)[0]
            raise ValueError(
                f"the label of example {rows.start + row} is {labels[row, *place]}, but the network has "
                f"{out_shape[-1]} outputs, for the classes 0 ... {out_shape[-1] - 1}"
            )


def _rows(x: Any) -> Rows:
    """Rows as they are, to be read in portions; what lies on a device, or in lists, as an array of NumPy."""
    return np.asarray(x) if isinstance(x, jax.Array | list | tuple) else x
