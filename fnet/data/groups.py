"""Division of examples by a column: whole groups, or cuts in the order of the column."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fnet.core.wording import format_value
from fnet.data.source import DataError
from fnet.data.stratify import cuts_of

MAX_PAIRS = 1 << 22
"""Maximum number of pairs of groups among which exchanges are tried; with more, single groups are precise enough."""

FEW_GROUPS = 100
"""Maximum number of groups for which the search starts from several assignments, of which the best result is used."""

STARTS = 20
"""Number of assignments that the search then starts from."""

_IMPROVEMENT = 1e-9
"""Decrease of the deviation below which a move is not made."""


class _Counts(NamedTuple):
    """Examples of each group in each class, as a sparse matrix, whose last column counts all examples of a group.

    group, column: (entries,) index of the group and of the column, sorted by group.
    number: (entries,) number of examples.
    starts: (groups + 1,) position of the first entry of each group.
    totals: (columns,) sum of each column.
    weights: (columns,) weight of a squared deviation: 1 / total of a class; all classes together weigh as much as size.
    """

    group: np.ndarray
    column: np.ndarray
    number: np.ndarray
    starts: np.ndarray
    totals: np.ndarray
    weights: np.ndarray


def group_indices(keys: np.ndarray, name: str) -> np.ndarray:
    """Return the index of the group of each example, from 0, in order of first appearance.

    Args:
        keys: (size,) values of a column; equal values are one group.
        name: name of the column.

    Raises:
        DataError: for a missing value.

    >>> group_indices(np.array(["b", "a", "b"]), "patient").tolist()
    [0, 1, 0]
    """
    import pandas as pd

    groups, _ = pd.factorize(np.asarray(keys, object) if keys.dtype.kind == "U" else keys)
    _refuse_missing(groups < 0, name)
    return groups


def split_in_order(keys: np.ndarray, name: str, fractions: Sequence[float]) -> list[np.ndarray]:
    """Split indices into consecutive parts by fractions in the order of a column.

    Examples with equal values are in the same part: a cut is made between the two different values that are nearest to
    its fraction, and no part with a fraction is empty.

    Args:
        keys: (size,) values of the column: numbers, dates, or text with dates in ISO 8601.
        name: name of the column.
        fractions: fraction of each part; if they sum to less than 1, the last examples are in no part.

    Raises:
        DataError: for a missing value, or one that is neither a number nor a date.
        ValueError: when there are fewer different values than parts.

    >>> [part.tolist() for part in split_in_order(np.array([3, 1, 2, 2, 2]), "year", [0.5, 0.25, 0.25])]
    [[1], [2, 3, 4], [0]]
    """
    numbers = _numbers(keys, name)
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    boundaries = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(order))
    used = np.flatnonzero(np.asarray(fractions) > 0)
    if len(boundaries) < len(used):
        raise ValueError(f"{len(boundaries)} different values cannot be divided into {len(used)} parts")
    starts, stops = np.zeros(len(fractions), int), np.zeros(len(fractions), int)
    cuts, first = cuts_of(fractions, len(order)), 0
    for position, part in enumerate(used):
        last = len(boundaries) - (len(used) - position)
        nearest = int(np.argmin(np.abs(boundaries - cuts[part])))
        chosen = min(max(nearest, first), last)
        starts[part] = boundaries[first - 1] if first else 0
        stops[part] = boundaries[chosen]
        first = chosen + 1
    return [order[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _numbers(keys: np.ndarray, name: str) -> np.ndarray:
    """Return the values of a column as numbers or dates, whose order is that of time.

    Raises:
        DataError: for a missing value, or one that is neither a number nor a date.
    """
    import pandas as pd

    _refuse_missing(np.asarray(pd.isna(keys)), name)
    if keys.dtype.kind in "biufM":
        return keys
    numbers = np.asarray(pd.to_numeric(pd.Series(keys), errors="coerce"))
    if not np.isnan(numbers).any():
        return numbers
    dates = np.asarray(pd.to_datetime(pd.Series(keys), format="ISO8601", utc=True, errors="coerce"), "datetime64[ns]")
    if not np.isnat(dates).any():
        return dates
    neither = np.isnan(numbers) & np.isnat(dates)
    example = int(np.argmax(neither if neither.any() else np.isnat(dates)))
    received = f"got {format_value(str(keys[example]))} for example {example}"
    received += "" if neither.any() else ", but dates for others"
    raise DataError(f"expected numbers or dates such as 2024-01-31 in the column '{name}', {received}", "split")


def _refuse_missing(missing: np.ndarray, name: str) -> None:
    if missing.any():
        example = int(np.argmax(missing))
        what = f"example {example} does not have a value in the column '{name}'"
        raise DataError(f"{what}, by which the data is divided; fill it in, or remove the example", "split")


def split_groups(
    groups: np.ndarray, fractions: Sequence[float], seed: int, classes: np.ndarray | None = None
) -> list[np.ndarray]:
    """Split indices into parts by fractions, such that the examples of a group are all in the same part.

    The parts approximate a minimum of the deviation from their shares, sum over parts of 1/f (sum over classes of
    (n_c - f N_c)^2 / N_c + K (n - f N)^2 / N), where f is the fraction of a part, n and n_c its numbers of examples in
    total and in class c, N and N_c those of the dataset, and K the number of classes. The groups, large ones first,
    each go to the part in which the deviation grows least; then groups move to another part, or change places with one
    of another part, as long as the deviation decreases. Few groups are assigned in several random orders as well, and
    the best result counts. No part with a fraction is empty.

    Args:
        groups: (size,) index of the group of each example, from 0.
        fractions: fraction of each part; if they sum to less than 1, some groups are in no part.
        seed: seed of the order of groups of equal size, and of the examples in a part.
        classes: (size,) class indices by which the parts are stratified, or None.

    Raises:
        ValueError: when there are fewer groups than parts.

    >>> parts = split_groups(np.array([0, 0, 0, 0, 1, 2, 2, 3, 3, 3]), [0.7, 0.3], seed=0)
    >>> [sorted(part.tolist()) for part in parts]
    [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9]]
    """
    rng = np.random.default_rng(seed)
    rest = 1 - sum(fractions)
    shares = np.array([*fractions, *([rest] if rest > _IMPROVEMENT else [])])
    used = np.flatnonzero(shares > 0)
    counts = _count(groups, classes)
    number = len(counts.starts) - 1
    if number < np.count_nonzero(np.asarray(fractions) > 0):
        raise ValueError(f"{number} groups cannot be divided into {np.count_nonzero(fractions)} parts")
    required = np.flatnonzero(used < len(fractions))
    sizes = np.bincount(groups, minlength=number)
    order = rng.permutation(number)
    orders = [order[np.argsort(-sizes[order], kind="stable")]]
    if number <= FEW_GROUPS:
        orders += [rng.permutation(number) for _ in range(STARTS)]
    part_of = min(
        (_search(counts, shares[used], order, sizes, required) for order in orders),
        key=lambda part_of: _deviation(counts, shares[used], part_of).round(9),
    )
    part_of_example = used[part_of][groups]
    return [rng.permutation(np.flatnonzero(part_of_example == part)) for part in range(len(fractions))]


def _search(
    counts: _Counts, shares: np.ndarray, order: np.ndarray, sizes: np.ndarray, required: np.ndarray
) -> np.ndarray:
    """Return the part of each group: assigned in an order, then improved, without required parts that are empty."""
    part_of, deviations = _assign(counts, shares, order)
    _improve(counts, shares, part_of, deviations)
    _fill_empty(sizes, part_of, required)
    return part_of


def _deviation(counts: _Counts, shares: np.ndarray, part_of: np.ndarray) -> np.float64:
    """Return the deviation that `split_groups` minimizes."""
    numbers = np.zeros((len(shares), len(counts.totals)))
    np.add.at(numbers, (part_of[counts.group], counts.column), counts.number)
    return np.sum(np.square(numbers - np.outer(shares, counts.totals)) * counts.weights / shares[:, None])


def _count(groups: np.ndarray, classes: np.ndarray | None) -> _Counts:
    """Count the examples of each group in each class."""
    labels = np.zeros(len(groups), int) if classes is None else np.unique(classes, return_inverse=True)[1]
    width = int(labels.max(initial=0)) + 1
    columns = groups.astype(np.int64) * (width + 1) + labels
    if classes is not None:
        columns = np.concatenate([columns, groups.astype(np.int64) * (width + 1) + width])
    entries, number = np.unique(columns, return_counts=True)
    group, column = entries // (width + 1), entries % (width + 1)
    totals = np.bincount(column, number, minlength=width + 1 if classes is not None else width)
    weights = 1 / np.maximum(totals, 1)
    if classes is not None:
        weights[-1] *= width
    starts = np.searchsorted(group, np.arange(int(groups.max(initial=-1)) + 2))
    return _Counts(group, column, number.astype(float), starts, totals, weights)


def _assign(counts: _Counts, shares: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign every group, in order, to the part in which the deviation grows least.

    Returns:
        The part of each group, and the deviations (parts, columns) of the numbers of examples from the shares.
    """
    deviations = -np.outer(shares, counts.totals)
    part_of = np.empty(len(order), int)
    inverse = 1 / shares
    for group in order:
        entries = slice(counts.starts[group], counts.starts[group + 1])
        columns, number = counts.column[entries], counts.number[entries]
        growth = (2 * deviations[:, columns] + number) @ (number * counts.weights[columns]) * inverse
        part = int(np.argmin(growth))
        part_of[group] = part
        deviations[part, columns] += number
    return part_of, deviations


def _improve(counts: _Counts, shares: np.ndarray, part_of: np.ndarray, deviations: np.ndarray) -> None:
    """Move single groups, or exchange two, in place, as long as the deviation decreases."""
    size = len(part_of)
    everyone = np.arange(size)
    products = _products(counts, size) if size * size <= MAX_PAIRS else None
    while True:
        gains = _gains(counts, shares, part_of, deviations, size)
        group, part = np.unravel_index(np.argmin(gains), gains.shape)
        moves = [(int(group), int(part))]
        gain = gains[group, part]
        if gain > -_IMPROVEMENT and products is not None:
            there = gains[everyone[:, None], part_of[None, :]]  # group i goes to the part of group j
            inverse = 1 / shares[part_of]
            pairs = there + there.T - 2 * products * (inverse[:, None] + inverse[None, :])
            pairs[part_of[:, None] == part_of[None, :]] = 0
            first, second = np.unravel_index(np.argmin(pairs), pairs.shape)
            gain = pairs[first, second]
            moves = [(int(first), int(part_of[second])), (int(second), int(part_of[first]))]
        if gain > -_IMPROVEMENT:
            return
        for group, part in moves:
            entries = slice(counts.starts[group], counts.starts[group + 1])
            deviations[part_of[group], counts.column[entries]] -= counts.number[entries]
            deviations[part, counts.column[entries]] += counts.number[entries]
            part_of[group] = part


def _gains(counts: _Counts, shares: np.ndarray, part_of: np.ndarray, deviations: np.ndarray, size: int) -> np.ndarray:
    """Return the change of the deviation (groups, parts) when a group moves to a part; 0 for the part it is in."""
    weighted = counts.number * counts.weights[counts.column]
    owner = part_of[counts.group]
    leaving = weighted * (counts.number - 2 * deviations[owner, counts.column]) / shares[owner]
    left = np.bincount(counts.group, leaving, minlength=size)
    gains = np.empty((size, len(shares)))
    for part, share in enumerate(shares):
        arriving = weighted * (counts.number + 2 * deviations[part, counts.column]) / share
        gains[:, part] = left + np.bincount(counts.group, arriving, minlength=size)
    gains[np.arange(size), part_of] = 0
    return gains


def _products(counts: _Counts, size: int) -> np.ndarray:
    """Return the weighted inner products (groups, groups) of the counts of two groups."""
    from scipy.sparse import csr_array

    scaled = counts.number * np.sqrt(counts.weights[counts.column])
    matrix = csr_array((scaled, counts.column, counts.starts), shape=(size, len(counts.totals)))
    return (matrix @ matrix.T).toarray()


def _fill_empty(sizes: np.ndarray, part_of: np.ndarray, required: np.ndarray) -> None:
    """Move the smallest group of the part with the most groups into each required part that is empty, in place."""
    for part in required:
        if not (part_of == part).any():
            largest = np.argmax(np.bincount(part_of))
            candidates = np.flatnonzero(part_of == largest)
            part_of[candidates[np.argmin(sizes[candidates])]] = part
