"""Small configs, and the messages that wrong ones must cause."""

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
"""A valid config of four lines; tests append to it from line 5 on."""

LAYERS = "model: [flatten, {dense: 10}]\n"
PLANE = "data: xor\nmodel: [{dense: 1}]\n"


def message_pattern(where, what):
    """Return the pattern of a message that starts with its place and contains a text."""
    return f"^{re.escape(where)}: .*{re.escape(what)}"


def assert_refused(load_text, where, what, text, *overrides):
    """Check that loading fails with a single problem at a place, whose message contains a text."""
    with pytest.raises(ConfigError, match=message_pattern(where, what)) as caught:
        load_text(text, *overrides)
    assert len(caught.value.lines) == 1, str(caught.value)


def at(data, path):
    """Return the value at a path."""
    for part in path:
        data = data[part]
    return data


def error_of(tmp_path, text, *overrides):
    """Return the message of loading a config; empty when it is valid."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    try:
        load(str(path), overrides)
    except ConfigError as error:
        return str(error)
    return ""
