"""YAML text to a tree with places, and nothing else: no tags, no anchors, no surprises.

Built on PyYAML's *events*, so nothing is ever constructed, no alias is ever expanded, and no nesting
can exhaust the stack. A plain scalar is null, true or false, a decimal number, or else text:
``yes``, ``1:30:00``, ``2024-01-01``, ``0o17``, ``007`` and ``1_000`` are text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import yaml

from hpcrun.config.tree import ListNode, MapNode, Node, Place, Scalar, ScalarValue, printable
from hpcrun.errors import ConfigError, NotFoundError, Problem

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 50
MAX_PROBLEMS = 50

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,4299})\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# What PyYAML says, and what a person needs to hear.
_HUMAN = (
    (r"character '\\t' that cannot start|found a tab character", "a tab cannot indent YAML: use spaces"),
    (r"mapping values are not allowed", "a second ': ' where a value was expected: put the value in quotes, "
     "or indent the line as its neighbours are"),
    (r"could not find expected ':'", "a line without ': ' among keys, or a quote that is never closed"),
    (r"found unexpected end of stream", "a quote that is never closed"),
    (r"expected ',' or '\]'", "a list in [ ] that is never closed, or that lacks a comma"),
    (r"expected ',' or '}'", "a mapping in { } that is never closed, or that lacks a comma"),
    (r"expected <block end>", "this line does not line up with the lines it belongs to: check the "
     "indentation, and the quotes above"),
    (r"expected '<document start>'", "something after the end of the value: expected one "
     "mapping of keys and values"),
    (r"cannot start any token", "this character cannot begin a value: put the value in quotes"),
    (r"found unknown escape character", "an unknown backslash escape in double quotes: double the backslash, "
     "or use single quotes"),
    (r"block sequence entries are not allowed|sequence entries are not allowed", "a list item ('- ') is not "
     "allowed here: begin the list on a line of its own"),
    (r"found undefined tag handle|expected URI|tag", "tags (!…) are not allowed: write the plain value, "
     "or put text that begins with ! in quotes"),
    (r"alias|anchor", "anchors and aliases are not allowed: put text that begins with & or * in quotes"),
    (r"found duplicate|directive", "directives (%…) are not allowed"),
)  # fmt: skip


def resolve_plain(text: str) -> ScalarValue:
    """The value of a scalar written without quotes. Raises ValueError for NaN and infinities."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.match(text):
        return int(text)
    if _NOT_FINITE.match(text):
        raise ValueError(f"{text} is not a number that can be used; put it in quotes if the text is meant")
    if _FLOAT.match(text) and not text.lstrip("+-").isdigit():
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def read_file(path: FilePath, shown: str | None = None) -> tuple[MapNode, list[Problem]]:
    """The tree of a YAML file that holds one mapping, and what is wrong with it.

    The tree is as good as it can be, so that further problems can be found in it. Raises ConfigError
    where there is none to speak of, NotFoundError where there is no file.
    """
    shown = str(path) if shown is None else shown
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {shown}") from None
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", where=shown)]) from error
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem("larger than 1 MB: this is no configuration file", where=shown)])
    node, problems = parse(decode(data, shown), shown)
    if isinstance(node, MapNode):
        return node, problems
    if node is None:
        raise ConfigError([Problem("nothing in it: expected keys and values", where=f"{shown}:1:1")])
    problem = Problem("expected keys and values (key: value) at the top", where=str(node.place))
    raise ConfigError([problem, *problems])


def decode(data: bytes, shown: str) -> str:
    """Text of what was written as UTF-8. Raises ConfigError with the place where it is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "replace")
        raise ConfigError(
            [Problem("not UTF-8 text: save the file as UTF-8", where=_spot(good, shown))]
        ) from None


def _spot(before: str, shown: str) -> str:
    return str(Place(shown, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1))


def parse(text: str, shown: str) -> tuple[Node | None, list[Problem]]:
    """The tree of one YAML document (None where there is none), and what is wrong with it.

    Raises ConfigError for a syntax error, and where a limit was passed.
    """
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        what = f"control character U+{ord(bad.group()):04X}"
        hint = r'write it as an escape in double quotes, such as "\t"' if bad.group() != "\0" else ""
        problem = Problem(f"{what} in the file", where=_spot(text[: bad.start()], shown), hint=hint)
        raise ConfigError([problem])
    builder = _Builder(shown)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([*builder.problems, _syntax(error, shown)]) from None
    except _Stop:
        raise ConfigError(builder.problems) from None
    except (ValueError, OverflowError):  # PyYAML's chr() of an escape past U+10FFFF
        wrong = Problem("an escape (\\U…) that names no character", where=str(builder.last))
        raise ConfigError([*builder.problems, wrong]) from None
    return builder.root, builder.problems


def _syntax(error: yaml.MarkedYAMLError, shown: str) -> Problem:
    unclosed = re.search("end of stream|expected ',' or", error.problem or "")
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    where = shown if mark is None else str(Place(shown, mark.line + 1, mark.column + 1))
    said = " ".join(part for part in (error.context, error.problem) if part)
    for pattern, words in _HUMAN:
        if re.search(pattern, error.problem or "") or re.search(pattern, said):
            return Problem(words, where=where)
    return Problem(f"not YAML: {said}", where=where)


class _Stop(Exception):
    """A limit was passed; nothing that follows is looked at."""


@dataclass
class _Frame:
    node: MapNode | ListNode
    key: str | None = None
    key_place: Place | None = None
    wants_value: bool = False
    seen: dict[str, Place] = field(default_factory=dict)


class _Builder:
    """Takes events one by one; problems are gathered, and the tree goes on past them."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self.last = Place(shown, 1, 1)
        self._nodes = 0
        self._documents = 0
        self._named: set[str] = set()

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        place = Place(self.shown, mark.line + 1, mark.column + 1) if mark is not None else Place(self.shown)
        self.last = place
        if isinstance(event, yaml.DocumentStartEvent):
            self._document(event, place)
        elif isinstance(event, yaml.AliasEvent):
            self._once(place, f"*{event.anchor}", "aliases", "or put the text in quotes")
            self._add(Scalar(None, place), quoted=False)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_extras(event, place)
            self._scalar(event, place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_extras(event, place)
            is_map = isinstance(event, yaml.MappingStartEvent)
            self._add(MapNode({}, place) if is_map else ListNode([], place), quoted=False)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()

    def _note(self, place: Place, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, where=str(place), hint=hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _once(self, place: Place, name: str, what: str, more: str) -> None:
        """A problem that one name may have in a thousand places."""
        if name not in self._named:
            self._named.add(name)
            self._note(place, f"{what} ({printable(name, 20)}) are not allowed: write the value out, {more}")

    def _document(self, event: yaml.DocumentStartEvent, place: Place) -> None:
        self._documents += 1
        if self._documents > 1:
            self._note(place, "a second document ('---'): one file holds one configuration")
            raise _Stop
        if event.version or event.tags:
            self._note(place, "directives (%…) are not allowed")

    def _refuse_extras(self, event: yaml.NodeEvent, place: Place) -> None:
        if event.anchor is not None:
            self._once(place, f"&{event.anchor}", "anchors", "or put the text in quotes")
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = printable(str(tag).replace("tag:yaml.org,2002:", "!!"))
            self._note(place, f"tags ({shown}) are not allowed: write the plain value")

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        if "\0" in event.value:
            self._note(place, "a NUL character cannot be in a configuration")
        if event.style is not None:
            self._add(Scalar(event.value, place), quoted=True)
            return
        try:
            value = resolve_plain(event.value)
        except ValueError as error:
            self._note(place, str(error))
            value = None
        self._add(Scalar(value, place, event.value), quoted=False)

    def _add(self, node: Node, *, quoted: bool) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._note(node.place, f"more than {MAX_NODES:,} values: this is no configuration file")
            raise _Stop
        if len(self._stack) >= MAX_DEPTH:
            self._note(node.place, f"nested more than {MAX_DEPTH} levels deep")
            raise _Stop
        parent = self._stack[-1] if self._stack else None
        if parent is None:
            self.root = node
        elif isinstance(parent.node, ListNode):
            parent.node.items.append(node)
        elif not parent.wants_value:
            self._key(parent, node, quoted=quoted)
        else:
            self._value(parent, node)
        if not isinstance(node, Scalar):
            self._stack.append(_Frame(node))

    def _key(self, frame: _Frame, node: Node, *, quoted: bool) -> None:
        frame.wants_value, frame.key, frame.key_place = True, None, node.place
        if not isinstance(node, Scalar):
            self._note(node.place, "a key must be text, not a list or a mapping")
        elif not isinstance(node.value, str):
            said = node.text or "an empty key"
            hint = f'put it in quotes: "{node.text}"' if node.text else ""
            self._note(node.place, f"a key must be text, found {said}", hint)
        elif node.value == "<<" and not quoted:
            self._note(node.place, "merge keys (<<) are not allowed: write the values out")
        elif node.value in frame.seen:
            first = frame.seen[node.value]
            self._note(
                node.place,
                f"{printable(node.value)} is given twice: first in line {first.line}, and here again",
            )
        else:
            frame.key = node.value
            frame.seen[node.value] = node.place

    def _value(self, frame: _Frame, node: Node) -> None:
        frame.wants_value = False
        if frame.key is not None:
            assert isinstance(frame.node, MapNode) and frame.key_place is not None
            frame.node.entries[frame.key] = node
            frame.node.keys[frame.key] = frame.key_place
