"""Stratified division: parts in which every class, or every range of target values, has its share."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fnet.data.source import DataError, Targets

_ROUNDING = 1e-9

BINS = 10
"""Maximum number of ranges of target values, between quantiles, by which values are stratified."""

PER_BIN = 5
"""Number of examples per range below which there are fewer ranges."""


def split_indices(
    size: int, fractions: Sequence[float], seed: int, classes: np.ndarray | None = None, *, ordered: bool = False
) -> list[np.ndarray]:
    """Split indices into parts by fractions: disjoint, shuffled, and a pure function of the arguments.

    With classes, the split is stratified: each part contains its fraction of all examples and of every class, to within
    one example. Every example gets the position (rank + 1/2) / n within its class, in random order, and the examples
    sorted by position are cut at the fractions. Where the number of examples of a class in a part then differs from its
    share by more than one, examples of several classes change places.

    Args:
        size: number of examples.
        fractions: fraction of each part; if they sum to less than 1, some examples are in no part.
        seed: seed of the shuffle.
        classes: (size,) class indices, or None.
        ordered: cut the examples in order, unshuffled.

    >>> parts = split_indices(10, [0.6, 0.4], seed=0, classes=np.array([0] * 5 + [1] * 5))
    >>> [sorted(np.bincount(np.array([0] * 5 + [1] * 5)[part]).tolist()) for part in parts]
    [[3, 3], [2, 2]]
    """
    cuts = cuts_of(fractions, size)
    if ordered:
        return np.split(np.arange(size), cuts)[: len(cuts)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(size)
    if classes is None:
        return [rng.permutation(part) for part in np.split(order, cuts)[: len(cuts)]]
    order = order[np.argsort(_positions(classes[order]), kind="stable")]
    part_of = _stratified(classes[order], np.diff(cuts, prepend=0, append=size), fractions)
    return [rng.permutation(order[part_of == part]) for part in range(len(fractions))]


def _stratified(classes: np.ndarray, part_sizes: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Return the part of every example: consecutive parts of these sizes, in which the classes are then balanced.

    Args:
        classes: (size,) classes of the examples.
        part_sizes: sizes of the parts, the last of which consists of the examples that are in no part.
        fractions: fraction of each part but the last.
    """
    _, labels, sizes_of_classes = np.unique(classes, return_inverse=True, return_counts=True)
    counts = np.zeros((len(sizes_of_classes), len(part_sizes)), int)
    np.add.at(counts, (labels, np.repeat(np.arange(len(part_sizes)), part_sizes)), 1)
    _balance(counts, np.outer(sizes_of_classes, [*fractions, 1 - sum(fractions)]))
    part_of = np.empty(len(classes), int)
    part_of[np.argsort(labels, kind="stable")] = np.repeat(
        np.tile(np.arange(len(part_sizes)), len(counts)), counts.flat
    )
    return part_of


def _balance(counts: np.ndarray, shares: np.ndarray) -> None:
    """Change counts (classes, parts) in place so that each is within one of its share, with the same sums.

    An example leaves a part for another one, from which an example of another class leaves in turn, until a part is
    reached whose loss or gain this makes good: a cycle of the flow network whose edges are the counts (Ahuja, Magnanti
    and Orlin, "Network flows", 1993). Every cycle removes one from the counts that are out of bounds.
    """
    low, high = np.maximum(0, np.ceil(shares - 1 - _ROUNDING)), np.floor(shares + 1 + _ROUNDING)
    while True:
        wrong = np.argwhere((counts > high) | (counts < low))
        if not any(_exchange(counts, low, high, label, part) for label, part in wrong):
            return


def _exchange(counts: np.ndarray, low: np.ndarray, high: np.ndarray, label: int, part: int) -> bool:
    """Bring one count closer to its bounds by a cycle of moves; return whether there is one."""
    many = counts[label, part] > high[label, part]
    parts = range(counts.shape[1])
    for other in parts:
        start, stop = (part, other) if many else (other, part)
        if other == part or not _may_move(counts, low, high, start, stop)[label]:
            continue
        paths = [[stop]]
        while paths and paths[0][-1] != start:
            path = paths.pop(0)
            free = [p for p in parts if p not in path and _may_move(counts, low, high, path[-1], p).any()]
            paths += [[*path, p] for p in free]
        if paths:
            moves = [(label, start, stop)]
            for p, q in itertools.pairwise(paths[0]):
                moves.append((int(np.argmax(_may_move(counts, low, high, p, q))), p, q))
            for moved, p, q in moves:
                counts[moved, p] -= 1
                counts[moved, q] += 1
            return True
    return False


def _may_move(counts: np.ndarray, low: np.ndarray, high: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the classes (classes,) of which an example may leave a part for another one."""
    return (counts[:, start] > low[:, start]) & (counts[:, stop] < high[:, stop])


def cuts_of(fractions: Sequence[float], size: int) -> np.ndarray:
    """Return where consecutive parts of these fractions end, rounded to whole examples."""
    return np.round(np.cumsum(fractions) * size).astype(int)


def strata(targets: Targets, stratify: bool | None, y: Callable[[], np.ndarray]) -> np.ndarray | None:
    """Return the class indices (n,) by which examples are stratified; None if they are not.

    Args:
        targets: description of the targets.
        stratify: by default, only examples with one class each are stratified. With True, examples with a value are
            stratified by `quantile_bins`, and those with several labels by their combination.
        y: returns the targets (n, ...).

    Raises:
        DataError: when there is no single target by which to stratify.
    """
    if stratify is False:
        return None
    if targets.kind == "classes" and not targets.shape:
        return np.asarray(y())
    if not stratify:
        return None
    if targets.shape or (targets.kind == "values" and targets.number > 1):
        raise DataError(f"split.stratify: expected one target per example, got {targets}; remove the key", "split")
    values = np.asarray(y())
    if targets.kind == "labels":
        return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    return quantile_bins(values.reshape(-1))


def quantile_bins(values: np.ndarray) -> np.ndarray:
    """Return the number of the range between two quantiles that each value falls in; equal values have the same range.

    There are 10 ranges of equally many values (deciles), or fewer with less than 50 values.

    >>> quantile_bins(np.array([5.0, 1.0, 2.0, 8.0, 3.0, 4.0, 6.0, 7.0, 9.0, 0.0])).tolist()
    [1, 0, 0, 1, 0, 0, 1, 1, 1, 0]
    """
    bins = max(1, min(BINS, len(values) // PER_BIN))
    return np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")


def _positions(classes: np.ndarray) -> np.ndarray:
    """Return (rank + 1/2) / n of every entry within its class of n entries, ranked by position."""
    _, labels, counts = np.unique(classes, return_inverse=True, return_counts=True)
    ranks = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.empty(len(classes))
    positions[np.argsort(labels, kind="stable")] = (ranks + 0.5) / np.repeat(counts, counts)
    return positions
