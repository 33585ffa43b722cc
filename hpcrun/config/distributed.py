"""``distributed: {mpi: {node_count: 2}}``, the short way to write a distributed_job_config.

It is spelled out in the tree of each layer, before these are merged; every value keeps its place, and what
is wrong with one is told by the name that was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpcrun.config import words
from hpcrun.config.tree import MapNode, Node, Scalar, is_null, walk, with_entry, without
from hpcrun.errors import Problem

SHORT, LONG = "distributed", "distributed_job_config"
KINDS = ("mpi", "pytorch", "tensorflow")

_AS_IN = "as in {pytorch: {node_count: 2}}"


def spelled_out(tree: MapNode) -> tuple[MapNode, list[Problem], dict[str, str]]:
    """The tree with the long form in place of the short one, what is wrong with the short one, and for each
    place in it the name that was written for the long one (``distributed.mpi``)."""
    short, key_place = tree.entries.get(SHORT), tree.key_place(SHORT)
    if short is None:
        return tree, [], {}
    rest = without(tree, (SHORT,))
    if is_null(short):
        return rest, [], {}
    if not is_null(tree.entries.get(LONG)):
        message = f"{SHORT} and {LONG} say the same thing, in two ways: keep one"
        return rest, [Problem(message, where=str(key_place), path=SHORT)], {}
    if not isinstance(short, MapNode):
        return rest, [_problem(short, SHORT, f"expected {_kinds()}, {words.found(short)}", _AS_IN)], {}
    problems = list(_faults(short))
    if problems:
        return rest, problems, {}
    ((kind, below),) = short.entries.items()
    said = Scalar(kind, short.key_place(kind))
    given = below if isinstance(below, MapNode) else MapNode({}, below.place)
    long = with_entry(given, "type", said, said.place)
    names = {str(place): f"{SHORT}.{kind}" for place in _places(given)}
    return with_entry(rest, LONG, long, key_place), [], names


def _faults(short: MapNode) -> Iterable[Problem]:
    for kind, below in short.entries.items():
        path, place = f"{SHORT}.{kind}", str(short.key_place(kind))
        if kind not in KINDS:
            close = words.nearest(kind, KINDS)
            hint = "" if close else f"known here: {', '.join(KINDS)}"
            message = f"unknown key: did you mean {SHORT}.{close}?" if close else "unknown key"
            yield Problem(message, where=place, path=path, hint=hint)
        elif not isinstance(below, MapNode) and not is_null(below):
            yield _problem(below, path, f"expected keys and values, {words.found(below)}", _AS_IN)
        elif isinstance(below, MapNode) and "type" in below.entries:
            message = f"unknown key: {kind} says it already"
            yield Problem(message, where=str(below.key_place("type")), path=f"{path}.type")
    if len(short.entries) > 1:
        names = list(short.entries)
        where = str(short.key_place(names[1]))
        yield Problem(f"{' and '.join(names)} exclude each other: keep one", where=where, path=SHORT)
    elif not short.entries:
        yield _problem(short, SHORT, f"expected {_kinds()}, found nothing", _AS_IN)


def _kinds() -> str:
    return f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"


def _problem(node: Node, path: str, message: str, hint: str = "") -> Problem:
    return Problem(message, where=str(node.place), path=path, hint=hint)


def _places(given: MapNode) -> Iterable[object]:
    yield given.place
    for _, node in walk(given):
        yield node.place
        if isinstance(node, MapNode):
            yield from node.keys.values()


def as_written(problem: Problem, names: Mapping[str, str]) -> Problem:
    """A problem at one of these places, with the name that was written there."""
    name = names.get(problem.where)
    if name is None or not problem.path.startswith(LONG):
        return problem
    return problem._replace(
        path=problem.path.replace(LONG, name, 1),
        message=problem.message.replace(LONG, name),
        hint=problem.hint.replace(LONG, name),
    )
