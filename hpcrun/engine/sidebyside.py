"""Any number of runs side by side: what they are, what they were told, what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hpcrun.engine.clocks import moment
from hpcrun.engine.compare import ENVIRONMENT, git_of, settings
from hpcrun.engine.measures import series_of
from hpcrun.engine.sidebyside_rows import SECTIONS, Row
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.rows import cell
from hpcrun.metrics.series import Series, primary, summary


@dataclass(frozen=True)
class SideBySide:
    """Runs, by their ids, and all that is known of them row by row, section by section."""

    runs: list[str]
    rows: list[Row]
    series: list[list[Series]]

    def different(self) -> SideBySide:
        """Only the rows in which the runs differ."""
        return SideBySide(self.runs, [row for row in self.rows if row.differs], self.series)

    def to_csv(self) -> str:
        """A line for each run; the columns are ``run``, and ``section.key`` for each row."""
        import csv
        import io

        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", *(f"{row.section}.{row.key}" for row in self.rows)])
        for at, run in enumerate(self.runs):
            writer.writerow([run, *(cell(row.values[at]) for row in self.rows)])
        return out.getvalue()

    def to_html(self) -> str:
        """A page of its own, with curves of what was measured: nothing is loaded from elsewhere."""
        from hpcrun.engine.sidebyside_page import page

        return page(self.runs, self.rows, self.series)


def side_by_side(
    history: History, records: Sequence[RunRecord], metrics: Sequence[str] | None = None
) -> SideBySide:
    """What is known of the runs, of the metrics those of these names alone (``val_*`` too), if any are
    named. ``NAME`` in the section metrics is the last value, ``NAME (min)`` and ``NAME (max)`` the extremes
    where there are several."""
    series = [
        [each for each in primary(series_of(history, record)) if _wanted(each.name, metrics)]
        for record in records
    ]
    found: list[dict[str, Mapping[str, Any]]] = []
    for record, measured in zip(records, series, strict=True):
        said = settings(record)
        about = [key for key in said if key.partition(".")[0] in ENVIRONMENT]
        found.append(
            {
                "run": dict(_of_run(record)),
                "parameters": record.parameters,
                "metrics": dict(_of_metrics(measured)),
                "configuration": {key: said[key] for key in said if key not in about},
                "environment": {key: said[key] for key in about},
                "git": git_of(record),
            }
        )
    rows = [row for section in SECTIONS for row in _rows(section, [each[section] for each in found])]
    return SideBySide([record.id for record in records], rows, series)


def _rows(section: str, found: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for key in dict.fromkeys(key for each in found for key in each):
        yield Row(section, key, [each.get(key) for each in found])


def _wanted(name: str, metrics: Sequence[str] | None) -> bool:
    return not metrics or any(name == wanted or fnmatchcase(name, wanted) for wanted in metrics)


def _of_run(record: RunRecord) -> Iterator[tuple[str, Any]]:
    values: dict[str, Any] = {
        "experiment": record.experiment,
        "number": record.number,
        "display_name": record.display_name,
        "state": record.state.value,
        "reason": record.reason if record.reason != record.state.value else None,
        "exit_code": record.exit_code,
        "target": record.target,
        "nodes": record.nodes,
        "created": record.created,
        "waited_seconds": _seconds(record.submitted or record.created, record.started),
        "duration_seconds": _seconds(record.started, record.ended),
        "attempts": len(record.attempts) or None,
        "parent": record.parent,
        **{f"usage.{key}": value for key, value in (record.usage or {}).items()},
        **{f"tags.{key}": value for key, value in record.tags.items()},
        "snapshot": str((record.snapshot or {}).get("id", ""))[:12] or None,
    }
    yield from ((key, value) for key, value in values.items() if value not in (None, ""))


def _seconds(first: str | None, last: str | None) -> float | None:
    began, ended = moment(first), moment(last)
    if began is None or ended is None:
        return None
    return round(max(0.0, (ended - began).total_seconds()), 3)


def _of_metrics(series: Sequence[Series]) -> Iterator[tuple[str, Any]]:
    for each in series:
        if each.is_curve:
            known = summary(each)
            yield each.name, known.last
            if known.count > 1 and known.low is not None:
                yield f"{each.name} (min)", known.low
                yield f"{each.name} (max)", known.high
