"""Division of a data set into training, validation and test parts."""

from collections.abc import Sequence

import numpy as np


def split_indices(
    size: int, fractions: Sequence[float], seed: int, classes: np.ndarray | None = None
) -> list[np.ndarray]:
    """The example numbers of each part: disjoint, shuffled, a pure function of the arguments.

    With classes the split is stratified. Every example gets the position (rank + 1/2) / n within its class, in random
    order; the examples sorted by position are cut at the fractions, so that each part holds its share of every class,
    to within one example.

    Args:
        size: number of examples.
        fractions: of the parts; a sum below 1 leaves examples out.
        seed: of the shuffle.
        classes: (size,) class numbers, or None.

    >>> parts = split_indices(10, [0.6, 0.4], seed=0, classes=np.array([0] * 5 + [1] * 5))
    >>> [sorted(np.bincount(np.array([0] * 5 + [1] * 5)[part]).tolist()) for part in parts]
    [[3, 3], [2, 2]]
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(size)
    if classes is not None:
        order = order[np.argsort(_positions(classes[order]), kind="stable")]
    cuts = np.round(np.cumsum(fractions) * size).astype(int)
    return [rng.permutation(part) for part in np.split(order, cuts)[: len(cuts)]]


def _positions(classes: np.ndarray) -> np.ndarray:
    """(rank + 1/2) / n of every entry among those of its class, in the order given."""
    positions = np.empty(len(classes))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        positions[members] = (np.arange(len(members)) + 0.5) / len(members)
    return positions
