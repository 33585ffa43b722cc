"""Configuration as a tree in which every value knows where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ScalarValue = bool | int | float | str | None
Key = str | int
Path = tuple[Key, ...]

PYTHON = "Python"
SET = "--set"
COMMAND_LINE = "command line"
DEFAULTS = "defaults"

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True)
class Place:
    """Where something was written: a file's line and column (1-based), or just a layer's name."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def in_file(self) -> bool:
        return self.line > 0


@dataclass(frozen=True)
class Scalar:
    """One value. ``text`` is what was written, where that was YAML without quotes."""

    value: ScalarValue
    place: Place
    text: str | None = None


@dataclass(frozen=True)
class ListNode:
    items: list[Node]
    place: Place


@dataclass(frozen=True)
class MapNode:
    """``keys`` holds the places of the keys themselves."""

    entries: dict[str, Node]
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)

    def key_place(self, key: str) -> Place:
        return self.keys.get(key, self.place)


Node = Scalar | ListNode | MapNode


def is_null(node: Node | None) -> bool:
    """Whether nothing is said here: no node, or YAML's null."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def from_python(value: object, place: Place) -> Node:
    """A tree of plain Python data; what is no scalar, list or mapping is kept for the model to refuse."""
    if isinstance(value, Mapping):
        entries = {str(k): from_python(v, place) for k, v in value.items()}
        return MapNode(entries, place, dict.fromkeys(entries, place))
    if isinstance(value, (list, tuple)):
        return ListNode([from_python(v, place) for v in value], place)
    return Scalar(value, place)  # type: ignore[arg-type]


def get(node: Node | None, path: Path) -> Node | None:
    """The node at ``path``, or None."""
    for key in path:
        if isinstance(node, MapNode) and isinstance(key, str):
            node = node.entries.get(key)
        elif isinstance(node, ListNode) and isinstance(key, int) and key < len(node.items):
            node = node.items[key]
        else:
            return None
    return node


def without(node: MapNode, path: Path) -> MapNode:
    """The tree without the entry at ``path``; a list is dropped whole, so that no index shifts."""
    head, rest = path[0], path[1:]
    assert isinstance(head, str)
    child = node.entries.get(head)
    entries, keys = dict(node.entries), dict(node.keys)
    if isinstance(child, MapNode) and rest:
        entries[head] = without(child, rest)
    else:
        entries.pop(head, None)
        keys.pop(head, None)
    return MapNode(entries, node.place, keys)


def with_node(node: MapNode, path: Path, new: Node) -> MapNode:
    """The tree with the value at ``path``, which leads through mappings only, replaced."""
    head, rest = path[0], path[1:]
    assert isinstance(head, str)
    child = node.entries[head]
    if rest:
        assert isinstance(child, MapNode)
        new = with_node(child, rest, new)
    return MapNode({**node.entries, head: new}, node.place, node.keys)


def with_entry(node: MapNode, key: str, child: Node, key_place: Place) -> MapNode:
    """The tree with one entry added or replaced."""
    return MapNode({**node.entries, key: child}, node.place, {**node.keys, key: key_place})


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every node with its path, the root first."""
    yield path, node
    if isinstance(node, MapNode):
        for key, child in node.entries.items():
            yield from walk(child, (*path, key))
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from walk(item, (*path, index))


def path_text(path: Path) -> str:
    """``resources.gpus_per_node``, ``arguments[2]``, ``tags."a.b"``."""
    out = ""
    for key in path:
        if isinstance(key, int):
            out += f"[{key}]"
        else:
            word = key if _PLAIN_KEY.match(key) else f'"{printable(key)}"'
            out += f".{word}" if out else word
    return out


def printable(text: str, limit: int = 60) -> str:
    """Text for a message: one line, no control characters, not too long."""
    flat = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
