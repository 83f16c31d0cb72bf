"""A config file as plain data, with the line and column of every value."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from fnet.config.errors import ConfigError, Path, Problem
from fnet.config.yaml import MAX_BYTES, MAX_DEPTH, Node, Position, YamlError, parse
from fnet.core.settings import first_parameter
from fnet.core.wording import format_value, shorten
from fnet.data import augment
from fnet.layers.vocabulary import constructor_of

_EXCLUSIVE = ({("train", "epochs"), ("train", "steps")},)
"""Settings that exclude each other: an override of one replaces the others."""


class Document:
    """The data of a config file, with `key=value` overrides applied.

    `hints` are appended to the problems of the values at their paths.

    Args:
        file: name of the file, for messages.
        text: content of the file, YAML 1.2.
        overrides: `key=value` each, with a dotted key and a YAML value.

    Raises:
        ConfigError: for text that is not YAML, not a mapping or too large, and for a malformed override.
    """

    def __init__(self, file: str, text: str, overrides: Sequence[str] = ()):
        self.file = file
        self.hints: dict[Path, str] = {}
        self._overridden: dict[Path, str] = {}
        root = _parse(text, lambda position: ":".join(map(str, (file, *(position or ())))))
        if root is None or not isinstance(root.value, dict):
            received = "an empty file" if root is None or root.value is None else format_value(root.value)
            raise ConfigError(
                [f"{file}:1:1: expected a mapping, got {received}; the smallest config has the keys data and model"]
            )
        self._root = root
        self.data: dict[str, Any] = root.plain()
        for override in overrides:
            self._apply(override)

    def problems(self, problems: Sequence[Problem]) -> ConfigError:
        """Return the error that reports problems: those in the file, in order, then those in overrides."""
        located = sorted(
            (self._override_of(p) or "", *self._position(p), p.text + self.hints.get(p.path, "")) for p in problems
        )
        lines = (f"{override or f'{self.file}:{line}:{column}'}: {text}" for override, line, column, text in located)
        return ConfigError(list(dict.fromkeys(lines)))

    def is_overridden(self, path: Path) -> bool:
        """Return whether the value at a path comes from an override."""
        return any(path[: len(overridden)] == overridden for overridden in self._overridden)

    def _override_of(self, problem: Problem) -> str | None:
        """Return the override that causes a problem, if one does."""
        around = problem.path if self._contains(problem.path) else problem.path[:-1]
        for path, override in self._overridden.items():
            if problem.path[: len(path)] == path or (around and path[: len(around)] == around):
                return override
        return None

    def _position(self, problem: Problem) -> tuple[int, int]:
        """Return the line and column of a problem, or of the innermost value in the file that contains it."""
        node = self._root
        position = node.position
        for depth, part in enumerate(problem.path):
            if part not in node.children:
                break
            key, node = node.keys.get(part), node.children[part]
            at_key = (problem.at_key and depth == len(problem.path) - 1) or node.value is None
            position = key if at_key and key else node.position
        return position

    def _contains(self, path: Path) -> bool:
        """Return whether the data has a value at a path."""
        node: Any = self.data
        part: Any
        for part in path:
            if not isinstance(node, dict | list) or part not in (node if isinstance(node, dict) else range(len(node))):
                return False
            node = node[part]
        return True

    def _apply(self, override: str) -> None:
        key, equals, text = override.partition("=")
        override = shorten(override, 200)
        if not equals or not key:
            raise ConfigError([f"{override}: expected key=value, such as train.epochs=3"])
        parts = key.split(".")
        value = _parse(text, lambda _: override)
        levels = len(parts) + (0 if value is None else value.height)
        if levels > MAX_DEPTH:
            raise ConfigError([f"{override}: expected at most {MAX_DEPTH} levels of nesting, got {levels}"])
        node: Any = self.data
        path: Path = ()
        for depth, name in enumerate(parts):
            part: Any = _index(name, node, override) if isinstance(node, list) else name
            path = (*path, part)
            if depth == len(parts) - 1:
                node[part] = None if value is None else value.plain()
                break
            inner = node[part] if isinstance(node, list) else node.get(part)
            if not isinstance(inner, dict | list):
                node[part] = _long_form(path, inner)
            node = node[part]
        self._overridden[path] = override
        for exclusive in _EXCLUSIVE:
            if path in exclusive:
                for other in exclusive - {path}:
                    if other in self._overridden:
                        raise ConfigError([f"{override}: excludes {self._overridden[other]}; remove one of them"])
                    *section, name = other
                    self.data[section[0]].pop(name, None)


def _index(name: str, values: Sequence[Any], override: str) -> int:
    """Return the index that a part of an override's key gives."""
    length = len(values)
    if name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < length:
        return int(name)
    received = format_value(name)
    raise ConfigError([f"{override}: expected an index of a list of length {length}, counted from 0, got {received}"])


def read(file: str, overrides: Sequence[str] = ()) -> Document:
    """Read a config file.

    Args:
        file: the path of a YAML file.
        overrides: `key=value` each.

    Raises:
        ConfigError: as for `Document`, and when the file cannot be read.
    """
    return Document(file, _text_of(file), overrides)


def _text_of(file: str) -> str:
    """Return the content of a regular file, of limited size.

    Raises:
        ConfigError: when there is no such file, or it cannot be read.
    """
    if not file:
        raise ConfigError(["expected the path of a config file, got empty text"])
    if os.path.isdir(file):
        raise ConfigError([f"{file}: expected a config file, got a folder"])
    if os.path.exists(file) and not os.path.isfile(file):  # reading a pipe or device may never end
        raise ConfigError([f"{file}: expected a config file, got a pipe or device; write the config to a file"])
    try:
        with open(file, "rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (FileNotFoundError, ValueError):  # a name with NUL is a ValueError
        raise ConfigError([f"{file}: no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            [f"{file}: expected a config of at most {MAX_BYTES:,} bytes, got more; equal layers are written once, with "
             "repeat: {times: N, layers: [...]}, and data belong in a file of their own"]
        )  # fmt: skip
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: expected text in UTF-8; save the file with that encoding"]) from None


def _long_form(path: Path, value: Any) -> dict[Any, Any]:
    """Return the mapping for a short form: {name: digits} for digits, {units: 64} for the 64 in {dense: 64}."""
    section = path[-1]
    if value is None:
        return {}
    if isinstance(section, int):
        return {value: {}}
    if path[0] == "model":
        constructor = constructor_of
    elif path[:2] == ("data", "augment"):
        constructor = augment.constructor_of
    else:
        return {"name": value}
    try:
        return {first_parameter(constructor(section)): value}
    except ValueError:
        return {"name": value}


def _parse(text: str, place: Callable[[Position | None], str]) -> Node | None:
    """Parse YAML.

    Args:
        text: the YAML.
        place: position -> where it is, for messages.

    Raises:
        ConfigError: when the text is not YAML, or exceeds a limit.
    """
    try:
        return parse(text)
    except YamlError as error:
        raise ConfigError([f"{place(position)}: {message}" for position, message in error.problems]) from None
