"""Lines of ``hpcrun show``: what a run belongs to, and what was asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpcrun.cli.text import printable, short_id, value_text
from hpcrun.states import Reason

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.metrics.series import Series

Line = tuple[str, str]


def family(r: RunRecord, history: History) -> Iterator[Line]:
    """Its parent, and how many children it has in which state."""
    if r.parent is not None:
        yield "parent", r.parent
    counts = history.count_children(r.id)
    if counts:
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        yield "children", f"{sum(counts.values())}: {states}"
        yield "", f"hpcrun ls --parent {short_id(r.id)}"


def waits(r: RunRecord, history: History) -> Iterator[Line]:
    """The runs that it comes after, and those that wait for it."""
    from hpcrun.engine.before import WORDS, before_of, stands
    from hpcrun.errors import HpcrunError

    for index, before in enumerate(before_of(r)):
        try:
            state = f", {stands(history.get(before.run))}"
        except HpcrunError:
            state = ", which is gone"
        yield "" if index else "after", f"{before.run}{state}; it was to {WORDS[before.when]}"
    if r.state.final:
        return
    waiting = [row.id for row in history.active() if row.reason == Reason.DEPENDENCY]
    ahead = [run_id for run_id in waiting if r.id in {each.run for each in before_of(history.get(run_id))}]
    for index, run_id in enumerate(ahead):
        yield "" if index else "before", f"{run_id}, which waits for it"


def asked(r: RunRecord) -> Iterator[Line]:
    """The processes and resources that were asked for, and the software."""
    settings = r.config.get("settings")
    pairs = settings.items() if isinstance(settings, dict) else ()
    said = [(key, _text(value)) for key, value in pairs if value not in (None, "", [], {})]
    words = [f"{_below(key).replace('_', ' ')} {text}" for key, text in said if key.startswith("resources.")]
    processes = r.config.get("processes")
    if isinstance(processes, int) and processes > 1:
        words.insert(0, f"{processes} processes ({r.config.get('kind')})")
    if words:
        yield "asked for", ", ".join(words)
    software = [(_below(key), text) for key, text in said if key.startswith("environment.")]
    for index, (key, text) in enumerate(software):
        yield "" if index else "environment", f"{key}: {text}"


def _below(key: str) -> str:
    return key.partition(".")[2]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    return printable(value if isinstance(value, str) else json.dumps(value))


METRICS, METRICS_BYTES = 20, 4 << 20
"""So many metrics are shown of a run, and no curves of one that has measured more, which would take time."""


def measured(r: RunRecord, history: History) -> Iterator[Line]:
    """What it was told by name, and the last values of what it has measured, with their curves."""
    from hpcrun.cli.measures import last_text
    from hpcrun.cli.metricstable import levels
    from hpcrun.cli.sweeptext import parameters_text
    from hpcrun.metrics.sparkline import sparkline

    if told := history.parameters_of([r.id]).get(r.id):
        yield "parameters", parameters_text(told)
    large, more = _large(r, history), f"hpcrun metrics {short_id(r.id)}"
    curves = {} if large else _curves(r, history)
    known = {each.name: each for each in history.metrics_of([r.id]).get(r.id, [])}
    names = [*curves, *sorted({*known} - {*curves})]
    rows = []
    for name in names[:METRICS]:
        curve = curves.get(name)
        last = last_text(known[name]) if curve is None else value_text(curve.spread[-1], 24)
        several = curve is not None and len(curve.spread) > 1
        drawn = sparkline(curve.numbers(), 16, levels=levels()) if curve and several else ""
        rows.append((printable(name), last, drawn))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{name:<{widths[0]}}  {last:<{widths[1]}}  {drawn}".rstrip() for name, last, drawn in rows]
    if len(names) > METRICS:
        lines.append(f"… and {len(names) - METRICS} more: {more}")
    elif large:
        lines.append(more)
    if history.left_out(r.id):
        lines.append("not all are in the index: there are too many, or their names are too long")
    for index, line in enumerate(lines):
        yield "" if index else "metrics", line


def _large(r: RunRecord, history: History) -> bool:
    from hpcrun.metrics.reading import rank_files

    try:
        return sum(p.stat().st_size for p in rank_files(history.seen(r).metrics).values()) > METRICS_BYTES
    except OSError:
        return True


def _curves(r: RunRecord, history: History) -> dict[str, Series]:
    from hpcrun.engine.measures import series_of
    from hpcrun.metrics.series import primary

    return {each.name: each for each in primary(series_of(history, r)) if each.is_curve and each.spread}
