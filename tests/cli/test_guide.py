"""`fnet guide`: the list of topics, pages in a terminal and in a pipe, and an unknown topic."""

import pytest
from cli.calls import call, output_of
from rich.console import Console

from fnet.cli import guide
from fnet.cli.guide import PAGES, topics


def test_every_page_is_a_topic():
    pages = {page.name.removesuffix(".md") for page in PAGES.iterdir() if page.name.endswith(".md")}
    assert set(topics()) == pages - {"README"}


def test_without_a_topic_it_lists_them_one_per_line():
    assert [line.split()[0] for line in output_of("guide").splitlines()] == list(topics())


@pytest.mark.parametrize("topic", topics())
def test_a_page_in_a_pipe_is_markdown(topic):
    out = output_of("guide", topic)
    assert out.startswith("# ")
    assert "<!--" not in out


def test_a_page_in_a_terminal_is_rendered(monkeypatch):
    monkeypatch.setattr(guide, "terminal", lambda: Console(force_terminal=True, width=80))
    out = output_of("guide", "config")
    assert "\x1b[" in out
    assert "```" not in out


def test_an_unknown_topic_gets_a_suggestion():
    result = call("guide", "confg")
    assert result.exit_code == 2
    assert result.stderr == "error: the guide has no topic 'confg'; did you mean 'config'?\n"
