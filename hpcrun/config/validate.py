"""A tree against a model: either the model, or everything that is wrong with the tree at once.

pydantic leaves a model's own rules out as soon as one field is wrong. So what is wrong is taken out of
the tree and the rest is looked at again, until nothing new turns up.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hpcrun.config import words
from hpcrun.config.tree import (
    Key,
    ListNode,
    MapNode,
    Node,
    Path,
    Place,
    Scalar,
    get,
    is_null,
    path_text,
    walk,
    with_node,
    without,
)
from hpcrun.config.yamltree import MAX_PROBLEMS
from hpcrun.errors import ConfigError, Problem

M = TypeVar("M", bound=BaseModel)

_ROUNDS = 20
_LONGEST = 2000
_TEXT_MAPPINGS = {"environment_variables", "tags", "nccl"}
_MAPPINGS_AND_LISTS = {"model_type", "model_attributes_type", "dict_type", "list_type"}

Check = Callable[[Any], "list[tuple[Path, str]]"]
"""A rule over a whole model: the paths and messages of what contradicts."""


def build(model: type[M], tree: MapNode, check: Check | None = None, known: Sequence[Problem] = ()) -> M:
    """The model that ``tree`` describes. Raises ConfigError with every problem, in the files' order.

    ``known`` are problems found before; a value at the place of one is not looked at again.
    """
    examination = _Examination(model, tree)
    examination.leave_out({problem.where for problem in known})
    result: M | None = examination.run(check)
    problems = sorted([*known, *examination.found], key=_order)
    if problems or result is None:
        more = len(problems) - MAX_PROBLEMS
        rest = [Problem(f"and {more} more")] if more > 0 else []
        raise ConfigError([*problems[:MAX_PROBLEMS], *rest])
    return result


def _order(problem: Problem) -> tuple[str, int, int]:
    match = re.fullmatch(r"(.*):(\d+):(\d+)", problem.where, re.DOTALL)
    return (match[1], int(match[2]), int(match[3])) if match else (problem.where, 0, 0)


def plain(node: Node, path: Path = ()) -> Any:
    """Plain data for the model.

    Where text is wanted anyway, numbers come as they were written: ``VERSION: 1.10`` is ``1.10`` and
    an argument ``1e-4`` is ``1e-4``.
    """
    if isinstance(node, MapNode):
        return {key: plain(child, (*path, key)) for key, child in node.entries.items()}
    if isinstance(node, ListNode):
        return [plain(item, (*path, index)) for index, item in enumerate(node.items)]
    value = node.value
    if node.text is None or value is None or isinstance(value, str):
        return value
    parent = path[-2] if len(path) > 1 else None
    if parent in _TEXT_MAPPINGS and not isinstance(value, bool):
        return node.text.strip()
    if parent == "arguments" and repr(value) != node.text:
        return node.text
    return value


class _Examination:
    def __init__(self, model: type[BaseModel], tree: MapNode) -> None:
        self.model = model
        self.whole = tree
        self.rest = tree
        self.found: list[Problem] = []
        self.taken: list[Path] = []  # known keys whose value was taken out

    def leave_out(self, places: set[str]) -> None:
        for path, node in list(walk(self.whole)):
            if str(node.place) in places and node.place.in_file:
                self._take_out(path)

    def run(self, check: Check | None) -> Any:
        for _ in range(_ROUNDS):
            try:
                result = self.model.model_validate(plain(self.rest))
            except ValidationError as error:
                before = self.rest
                self._take(error)
                if self.rest is before:
                    return None
            else:
                for path, message in check(result) if check is not None else []:
                    if not any(path[0] == taken[0] for taken in self.taken):
                        self._note(path, message, self._elsewhere(path))
                return result
        return None

    def _take(self, error: ValidationError) -> None:
        groups: dict[Path, list[Mapping[str, Any]]] = {}
        for single in error.errors(include_url=False):
            groups.setdefault(self._path(single), []).append(single)
        for path, errors in groups.items():
            if self._says_nothing(path, errors):
                continue
            deeper = any(other[: len(path)] == path and len(other) > len(path) for other in groups)
            if deeper and all(words.is_type_error(e) for e in errors):
                continue  # another branch of a union got further
            self._one(path, errors)
        for path, errors in groups.items():
            node = get(self.rest, path)
            if node is not None and self._says_nothing(path, errors):
                listed = errors[0]["type"] == "list_type"
                empty = ListNode([], node.place) if listed else MapNode({}, node.place)
                self.rest = with_node(self.rest, path, empty)
            else:
                kind = errors[0]["type"]
                broken = self._spoken_of(path, words.stated(errors[0])) if kind == "value_error" else None
                self._take_out(
                    broken or (path[:-1] if kind == "missing" else path), known=kind != "extra_forbidden"
                )

    def _says_nothing(self, path: Path, errors: list[Mapping[str, Any]]) -> bool:
        """A key of a file with nothing, or nothing but comments, below it: an empty mapping or list."""
        node = get(self.rest, path)
        if not isinstance(node, Scalar) or node.value is not None or not node.place.in_file:
            return False
        return {e["type"] for e in errors} <= _MAPPINGS_AND_LISTS and not any(
            isinstance(k, int) for k in path
        )

    def _path(self, error: Mapping[str, Any]) -> Path:
        """The path in the tree: pydantic's location without the names of union branches."""
        node: Node | None = self.rest
        path: list[Key] = []
        for key in error["loc"]:
            child = get(node, (key,))
            if child is not None:
                path.append(key)
                node = child
        if error["type"] == "missing":
            path.append(error["loc"][-1])
        return tuple(path)

    def _one(self, path: Path, errors: list[Mapping[str, Any]]) -> None:
        node, first = get(self.rest, path), errors[0]
        if first["type"] == "extra_forbidden":
            self._unknown(path)
            return
        if first["type"] == "missing":
            if path not in self.taken:
                self._note(path, "is required, and missing")
            return
        if first["type"].startswith("union_tag"):
            self._tag(path, first)
            return
        if first["loc"] and first["loc"][-1] == "[key]":
            self._note(path, words.stated(first) if words.expected(first) is None else
                       f"the name must be {words.expected(first)}", at_key=True)  # fmt: skip
            return
        concrete = [e for e in errors if not words.is_type_error(e)]
        wanted = [w for w in dict.fromkeys(map(words.expected, concrete or errors)) if w is not None]
        if "a number" in wanted and "a whole number" in wanted:
            wanted.remove("a whole number")
        if wanted:
            self._mistaken(path, node, wanted, errors)
        else:
            self._rule(path, node, words.stated((concrete or errors)[0]))

    def _tag(self, path: Path, error: Mapping[str, Any]) -> None:
        """The key that chooses between the branches of a union is missing, or chooses none."""
        given, kinds = get(self.rest, (*path, "type")), words.tags(error)
        if given is None:
            self._note(path, f"type must be {_any_of(kinds)}, and is missing")
            return
        close = words.nearest(str(given.value), kinds) if isinstance(given, Scalar) else None
        hint = f"did you mean {close}?" if close else ""
        self._note((*path, "type"), f"must be {_any_of(kinds)}, {words.found(given)}", hint)

    def _elsewhere(self, path: Path) -> str:
        """Which counts come from another file than the one that contradicts them."""
        here = place_of(self.whole, path)
        out = []
        for key in ("nodes", "tasks_per_node", "gpus_per_node"):
            node = get(self.whole, ("resources", key))
            if isinstance(node, Scalar) and node.value is not None and node.place.source != here.source:
                out.append(f"resources.{key} is {words.said(node)} in {node.place}")
        return "; ".join(out)

    def _mistaken(
        self, path: Path, node: Node | None, wanted: list[str], errors: list[Mapping[str, Any]]
    ) -> None:
        hint = words.quoting_hint(errors, node)
        if path == ("distributed_job_config",):
            hint = "as in {type: pytorch, process_count: 8}"
        literal = next((e for e in errors if e["type"] == "literal_error"), None)
        if literal is not None and isinstance(node, Scalar) and isinstance(node.value, str):
            close = words.nearest(node.value, re.findall(r"'([^']*)'", literal["ctx"]["expected"]))
            hint = f"did you mean {close}?" if close else hint
        found = "" if path[:1] == ("secrets",) else f", {words.found(node)}"  # it may be the secret itself
        self._note(path, f"expected {_any_of(wanted)}{found}", hint)

    def _rule(self, path: Path, node: Node | None, message: str) -> None:
        """A rule of a whole mapping, or of one value."""
        if not isinstance(node, MapNode):
            says_all = "found" in message or "expected" not in message
            self._note(path, message if says_all else f"{message}, {words.found(node)}")
            return
        whole = get(self.whole, path)
        if message.startswith("expected one of") and isinstance(whole, MapNode) and len(whole.entries) == 1:
            return  # it follows from what is wrong with the one that there is
        mentioned = re.findall(r"\w+", message)
        if not any(taken[:-1] == path and taken[-1] in mentioned for taken in self.taken):
            self._note(
                self._spoken_of(path, message) or path, message
            )  # else it follows from what was taken out

    def _spoken_of(self, path: Path, message: str) -> Path | None:
        """The key of the mapping at ``path`` that a rule's message speaks of first."""
        node = get(self.rest, path)
        if not isinstance(node, MapNode):
            return None
        spoken_of = (key for key in re.findall(r"\w+", message) if not is_null(node.entries.get(key)))
        first = next(spoken_of, None)
        return None if first is None else (*path, first)

    def _unknown(self, path: Path) -> None:
        prefix, key = path[:-1], str(path[-1])
        kind = get(self.whole, (*prefix, "type"))
        known = known_keys(self.model, prefix, kind.value if isinstance(kind, Scalar) else None)
        suggestion = words.meant(key, known, path_text(prefix), all_keys(self.model))
        if suggestion == path_text(path):
            suggestion = None  # a key of a sibling's: of another type of distributed_job_config
        message = f"unknown key: did you mean {suggestion}?" if suggestion else "unknown key"
        hint = f"known here: {', '.join(known)}" if known and not suggestion else ""
        self._note(path, message, hint, at_key=True)

    def _note(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        where = str(place_of(self.whole, path, at_key=at_key))
        if len(message) > _LONGEST:  # it says what was found, which may be a megabyte
            message = f"{message[: _LONGEST - 1]}…"
        problem = Problem(message, where=where, path=path_text(path), hint=hint)
        if problem not in self.found:
            self.found.append(problem)

    def _take_out(self, path: Path, *, known: bool = True) -> None:
        if path and get(self.rest, path) is not None:
            self.rest = without(self.rest, path)
            if known:
                self.taken.append(path)


def _any_of(wanted: list[str]) -> str:
    return wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} or {wanted[-1]}"


def place_of(tree: MapNode, path: Path, *, at_key: bool = False) -> Place:
    """Where the value (or the key) at ``path`` was written, or else the mapping that lacks it."""
    parent = get(tree, path[:-1]) if path else None
    if at_key and isinstance(parent, MapNode):
        return parent.key_place(str(path[-1]))
    while True:
        node = get(tree, path)
        if node is not None:
            return node.place
        path = path[:-1]


def all_keys(model: type[BaseModel], above: frozenset[type[BaseModel]] = frozenset()) -> dict[str, Any]:
    """All keys of a model, nested; what lies within itself is gone into once."""
    out: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        out[name] = {}
        for inner in _models(info.annotation):
            if inner not in above:
                out[name].update(all_keys(inner, above | {model}))
    return out


def known_keys(model: type[BaseModel], path: Path, kind: object = None) -> list[str]:
    """The keys that may stand in the mapping at ``path``, of the union's branch ``kind`` where it is one."""
    models = [model]
    for key in path:
        inner: list[type[BaseModel]] = []
        for current in models:
            if isinstance(key, str) and key in current.model_fields:
                inner += _models(current.model_fields[key].annotation)
        models = inner or models  # the keys of a free mapping (partitions.NAME) lead on to its values
    chosen = [m for m in models if "type" in m.model_fields and m.model_fields["type"].default == kind]
    models = chosen if len(models) > 1 and chosen else models
    return list(dict.fromkeys(name for current in models for name in current.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, list):
        return [m for arg in get_args(annotation) for m in _models(arg)]
    # Before Python 3.11 list[str] counts as a type as well, but not for issubclass.
    plain_class = get_origin(annotation) is None and isinstance(annotation, type)
    return [annotation] if plain_class and issubclass(annotation, BaseModel) else []
