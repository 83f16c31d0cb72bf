"""The printed form of `fnet explain`."""

from rich.console import Console

from fnet.config.explain import Entry, Explanation
from fnet.report.explanation import print_explanation


def printed(explanation):
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        print_explanation(console, explanation)
    return capture.get()


def test_columns_without_content_are_left_out_and_brackets_are_text():
    text = printed(Explanation("relu (layer)", "y = max(0, z) [red]", [Entry("relu.name", "text", "", "a [/name]")]))
    assert text.splitlines()[:2] == ["relu (layer)", "y = max(0, z) [red]"]
    assert "default" not in text
    assert "a [/name]" in text


def test_an_explanation_without_entries_is_heading_and_text():
    assert printed(Explanation("mse (loss)", "Squared error.", [])) == "mse (loss)\nSquared error.\n"
