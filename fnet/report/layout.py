"""Where the nodes of a graph are drawn: in columns from left to right, with few crossings (Sugiyama et al., 1981)."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SWEEPS = 12
"""How often the columns are put in order and aligned, to the right and back."""


class Slot(NamedTuple):
    """A place in a column.

    column: counted from the left.
    node: the node that stands there, or that a passing edge comes from.
    towards: the node that a passing edge goes to; empty for a node.
    """

    column: int
    node: str
    towards: str = ""


class Link(NamedTuple):
    """A piece of an edge between neighboring columns; it ends `port` below the middle of its right end."""

    left: Slot
    right: Slot
    port: float


class Layout(NamedTuple):
    """A drawing's plan.

    columns: the slots of each, from top to bottom.
    middles: the height at which the middle of each slot lies, downwards.
    routes: the links of each edge, which is (from, to, which operand of it).
    """

    columns: Sequence[Sequence[Slot]]
    middles: Mapping[Slot, float]
    routes: Mapping[tuple[str, str, int], Sequence[Link]]


def arrange(operands: Mapping[str, Sequence[str]], heights: Mapping[str, float], port: float, gap: float) -> Layout:
    """Columns by the longest path, order by the mean of the neighbors, heights without overlap.

    Args:
        operands: what each node is made of; operands come before what is made of them, and the result is the last.
        heights: of the nodes; an edge that passes by is `gap` high.
        port: between two edges that end at one node.
        gap: between two slots of a column.

    >>> layout = arrange({"x": [], "y": ["x"], "z": ["x", "y"]}, {"x": 10, "y": 10, "z": 10}, 4, 4)
    >>> [[slot.node + "…" * bool(slot.towards) for slot in column] for column in layout.columns]
    [['x'], ['x…', 'y'], ['z']]
    """
    place = {node: Slot(column, node) for node, column in _columns(operands).items()}
    routes = {}
    for node, makers in operands.items():
        for position, maker in enumerate(makers):
            between = range(place[maker].column + 1, place[node].column)
            stops = [place[maker], *(Slot(column, maker, node) for column in between), place[node]]
            end = port * (position - (len(makers) - 1) / 2)
            routes[maker, node, position] = [
                Link(left, right, 0.0 if right.towards else end) for left, right in itertools.pairwise(stops)
            ]
    links = [link for route in routes.values() for link in route]
    columns: list[list[Slot]] = [[] for _ in range(max(slot.column for slot in place.values()) + 1)]
    for slot in dict.fromkeys([*place.values(), *(end for link in links for end in (link.left, link.right))]):
        columns[slot.column].append(slot)
    size = {slot: gap if slot.towards else heights[slot.node] for column in columns for slot in column}
    into: dict[Slot, list[Link]] = {slot: [] for slot in size}
    out_of: dict[Slot, list[Link]] = {slot: [] for slot in size}
    for link in links:
        into[link.right].append(link)
        out_of[link.left].append(link)
    _order(columns, into, out_of, 1 / (1 + max(heights.values())))
    return Layout(columns, _align(columns, into, out_of, size, gap), routes)


def _columns(operands: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Each node right after its operands; a node without any right before the first that uses it."""
    columns: dict[str, int] = {}
    for node, makers in operands.items():
        columns[node] = 1 + max((columns[maker] for maker in makers), default=-1)
    for node, makers in operands.items():
        if not makers:
            columns[node] = min((columns[user] for user, its in operands.items() if node in its), default=1) - 1
    return columns


Links = Mapping[Slot, Sequence[Link]]


def _order(columns: list[list[Slot]], into: Links, out_of: Links, unit: float) -> None:
    """Sorts every column by the mean rank of what its slots are linked to, again and again; the best order is kept.

    A port moves the rank of its node by less than one.
    """
    best, fewest = [list(members) for members in columns], _crossings(columns, out_of, unit)
    for sweep in range(SWEEPS):
        rightwards = sweep % 2 == 1
        for column in range(len(columns)) if rightwards else reversed(range(len(columns))):
            rank = _ranks(columns[max(0, column - 1) : column + 2])
            mean = {}
            for slot in columns[column]:
                if rightwards:
                    around = [rank[link.left] for link in into[slot]]
                else:
                    around = [rank[link.right] + unit * link.port for link in out_of[slot]]
                mean[slot] = sum(around) / len(around) if around else rank[slot]
            columns[column].sort(key=mean.__getitem__)
        count = _crossings(columns, out_of, unit)
        if count < fewest:
            best, fewest = [list(members) for members in columns], count
    columns[:] = best


def _ranks(columns: Sequence[Sequence[Slot]]) -> dict[Slot, float]:
    return {slot: float(number) for members in columns for number, slot in enumerate(members)}


def _crossings(columns: Sequence[Sequence[Slot]], out_of: Links, unit: float) -> int:
    """How many pairs of links cross: of links sorted by their left ends, those out of order at the right."""
    rank, count = _ranks(columns), 0
    for members in columns:
        ends: list[float] = []
        for slot in members:
            own = sorted(rank[link.right] + unit * link.port for link in out_of[slot])
            count += sum(len(ends) - bisect.bisect_right(ends, end) for end in own)
            for end in own:
                bisect.insort(ends, end)
    return count


def _align(
    columns: Sequence[Sequence[Slot]], into: Links, out_of: Links, size: Mapping[Slot, float], gap: float
) -> dict[Slot, float]:
    """Moves every slot to where its links are level on average, as far as order and distance allow."""
    middles = dict.fromkeys(size, 0.0)
    there_and_back = [*range(len(columns)), *reversed(range(len(columns)))]
    for column in there_and_back * (SWEEPS // 2):
        wanted = []
        for slot in columns[column]:
            level = [middles[link.left] - link.port for link in into[slot]]
            level += [middles[link.right] + link.port for link in out_of[slot]]
            wanted.append(sum(level) / len(level) if level else 0.0)
        members = columns[column]
        middles.update(zip(members, _apart(wanted, [size[slot] for slot in members], gap), strict=True))
    return middles


def _apart(wanted: Sequence[float], heights: Sequence[float], gap: float) -> list[float]:
    """The places nearest to the wanted ones, in least squares, that keep order and distance.

    With the distances taken off, the places need only not decrease: isotonic regression by pooling neighbors.
    """
    offsets = [0.0]
    for above, below in itertools.pairwise(heights):
        offsets.append(offsets[-1] + (above + below) / 2 + gap)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        pools.append((place - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (before, size) = pools.pop(), pools.pop()
            pools.append(((mean * count + before * size) / (count + size), count + size))
    starts = [mean for mean, count in pools for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
