"""Small configs, and checks of error messages."""

import re

import pytest

from fnet.config.errors import ConfigError
from fnet.config.load import load

NET = """\
data: digits
model:
  - flatten
  - dense: 10
"""
"""A valid config of four lines, to which tests append from line 5."""

LAYERS = "model: [flatten, {dense: 10}]\n"
PLANE = "data: xor\nmodel: [{dense: 1}]\n"


def message_pattern(where, what):
    """Return the pattern of a message that starts with a position and contains a text."""
    return f"^{re.escape(where)}: .*{re.escape(what)}"


def assert_refused(load_text, where, what, text, *overrides):
    """Check that loading fails with a single problem at a position, whose message contains a text."""
    with pytest.raises(ConfigError, match=message_pattern(where, what)) as caught:
        load_text(text, *overrides)
    assert len(caught.value.lines) == 1, str(caught.value)


def at(data, path):
    """Return the value at a path."""
    for part in path:
        data = data[part]
    return data


def error_of(tmp_path, text, *overrides):
    """Return the error message of loading a config; empty if it is valid."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    try:
        load(str(path), overrides)
    except ConfigError as error:
        return str(error)
    return ""
