"""`fnet guide`: the manual in the terminal."""

import re
from importlib import resources
from typing import Annotated

import typer

from fnet.cli.command import command, terminal

PAGES = resources.files("fnet") / "guide"


class UnknownTopic(LookupError):
    """The guide does not have this topic."""

    exit_status = 2


def topics() -> dict[str, str]:
    """Return the topics of the guide in reading order, each with its line in the table of contents."""
    return dict(re.findall(r"^- \[.+?\]\(([\w-]+)\.md\): (.+)$", _text("README"), re.MULTILINE))


def page(topic: str) -> str:
    """Return the page of a topic in Markdown.

    Raises:
        UnknownTopic: if the guide does not have it.
    """
    from fnet.core.wording import suggestion

    if topic not in topics():
        raise UnknownTopic(f"the guide has no topic '{topic}'{suggestion(topic, topics())}")
    return re.sub(r"^<!--.*?-->\n", "", _text(topic), flags=re.MULTILINE | re.DOTALL)


def _text(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@command
def guide(
    topic: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC",
            help="One of the topics that `fnet guide` lists.",
            show_default=False,
            autocompletion=lambda: list(topics().items()),
        ),
    ] = "",
) -> None:
    """Read the manual: a list of topics, or the page of TOPIC."""
    console = terminal()
    if not topic:
        width = max(map(len, topics()))
        for name, summary in topics().items():
            console.print(f"[bold]{name:{width}}[/bold]  {summary}", soft_wrap=True, markup=True)
    elif console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(page(topic)))
    else:
        print(page(topic), end="")
