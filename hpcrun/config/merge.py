"""Layers of configuration on top of each other: the higher one's word is the last.

Built-in defaults < site defaults < partition defaults < file (or Python) < ``--set`` < flags. Mappings
merge, everything else replaces. Where two keys exclude each other (``memory`` and ``memory_per_cpu``,
``script`` and ``command``), the higher layer's choice drops the lower layer's other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpcrun.config.tree import (
    COMMAND_LINE,
    SET,
    MapNode,
    Node,
    Path,
    Place,
    Scalar,
    from_python,
    get,
    is_null,
    path_text,
    printable,
    with_entry,
    without,
)
from hpcrun.config.yamltree import MAX_DEPTH, parse, resolve_plain
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.environment import ENVIRONMENT_KINDS

_NODES = "resources.nodes", "distributed_job_config.node_count"
_OPEN = "distributed_job_config.min_nodes", "distributed_job_config.max_nodes"
_TASKS = (
    "resources.tasks_per_node",
    "distributed_job_config.process_count_per_node",
    "distributed_job_config.process_count",
)

# (what a layer sets, what it thereby takes away from the layers below)
_INSTEAD: list[tuple[str, tuple[str, ...]]] = [
    ("script", ("command",)),
    ("command", ("script", "arguments")),
    *(
        (f"environment.{kind}", tuple(f"environment.{other}" for other in ENVIRONMENT_KINDS if other != kind))
        for kind in ENVIRONMENT_KINDS
    ),
    ("environment.conda.name", ("environment.conda.prefix",)),
    ("environment.conda.prefix", ("environment.conda.name",)),
    ("resources.memory", ("resources.memory_per_cpu", "resources.memory_per_gpu")),
    ("resources.memory_per_cpu", ("resources.memory", "resources.memory_per_gpu")),
    ("resources.memory_per_gpu", ("resources.memory", "resources.memory_per_cpu")),
    (_NODES[0], (_NODES[1], *_OPEN)),
    (_NODES[1], (_NODES[0], *_OPEN)),
    *((most_or_least, _NODES) for most_or_least in _OPEN),
    ("distributed_job_config.worker_count", (_NODES[0], _TASKS[0])),
    (_TASKS[0], _TASKS[1:]),
    (_TASKS[1], (_TASKS[0], _TASKS[2])),
    (_TASKS[2], (_TASKS[0], _TASKS[1])),
]

_IMAGE, _INSIDE = "environment.apptainer", "environment.venv"

# Mappings that may be absent altogether: null takes them away. Null for any other mapping says nothing.
_OPTIONAL_MAPPINGS = {*ENVIRONMENT_KINDS, "distributed_job_config"}
_FREE_MAPPINGS = {"environment_variables", "inputs", "secrets", "tags"}

_SEGMENT = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^.\"'=]+)")


def merge_layers(layers: Iterable[MapNode]) -> MapNode:
    """All layers as one tree, the lowest first; every value keeps the place it was written at."""
    merged: MapNode | None = None
    for layer in layers:
        merged = layer if merged is None else _over(_make_room(merged, layer), layer, ())
    if merged is None:
        raise ValueError("there is no layer to merge")
    return merged


def _make_room(lower: MapNode, upper: MapNode) -> MapNode:
    """``lower`` without what a choice in ``upper`` replaces."""
    for chosen, others in _INSTEAD:
        node = get(upper, tuple(chosen.split(".")))
        if node is not None and not is_null(node):
            for other in others:
                if node.place.source == SET and _go_together(chosen, other, lower):
                    continue
                path = tuple(other.split("."))
                if get(lower, path) is not None:
                    lower = without(lower, path)
    gpus = get(upper, ("resources", "gpus_per_node"))
    if isinstance(gpus, Scalar) and gpus.value in (0, "0", None):
        lower = without(lower, ("resources", "memory_per_gpu"))
    kind, old = (get(tree, ("distributed_job_config", "type")) for tree in (upper, lower))
    if isinstance(kind, Scalar) and isinstance(old, Scalar) and kind.value != old.value:
        lower = without(lower, ("distributed_job_config",))
    return _one_partition(lower, upper)


def _go_together(chosen: str, other: str, lower: MapNode) -> bool:
    """Whether ``--set`` leaves one kind of environment beside another: a virtual environment goes inside the
    image that there is; a change of that image leaves the one inside."""
    if (chosen, other) == (_IMAGE, _INSIDE):
        return not is_null(get(lower, tuple(_IMAGE.split("."))))
    return (chosen, other) == (_INSIDE, _IMAGE)


def _one_partition(lower: MapNode, upper: MapNode) -> MapNode:
    """``compute_target: SITE:PARTITION`` and ``resources.partition`` name the same thing."""
    target, old = get(upper, ("compute_target",)), get(lower, ("compute_target",))
    if _names_partition(target) and get(lower, ("resources", "partition")) is not None:
        return without(lower, ("resources", "partition"))
    if (
        not is_null(get(upper, ("resources", "partition")))
        and isinstance(old, Scalar)
        and _names_partition(old)
    ):
        bare = replace(old, value=str(old.value).partition(":")[0], text=None)
        return with_entry(lower, "compute_target", bare, lower.key_place("compute_target"))
    return lower


def _names_partition(target: Node | None) -> bool:
    return isinstance(target, Scalar) and isinstance(target.value, str) and ":" in target.value


def _over(lower: MapNode, upper: MapNode, path: Path) -> MapNode:
    # A mapping with values of several layers counts as standing where the highest file has it.
    merged = replace(lower, place=upper.place) if upper.place.in_file else lower
    for key, new in upper.entries.items():
        old = lower.entries.get(key)
        if isinstance(new, MapNode):
            new = _over(old if isinstance(old, MapNode) else MapNode({}, new.place), new, (*path, key))
        elif (
            isinstance(old, MapNode) and is_null(new) and new.place.in_file and key not in _OPTIONAL_MAPPINGS
        ):
            continue
        elif is_null(new) and new.place.source == SET and path and path[-1] in _FREE_MAPPINGS:
            if old is not None:
                merged = without(merged, (key,))
            continue
        merged = with_entry(merged, key, new, upper.key_place(key))
    return merged


def flags_layer(flags: Mapping[str, object]) -> MapNode:
    """Options of the command line, by key path (``resources.nodes``); None means not given."""
    place = Place(COMMAND_LINE)
    layer = MapNode({}, place)
    for path, value in flags.items():
        if value is not None:
            layer = _put(layer, tuple(path.split(".")), from_python(value, place), place)
    return layer


def overrides_layer(overrides: Sequence[str]) -> tuple[MapNode, list[Problem]]:
    """All ``--set KEY=VALUE`` as one layer, later ones over earlier ones, and what is wrong with them."""
    place = Place(SET)
    layer, problems = MapNode({}, place), []
    for override in overrides:
        try:
            path, value = parse_override(override)
        except ConfigError as error:
            problems += error.problems
        else:
            layer = _put(layer, path, value, place)
    return layer, problems


def parse_override(text: str) -> tuple[tuple[str, ...], Node]:
    """``a.b=c`` as a path and a tree.

    A value that begins with ``[``, ``{`` or a quote is YAML; any other is one plain scalar, so that
    ``command=echo a: b`` is text. Nothing after ``=`` is null. Keys with dots stand in quotes.
    """
    path, position = [], 0
    while True:
        match = _SEGMENT.match(text, position)
        if match is None:
            raise _refused(text, "expected KEY=VALUE, as in resources.nodes=2")
        path.append(next(group for group in match.groups() if group is not None).strip())
        position = match.end()
        if text[position : position + 1] != ".":
            break
        position += 1
    if len(path) > MAX_DEPTH:
        raise _refused(text, f"nested more than {MAX_DEPTH} levels deep")
    if text[position : position + 1] != "=":
        raise _refused(text, "expected KEY=VALUE, as in resources.nodes=2")
    for index, key in enumerate(path):
        listed = re.search(r"\[-?\d*\]\Z", key)
        if listed or (index and key.isdigit() and path[index - 1] in ("arguments", "command", "modules")):
            whole = path_text(tuple([*path[:index], key[: listed.start()]] if listed else path[:index]))
            raise _refused(
                text, f"single items of a list cannot be set: set it whole, {whole}=[first, second]"
            )
    return tuple(path), _override_value(text, path, text[position + 1 :])


def _refused(text: str, message: str, path: str = "") -> ConfigError:
    return ConfigError([Problem(f"{message}; found {printable(text)!r}", where=SET, path=path)])


def _override_value(text: str, path: list[str], value: str) -> Node:
    place, shown = Place(SET), path_text(tuple(path))
    if value.lstrip()[:1] in ("[", "{", '"', "'"):
        try:
            node, problems = parse(value, SET)
        except ConfigError as error:
            node, problems = None, error.problems
        if problems:
            raise ConfigError([p._replace(where=SET, path=shown) for p in problems])
        return place_everywhere(node, place) if node is not None else Scalar(None, place)
    if "\0" in value:
        raise _refused(text, "a NUL character cannot be in a configuration", shown)
    try:
        resolved = resolve_plain(value.strip())
    except ValueError as error:
        raise _refused(text, str(error), shown) from None
    return Scalar(value if isinstance(resolved, str) else resolved, place, value)


def place_everywhere(node: Node, place: Place) -> Node:
    """The same tree, as if all of it had been written at ``place``."""
    if isinstance(node, MapNode):
        entries = {k: place_everywhere(v, place) for k, v in node.entries.items()}
        return MapNode(entries, place, dict.fromkeys(entries, place))
    if isinstance(node, Scalar):
        return replace(node, place=place)
    return replace(node, items=[place_everywhere(item, place) for item in node.items], place=place)


def _put(tree: MapNode, path: Sequence[str], value: Node, place: Place) -> MapNode:
    head, rest = path[0], path[1:]
    if rest:
        child = tree.entries.get(head)
        value = _put(child if isinstance(child, MapNode) else MapNode({}, place), rest, value, place)
    return with_entry(tree, head, value, place)
