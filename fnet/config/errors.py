"""Problems of a config, as records whose text is composed last."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fnet.config.sections import Tag, members_at, model_at, sections_of, tag_at, tag_values
from fnet.core.settings import Strict
from fnet.core.wording import errors_in_words, format_value, nearest, printable, required

Path = tuple[str | int, ...]

MAX_PROBLEMS = 100
"""The number of problems that are listed."""

MAX_LINE = 2000
"""The number of characters of one message."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem of a config.

    Args:
        path: path to the value in the config's data.
        message: what was expected and what was received.
        at_key: whether the key itself is wrong, rather than its value.
        fix: how to fix it, if known.
        suggestion: a similar existing name, if there is one.
        known: the existing names, which are listed if there is neither a fix nor a suggestion.
    """

    path: Path
    message: str
    at_key: bool = False
    fix: str | None = None
    suggestion: str | None = None
    known: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The message, followed by the fix, the suggestion or the existing names.

        >>> Problem(("seeed",), "unknown key 'seeed'", suggestion="seed").text
        "unknown key 'seeed'; did you mean 'seed'?"
        """
        if self.fix:
            return f"{self.message}; {self.fix}"
        if self.suggestion:
            return f"{self.message}; did you mean '{self.suggestion}'?"
        return f"{self.message}; known: {', '.join(self.known)}" if self.known else self.message


class ConfigError(ValueError):
    """An invalid config; its text has one printable line per problem, each with file, line and column.

    Only the first problems of many are listed, and the middle of very long lines is left out.
    """

    exit_status = 2

    def __init__(self, lines: Sequence[str]):
        first = [_printable_line(line) for line in lines[:MAX_PROBLEMS]]
        if len(lines) > MAX_PROBLEMS:
            first.append(f"more than {MAX_PROBLEMS} problems; fix these first")
        super().__init__("\n".join(first))
        self.lines = tuple(first)


def _printable_line(line: str) -> str:
    line = line if len(line) <= MAX_LINE else f"{line[: MAX_LINE // 2]} [...] {line[-MAX_LINE // 2 :]}"
    return printable(line)


def unknown_name(path: Path, noun: str, name: str, known: Iterable[str]) -> Problem:
    """Return the problem of a name that does not exist.

    Args:
        path: path to the name.
        noun: what the name refers to: "optimizer".
        name: the name.
        known: the existing names.
    """
    known = sorted(known)
    return Problem(path, f"unknown {noun} {format_value(name)}", suggestion=nearest(name, known), known=tuple(known))


def unknown_key(path: Path, known: Iterable[str], section: str, *, elsewhere: bool = True) -> Problem:
    """Return the problem of a key that does not exist in its section.

    Args:
        path: path to the key.
        known: the keys of the section.
        section: name of the section in the message; empty for the top level.
        elsewhere: whether to look for the key in the other sections of the config.
    """
    key, known, sections = str(path[-1]), sorted(known), sections_of()
    message = f"unknown key {format_value(key)} " + (f"in {section}" if section else "at the top level")
    fix = _undotted(key, sections)
    suggestion = None
    if elsewhere and fix is None:
        fix = _right_section(path, sections)
    if fix is None:
        suggestion = nearest(key, known) or (_nearest_elsewhere(key, sections) if elsewhere else None)
    return Problem(path, message, True, fix, suggestion, tuple(known))


def _undotted(key: str, sections: Mapping[str, Sequence[str]]) -> str | None:
    """Return how to write a dotted key, such as train.epochs, in the file."""
    first, dot, rest = key.partition(".")
    return f"write '{first}' and, indented under it, '{rest}'" if dot and first in sections else None


def _right_section(path: Path, sections: Mapping[str, Sequence[str]]) -> str | None:
    """Return the sections that a key belongs to, if they are different from its own."""
    here, key = _dotted(path[:-1]), str(path[-1])
    names = sections.get(key, [])
    if here and "" in names:
        return "it belongs at the top level"
    names = [name for name in names if name]
    return f"it belongs under {' or '.join(map(repr, names))}" if names and here not in names else None


def _nearest_elsewhere(key: str, sections: Mapping[str, Sequence[str]]) -> str | None:
    """Return the most similar key of any section, dotted."""
    word = nearest(key, sections)
    return word and ".".join(filter(None, (sections[word][0], word)))


def problems_of(errors: Iterable[Mapping[str, Any]], data: Any) -> list[Problem]:
    """Return the problems for pydantic's errors about `Config(**data)`, one per path.

    An error inside a value leaves out the errors of the value as a whole, which are those of other forms of it.
    """
    grouped: dict[Path, list[Mapping[str, Any]]] = {}
    for error in errors:
        grouped.setdefault(_path_in_data(error, data), []).append(error)
    outer = {path[:length] for path in grouped for length in range(len(path))}
    grouped = {path: group for path, group in grouped.items() if path not in outer}
    return [_problem(path, group, data) for path, group in itertools.islice(grouped.items(), MAX_PROBLEMS + 1)]


def _problem(path: Path, errors: Sequence[Mapping[str, Any]], data: Any) -> Problem:
    match errors[0]["type"]:
        case "extra_forbidden":
            return _extra_key(path, data)
        case "union_tag_invalid":
            tag = tag_at(path, data)
            name = _at(data, path)[tag.key]
            if not isinstance(name, str):
                place = _dotted((*path, tag.key))
                return Problem((*path, tag.key), f"{place}: expected text, got {format_value(name)}")
            return unknown_name((*path, tag.key), _noun(path, tag), name, tag.values)
        case "union_tag_not_found":
            tag = tag_at(path, data)
            return Problem((*path, tag.key), f"'{tag.key}' is required in '{_dotted(path)}', but not given")
        case "missing":
            return Problem(path, required(_dotted(path)))
        case _:
            return Problem(path, f"{_dotted(path)}: {errors_in_words(*errors)}")


def _extra_key(path: Path, data: Any) -> Problem:
    """Return the problem of a key that its section does not have, although other members of the union may."""
    *section, key = path
    owners = [_name_of(member) for member in members_at(section, data) if key in member.model_fields]
    name = _section_name(tuple(section), data)
    if owners:
        return Problem(path, f"'{key}' is not a setting of {name}, only of {', '.join(owners)}", at_key=True)
    return unknown_key(path, model_at(section, data).model_fields, name)


def _noun(path: Path, tag: Tag) -> str:
    if path == ("data",):
        return "dataset" if tag.key == "name" else "data source"
    return str(path[-1])


def _path_in_data(error: Mapping[str, Any], data: Any) -> Path:
    """Return the error's location without the tags that pydantic adds for the members of unions."""
    path: list[str | int] = []
    location = error["loc"]
    for number, part in enumerate(location):
        if (isinstance(data, Mapping) and part in data) or (
            isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int)
        ):
            data = data[part]
        elif not (error["type"] == "missing" and number == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _name_of(member: type[Strict]) -> str:
    """Return the name, or the source, that selects a member of a union."""
    return (tag_values(member, "name") or tag_values(member, "source"))[0]


def _section_name(path: Path, data: Any) -> str:
    """Return the name of a section in messages: 'optimizer' (adam); empty for the top level."""
    if not path:
        return ""
    section = _at(data, path)
    return f"'{_dotted(path)}'" + (f" ({section['name']})" if "name" in section else "")


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
