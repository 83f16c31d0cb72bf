"""Drawings of computational graphs."""

import re
import xml.etree.ElementTree as ET

import pytest

from fnet.report.graph_svg import draw
from fnet.trace.compare import trace

NESTED = "sqrt(x**2+exp(x**2)) + cos(x**2+exp(x**2))"


def parsed_drawing(expression, *values):
    return ET.fromstring(draw(trace(expression, values)))


SVG = "{http://www.w3.org/2000/svg}"
DRAWN = [
    (NESTED, "x=2"),
    ("(x+y)*z", "x=-2", "y=5", "z=-4"),
    ("x", "x=1"),
    ("x*x", "x=3"),
    ("sum((w@x - t)**2) + 0.01*sum(abs(w)) + max(relu(x*x))", "w=[[1,2,-3],[0,1,1]]", "x=[1,-1.5,2e-3]",
     "t=[0.1234567,1]"),
    ("a_very_long_name_for_a_variable*another_one_that_is_long**2", "a_very_long_name_for_a_variable=1e-300",
     "another_one_that_is_long=123456.789"),
    ("+".join(f"sin({n}*x*y)" for n in range(1, 12)), "x=0.5", "y=3"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", DRAWN, ids=lambda arguments: arguments[0][:20])
def test_nothing_overlaps_or_leaves_the_drawing(arguments):
    svg = parsed_drawing(*arguments)
    width, height = (float(svg.get(name, "")) for name in ("width", "height"))
    boxes = []
    for rect in svg.iter(f"{SVG}rect"):
        if rect.get("x"):
            x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
            boxes.append((x, y, x + w, y + h))
    inside = [text for group in svg.iter(f"{SVG}g") for text in group.iter(f"{SVG}text")]
    texts = {True: [], False: []}
    for text in svg.iter(f"{SVG}text"):
        size = float(text.get("font-size", ""))
        length = len(text.text or "") * 0.602 * size
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        left = x - length / 2 if text.get("text-anchor") == "middle" else x
        texts[text in inside].append((left, y - 0.75 * size, left + length, y + 0.2 * size))
    shapes = [*boxes, *texts[False]]
    for number, (left, top, right, bottom) in enumerate(shapes):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for l2, t2, r2, b2 in shapes[:number]:
            assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top
    for left, top, right, bottom in texts[True]:
        assert any(l2 <= left and right <= r2 and t2 <= top and bottom <= b2 for l2, t2, r2, b2 in boxes)


def test_values_are_above_the_edges_and_messages_below():
    svg = parsed_drawing(NESTED, "x=2")
    texts = {text.text: text for text in svg.iter(f"{SVG}text")}
    value, message = texts["54.598"], texts["-44.895"]
    assert value.get("font-style") is None
    assert message.get("font-style") == "italic"
    assert value.get("fill") != message.get("fill")
    above, below = (float(texts[name].get("y", "")) for name in ("2", "-182.87"))
    assert above < below
    assert texts["2"].get("x") == texts["-182.87"].get("x")
    for text in ("a = x ** 2", "df/da = -45.717", "f = d + e", "7.1943"):
        assert text in texts


def test_a_node_whose_gradient_is_wrong_is_dashed():
    right = trace("(x+2)*x", ["x=3"])
    wrong = right.nodes[1]._replace(ok=False)
    outlines = [
        [rect.get("stroke-dasharray") for rect in ET.fromstring(draw(result)).iter(f"{SVG}rect")]
        for result in (right, right._replace(nodes=[right.nodes[0], wrong, *right.nodes[2:]]))
    ]
    assert outlines[0].count(None) == len(outlines[0])
    assert outlines[1].count(None) == len(outlines[1]) - 1


@pytest.mark.parametrize("arguments", DRAWN, ids=lambda arguments: arguments[0][:20])
def test_every_line_starts_at_a_point(arguments):
    """A path without a first point is not drawn."""
    lines = [line.get("d", "") for line in parsed_drawing(*arguments).iter(f"{SVG}path")]
    assert lines
    assert all(re.match(r"M\d+\.\d \d+\.\d[A-Z]", line) for line in lines)


def test_text_is_escaped():
    result = trace("x*x", ["x=1"])._replace(expression="a<b>&\"'")
    assert "a&lt;b&gt;&amp;" in draw(result)
    ET.fromstring(draw(result))
