"""Checks of the data that run before training, because compiled code would silently produce NaN."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer, is_shape
from fnet.data.arrays import chunks, map_rows, rows_of
from fnet.data.stream import Stream
from fnet.losses import Loss, loss_name_of
from fnet.train.score import check_mask_type
from fnet.train.state import Examples


def check_examples(net: Layer, data: Examples | Stream, part: str = "train", *, scored: bool = True) -> None:
    """Check that a data set is complete, and that the network and the loss can take it.

    There must be at least one example, and as many targets, rows of the mask and weights. Indices must be within the
    range of the first layer, the mask must consist of booleans, and every sequence must have at least one real step.
    Weights must be finite, at least 0, and not all 0. Examples on the device are checked there.

    Args:
        net: the network.
        data: the data set.
        part: its name in the error messages: train or validation.
        scored: whether a loss compares the outputs with targets; an objective may do without targets.

    Raises:
        ValueError: for the first example that fails.

    >>> import fnet
    >>> check_examples(fnet.embedding(65, 8), Examples(np.array([[3, 64], [70, 0]]), np.zeros(2)))
    Traceback (most recent call last):
        ...
    ValueError: example 1 contains the index 70, but the first layer of the network takes the indices 0 ... 64; set its
    size to 71, or remove the index
    """
    _check_lengths(data, part, scored=scored)
    if data.mask is not None:
        _check_mask(data.mask, data.x)
    if isinstance(net.indices, int):
        _check_indices(data.x, net.indices, data.mask, "the first layer of the network")
    elif net.indices is not None:
        for name, size in net.indices.items():
            if size is not None:
                _check_indices(data.x[name], size, data.mask, f"the input '{name}' of the network")
    if data.weight is not None:
        _check_weights(data)


def _check_lengths(data: Examples | Stream, part: str, *, scored: bool) -> None:
    (size, *sizes), targets = ([len(rows) for rows in rows_of(tree)] for tree in (data.x, data.y))
    if scored and not targets:
        raise ValueError(
            f"{part}: the loss compares outputs with targets, but the examples have none; pass (x, y), or minimize an "
            "objective without targets"
        )
    if size == 0 or {size, *sizes, *targets} != {size}:
        counts = " and ".join(str(count) for count in dict.fromkeys([size, *sizes]))
        raise ValueError(
            f"{part}: expected at least one example and one target per example, got {counts} examples and "
            f"{' and '.join(str(count) for count in dict.fromkeys(targets)) or size} targets"
        )
    for name, values in (("mask", data.mask), ("weight", data.weight)):
        if values is not None and (len(values.shape) not in (1, 2) or len(values) != size):
            raise ValueError(f"{part}: {name}: expected the shape ({size},) or ({size}, time), got {values.shape}")


def _check_indices(x: Any, size: int, mask: Any, receiver: str) -> None:
    takes = f"{receiver} takes the indices 0 ... {size - 1}"
    if not np.issubdtype(x.dtype, np.integer):
        raise ValueError(
            f"{takes}, but the examples are {x.dtype}; convert indices with x.astype(int), and use a dense layer for "
            "real numbers"
        )
    outside = _first(lambda x, mask: _unmasked((x < 0) | (x >= size), mask), x, mask)
    if outside is not None:
        index, largest = np.asarray(x[outside[0]])[outside[1:]], max(int(x[rows].max()) for rows in chunks(x))
        fix = f"set its size to {largest + 1}, or remove" if index >= size else "remove"
        raise ValueError(f"example {outside[0]} contains the index {index}, but {takes}; {fix} the index")


def _check_mask(mask: Any, x: Any) -> None:
    check_mask_type(mask)
    shapes = [tuple(rows.shape[:2]) for rows in rows_of(x)]
    if len(mask.shape) == 2 and tuple(mask.shape) not in shapes:
        raise ValueError(
            f"expected a mask of shape {shapes[0]} for examples of shape "
            f"{map_rows(lambda rows: tuple(rows.shape), x)}, got {tuple(mask.shape)}"
        )
    if len(mask.shape) == 2:
        empty = _first(lambda mask: ~mask.any(axis=1), mask)
        if empty is not None:
            raise ValueError(
                f"example {empty[0]} has no real steps: its row of the mask is all False; remove the example"
            )
    elif not _any(lambda mask: mask, mask):
        raise ValueError("the mask is all False, so that no example counts; True stands for a real example")


def _check_weights(data: Examples | Stream) -> None:
    weight: Any = data.weight
    wrong = _first(lambda weight: ~((weight >= 0) & (weight < np.inf)), weight)
    if wrong is not None:
        value = np.asarray(weight[wrong[0]])[wrong[1:]]
        raise ValueError(
            f"the weight of example {wrong[0]} is {value}, but weights must be finite and at least 0; "
            "to leave out an example, use a mask"
        )
    if not _any(lambda weight: weight > 0, weight):
        raise ValueError("the weights are all 0, so that no example counts; at least one must be positive")


def check_labels(loss: Loss, data: Examples | Stream, out_shape: Any) -> None:
    """Check that integer labels are within the range of the outputs, except where masked or of weight 0.

    Raises:
        ValueError: for the first label outside.
    """
    targets = data.y
    if targets is None:
        return
    name, _ = loss_name_of(loss.function) or (None, {})
    if name != "cross_entropy" or isinstance(targets, dict | tuple) or not np.issubdtype(targets.dtype, np.integer):
        return
    if not out_shape or not is_shape(out_shape) or tuple(targets.shape[1:]) == out_shape:
        return

    def outside(labels: Any, mask: Any, weight: Any) -> Any:
        wrong = _unmasked((labels < 0) | (labels >= out_shape[-1]), mask)
        return wrong if weight is None else _unmasked(wrong, weight > 0)

    first = _first(outside, targets, data.mask, data.weight)
    if first is not None:
        raise ValueError(
            f"the label of example {first[0]} is {np.asarray(targets[first[0]])[first[1:]]}, but the network has "
            f"{out_shape[-1]} outputs, for the classes 0 ... {out_shape[-1] - 1}"
        )


def _unmasked(wrong: Any, mask: Any) -> Any:
    """Return where entries (n, ...) are wrong and not masked; a mask of steps (n, time) applies if there are steps."""
    if mask is None or mask.shape != wrong.shape[: len(mask.shape)]:
        return wrong
    return wrong & mask.reshape(*mask.shape, *[1] * (len(wrong.shape) - len(mask.shape)))


def _first(where: Callable[..., Any], *arrays: Any) -> tuple[int, ...] | None:
    """Return the position of the first True of a row-wise function of arrays of rows, some of which may be None.

    Arrays on the device are copied from there only if there is a True.
    """
    if any(isinstance(rows, jax.Array) for rows in arrays):
        if not _any(where, *arrays):
            return None
        arrays = tuple(None if rows is None else np.asarray(rows) for rows in arrays)
    for part in chunks(next(rows for rows in arrays if rows is not None)):
        found = np.argwhere(where(*(None if rows is None else rows[part] for rows in arrays)))
        if len(found):
            return (part.start + int(found[0][0]), *map(int, found[0][1:]))
    return None


def _any(where: Callable[..., Any], *arrays: Any) -> bool:
    """Return whether a row-wise function of arrays of rows is True anywhere."""
    if any(isinstance(rows, jax.Array) for rows in arrays):
        return bool(where(*(None if rows is None else _on_device(rows) for rows in arrays)).any())
    return _first(where, *arrays) is not None


def _on_device(rows: Any) -> jax.Array:
    """Return an array on the device; integers that its type cannot represent become the nearest ones that it can."""
    if not isinstance(rows, jax.Array) and rows.dtype.kind in "iu" and not np.can_cast(rows.dtype, np.int32):
        bounds = np.iinfo(np.int32)
        rows = np.clip(np.asarray(rows), bounds.min if rows.dtype.kind == "i" else 0, bounds.max).astype(np.int32)
    return jnp.asarray(rows)
