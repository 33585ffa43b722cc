"""Telling somebody that a run has ended: a webhook, a command. (Mail is Slurm's own, but for sweeps and
pipelines, which are no jobs.)

By whoever sees the end, a tick or one who waits; each way once, which is written into the run's record when
it is done. A process that is killed between the two leaves it to be done again: the document has an ``event``
that is the same then. What does not work is tried again by later ticks, less and less often, and never
touches the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcrun.engine.clocks import later, seconds_since
from hpcrun.engine.notice_text import document
from hpcrun.engine.notice_ways import WAYS
from hpcrun.engine.notify import wishes_for
from hpcrun.errors import ConfigError, HistoryError, HpcrunError, NotFoundError
from hpcrun.history import notices
from hpcrun.history.files import locked
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History

TRIES = 12
"""How often it is tried; with the pauses between, more than half a day."""

_PAUSE, _LONGEST = 60.0, 7200.0


@dataclass
class Told:
    """``trouble`` is what was the matter, by run; of ``given_up`` it is the last that is said of it."""

    trouble: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)


def tell(history: History, run_ids: Iterable[str] | None = None, *, again: bool = True) -> Told:
    """Tell of the runs that have ended (of ``run_ids``; None: of all), as far as it was not done. ``again``
    is for a later try of what did not work. Never raises for trouble there."""
    wanted = None if run_ids is None else {*run_ids}
    told = Told()
    for run_id in notices.expected(history.paths):
        if wanted is None or run_id in wanted:
            try:
                with locked(history.paths.notices / run_id, seconds=0):
                    _tell_of(history, run_id, told, again=again)
            except HistoryError:
                continue  # another is at it, or the run's own trouble is told elsewhere
            except Exception as error:  # such as of a record that is damaged; its words may hold a secret
                told.trouble[run_id] = f"nobody can be told of its end: {type(error).__name__}"
    return told


def _tell_of(history: History, run_id: str, told: Told, *, again: bool) -> None:
    file = history.paths.notices / run_id
    try:
        record = history.get(run_id)
    except NotFoundError:
        notices.drop_stray(file)
        return
    if not record.state.final:
        return
    try:
        record.notify = wishes_for(record, history.paths)
    except ConfigError as error:
        told.trouble[run_id] = "; ".join(str(problem).splitlines()[0] for problem in error.problems)
        return
    tried = _tried(file)
    words: dict[str, Any] | None = None
    for way, send in WAYS.items():
        place = f"{run_id} ({way})"
        known = tried.setdefault(way, {"tries": 0, "next": None, "error": ""})
        if not _wanted(record, way):
            continue
        if known["tries"] and (not again or seconds_since(known["next"]) < 0):
            told.trouble[place] = known["error"]
            continue
        words = words or document(history, record)
        try:
            send(history.paths, record, words)
            _write_down(history, record, {"by": way, "at": utc_now()})
        except HpcrunError as error:
            known["tries"] += 1
            if known["tries"] >= TRIES:
                told.trouble[place] = f"{error.message}; given up after {TRIES} times"
                told.given_up.add(place)
                _write_down(history, record, {"by": way, "at": utc_now(), "error": error.message})
            else:
                pause = min(_PAUSE * 2.0 ** known["tries"], _LONGEST)
                known["next"] = later(utc_now(), pause)
                known["error"] = told.trouble[place] = error.message
                _keep(file, tried)
    if not any(_wanted(record, way) for way in WAYS):
        file.unlink(missing_ok=True)


def _wanted(record: RunRecord, way: str) -> bool:
    """Whether somebody is still to be told this way of how the run ended."""
    asked = record.notify
    sent = {each.get("by") for each in asked.get("sent", [])}
    return bool(asked.get(way)) and record.state.value.lower() in asked.get("on", []) and way not in sent


def _write_down(history: History, record: RunRecord, entry: dict[str, Any]) -> None:
    record.notify = {**record.notify, "sent": [*record.notify.get("sent", []), entry]}

    def change(r: RunRecord) -> None:
        r.notify = record.notify

    history.update(record.id, change)


def _tried(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(file: Path, tried: dict[str, Any]) -> None:
    # Not by a rename: the file is the lock, too. One that was cut off counts as never tried.
    with file.open("w", encoding="ascii") as out:
        json.dump(tried, out)
