"""The output of a gradient check on the terminal and as an HTML page."""

import re
import xml.etree.ElementTree as ET

from rich.console import Console

from fnet.gradcheck import Culprit, LeafReport, Report
from fnet.report.gradients import page, print_check
from fnet.runs.gradcheck import Checked

WRONG = LeafReport(
    "a&b/w", (2,), 2.0, 0.5, "by hand", cosine=0.99, ratio=0.5, worst=(1,), values=(2.0, 4.0, 4.0), checked=2,
    kinks=1, order=1.0, diagnosis="1 of 2 entries is wrong, at [1]",
)  # fmt: skip
RIGHT = LeafReport("b", (), 0.0, 0.0, "ok", part="penalty", checked=1)
REPORT = Report([WRONG, RIGHT], 1e-10, culprits=[Culprit("tanh_1", "tanh", "input", "by hand", "[b]")], remark="[i]")


def test_terminal_output():
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        print_check(console, "xor", REPORT)
    text = capture.get()
    assert re.search(r"a&b/w +\(2,\) +5.0e-01 +2 of 3 +1.00 +WRONG by hand: 1 of 2 entries is wrong, at \[1\]", text)
    assert re.search(r"penalty alone\n(.*\n)+b +\(\) +0.0e\+00 +1 +linear +ok", text)
    assert "a&b/w[1]: by hand 2, by JAX 4, by finite differences 4; cosine 0.990000, norm ratio 0.5\n" in text
    assert text.endswith(
        "1 of 2 rows differ: a&b/w\nthe mistake is in tanh_1 (tanh), gradient of the input, wrong by hand: [b]\n[i]\n"
    )


def test_sentences_are_not_wrapped_in_a_narrow_terminal():
    """They can be copied and searched for as a whole."""
    console = Console(width=30, no_color=True)
    with console.capture() as capture:
        print_check(console, "xor", REPORT._replace(remark="a remark of more than thirty letters"))
    lines = capture.get().splitlines()
    assert "a&b/w[1]: by hand 2, by JAX 4, by finite differences 4; cosine 0.990000, norm ratio 0.5" in lines
    assert lines[-3:] == [
        "1 of 2 rows differ: a&b/w",
        "the mistake is in tanh_1 (tanh), gradient of the input, wrong by hand: [b]",
        "a remark of more than thirty letters",
    ]


def test_the_page_is_well_formed():
    text = page("<xor>", [Checked("at initialization", 4, REPORT), Checked("after 2 steps", 4, Report([RIGHT], 1e-3))])
    tree = ET.fromstring(re.sub(r"<!doctype html>|<(meta|!--)[^>]*>", "", text))
    assert tree.findtext("head/title") == "<xor>: gradient check"
    assert [h2.text for h2 in tree.iter("h2")] == ["at initialization, 4 examples", "after 2 steps, 4 examples"]
    assert len(list(tree.iter("tr"))) == 6
    assert "The mistake is in tanh_1 (tanh), gradient of the input, wrong by hand: [b]" in text
