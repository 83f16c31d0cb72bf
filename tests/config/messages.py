"""Small configs, and what a message about one must say."""

import re

import pytest

from fnet.config.errors import ConfigError

NET = """\
data: digits
model:
  - flatten
  - dense: 10
"""
"""A good config of four lines; what a test adds starts at line 5."""

LAYERS = "model: [flatten, {dense: 10}]\n"
PLANE = "data: xor\nmodel: [{dense: 1}]\n"


def saying(where, what):
    """The pattern of a message that starts with its place and goes on to say something."""
    return f"^{re.escape(where)}: .*{re.escape(what)}"


def refused(load_text, where, what, text, *overrides):
    """Checks that there is one problem, at this place, which says this."""
    with pytest.raises(ConfigError, match=saying(where, what)) as caught:
        load_text(text, *overrides)
    assert len(caught.value.lines) == 1, str(caught.value)


def at(data, path):
    for part in path:
        data = data[part]
    return data
