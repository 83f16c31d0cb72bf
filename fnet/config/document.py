"""A config file as data whose every place knows its line and column."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fnet.config.errors import ConfigError, Path, Problem
from fnet.core.settings import first_parameter
from fnet.data import augment
from fnet.layers.vocabulary import constructor_of


class Document:
    """The data of a config file, with `key=value` overrides applied.

    Args:
        file: where the text is from, for messages.
        text: YAML 1.2.
        overrides: `key=value` each, the key dotted, the value YAML.

    Raises:
        ConfigError: for text that is not YAML, or whose top is not a mapping; for a malformed override.
    """

    def __init__(self, file: str, text: str, overrides: Sequence[str] = ()):
        self.file = file
        self._marked = _parse(file, text)
        self._overridden: dict[Path, str] = {}
        if not isinstance(self._marked, Mapping):
            what = "is empty" if self._marked is None else "holds no mapping of keys to values"
            raise ConfigError([f"{file}:1:1: the config {what}; the smallest one has the keys data and model"])
        self.data: dict[str, Any] = _plain(self._marked)
        for override in overrides:
            self._apply(override)

    def problems(self, problems: Sequence[Problem]) -> ConfigError:
        """The error that reports problems, in the order of the file."""
        placed = sorted((self._place(problem), problem.message) for problem in problems)
        lines = (f"{where or f'{self.file}:{line}:{column}'}: {message}" for (where, line, column), message in placed)
        return ConfigError(list(dict.fromkeys(lines)))

    def _place(self, problem: Problem) -> tuple[str, int, int]:
        """The override that a problem is in, or the line and column of its place or of the nearest one around it."""
        around = problem.path if self._holds(problem.path) else problem.path[:-1]
        for path, override in self._overridden.items():
            if problem.path[: len(path)] == path or (around and path[: len(around)] == around):
                return override, 0, 0
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
        return "", line + 1, column + 1

    def _holds(self, path: Path) -> bool:
        """Whether there is something at a path."""
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
        value = _plain(_parse(override, text, placed=False))
        path = tuple(int(part) if part.isascii() and part.isdecimal() else part for part in key.split("."))
        node: Any = self.data
        part: Any
        for depth, part in enumerate(path):
            if isinstance(node, list) and not (isinstance(part, int) and part < len(node)):
                raise ConfigError([f"{override}: '{part}' is no place in a list of {len(node)}; places count from 0"])
            if depth == len(path) - 1:
                node[part] = value
                break
            inner = node[part] if isinstance(node, list) else node.get(part)
            if not isinstance(inner, dict | list):
                node[part] = _written_out(path[: depth + 1], inner)
            node = node[part]
        self._overridden[path] = override


def read(file: str, overrides: Sequence[str] = ()) -> Document:
    """The document of a config file.

    Raises:
        ConfigError: when it cannot be read as well.
    """
    try:
        return Document(file, FilePath(file).read_text(encoding="utf-8"), overrides)
    except FileNotFoundError:
        raise ConfigError([f"{file}: no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{file}: a folder, not a config file"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: not a text file in UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None


def _written_out(path: Path, value: Any) -> dict[Any, Any]:
    """The mapping that a short form stands for: `data: digits` is {name: digits}, `dense: 64` {units: 64}."""
    section = path[-1]
    if value is None:
        return {}
    if isinstance(section, int):
        return {value: {}}
    constructor = augment.constructor_of if path[:2] == ("data", "augment") else constructor_of
    try:
        return {first_parameter(constructor(section)): value}
    except ValueError:
        return {"name": value}


def _parse(file: str, text: str, *, placed: bool = True) -> Any:
    """The YAML of a text; what is wrong with it is reported with its place, unless the text has no lines."""
    try:
        return YAML().load(text)
    except MarkedYAMLError as error:
        problem = (error.problem or "cannot be parsed").splitlines()[0]
        if "'\\t'" in problem:
            problem = "a tab; YAML indents with spaces"
        elif problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        opened, mark = error.context_mark, error.problem_mark or error.context_mark
        if placed and opened and mark and opened.line != mark.line:
            problem += f", {error.context} from {opened.line + 1}:{opened.column + 1}"
        place = f":{mark.line + 1}:{mark.column + 1}" if mark and placed else ""
        raise ConfigError([f"{file}{place}: not YAML: {problem}"]) from None
    except YAMLError as error:
        raise ConfigError([f"{file}: not YAML: {str(error).splitlines()[0]}"]) from None


def _plain(value: Any) -> Any:
    """The data without ruamel's types: dict, list, str, bool, int, float or None."""
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
