"""Division of a dataset into training, validation and test parts."""

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from fnet.core.wording import printable, suggestion

PARTS = ("train", "validation", "test")

DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)
"""The parts of a source without splits of its own."""

_ROUNDING = 1e-9

SplitSizes = Sequence[tuple[str, int]]
"""Name and size of each of a source's own splits, in the order in which their examples are stored."""


class SplitError(ValueError):
    """A part of the data that is impossible.

    part: train, validation or test.
    """

    exit_status = 2

    def __init__(self, part: str, message: str):
        super().__init__(printable(f"data.split.{part}: {message}"))
        self.part = part


def divide(
    parts: Sequence[float | str],
    size: int,
    source_splits: SplitSizes = (),
    *,
    seed: int,
    classes: np.ndarray | None = None,
    ordered: bool = False,
) -> list[np.ndarray | slice]:
    """Return the example indices of each part: disjoint, and a pure function of the arguments.

    A part that names splits of the source consists of their examples, in their order. A part that is a fraction gets
    this fraction of the examples that no part names.

    Args:
        parts: fraction or names (`train`, `train[:90%]`, `train[1000:]+extra`) of the training, validation, test part.
        size: number of examples.
        source_splits: the source's own splits.
        seed: seed of the shuffle for fractions.
        classes: (size,) class indices by which fractions are stratified.
        ordered: cut fractions in order, neither shuffled nor stratified.

    Raises:
        SplitError: for a split that the source does not have, parts that overlap, or a part without examples.

    >>> divide(["train[:2]", "train[2:]", 0.5], 8, [("train", 4), ("extra", 4)], seed=0, ordered=True)
    [slice(0, 2, None), slice(2, 4, None), array([4, 5])]
    """
    sizes(parts, size, source_splits)
    ranges = _named(parts, source_splits)
    unnamed = _complement(ranges, size)
    fractions = [part for part in parts if not isinstance(part, str)]
    labels = None if classes is None else classes[unnamed]
    shares = (unnamed[part] for part in split_indices(len(unnamed), fractions, seed, labels, ordered=ordered))
    return [_indices(ranges[part]) if part in ranges else next(shares) for part in PARTS]


def sizes(parts: Sequence[float | str], size: int, source_splits: SplitSizes = ()) -> list[int]:
    """Return the number of examples in each part of `divide`, from the sizes of the splits alone.

    Raises:
        SplitError: as for `divide`.

    >>> sizes([0.9, 0.1, "test"], 70, [("train", 60), ("test", 10)])
    [54, 6, 10]
    """
    ranges = _named(parts, source_splits)
    unnamed = size - sum(len(r) for rs in ranges.values() for r in rs)
    fractions = [0.0 if isinstance(part, str) else part for part in parts]
    shares = np.diff(_cuts(fractions, unnamed), prepend=0).tolist()
    counts = [sum(map(len, ranges[part])) if part in ranges else shares[i] for i, part in enumerate(PARTS)]
    for part, requested, count in zip(PARTS, parts, counts, strict=True):
        if requested and not count:
            if isinstance(requested, str):
                raise SplitError(part, f"'{requested}' does not contain examples; enlarge it")
            examples = f"the {unnamed} examples" + ("" if unnamed == size else " that no other part names")
            fix = "enlarge it" if part == "train" else "enlarge it, or set it to 0"
            raise SplitError(part, f"the part would be empty: {requested:g} of {examples}; {fix}")
    return counts


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
    cuts = _cuts(fractions, size)
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


def default_parts(source_splits: SplitSizes) -> tuple[float | str, float | str, float | str]:
    """Return the default training, validation and test part: the source's own splits, else 0.8, 0.1 and 0.1.

    If the source has a test split but no validation split, a tenth of the other examples is used for validation.

    >>> default_parts([("train", 60_000), ("test", 10_000)])
    (0.9, 0.1, 'test')
    """
    names = [name for name, _ in source_splits]
    validation = next((name for name in ("validation", "val", "valid", "dev") if name in names), None)
    test = "test" if "test" in names else None
    if validation is None and test is None:
        return DEFAULT_FRACTIONS
    return (1.0, validation, test or 0.0) if validation else (0.9, 0.1, test or 0.0)


def _cuts(fractions: Sequence[float], size: int) -> np.ndarray:
    return np.round(np.cumsum(fractions) * size).astype(int)


def _named(parts: Sequence[float | str], source_splits: SplitSizes) -> dict[str, list[range]]:
    """Return the example indices of the parts that name splits."""
    ranges = {
        part: _ranges(part, text, source_splits)
        for part, text in zip(PARTS, parts, strict=True)
        if isinstance(text, str)
    }
    spans = sorted((r.start, PARTS.index(part), r.stop) for part, rs in ranges.items() for r in rs if len(r))
    for (_, first, stop), (start, second, _) in itertools.pairwise(spans):
        if start < stop:
            what = "counts some examples twice" if first == second else f"shares examples with '{PARTS[first]}'"
            raise SplitError(PARTS[second], f"the part {what}; make the slices disjoint")
    return ranges


def _ranges(part: str, text: str, source_splits: SplitSizes) -> list[range]:
    """Parse the text of a part into ranges of example indices."""
    starts = np.cumsum([0, *(size for _, size in source_splits)]).tolist()
    positions = {name: (start, size) for (name, size), start in zip(source_splits, starts, strict=False)}
    ranges = []
    for term in text.split("+"):
        match = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[\s*(-?\d{1,18}%?)?\s*:\s*(-?\d{1,18}%?)?\s*\])?\s*", term)
        if match is None:
            raise SplitError(
                part, f"expected splits such as train, train[:90%], train[1000:] or train+extra, got '{text}'"
            )
        name, low, high = match.groups()
        if name not in positions:
            near = suggestion(name, positions) if positions else "; it has no splits of its own, so give fractions"
            raise SplitError(part, f"the source has no split '{name}'{near}")
        start, size = positions[name]
        inner = range(size)[slice(_boundary(low, size), _boundary(high, size))]
        ranges.append(range(start + inner.start, start + max(inner.start, inner.stop)))
    return ranges


def _boundary(text: str | None, size: int) -> int | None:
    """Parse a boundary of a slice: a number of examples, or a percentage, rounded to the nearest example."""
    if text is None:
        return None
    return round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)


def _complement(ranges: Mapping[str, Sequence[range]], size: int) -> np.ndarray:
    """Return the indices outside all ranges."""
    free = np.ones(size, bool)
    for part in ranges.values():
        for r in part:
            free[r.start : r.stop] = False
    return np.flatnonzero(free)


def _indices(ranges: Sequence[range]) -> np.ndarray | slice:
    """Return the indices in the ranges; a single range as a slice, which avoids copies."""
    if len(ranges) == 1:
        return slice(ranges[0].start, ranges[0].stop)
    return np.concatenate([np.arange(r.start, r.stop) for r in ranges])


def _positions(classes: np.ndarray) -> np.ndarray:
    """Return (rank + 1/2) / n of every entry within its class of n entries, ranked by position."""
    _, labels, counts = np.unique(classes, return_inverse=True, return_counts=True)
    ranks = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.empty(len(classes))
    positions[np.argsort(labels, kind="stable")] = (ranks + 0.5) / np.repeat(counts, counts)
    return positions
