"""What only the host can refuse: in a compiled program a wrong label or index would give NaN, and no message."""

from typing import Any

import numpy as np

from fnet.description import Layer, indices_of
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
    number = indices_of(net)
    if number is not None:
        x = np.asarray(x)
        if not np.issubdtype(x.dtype, np.integer):
            raise ValueError(
                f"the network begins with a layer for the indices 0 ... {number - 1}, but the examples are {x.dtype}; "
                "convert what are indices with x.astype(int), and put real numbers into a dense layer"
            )
        wrong = np.argwhere((x < 0) | (x >= number))
        if len(wrong):
            index = x[tuple(wrong[0])]
            mend = f"make its size {x.max() + 1}, or leave" if index >= number else "leave"
            raise ValueError(
                f"example {wrong[0][0]} holds the index {index}, but the network begins with a layer for the indices "
                f"0 ... {number - 1}; {mend} the index out"
            )
    if mask is not None:
        if np.shape(mask) != np.shape(x)[:2]:
            raise ValueError(
                f"a mask says of every step of every example whether it is real: it must be {np.shape(x)[:2]} for "
                f"examples {np.shape(x)}, got {np.shape(mask)}"
            )
        empty = np.flatnonzero(~np.asarray(mask, bool).any(axis=1))
        if len(empty):
            raise ValueError(
                f"example {empty[0]} has no real step: its row of the mask is False throughout; leave the example out"
            )


def check_labels(loss: Loss, targets: Any, out_shape: tuple[int, ...], mask: Any = None) -> None:
    """Refuses integer labels that the outputs have no place for, but where a mask (n, time) leaves the label out.

    Raises:
        ValueError: with the first such label.
    """
    targets = np.asarray(targets)
    name, _ = identified(loss.function) or (None, {})
    if name != "cross_entropy" or not np.issubdtype(targets.dtype, np.integer) or not out_shape:
        return
    if targets.shape[1:] == out_shape:
        return
    outside = (targets < 0) | (targets >= out_shape[-1])
    if mask is not None and outside.shape == np.shape(mask):
        outside &= np.asarray(mask, bool)
    if outside.any():
        first = tuple(np.argwhere(outside)[0])
        raise ValueError(
            f"the label of example {first[0]} is {targets[first]}, but the network has {out_shape[-1]} "
            f"outputs, for the classes 0 ... {out_shape[-1] - 1}"
        )
