"""Division of a data set into training, validation and test parts."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnet.core.wording import suggestion

PARTS = ("train", "validation", "test")

Own = Sequence[tuple[str, int]]
"""A source's own splits and their sizes, in the order in which their examples lie."""


class SplitError(ValueError):
    """A part that cannot be as it was asked for.

    part: which.
    """

    exit_status = 2

    def __init__(self, part: str, message: str):
        super().__init__(f"data.split.{part}: {message}")
        self.part = part


def divide(
    parts: Sequence[float | str],
    size: int,
    own: Own = (),
    *,
    seed: int,
    classes: np.ndarray | None = None,
    ordered: bool = False,
) -> list[np.ndarray | slice]:
    """The example numbers of each part: disjoint, a pure function of the arguments.

    A part that names splits of the source consists of their examples, in their order. A part that is a fraction gets
    that share of the examples that no part names.

    Args:
        parts: fraction or names (`train`, `train[:90%]`, `train[1000:]+extra`) of the training, validation, test part.
        size: number of examples.
        own: the source's own splits.
        seed: of the shuffle behind fractions.
        classes: (size,) class numbers: fractions keep their shares.
        ordered: fractions are cut off in order, neither shuffled nor stratified.

    Raises:
        SplitError: for a split that the source does not have, a part that another overlaps, or one without examples.

    >>> divide(["train[:2]", "train[2:]", 0.5], 8, [("train", 4), ("extra", 4)], seed=0, ordered=True)
    [slice(0, 2, None), slice(2, 4, None), array([4, 5])]
    """
    sizes(parts, size, own)
    ranges = _named(parts, own)
    left = _complement(ranges, size)
    fractions = [part for part in parts if not isinstance(part, str)]
    within = split_indices(len(left), fractions, seed, None if classes is None else classes[left], ordered=ordered)
    shares = iter(left[chosen] for chosen in within)
    return [_numbers(ranges[part]) if part in ranges else next(shares) for part in PARTS]


def sizes(parts: Sequence[float | str], size: int, own: Own = ()) -> list[int]:
    """How many examples each part of `divide` gets, from the sizes of the splits alone.

    Raises:
        SplitError: as `divide`.

    >>> sizes([0.9, 0.1, "test"], 70, [("train", 60), ("test", 10)])
    [54, 6, 10]
    """
    ranges = _named(parts, own)
    left = size - sum(len(r) for rs in ranges.values() for r in rs)
    fractions = [0.0 if isinstance(part, str) else part for part in parts]
    shares = np.diff(_cuts(fractions, left), prepend=0).tolist()
    found = [sum(map(len, ranges[part])) if part in ranges else shares[i] for i, part in enumerate(PARTS)]
    for part, asked, number in zip(PARTS, parts, found, strict=True):
        if asked and not number:
            examples = f"the {left} examples" if left == size else f"the {left} examples that no other part names"
            if isinstance(asked, str):
                raise SplitError(part, f"'{asked}' holds no examples; enlarge it")
            mend = "enlarge it" if part == "train" else "enlarge it, or set it to 0"
            raise SplitError(part, f"the part would be empty: {asked:g} of {examples}; {mend}")
    return found


def split_indices(
    size: int, fractions: Sequence[float], seed: int, classes: np.ndarray | None = None, *, ordered: bool = False
) -> list[np.ndarray]:
    """The example numbers of fractions of the whole: disjoint, shuffled, a pure function of the arguments.

    With classes the split is stratified. Every example gets the position (rank + 1/2) / n within its class, in random
    order; the examples sorted by position are cut at the fractions, so that each part holds its share of every class,
    to within one example.

    Args:
        size: number of examples.
        fractions: of the parts; a sum below 1 leaves examples out.
        seed: of the shuffle.
        classes: (size,) class numbers, or None.
        ordered: whether to cut the examples as they lie, unshuffled.

    >>> parts = split_indices(10, [0.6, 0.4], seed=0, classes=np.array([0] * 5 + [1] * 5))
    >>> [sorted(np.bincount(np.array([0] * 5 + [1] * 5)[part]).tolist()) for part in parts]
    [[3, 3], [2, 2]]
    """
    cuts = _cuts(fractions, size)
    if ordered:
        return np.split(np.arange(size), cuts)[: len(cuts)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(size)
    if classes is not None:
        order = order[np.argsort(_positions(classes[order]), kind="stable")]
    return [rng.permutation(part) for part in np.split(order, cuts)[: len(cuts)]]


def default_parts(own: Own) -> tuple[float | str, float | str, float | str]:
    """Training, validation and test part when nobody says: the source's own, else eight, one and one tenth.

    Where the source has a split for tests and none for validation, a tenth of the others is for validation.

    >>> default_parts([("train", 60_000), ("test", 10_000)])
    (0.9, 0.1, 'test')
    """
    names = [name for name, _ in own]
    validation = next((name for name in ("validation", "val", "valid", "dev") if name in names), None)
    test = "test" if "test" in names else None
    if validation is None and test is None:
        return 0.8, 0.1, 0.1
    return (1.0, validation, test or 0.0) if validation else (0.9, 0.1, test or 0.0)


def _cuts(fractions: Sequence[float], size: int) -> np.ndarray:
    return np.round(np.cumsum(fractions) * size).astype(int)


def _named(parts: Sequence[float | str], own: Own) -> dict[str, list[range]]:
    """The example numbers of the parts that name splits."""
    named = [(part, asked) for part, asked in zip(PARTS, parts, strict=True) if isinstance(asked, str)]
    found = {part: _ranges(part, asked, own) for part, asked in named}
    spans = sorted((r.start, PARTS.index(part), r.stop) for part, ranges in found.items() for r in ranges if len(r))
    for (_, first, stop), (start, second, _) in itertools.pairwise(spans):
        if start < stop:
            what = "counts some examples twice" if first == second else f"shares examples with '{PARTS[first]}'"
            raise SplitError(PARTS[second], f"the part {what}; make the slices disjoint")
    return found


def _ranges(part: str, text: str, own: Own) -> list[range]:
    starts = np.cumsum([0, *(size for _, size in own)]).tolist()
    places = {name: (start, size) for (name, size), start in zip(own, starts, strict=False)}
    found = []
    for term in text.split("+"):
        match = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[\s*(-?\d+%?)?\s*:\s*(-?\d+%?)?\s*\])?\s*", term)
        if match is None:
            raise SplitError(part, f"'{text}' is no split; write train, train[:90%], train[1000:] or train+extra")
        name, low, high = match.groups()
        if name not in places:
            near = suggestion(name, places) if places else "; this source has none of its own: give fractions"
            raise SplitError(part, f"the source has no split '{name}'{near}")
        start, size = places[name]
        inner = range(size)[slice(_boundary(low, size), _boundary(high, size))]
        found.append(range(start + inner.start, start + max(inner.start, inner.stop)))
    return found


def _boundary(text: str | None, size: int) -> int | None:
    """A boundary of a slice: a number of examples, or percent of them rounded to the nearest."""
    if text is None:
        return None
    return round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)


def _complement(ranges: Mapping[str, Any], size: int) -> np.ndarray:
    free = np.ones(size, bool)
    for part in ranges.values():
        for r in part:
            free[r.start : r.stop] = False
    return np.flatnonzero(free)


def _numbers(ranges: Sequence[range]) -> np.ndarray | slice:
    """As a slice where that can be: it copies nothing."""
    if len(ranges) == 1:
        return slice(ranges[0].start, ranges[0].stop)
    return np.concatenate([np.arange(r.start, r.stop) for r in ranges])


def _positions(classes: np.ndarray) -> np.ndarray:
    """(rank + 1/2) / n of every entry among those of its class, in the order given."""
    positions = np.empty(len(classes))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        positions[members] = (np.arange(len(members)) + 0.5) / len(members)
    return positions
