"""Metrics and parameters as ``hpcrun ls`` asks for them and shows them: columns and keys of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun.cli.text import printable, value_text
from hpcrun.metrics.where import COUNT, LAST, LEAST, MOST, Name, sort_key

if TYPE_CHECKING:
    from hpcrun.history.index import RunRow
    from hpcrun.history.measures import Metric
    from hpcrun.history.store import History

_WORDS = {LAST: "", LEAST: "min:", MOST: "max:", COUNT: "count:"}
_WIDTH = 24


class Measures:
    """What of runs' metrics and parameters is shown: those that were asked for by name."""

    def __init__(self, history: History, names: Iterable[Name]) -> None:
        self._history = history
        self._names = list(dict.fromkeys(Name(name.text, name.kind, name.which) for name in names))

    def __bool__(self) -> bool:
        return bool(self._names)

    def columns(self, rows: Sequence[RunRow]) -> dict[str, Callable[[RunRow], str]]:
        """A column for each, by its head."""
        found = self._values(rows)
        return {
            self._head(name): (lambda row, name=name: _cell(found[row.id], name))  # type: ignore[misc]
            for name in self._names
        }

    def document(self, rows: Sequence[RunRow]) -> dict[str, dict[str, Any]]:
        """``metrics`` and ``parameters`` of each run, by its id: those that it has."""
        return {
            run_id: {
                "metrics": {_key(name): value for name, value in values.items() if name.kind == "metric"},
                "parameters": {_key(name): value for name, value in values.items() if name.kind == "param"},
            }
            for run_id, values in self._values(rows).items()
        }

    def _values(self, rows: Sequence[RunRow]) -> dict[str, dict[Name, Any]]:
        ids = [row.id for row in rows]
        wanted = {name.kind for name in self._names}
        metrics = self._history.metrics_of(ids) if "metric" in wanted else {}
        parameters = self._history.parameters_of(ids) if "param" in wanted else {}
        found: dict[str, dict[Name, Any]] = {}
        for run_id in ids:
            there = {each.name: each for each in metrics.get(run_id, [])}
            told = parameters.get(run_id, {})
            found[run_id] = {
                name: told[name.text] if name.kind == "param" else _of(there[name.text], name)
                for name in self._names
                if name.text in (told if name.kind == "param" else there)
            }
        return found

    def _head(self, name: Name) -> str:
        """The name itself, and what kind it is where both are shown."""
        both = sum(other.text == name.text and other.which == name.which for other in self._names) > 1
        return (f"{name.kind}:" if both else "") + printable(_key(name))


def names_of(sort: str | None, heads: Sequence[str] | None) -> list[Name]:
    """The metrics and parameters that runs are sorted by, or that are named as columns."""
    keys = [sort_key(word) for word in [*([] if sort is None else [sort]), *(heads or [])]]
    return [key.name for key in keys if key is not None]


def chosen(heads: Sequence[str] | None, columns: Mapping[str, object]) -> list[str] | None:
    """The heads of columns that were named; those of metrics and parameters as they are shown."""
    if heads is None:
        return None
    found = []
    for head in heads:
        key = sort_key(head)
        text = head if key is None else printable(_key(key.name))
        found.append(text if key is None or text in columns else f"{key.name.kind}:{text}")
    return found


def last_text(metric: Metric) -> str:
    """The last value of a metric, as far as the index has it."""
    name = Name(metric.name, "metric")
    return _cell({name: metric.last}, name)


def _key(name: Name) -> str:
    return _WORDS[name.which] + name.text


def _of(metric: Metric, name: Name) -> Any:
    if name.which == LAST:
        return metric.last
    return {LEAST: metric.least, MOST: metric.most, COUNT: metric.count}[name.which]


def _cell(values: Mapping[Name, Any], name: Name) -> str:
    value = values.get(name)
    return "-" if value is None else value_text(value, _WIDTH) or "-"
