"""Division of a dataset into training, validation and test parts."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnet.core.wording import format_value, printable, suggestion
from fnet.data.groups import group_indices, split_groups, split_in_order
from fnet.data.stratify import cuts_of, split_indices

PARTS = ("train", "validation", "test")

DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)
"""The parts of a source without splits of its own."""

SplitSizes = Sequence[tuple[str, int]]
"""Name and size of each of a source's own splits, in the order in which their examples are stored."""


class SplitError(ValueError):
    """A division of the data that is impossible.

    part: train, validation or test, or the rule that is impossible: group, by or cross_validation.
    """

    exit_status = 2

    def __init__(self, part: str, message: str):
        super().__init__(printable(f"data.split.{part}: {message}"))
        self.part = part


class Rules(NamedTuple):
    """Rules by which the examples that no part names are divided, beside the fractions.

    group: name of a column; examples with the same value are in the same part.
    by: name of a column in whose order the examples are cut, the training part first.
    stratify: whether every part has its share of every class, or of every tenth of a target value; by default for
        classes only.
    folds: number of folds of cross-validation, into which the training and validation part together are divided.
    fold: fold that is the validation part, from 1; None for every fold in turn, and for the first in a single division.
    """

    group: str | None = None
    by: str | None = None
    stratify: bool | None = None
    folds: int | None = None
    fold: int | None = None

    @property
    def column(self) -> str | None:
        """Name of the column by whose values the examples are divided, if any."""
        return self.group or self.by

    def fractions(self, parts: Sequence[float | str]) -> list[float]:
        """Return the fractions into which the examples that no part names are divided: of parts, or of folds.

        >>> Rules(folds=4).fractions((0.6, 0.2, 0.2))
        [0.2, 0.2, 0.2, 0.2, 0.2]
        """
        train, validation, test = (0.0 if isinstance(part, str) else float(part) for part in parts)
        if self.folds is None:
            return [train, validation, test]
        return [(train + validation) / self.folds] * self.folds + [test]

    def joined(self, shares: Sequence[Any]) -> list[list[Any]]:
        """Return the entries of the training, validation and test part, from one entry for each of `fractions`.

        >>> Rules(folds=3, fold=2).joined(["a", "b", "c", "d"])
        [['a', 'c'], ['b'], ['d']]
        """
        if self.folds is None:
            return [[share] for share in shares]
        *folds, test = shares
        validation = folds.pop((self.fold or 1) - 1)
        return [folds, [validation], [test]]


NO_RULES = Rules()


def divide(
    parts: Sequence[float | str],
    size: int,
    source_splits: SplitSizes = (),
    *,
    seed: int,
    classes: np.ndarray | None = None,
    ordered: bool = False,
    rules: Rules = NO_RULES,
    keys: np.ndarray | None = None,
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
        rules: further rules for fractions.
        keys: (size,) values of the column of the rules.

    Raises:
        DataError: for values of the column that do not have the order of its rule, or are missing.
        SplitError: for a split that the source does not have, parts that overlap, or a part without examples.

    >>> divide(["train[:2]", "train[2:]", 0.5], 8, [("train", 4), ("extra", 4)], seed=0, ordered=True)
    [slice(0, 2, None), slice(2, 4, None), array([4, 5])]
    """
    if rules.column is None:
        sizes(parts, size, source_splits, rules)
    ranges = _named(parts, source_splits)
    unnamed = _complement(ranges, size)
    fractions = rules.fractions(parts)
    labels = None if classes is None else classes[unnamed]
    groups = None
    if rules.group is not None:
        assert keys is not None
        groups = group_indices(keys, rules.group)
    if not any(fractions):
        shares = [unnamed[:0]] * len(fractions)
    elif groups is not None:
        _, numbers = np.unique(groups[unnamed], return_inverse=True)
        _refuse_too_few(parts, int(numbers.max(initial=-1)) + 1, rules)
        shares = split_groups(numbers, fractions, seed, labels)
    elif rules.by is not None:
        assert keys is not None
        values = keys[unnamed]
        _refuse_too_few(parts, len(np.unique(group_indices(values, rules.by))), rules)
        shares = split_in_order(values, rules.by, fractions)
    else:
        shares = split_indices(len(unnamed), fractions, seed, labels, ordered=ordered)
    joined = [np.concatenate(part) for part in rules.joined([unnamed[share] for share in shares])]
    rows = [_indices(ranges[part]) if part in ranges else joined[PARTS.index(part)] for part in PARTS]
    if groups is not None and ranges:
        _refuse_divided_groups(groups, keys, rows)
    return rows


def _refuse_too_few(parts: Sequence[float | str], different: int, rules: Rules) -> None:
    """Refuse a column with fewer different values than there are fractions.

    Raises:
        SplitError: for the last part that is a fraction, or for the number of folds.
    """
    needed = sum(fraction > 0 for fraction in rules.fractions(parts))
    if different >= needed:
        return
    if rules.folds is not None:
        other = needed - rules.folds
        beside = f" beside the test part, got {rules.folds}" if other else f", got {rules.folds}"
        most = f"at most {_folds(max(0, different - other))}, one per value of '{rules.column}'{beside}"
        raise SplitError("cross_validation", f"expected {most}; make it smaller")
    part = max(number for number, part in enumerate(parts) if part and not isinstance(part, str))
    values = f"{different} different value{'s' if different != 1 else ''}"
    fix = "divide by another column" if part == 0 else "set it to 0, or divide by another column"
    raise SplitError(PARTS[part], f"the part would be empty: the column '{rules.column}' has {values}; {fix}")


def _folds(number: int) -> str:
    return f"{number} fold{'s' if number != 1 else ''}"


def _refuse_divided_groups(groups: np.ndarray, keys: np.ndarray | None, rows: Sequence[np.ndarray | slice]) -> None:
    """Refuse parts that name splits of the source which divide a group.

    Raises:
        SplitError: for the rule group.
    """
    assert keys is not None
    for first, second in itertools.combinations(range(len(PARTS)), 2):
        shared = np.intersect1d(groups[rows[first]], groups[rows[second]])
        if len(shared):
            value = format_value(keys[np.argmax(groups == shared[0])].item() if hasattr(keys[0], "item") else keys[0])
            what = f"{value} is in the {PARTS[first]} and in the {PARTS[second]} part"
            raise SplitError("group", f"{what}, because splits of the source are named; give fractions instead")


def sizes(
    parts: Sequence[float | str], size: int, source_splits: SplitSizes = (), rules: Rules = NO_RULES
) -> list[int]:
    """Return the number of examples in each part of `divide`, from the sizes of the splits alone.

    They are only known if the rules do not divide by a column.

    Raises:
        SplitError: as for `divide`.

    >>> sizes([0.9, 0.1, "test"], 70, [("train", 60), ("test", 10)])
    [54, 6, 10]
    """
    ranges = _named(parts, source_splits)
    unnamed = size - sum(len(r) for rs in ranges.values() for r in rs)
    shares = np.diff(cuts_of(rules.fractions(parts), unnamed), prepend=0).tolist()
    if rules.folds is not None and not all(shares[: rules.folds]):
        most = f"at most {_folds(sum(shares[: rules.folds]))}, one per example"
        raise SplitError("cross_validation", f"expected {most}, got {rules.folds}; make it smaller")
    joined = [sum(part) for part in rules.joined(shares)]
    counts = [sum(map(len, ranges[part])) if part in ranges else joined[i] for i, part in enumerate(PARTS)]
    for part, requested, count in zip(PARTS, parts, counts, strict=True):
        if requested and not count:
            if isinstance(requested, str):
                raise SplitError(part, f"'{requested}' does not contain examples; enlarge it")
            examples = f"the {unnamed} examples" + ("" if unnamed == size else " that no other part names")
            fix = "enlarge it" if part == "train" else "enlarge it, or set it to 0"
            raise SplitError(part, f"the part would be empty: {requested:g} of {examples}; {fix}")
    return counts


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
