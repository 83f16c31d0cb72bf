"""The computational graph as a drawing: values above the edges, messages of the backward pass below them."""

import textwrap
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from fnet.report.layout import Link, Slot, arrange
from fnet.report.trace import heading, number
from fnet.trace.compare import Row, Trace

CHARACTER = 7.9
"""Width of a character at 13 pixels, in the widest of the fonts below."""

LABEL = 7.3
"""Width of a character at 12 pixels."""

LONGEST = 26
"""Characters of the longest text in a box or at an edge; the rest is cut off."""

PORT = 40
"""Height of an edge with a label above and one below."""

GAP = 26
"""Between two boxes of a column."""

BEND = 56
"""Width in which the edges bend, between two columns."""

MARGIN = 24

INK, FORWARD, BACKWARD, LINE = "#1a1a1a", "#00614a", "#a83200", "#666666"
"""The lectures' green and red, as a bluish green and a vermilion that the color-blind tell apart."""


def draw(trace: Trace) -> str:
    """The SVG of a trace; the same trace gives the same text.

    A box is a node, with its name, its operation and its gradient. On its left a port stands for each operand: the
    operand's value above the line, the message that goes back along it below, in italics.
    """
    return _Drawing(trace).svg()


class _Drawing:
    def __init__(self, trace: Trace):
        self._trace = trace
        self._rows = {row.name: row for row in trace.rows}
        self._messages = {
            (message.receiver, message.sender, position): message.value
            for row in trace.rows
            for position, message in enumerate(sent for sent in trace.sent if sent.sender == row.name)
        }
        result = trace.rows[-1].name
        self._texts = {
            row.name: (
                f"{row.name} = {row.operation}" if row.operation else row.name,
                f"d{result}/d{row.name} = {number(row.gradient)}",
            )
            for row in trace.rows
        }
        self._heights = {row.name: max(54.0, PORT * len(row.operands) + 8.0) for row in trace.rows}
        self._layout = arrange({row.name: row.operands for row in trace.rows}, self._heights, PORT, GAP)
        middles = self._layout.middles
        self._title = textwrap.wrap(heading(trace), 90)[:6]
        above = MARGIN + 20 * len(self._title) + 34
        top = above - min(middle - self._height(slot) / 2 for slot, middle in middles.items())
        self._y = {slot: top + middle for slot, middle in middles.items()}
        self._bottom = MARGIN + max(middle + self._height(slot) / 2 for slot, middle in self._y.items())
        self._columns = []
        x = float(MARGIN)
        for column in self._layout.columns:
            nodes = [self._rows[slot.node] for slot in column if not slot.towards]
            stub = max((LABEL * len(text) + 16 for row in nodes for text in self._labels(row)), default=0.0)
            box = max(
                (CHARACTER * len(_cut(text)) + 20 for row in nodes for text in self._texts[row.name]), default=0.0
            )
            x += BEND if self._columns else 0
            self._columns.append((x, x + stub, x + stub + box))
            x += stub + box
        last = LABEL * max(len(_cut(number(trace.rows[-1].value))), 2) + 16
        self._end = x + last
        self._width = max(self._end + MARGIN, 2 * MARGIN + CHARACTER * max(map(len, [*self._title, _LEGEND])))

    def _labels(self, row: Row) -> list[str]:
        """The texts at the edges that come in."""
        return [
            _cut(number(value))
            for position, operand in enumerate(row.operands)
            for value in (self._rows[operand].value, self._messages[operand, row.name, position])
        ]

    def _height(self, slot: Slot) -> float:
        return GAP if slot.towards else self._heights[slot.node]

    def svg(self) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self._width:.0f}" height="{self._bottom:.0f}" '
            f'viewBox="0 0 {self._width:.0f} {self._bottom:.0f}" role="img" '
            'font-family="\'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="13">',
            f"<title>{escape(heading(self._trace))}</title>",
            f"<desc>Computational graph from left to right. {escape(self._trace.verdict)}</desc>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
        ]
        for line, text in enumerate(self._title):
            parts.append(_text(MARGIN, MARGIN + 6 + 20 * line, text, weight="bold"))
        below = MARGIN + 6 + 20 * len(self._title)
        parts.append(_text(MARGIN, below, _VALUES, FORWARD))
        parts.append(_text(MARGIN + CHARACTER * (len(_VALUES) + 2), below, _BACK, BACKWARD, italic=True))
        parts += [self._edge(edge, route) for edge, route in self._layout.routes.items()]
        for column in self._layout.columns:
            parts += [self._box(slot) for slot in column if not slot.towards]
        result = self._layout.columns[-1][0]
        start, y = self._columns[-1][2], self._y[result]
        parts.append(_path(f"M{start:.1f} {y:.1f}H{self._end:.1f}"))
        parts += self._pair((start + self._end) / 2, y, self._trace.rows[-1].value, np.ones(()))
        return "\n".join([*parts, "</svg>", ""])

    def _edge(self, edge: tuple[str, str, int], route: Sequence[Link]) -> str:
        maker = edge[0]
        path = []
        for link in route:
            start, y = self._columns[link.left.column][2], self._y[link.left]
            left, box, right = self._columns[link.right.column]
            path.append("" if path else f"M{start:.1f} {y:.1f}")
            end = self._y[link.right] + link.port
            path.append(_bend(start, y, left, end) + f"H{right if link.right.towards else box:.1f}")
        left, box, _ = self._columns[route[-1].right.column]
        end = self._y[route[-1].right] + route[-1].port
        labels = self._pair((left + box) / 2, end, self._rows[maker].value, self._messages[edge])
        return "\n".join([_path("".join(path)), *labels])

    def _pair(self, x: float, y: float, value: np.ndarray, message: np.ndarray) -> list[str]:
        """The value above a line, and the message below it."""
        above, below = _cut(number(value)), _cut(number(message))
        return [
            _text(x, y - 5, above, FORWARD, size=12, anchor="middle"),
            _text(x, y + 14, below, BACKWARD, size=12, anchor="middle", italic=True),
        ]

    def _box(self, slot: Slot) -> str:
        row = self._rows[slot.node]
        _, left, right = self._columns[slot.column]
        height = self._heights[row.name]
        y = self._y[slot]
        if not row.operation:  # variables end where the others do
            left = right - max(CHARACTER * len(_cut(text)) + 20 for text in self._texts[row.name])
        made, gradient = self._texts[row.name]
        detail = f"{made}; value {number(row.value, 15)}; gradient {number(row.gradient, 15)}"
        edge, width, dash = (INK, 1.5, "") if row.ok else (BACKWARD, 3, ' stroke-dasharray="6 3"')
        shape = (
            f'<rect x="{left:.1f}" y="{y - height / 2:.1f}" width="{right - left:.1f}" height="{height:.1f}" '
            f'rx="{8 if row.operation else 24}" fill="#f7f7f4" stroke="{edge}" stroke-width="{width}"{dash}/>'
        )
        middle = (left + right) / 2
        return "\n".join(
            [
                f"<g><title>{escape(detail)}</title>",
                shape,
                _text(middle, y - 5, _cut(made), weight="bold", anchor="middle"),
                _text(middle, y + 15, _cut(gradient), BACKWARD, anchor="middle", italic=True),
                "</g>",
            ]
        )


_VALUES = "above an edge: the value, forward"
_BACK = "below: the message, backward; in a box: the sum of its messages"
_LEGEND = _VALUES + "  " + _BACK


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """A curve that leaves and arrives level."""
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


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
