"""What can be wrong with a config, said so that it can be mended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from fnet.config.schema import homes, members_at, model_at
from fnet.core.settings import Strict
from fnet.core.wording import in_words, suggestion

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong.

    path: to the place in the config's data.
    message: what is wrong and how to mend it.
    at_key: whether the key itself is wrong, rather than its value.
    """

    path: Path
    message: str
    at_key: bool = False


class ConfigError(ValueError):
    """A config that cannot be used; its text is one line a problem, each with file, line and column."""

    exit_status = 2

    def __init__(self, lines: Sequence[str]):
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def problems_of(errors: Iterable[Mapping[str, Any]], data: Any) -> list[Problem]:
    """Pydantic's errors about `Config(**data)` as problems; the errors of one union become one problem."""
    grouped: dict[Path, list[Mapping[str, Any]]] = {}
    for error in errors:
        grouped.setdefault(_real_path(error, data), []).append(error)
    return [_problem(path, group, data) for path, group in grouped.items()]


def unknown_key(path: Path, known: Iterable[str], section: str, *, elsewhere: bool = True) -> Problem:
    """The problem of a key that does not exist in its section.

    Args:
        path: to the key.
        known: the keys of the section.
        section: its name for the reader; empty for the top level.
        elsewhere: whether to look for the key in the other sections of the config.
    """
    key, known = str(path[-1]), sorted(known)
    place = f"in {section}" if section else "at the top level"
    first, dot, rest = key.partition(".")
    if dot and first in homes():
        return Problem(path, f"unknown key '{key}' {place}; write '{first}' and, indented under it, '{rest}'", True)
    if elsewhere and section and "" in homes().get(key, []):
        return Problem(path, f"unknown key '{key}' {place}; it belongs at the top level", True)
    other = [home for home in homes().get(key, []) if home] if elsewhere else []
    if other and ".".join(map(str, path[:-1])) not in other:
        return Problem(path, f"unknown key '{key}' {place}; it belongs under {' or '.join(map(repr, other))}", True)
    near = suggestion(key, known)
    if elsewhere and "did you mean" not in near:
        further = suggestion(key, homes(), listing=False)
        if further:
            word = further.split("'")[1]
            near = f"; did you mean '{'.'.join(filter(None, (homes()[word][0], word)))}'?"
    return Problem(path, f"unknown key '{key}' {place}{near}", True)


_NOUNS = {"name": "data set", "source": "data source"}


def _problem(path: Path, errors: Sequence[Mapping[str, Any]], data: Any) -> Problem:
    first = errors[0]
    match first["type"]:
        case "extra_forbidden":
            key, section = path[-1], path[:-1]
            owners = [_tag(member) for member in members_at(section, data) if key in member.model_fields]
            if owners:
                return Problem(
                    path,
                    f"'{key}' is no setting of {_section(section, data)}, but of {', '.join(owners)}",
                    True,
                )
            return unknown_key(path, model_at(section, data).model_fields, _section(section, data))
        case "union_tag_invalid":
            tag = first["ctx"]["discriminator"].strip("'")
            known = [word.strip("' ") for word in first["ctx"]["expected_tags"].split(",")]
            noun = _NOUNS[tag] if path == ("data",) else path[-1]
            return Problem(
                (*path, tag),
                f"unknown {noun} '{first['ctx']['tag']}'{suggestion(first['ctx']['tag'], known)}",
            )
        case "union_tag_not_found":
            tag = first["ctx"]["discriminator"].strip("'")
            return Problem((*path, tag), f"'{tag}' is required in '{_dotted(path)}', but not given")
        case "missing":
            return Problem(path, f"'{_dotted(path)}' is required, but not given")
        case _:
            return Problem(path, f"{_dotted(path)}: {in_words(*errors)}")


def _real_path(error: Mapping[str, Any], data: Any) -> Path:
    """The error's location without the tags that pydantic adds for the members of unions."""
    path: list[str | int] = []
    parts = error["loc"]
    for number, part in enumerate(parts):
        if (isinstance(data, Mapping) and part in data) or (
            isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int)
        ):
            data = data[part]
        elif not (error["type"] == "missing" and number == len(parts) - 1):
            continue
        path.append(part)
    return tuple(path)


def _tag(member: type[Strict]) -> str:
    """The name, or else the source, by which a member of a union is chosen."""
    tags = (get_args(member.model_fields[tag].annotation) for tag in ("name", "source") if tag in member.model_fields)
    return str(next(values[0] for values in tags if values))


def _section(path: Path, data: Any) -> str:
    """How to call a section to the reader: 'optimizer' (adam); nothing for the top level."""
    if not path:
        return ""
    for part in path:
        data = data[part]
    return f"'{_dotted(path)}'" + (f" ({data['name']})" if "name" in data else "")


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
