"""The output of `fnet explain`."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fnet.config.explain import Explanation


def print_explanation(console: Console, explanation: Explanation) -> None:
    """Print the heading, the text, and the entries as a table."""
    console.print(Text(explanation.heading, "bold"))
    if explanation.text:
        console.print(Text(explanation.text))
    if not explanation.entries:
        return
    columns = {"key": "cyan", "type": "", "default": "", "meaning": ""}
    used = [column for column in columns if any(getattr(entry, column) for entry in explanation.entries)]
    table = Table(show_edge=False, pad_edge=False)
    for column in used:
        table.add_column(column, style=columns[column], overflow="fold", no_wrap=column == "key")
    for entry in explanation.entries:
        table.add_row(*(Text(getattr(entry, column)) for column in used))
    console.print(table)
