"""Helpers that capture printed output for the tests."""

from rich.console import Console


def printed(*renderables, width=100):
    """Return the printed text, without colors."""
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def rows(*renderables):
    """Return the cells of every line of a printed table."""
    return [
        [cell.strip() for cell in line.strip("│┃\n").replace("┃", "│").split("│")]
        for line in printed(*renderables).splitlines()
    ]
