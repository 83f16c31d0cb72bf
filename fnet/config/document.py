"""A config file as plain data, with the line and column of every value."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fnet.config.errors import ConfigError, Path, Problem
from fnet.core.settings import first_parameter
from fnet.core.wording import format_value
from fnet.data import augment
from fnet.layers.vocabulary import constructor_of


class Document:
    """The data of a config file, with `key=value` overrides applied.

    Args:
        file: name of the file, for messages.
        text: content of the file, YAML 1.2.
        overrides: `key=value` each, with a dotted key and a YAML value.

    Raises:
        ConfigError: for text that is not YAML, or not a mapping, and for a malformed override.
    """

    def __init__(self, file: str, text: str, overrides: Sequence[str] = ()):
        self.file = file
        self._marked = _parse(file, text)
        self._overridden: dict[Path, str] = {}
        if not isinstance(self._marked, Mapping):
            received = "an empty file" if self._marked is None else format_value(_plain(self._marked))
            raise ConfigError(
                [f"{file}:1:1: expected a mapping, got {received}; the smallest config has the keys data and model"]
            )
        self.data: dict[str, Any] = _plain(self._marked)
        for override in overrides:
            self._apply(override)

    def problems(self, problems: Sequence[Problem]) -> ConfigError:
        """Return the error that reports problems: those in the file, in order, then those in overrides."""
        located = sorted((self._override_of(p) or "", *self._position(p), p.text) for p in problems)
        lines = (f"{override or f'{self.file}:{line}:{column}'}: {text}" for override, line, column, text in located)
        return ConfigError(list(dict.fromkeys(lines)))

    def _override_of(self, problem: Problem) -> str | None:
        """Return the override that causes a problem, if one does."""
        around = problem.path if self._contains(problem.path) else problem.path[:-1]
        for path, override in self._overridden.items():
            if problem.path[: len(path)] == path or (around and path[: len(around)] == around):
                return override
        return None

    def _position(self, problem: Problem) -> tuple[int, int]:
        """Return the line and column of a problem, or of the innermost value in the file that contains it."""
        node: Any = self._marked
        line = column = 0
        for depth, part in enumerate(problem.path):
            if isinstance(node, Mapping) and part in node:
                at_key = (problem.at_key and depth == len(problem.path) - 1) or node[part] is None
                line, column = (node.lc.key if at_key else node.lc.value)(part)  # pyright: ignore
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                line, column = node.lc.item(part)  # pyright: ignore
            else:
                break
            node = node[part]  # pyright: ignore
        return line + 1, column + 1

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
        if not equals or not key:
            raise ConfigError([f"{override}: expected key=value, such as train.epochs=3"])
        value = _plain(_parse(override, text, with_position=False))
        path = tuple(int(part) if part.isascii() and part.isdecimal() else part for part in key.split("."))
        node: Any = self.data
        part: Any
        for depth, part in enumerate(path):
            if isinstance(node, list) and not (isinstance(part, int) and part < len(node)):
                raise ConfigError(
                    [f"{override}: expected an index of a list of length {len(node)}, counted from 0, got '{part}'"]
                )
            if depth == len(path) - 1:
                node[part] = value
                break
            inner = node[part] if isinstance(node, list) else node.get(part)
            if not isinstance(inner, dict | list):
                node[part] = _long_form(path[: depth + 1], inner)
            node = node[part]
        self._overridden[path] = override


def read(file: str, overrides: Sequence[str] = ()) -> Document:
    """Read a config file.

    Args:
        file: the path of a YAML file.
        overrides: `key=value` each.

    Raises:
        ConfigError: as for `Document`, and when the file cannot be read.
    """
    try:
        return Document(file, FilePath(file).read_text(encoding="utf-8"), overrides)
    except FileNotFoundError:
        raise ConfigError([f"{file}: no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{file}: expected a config file, got a folder"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: expected text in UTF-8; save the file with that encoding"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None


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


def _parse(file: str, text: str, *, with_position: bool = True) -> Any:
    """Parse YAML.

    Args:
        file: name of the file, or the override, for messages.
        text: the YAML.
        with_position: whether messages give line and column.

    Raises:
        ConfigError: when the text is not YAML.
    """
    try:
        return YAML().load(text)
    except MarkedYAMLError as error:
        problem = (error.problem or "cannot be parsed").splitlines()[0]
        if "'\\t'" in problem:
            problem = "found a tab; YAML indents with spaces"
        elif problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        opened, mark = error.context_mark, error.problem_mark or error.context_mark
        if with_position and opened and mark and opened.line != mark.line:
            problem += f", {error.context} from {opened.line + 1}:{opened.column + 1}"
        position = f":{mark.line + 1}:{mark.column + 1}" if mark and with_position else ""
        raise ConfigError([f"{file}{position}: not YAML: {problem}"]) from None
    except YAMLError as error:
        raise ConfigError([f"{file}: not YAML: {str(error).splitlines()[0]}"]) from None


def _plain(value: Any) -> Any:
    """Return data with ruamel's types converted to dict, list, str, bool, int, float or None."""
    match value:
        case None | bool():
            return value
        case Mapping():
            return {_plain(key): _plain(entry) for key, entry in value.items()}
        case list():
            return [_plain(entry) for entry in value]
        case int():
            return int(value)
        case float():
            return float(value)
        case date():
            return value.isoformat()
        case _:
            return str(value)
