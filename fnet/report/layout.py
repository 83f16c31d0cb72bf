"""Layered layout of a graph: nodes in columns from left to right, with few crossings (Sugiyama et al., 1981)."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SWEEPS = 12
"""Number of times that the columns are ordered and aligned, alternately leftwards and rightwards."""


class Slot(NamedTuple):
    """A node in a column, or an edge that passes through the column.

    column: counted from the left, from 0.
    node: the node, or the source of a passing edge.
    target: the target of a passing edge; empty for a node.
    """

    column: int
    node: str
    target: str = ""


class Link(NamedTuple):
    """The part of an edge between neighboring columns; it ends `port` below the middle of its right slot."""

    left: Slot
    right: Slot
    port: float


Edge = tuple[str, str, int]
"""An edge as (operand, node, index of the operand)."""


class Layout(NamedTuple):
    """Positions of the nodes and edges of a graph.

    columns: the slots of each column, from top to bottom.
    middles: the vertical position of the middle of each slot, increasing downwards.
    routes: the links of each edge, from left to right.
    """

    columns: Sequence[Sequence[Slot]]
    middles: Mapping[Slot, float]
    routes: Mapping[Edge, Sequence[Link]]


def arrange(operands: Mapping[str, Sequence[str]], heights: Mapping[str, float], port: float, gap: float) -> Layout:
    """Place the nodes: columns by longest path, order within a column by the neighbors' mean, no overlaps.

    Args:
        operands: the operands of each node; every node comes after its operands, and the last is the result.
        heights: heights of the nodes; a passing edge is `gap` high.
        port: distance between two edges that end at one node.
        gap: distance between two slots of a column.

    >>> layout = arrange({"x": [], "y": ["x"], "z": ["x", "y"]}, {"x": 10, "y": 10, "z": 10}, 4, 4)
    >>> [[slot.node + "…" * bool(slot.target) for slot in column] for column in layout.columns]
    [['x'], ['x…', 'y'], ['z']]
    """
    routes = _routes(operands, port)
    links = [link for route in routes.values() for link in route]
    columns = _slots(operands, links)
    sizes = {slot: gap if slot.target else heights[slot.node] for column in columns for slot in column}
    incoming: dict[Slot, list[Link]] = {slot: [] for slot in sizes}
    outgoing: dict[Slot, list[Link]] = {slot: [] for slot in sizes}
    for link in links:
        incoming[link.right].append(link)
        outgoing[link.left].append(link)
    _order(columns, incoming, outgoing, 1 / (1 + max(heights.values())))
    return Layout(columns, _align(columns, incoming, outgoing, sizes, gap), routes)


def _routes(operands: Mapping[str, Sequence[str]], port: float) -> dict[Edge, list[Link]]:
    """Split every edge into links between neighboring columns."""
    column_of = _columns(operands)
    routes = {}
    for node, sources in operands.items():
        for position, source in enumerate(sources):
            between = range(column_of[source] + 1, column_of[node])
            start, end = Slot(column_of[source], source), Slot(column_of[node], node)
            stops = [start, *(Slot(column, source, node) for column in between), end]
            offset = port * (position - (len(sources) - 1) / 2)
            routes[source, node, position] = [
                Link(left, right, 0.0 if right.target else offset) for left, right in itertools.pairwise(stops)
            ]
    return routes


def _slots(operands: Mapping[str, Sequence[str]], links: Sequence[Link]) -> list[list[Slot]]:
    """List the slots of every column: nodes first, then passing edges."""
    nodes = [Slot(column, node) for node, column in _columns(operands).items()]
    columns: list[list[Slot]] = [[] for _ in range(max(slot.column for slot in nodes) + 1)]
    for slot in dict.fromkeys([*nodes, *(end for link in links for end in (link.left, link.right))]):
        columns[slot.column].append(slot)
    return columns


def _columns(operands: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the column of each node: right after its operands, or for a variable right before its first use."""
    columns: dict[str, int] = {}
    for node, sources in operands.items():
        columns[node] = 1 + max((columns[source] for source in sources), default=-1)
    for node, sources in operands.items():
        if not sources:
            users = (columns[user] for user, used in operands.items() if node in used)
            columns[node] = min(users, default=1) - 1
    return columns


Links = Mapping[Slot, Sequence[Link]]


def _order(columns: list[list[Slot]], incoming: Links, outgoing: Links, unit: float) -> None:
    """Sort every column by the mean rank of its slots' neighbors, several times; keep the order with fewest crossings.

    A port changes the rank of its node by less than one.
    """
    best, fewest = [list(members) for members in columns], _crossings(columns, outgoing, unit)
    for sweep in range(SWEEPS):
        rightwards = sweep % 2 == 1
        for column in range(len(columns)) if rightwards else reversed(range(len(columns))):
            rank = _ranks(columns[max(0, column - 1) : column + 2])
            mean = {}
            for slot in columns[column]:
                if rightwards:
                    neighbors = [rank[link.left] for link in incoming[slot]]
                else:
                    neighbors = [rank[link.right] + unit * link.port for link in outgoing[slot]]
                mean[slot] = sum(neighbors) / len(neighbors) if neighbors else rank[slot]
            columns[column].sort(key=mean.__getitem__)
        count = _crossings(columns, outgoing, unit)
        if count < fewest:
            best, fewest = [list(members) for members in columns], count
    columns[:] = best


def _ranks(columns: Sequence[Sequence[Slot]]) -> dict[Slot, float]:
    return {slot: float(number) for members in columns for number, slot in enumerate(members)}


def _crossings(columns: Sequence[Sequence[Slot]], outgoing: Links, unit: float) -> int:
    """Count the pairs of links that cross: sorted by their left ends, they are out of order at their right ends."""
    rank, count = _ranks(columns), 0
    for members in columns:
        ends: list[float] = []
        for slot in members:
            slot_ends = sorted(rank[link.right] + unit * link.port for link in outgoing[slot])
            count += sum(len(ends) - bisect.bisect_right(ends, end) for end in slot_ends)
            for end in slot_ends:
                bisect.insort(ends, end)
    return count


def _align(
    columns: Sequence[Sequence[Slot]], incoming: Links, outgoing: Links, sizes: Mapping[Slot, float], gap: float
) -> dict[Slot, float]:
    """Move every slot to where its links are horizontal on average, as far as order and distance allow."""
    middles = dict.fromkeys(sizes, 0.0)
    both_directions = [*range(len(columns)), *reversed(range(len(columns)))]
    for column in both_directions * (SWEEPS // 2):
        targets = []
        for slot in columns[column]:
            level = [middles[link.left] - link.port for link in incoming[slot]]
            level += [middles[link.right] + link.port for link in outgoing[slot]]
            targets.append(sum(level) / len(level) if level else 0.0)
        members = columns[column]
        middles.update(zip(members, _separate(targets, [sizes[slot] for slot in members], gap), strict=True))
    return middles


def _separate(targets: Sequence[float], heights: Sequence[float], gap: float) -> list[float]:
    """Return the positions closest to the targets, in least squares, that respect order and distance.

    With the distances subtracted, the positions only have to be nondecreasing, which is isotonic regression; it is
    solved by pooling adjacent violators.
    """
    offsets = [0.0]
    for above, below in itertools.pairwise(heights):
        offsets.append(offsets[-1] + (above + below) / 2 + gap)
    pools: list[tuple[float, int]] = []
    for target, offset in zip(targets, offsets, strict=True):
        pools.append((target - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (before, size) = pools.pop(), pools.pop()
            pools.append(((mean * count + before * size) / (count + size), count + size))
    starts = [mean for mean, count in pools for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
