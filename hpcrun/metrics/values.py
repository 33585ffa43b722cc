"""The values of metrics in the shapes that Azure ML gives them: once logged a value, often logged a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcrun.metrics.reading import Point

_LIST, _ROW, _TABLE = "list", "row", "table"


def by_name(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each metric, in their order. Of several ranks that have it, those of the lowest."""
    found: dict[str, list[Point]] = {}
    for point in points:
        known = found.setdefault(point.name, [])
        if known and known[0].rank > point.rank:
            known.clear()
        if not known or known[0].rank == point.rank:
            known.append(point)
    return found


def shaped(points: Sequence[Point]) -> Any:
    """One metric as :meth:`hpcrun.Run.get_metrics` gives it.

    A plain value is itself, where there is one alone, and one of a list where there are more; values that
    were logged as a list stay one. One row is ``{column: value}``; several are ``{column: [values]}``, None
    where a row has no such column, and so are tables. Images are paths below the run's folder. Of documents
    there is one, or a list of them.
    """
    kinds = {point.kind for point in points}
    if kinds <= {_ROW, _TABLE} and all(isinstance(point.value, Mapping) for point in points):
        return dict(points[0].value) if len(points) == 1 else _columns(points)
    values: list[Any] = []
    for point in points:
        if point.kind == _LIST and isinstance(point.value, list):
            values += point.value
        else:
            values.append(_plain(point))
    return values[0] if len(values) == 1 and kinds != {_LIST} else values


def _plain(point: Point) -> Any:
    if point.kind == "image" and isinstance(point.value, Mapping) and "path" in point.value:
        return point.value["path"]
    return point.value


def _columns(points: Sequence[Point]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    rows = 0
    for point in points:
        cells = {name: _cells(value, point.kind) for name, value in point.value.items()}
        more = max(map(len, cells.values()), default=0)
        for name in dict.fromkeys([*columns, *cells]):
            new = cells.get(name, [])
            columns.setdefault(name, [None] * rows).extend([*new, *[None] * (more - len(new))])
        rows += more
    return columns


def _cells(value: Any, kind: str) -> list[Any]:
    return value if kind == _TABLE and isinstance(value, list) else [value]
