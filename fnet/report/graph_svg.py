"""Drawing of a computational graph: values above the edges, messages of the backward pass below them."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from fnet.report.layout import Edge, Link, Slot, arrange
from fnet.report.trace import heading, number
from fnet.trace.result import NodeTrace, Trace

CHARACTER = 7.9
"""Width of a character at 13 pixels, in the widest font of the drawing."""

LABEL = 7.3
"""Width of a character at 12 pixels."""

MAX_LENGTH = 26
"""A longer text in a box or at an edge is truncated to this many characters."""

PORT = 40
"""Height of an edge with one label above and one below."""

GAP = 26
"""Vertical distance between two boxes in a column."""

BEND = 56
"""Horizontal distance between two columns, in which the edges bend."""

MARGIN = 24

INK, FORWARD, BACKWARD, LINE = "#1a1a1a", "#00614a", "#a83200", "#666666"
"""The lectures' green and red, as a bluish green and a vermilion that color-blind readers can distinguish."""


def draw(trace: Trace) -> str:
    """Draw a trace as SVG; the text is deterministic.

    A box is a node, with its name, its operation and its gradient. Each operand enters it from the left along an edge,
    with the operand's value above the line and the message sent back along the edge below it, in italics.
    """
    return _Drawing(trace).svg()


class _Column(NamedTuple):
    """Horizontal extent of a column: the labels of its edges from `left` to `box`, its boxes from `box` to `right`."""

    left: float
    box: float
    right: float


class _Drawing:
    def __init__(self, trace: Trace):
        self._trace = trace
        self._nodes = {node.name: node for node in trace.nodes}
        self._messages = {
            (message.receiver, message.sender, position): message.value
            for node in trace.nodes
            for position, message in enumerate(m for m in trace.messages if m.sender == node.name)
        }
        self._texts = {node.name: self._box_texts(node) for node in trace.nodes}
        self._heights = {node.name: max(54.0, PORT * len(node.operands) + 8.0) for node in trace.nodes}
        self._layout = arrange({node.name: node.operands for node in trace.nodes}, self._heights, PORT, GAP)
        self._title = textwrap.wrap(heading(trace), 90)[:6]
        self._y = self._vertical_positions(top=MARGIN + 20 * len(self._title) + 34)
        self._columns = self._horizontal_positions()
        self._bottom = MARGIN + max(y + self._height(slot) / 2 for slot, y in self._y.items())
        self._end = self._columns[-1].right + self._label_width(number(trace.nodes[-1].value))
        self._width = max(self._end + MARGIN, 2 * MARGIN + CHARACTER * max(map(len, [*self._title, _LEGEND])))

    def _box_texts(self, node: NodeTrace) -> tuple[str, str]:
        formula = f"{node.name} = {node.operation}" if node.operation else node.name
        return formula, f"d{self._trace.nodes[-1].name}/d{node.name} = {number(node.gradient)}"

    def _vertical_positions(self, top: float) -> dict[Slot, float]:
        """Return the vertical middle of every slot, such that the uppermost slot begins at `top`."""
        middles = self._layout.middles
        offset = top - min(middle - self._height(slot) / 2 for slot, middle in middles.items())
        return {slot: offset + middle for slot, middle in middles.items()}

    def _horizontal_positions(self) -> list[_Column]:
        columns = []
        left = float(MARGIN)
        for slots in self._layout.columns:
            nodes = [self._nodes[slot.node] for slot in slots if not slot.target]
            labels = max((self._label_width(text) for node in nodes for text in self._labels(node)), default=0.0)
            boxes = max((self._box_width(node) for node in nodes), default=0.0)
            columns.append(_Column(left, left + labels, left + labels + boxes))
            left = columns[-1].right + BEND
        return columns

    def _labels(self, node: NodeTrace) -> list[str]:
        """Return the texts of the edges that enter a box."""
        return [
            number(value)
            for position, operand in enumerate(node.operands)
            for value in (self._nodes[operand].value, self._messages[operand, node.name, position])
        ]

    @staticmethod
    def _label_width(text: str) -> float:
        return LABEL * max(len(_truncate(text)), 2) + 16

    def _box_width(self, node: NodeTrace) -> float:
        return CHARACTER * max(len(_truncate(text)) for text in self._texts[node.name]) + 20

    def _height(self, slot: Slot) -> float:
        return GAP if slot.target else self._heights[slot.node]

    def svg(self) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self._width:.0f}" height="{self._bottom:.0f}" '
            f'viewBox="0 0 {self._width:.0f} {self._bottom:.0f}" role="img" '
            'font-family="\'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="13">',
            f"<title>{escape(heading(self._trace))}</title>",
            f"<desc>Computational graph from left to right. {escape(self._trace.verdict)}</desc>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *self._heading(),
        ]
        parts += [self._edge(edge, route) for edge, route in self._layout.routes.items()]
        for slots in self._layout.columns:
            parts += [self._box(slot) for slot in slots if not slot.target]
        return "\n".join([*parts, *self._result(), "</svg>", ""])

    def _heading(self) -> list[str]:
        lines = [_text(MARGIN, MARGIN + 6 + 20 * line, text, weight="bold") for line, text in enumerate(self._title)]
        y = MARGIN + 6 + 20 * len(self._title)
        legend = _text(MARGIN + CHARACTER * (len(_VALUES) + 2), y, _MESSAGES, BACKWARD, italic=True)
        return [*lines, _text(MARGIN, y, _VALUES, FORWARD), legend]

    def _result(self) -> list[str]:
        """Return the edge that leaves the result, with its value and the initial gradient 1 of the backward pass."""
        right, y = self._columns[-1].right, self._y[self._layout.columns[-1][0]]
        labels = self._edge_labels((right + self._end) / 2, y, self._trace.nodes[-1].value, np.ones(()))
        return [_path(f"M{right:.1f} {y:.1f}H{self._end:.1f}"), *labels]

    def _edge(self, edge: Edge, route: Sequence[Link]) -> str:
        operand = edge[0]
        path = []
        for link in route:
            start, y = self._columns[link.left.column].right, self._y[link.left]
            column = self._columns[link.right.column]
            path.append("" if path else f"M{start:.1f} {y:.1f}")
            end = self._y[link.right] + link.port
            path.append(_bend(start, y, column.left, end))
            path.append(f"H{column.right if link.right.target else column.box:.1f}")
        column = self._columns[route[-1].right.column]
        y = self._y[route[-1].right] + route[-1].port
        labels = self._edge_labels((column.left + column.box) / 2, y, self._nodes[operand].value, self._messages[edge])
        return "\n".join([_path("".join(path)), *labels])

    def _edge_labels(self, x: float, y: float, value: np.ndarray, message: np.ndarray) -> list[str]:
        """Return the value above a line and the message below it."""
        above, below = _truncate(number(value)), _truncate(number(message))
        return [
            _text(x, y - 5, above, FORWARD, size=12, anchor="middle"),
            _text(x, y + 14, below, BACKWARD, size=12, anchor="middle", italic=True),
        ]

    def _box(self, slot: Slot) -> str:
        node = self._nodes[slot.node]
        column = self._columns[slot.column]
        height = self._heights[node.name]
        y = self._y[slot]
        left = column.box if node.operation else column.right - self._box_width(node)
        formula, gradient = self._texts[node.name]
        detail = f"{formula}; value {number(node.value, 15)}; gradient {number(node.gradient, 15)}"
        edge, width, dash = (INK, 1.5, "") if node.ok else (BACKWARD, 3, ' stroke-dasharray="6 3"')
        shape = (
            f'<rect x="{left:.1f}" y="{y - height / 2:.1f}" width="{column.right - left:.1f}" height="{height:.1f}" '
            f'rx="{8 if node.operation else 24}" fill="#f7f7f4" stroke="{edge}" stroke-width="{width}"{dash}/>'
        )
        middle = (left + column.right) / 2
        return "\n".join(
            [
                f"<g><title>{escape(detail)}</title>",
                shape,
                _text(middle, y - 5, _truncate(formula), weight="bold", anchor="middle"),
                _text(middle, y + 15, _truncate(gradient), BACKWARD, anchor="middle", italic=True),
                "</g>",
            ]
        )


_VALUES = "above an edge: the value, forward"
_MESSAGES = "below: the message, backward; in a box: the sum of its messages"
_LEGEND = _VALUES + "  " + _MESSAGES


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return a curve that is horizontal at both ends."""
    middle = (x + to_x) / 2
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _path(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.3"/>'


def _text(
    x: float,
    y: float,
    text: str,
    fill: str = INK,
    *,
    size: int = 13,
    anchor: str = "start",
    weight: str = "normal",
    italic: bool = False,
) -> str:
    style = ' font-style="italic"' if italic else ""
    bold = ' font-weight="bold"' if weight == "bold" else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}"{style}{bold}>'
        f"{escape(text)}</text>"
    )


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"
