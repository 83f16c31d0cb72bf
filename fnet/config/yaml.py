"""YAML 1.2 as plain data with the line and column of every value, read with bounded time and memory.

Only text, numbers, true, false, null, lists, and mappings with text as keys exist in a config; tags that make other
objects are refused. A file is composed from the parser's events, so that its limits hold before anything is built.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode

from fnet.core.description import MAX_VALUES
from fnet.core.wording import first_line, format_value, shorten

MAX_BYTES = 2**22
"""Size of the largest config, in bytes. Data belong in files of their own, and `repeat` writes equal layers once."""

MAX_DEPTH = 100
"""Number of levels of lists and mappings inside each other, which bounds the recursion over networks."""

MAX_INTEGER = 2**64
"""Bound of the absolute value of integers."""

Key = str | int
Position = tuple[int, int]
"""Line and column, counted from 1."""

_CORE = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
    "seq": (list,),
    "map": (dict,),
}
"""The types of the tags of YAML's core schema."""

_NO_TEXT = re.compile("[\\x00\\ud800-\\udfff]")
_RESOLVER = YAML(typ="safe", pure=True).resolver
"""Decides which plain scalars are numbers, as it does when a config is written."""


@dataclasses.dataclass
class Node:
    """A value in a file.

    Args:
        position: where it stands.
        value: a scalar; an empty list or mapping for a collection, whose values are the children.
        children: values of a mapping by key, or of a list by index.
        keys: positions of the keys of a mapping.
        size: number of values, itself included.
        height: number of levels of lists and mappings.
    """

    position: Position
    value: Any
    children: dict[Key, "Node"] = dataclasses.field(default_factory=dict)
    keys: dict[Key, Position] = dataclasses.field(default_factory=dict)
    size: int = 1
    height: int = 0

    def plain(self) -> Any:
        """Return the value as data of its own: dict, list, str, bool, int, float or None."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.children.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.children.values()]
        return self.value

    def add(self, key: Key, child: "Node") -> None:
        """Add a value to a list or mapping."""
        self.children[key] = child
        self.size += child.size
        self.height = max(self.height, child.height + 1)


class YamlError(ValueError):
    """Text that is not the YAML of a config.

    Args:
        problems: what is wrong, each with its position if it has one.
    """

    def __init__(self, problems: list[tuple[Position | None, str]]):
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def parse(text: str) -> Node | None:
    """Parse YAML; return None if there is no document.

    Raises:
        YamlError: when the text is not YAML, contains objects other than plain data, or exceeds a limit.
    """
    composer = _Composer(_events(text))
    node = composer.document()
    if composer.problems:
        raise YamlError(composer.problems)
    return node


def _events(text: str) -> Iterator[Event]:
    """Yield the parser's events.

    Raises:
        YamlError: when the text is not YAML.
    """
    events = YAML(typ="safe", pure=True).parse(text)
    while True:
        try:
            yield next(events)
        except StopIteration:
            return
        except MarkedYAMLError as error:
            raise YamlError([_syntax_problem(error)]) from None
        except YAMLError as error:
            raise YamlError([(None, f"not YAML: {first_line(error)}")]) from None
        except (ValueError, OverflowError):  # an escape such as \U99999999
            raise YamlError([(None, "not YAML: found an escape of a character that does not exist")]) from None


def _syntax_problem(error: MarkedYAMLError) -> tuple[Position | None, str]:
    problem = (error.problem or "cannot be parsed").splitlines()[0]
    if "'\\t'" in problem:
        problem = "found a tab; YAML indents with spaces"
    elif problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    opened, mark = error.context_mark, error.problem_mark or error.context_mark
    if opened and mark and opened.line != mark.line:
        problem += f", {error.context} from {opened.line + 1}:{opened.column + 1}"
    return (_position(mark) if mark else None), f"not YAML: {problem}"


def _position(mark: Any) -> Position:
    return mark.line + 1, mark.column + 1


def exceeded_limit(data: Any) -> str | None:
    """Return the limit that plain data exceed, so that they could not be read again; None if there is none."""
    size, level = 0, [data]
    for _ in range(MAX_DEPTH + 1):
        size += len(level)
        collections = (
            part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)
        )
        level = [value for values in collections for value in values]
        if size > MAX_VALUES:
            return f"{MAX_VALUES:,} values"
        if not level:
            return None
    return f"{MAX_DEPTH} levels of nesting"


class _Composer:
    """Composes nodes from events; collects the problems that do not prevent it from continuing."""

    def __init__(self, events: Iterator[Event]):
        self.problems: list[tuple[Position | None, str]] = []
        self._events = events
        self._anchors: dict[str, Node | None] = {}
        self._size = 0

    def document(self) -> Node | None:
        """Return the only document, or None for an empty text."""
        root: Node | None = None
        seen = False
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if event.version and tuple(event.version) != (1, 2):
                    version = ".".join(map(str, event.version))
                    self._fail(event, f"expected YAML 1.2, got the directive %YAML {version}; remove the line")
                if seen:
                    self._fail(event, "not YAML: expected a single document, but found another one")
                seen, first = True, next(self._events)
                root = self._node(first, depth=0)
            elif isinstance(event, StreamEndEvent):
                break
        return root

    def _fail(self, event: Event, message: str) -> None:
        raise YamlError([(_position(event.start_mark), message)])

    def _count(self, event: Event, size: int, depth: int) -> None:
        """Count values, and refuse more than the limits."""
        self._size += size
        if self._size > MAX_VALUES:
            self._fail(
                event,
                f"expected at most {MAX_VALUES:,} values, counted at each use of an alias, got more; write equal "
                "layers with repeat: {times: N, layers: [...]}",
            )
        if depth > MAX_DEPTH:
            self._fail(event, f"expected at most {MAX_DEPTH} levels of nesting, got more; write lists side by side")

    def _node(self, event: Event, depth: int) -> Node:
        position = _position(event.start_mark)
        if isinstance(event, AliasEvent):
            return self._alias(event, position, depth)
        anchor = getattr(event, "anchor", None)
        self._count(event, 1, depth)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, ScalarEvent):
            node = Node(position, self._scalar(event))
        elif isinstance(event, MappingStartEvent):
            node = Node(position, {}, height=1)
            self._fill_mapping(node, depth)
        else:
            node = Node(position, [], height=1)
            while not isinstance(item := next(self._events), SequenceEndEvent):
                node.add(len(node.children), self._node(item, depth + 1))
        self._check_tag(event, node)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, event: AliasEvent, position: Position, depth: int) -> Node:
        if event.anchor not in self._anchors:
            self._fail(event, f"not YAML: found undefined alias '{event.anchor}'")
        node = self._anchors[event.anchor]
        if node is None:
            self._fail(event, f"the alias *{event.anchor} stands inside its own value; write the value out")
        assert node is not None
        self._count(event, node.size, depth + node.height)
        return dataclasses.replace(node, position=position)

    def _fill_mapping(self, node: Node, depth: int) -> None:
        merged: list[Node] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            is_merge = isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = self._node(event, depth + 1)
            value = self._node(following := next(self._events), depth + 1)
            if is_merge:
                merged += self._mappings(following, value)
            elif not isinstance(key.value, str):
                received = format_value(key.value)
                fix = "" if isinstance(key.value, dict | list) else "; put it in quotes"
                self.problems.append((key.position, f"expected text as a key, got {received}{fix}"))
            elif key.value in node.children:
                line, column = node.keys[key.value]
                self.problems.append(
                    (key.position, f"not YAML: duplicate key {format_value(key.value)}, first at {line}:{column}")
                )
            else:
                node.add(key.value, value)
                node.keys[key.value] = key.position
        for other in merged:
            for key, child in other.children.items():
                if key not in node.children:
                    node.add(key, child)
                    node.keys[key] = other.keys[key]

    def _mappings(self, event: Event, value: Node) -> list[Node]:
        """Return the mappings that a merge key `<<` inserts."""
        mappings = [*value.children.values()] if isinstance(value.value, list) else [value]
        if not all(isinstance(mapping.value, dict) for mapping in mappings):
            self._fail(event, "expected a mapping, or a list of mappings, after <<")
        return mappings

    def _scalar(self, event: ScalarEvent) -> Any:
        text, tag = event.value, _tag(event)
        if _NO_TEXT.search(text):  # JSON writes a character beyond 16 bits as a pair of surrogates
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _NO_TEXT.search(text):
            self._fail(event, "expected text without NUL characters and halves of surrogate pairs")
        if tag == f"{_CORE}str" or (tag is None and not event.implicit[0]) or tag == "!":
            return text
        kind = str(_RESOLVER.resolve(ScalarNode, text, (True, False))).removeprefix(_CORE)
        try:
            if kind == "int":
                return self._integer(event)
            if kind == "float":
                return float(re.sub(r"_|\.(?=inf|nan)", "", text.lower()))
        except ValueError:  # no digits, such as 0x_
            return text
        return {"null": None, "bool": text.lower() == "true"}.get(kind, text)

    def _integer(self, event: ScalarEvent) -> int:
        digits = event.value.replace("_", "")
        prefixed = digits.lstrip("+-")[:2] in ("0b", "0o", "0x")
        # Python refuses to convert thousands of decimal digits.
        number = int(digits, 0 if prefixed else 10) if len(digits) < 70 else MAX_INTEGER
        if abs(number) < MAX_INTEGER:
            return number
        message = f"expected a whole number of at most 64 bits, got {shorten(digits)}"
        self.problems.append((_position(event.start_mark), f"{message}; write a real number with an exponent: 1.0e30"))
        return 0

    def _check_tag(self, event: Event, node: Node) -> None:
        """Refuse tags that are not of the core schema, or do not fit the value."""
        tag = _tag(event)
        if tag is None or tag == "!":
            return
        name = tag.removeprefix(_CORE)
        shown = f"!!{name}" if tag.startswith(_CORE) else tag
        if name not in _TYPES or not tag.startswith(_CORE):
            self._fail(event, f"unknown tag '{shown}'; a config is plain data, remove the tag")
        if not _fits(node.value, _TYPES[name]):
            self._fail(event, f"the tag '{shown}' does not fit {format_value(node.value)}; remove the tag")


def _tag(event: Event) -> str | None:
    return getattr(event, "ctag", None) and str(event.ctag)  # pyright: ignore[reportAttributeAccessIssue]


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)
