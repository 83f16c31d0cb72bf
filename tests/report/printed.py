"""What is printed, as the tests read it."""

from rich.console import Console


def printed(*renderables, width=100):
    """Text without colors."""
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def rows(*renderables):
    """The cells of every line of a table."""
    return [
        [cell.strip() for cell in line.strip("│┃\n").replace("┃", "│").split("│")]
        for line in printed(*renderables).splitlines()
    ]
