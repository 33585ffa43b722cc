"""The trials of a sweep, as the history has them: which there are, what they were given and reported."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.errors import HistoryError
from hpcrun.history.files import write_atomically
from hpcrun.history.index import RunRow
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.reading import SCALAR, rank_files, read_new
from hpcrun.states import Reason, RunState
from hpcrun.sweeps.driver import Outcome

TRIAL = "trial"
"""The property of a run that has its number among the trials of its sweep."""

_ASKED = 100
"""So many trials are asked what they reported, if not the primary metric."""


@dataclass(frozen=True)
class Trial:
    """A trial by its latest attempt. ``values`` are what it reported of the primary metric, in their order;
    ``best`` the best of them, None where there is none; ``ended`` when its run did."""

    number: int
    run_id: str
    state: RunState
    reason: str
    parameters: Mapping[str, Any]
    values: tuple[float, ...]
    best: float | None
    ended: str | None = None


def key_of(sweep_id: str, number: int, attempt: int = 0) -> str:
    """The key of a trial; of its ``attempt``, from 1 on, where it is tried again."""
    return f"{sweep_id}/{number}.{attempt}" if attempt else f"{sweep_id}/{number}"


def number_of(sweep_id: str, key: str | None) -> tuple[int, int] | None:
    """Number and attempt that a key says; None for one that is no trial's of this sweep."""
    head, slash, tail = (key or "").partition("/")
    number, _, attempt = tail.partition(".")
    if head != sweep_id or not slash or not number.isdigit() or not (attempt or "0").isdigit():
        return None
    return int(number), int(attempt or 0)


def rows_of(history: History, sweep_id: str) -> dict[int, tuple[int, RunRow]]:
    """The latest attempt of each trial, and which one that is, by the trials' numbers, in their order."""
    found: dict[int, tuple[int, RunRow]] = {}
    for row in history.list(parent=sweep_id, limit=None, include_archived=True):
        known = number_of(sweep_id, row.key)
        if known is not None and (known[0] not in found or found[known[0]][0] < known[1]):
            found[known[0]] = known[1], row
    return dict(sorted(found.items()))


def outcome(row: RunRow) -> Outcome:
    return Outcome(row.state, row.reason, row.reason == Reason.STOPPED_EARLY)


def better(goal: str, values: Iterable[float]) -> float | None:
    """The best of some values, NaN left out; None where there is none."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    return min(known) if goal == "minimize" else max(known)


def primary(sweep: RunRecord) -> tuple[str, str]:
    """The name of a sweep's primary metric, and its goal."""
    known = sweep.config.get("sweep") or {}
    return str(known.get("metric", "")), str(known.get("goal", "maximize"))


def trials_of(history: History, sweep: RunRecord, *, keep: bool = False) -> list[Trial]:
    """The trials of a sweep, by their numbers. ``keep`` writes down what ended ones reported, for the next
    who asks: only for whoever holds the sweep's lock."""
    metric, goal = primary(sweep)
    known = _known(history.paths.run(sweep.id).trials)
    rows = {number: row for number, (_, row) in rows_of(history, sweep.id).items()}
    given = history.parameters_of([row.id for row in rows.values() if row.id not in known])
    now: dict[str, dict[str, Any]] = {}
    found = []
    for number, row in rows.items():
        entry = known.get(row.id) if row.state.final else None
        if entry is None:
            # Never from its record: of a trial that waits in an array, that is made only as it is looked at.
            entry = {"p": given.get(row.id, {}), "v": reported(_seen(history, row).metrics, metric)}
        if row.state.final:
            now[row.id] = entry
        values = tuple(entry["v"])
        known_of = (number, row.id, row.state, row.reason, entry["p"], values, better(goal, values))
        found.append(Trial(*known_of, row.ended))
    if keep and now.keys() != known.keys():
        text = json.dumps({"version": 1, "trials": now}, separators=(",", ":"))
        write_atomically(history.paths.run(sweep.id).trials, text.encode("ascii"))
    return found


def parameters_of(history: History, run_id: str) -> dict[str, Any]:
    try:
        return history.get(run_id).parameters
    except HistoryError:
        return {}


def reported(folder: Path, metric: str) -> list[float]:
    """The values of a metric, one after the other as they were reported; of the lowest rank that has any."""
    for rank, path in rank_files(folder).items():
        try:
            points, _ = read_new(path, rank)
        except OSError:
            continue
        values = [
            float(point.value)
            for point in points
            if point.name == metric and point.kind == SCALAR and type(point.value) in (int, float)
        ]
        if values:
            return values
    return []


def silence(history: History, sweep: RunRecord) -> str:
    """In words, that no trial has a best value; and what they reported in place of the primary metric."""
    metric, _ = primary(sweep)
    ended = [row.id for _, row in rows_of(history, sweep.id).values() if row.state.final]
    found = history.metrics_of(ended[:_ASKED]).values()
    names = sorted({each.name for metrics in found for each in metrics})
    if metric in names:
        return f"no trial has reported {metric} as a number"
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"no trial has reported {metric}, but {', '.join(names[:5])}{more}"
    return f"no trial has reported {metric}{'' if sweep.state.final else ' yet'}"


def by_metric(trials: Sequence[Trial], goal: str) -> list[Trial]:
    """The best first; those that reported nothing last, by their numbers."""
    sign = 1.0 if goal == "minimize" else -1.0
    return sorted(trials, key=lambda trial: (trial.best is None, sign * (trial.best or 0.0), trial.number))


def _seen(history: History, row: RunRow) -> RunPaths:
    """As :meth:`History.seen`, from the index alone: it has no folder for runs on other machines."""
    return RunPaths(Path(row.run_dir)) if row.run_dir else history.paths.run(row.id)


def _known(path: Path) -> dict[str, dict[str, Any]]:
    try:
        trials = json.loads(path.read_bytes())["trials"]
        return {str(run_id): {"p": dict(each["p"]), "v": list(each["v"])} for run_id, each in trials.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
