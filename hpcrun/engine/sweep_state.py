"""What a sweep is, seen from its trials: its own state, and whether it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcrun.engine.packed import another_turn
from hpcrun.engine.sweep_trials import outcome, rows_of
from hpcrun.errors import HistoryError
from hpcrun.history.files import locked
from hpcrun.history.index import RunRow
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.states import Reason, RunState, may_move
from hpcrun.sweeps.driver import Batch, end_of, planned

_UNDER_WAY = frozenset(
    {RunState.STARTING, RunState.RUNNING, RunState.PAUSED, RunState.FINALIZING, RunState.NOT_RESPONDING}
)


def batches_of(sweep: RunRecord) -> list[Batch]:
    """What was planned of a sweep until now."""
    return [Batch.read(entry) for entry in sweep.submission.get("batches", [])]


def stop_of(sweep: RunRecord) -> tuple[str, str]:
    """Who stopped a sweep (user, duration, failures, refused), in what words; empty for one that goes on."""
    stop = sweep.submission.get("stop") or {}
    return str(stop.get("who", "")), str(stop.get("words", ""))


def again_of(sweep: RunRecord) -> dict[int, int]:
    """The trials that are to be tried again, and the attempts that are wanted."""
    return {int(number): int(attempt) for number, attempt in sweep.submission.get("again", {}).items()}


def to_try_again(history: History, sweep: RunRecord) -> list[int]:
    """The trials whose new attempt is not submitted yet."""
    wanted = again_of(sweep)
    rows = rows_of(history, sweep.id) if wanted else {}
    return [number for number, attempt in wanted.items() if number in rows and rows[number][0] < attempt]


def apart_of(sweep: RunRecord) -> set[int]:
    """The trials that no array's limit holds, though their batch has one: submitted as others end."""
    return {int(number) for number in sweep.submission.get("apart", [])}


def held_of(sweep: RunRecord) -> dict[str, Any]:
    """What the site does not take just now, and why: in which ``words``, ``since`` when, asked last ``at``
    which time, with so many trials ``busy``; empty where nothing is held back."""
    return dict(sweep.submission.get("held") or {})


def turns_of(history: History, sweep_id: str, rows: Mapping[int, tuple[int, RunRow]]) -> dict[int, int]:
    """The trials that are to be tried again since the job of their pack ended before their turn came, and the
    attempts that they are to have; ``rows`` are the latest attempts."""
    if not any(row.reason == Reason.NOT_BEGUN for _, row in rows.values()):
        return {}
    return another_turn(history.list(parent=sweep_id, limit=None, include_archived=True), rows)


def stop(history: History, sweep_id: str, who: str, words: str) -> RunRecord:
    """Write down that a sweep is to end: nothing more is submitted from here on. The first word counts."""

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.submission = {"stop": {"who": who, "words": words, "at": utc_now()}, **r.submission}
            r.state, r.reason = RunState.CANCEL_REQUESTED, ""
            r.message = words

    return history.update(sweep_id, change)


def follow_sweep(history: History, sweep_id: str, *, held: bool = False) -> RunRecord:
    """Bring a sweep's own record up to what its trials are; ``held`` if the caller has the sweep's lock.

    Its end is written down under that lock alone, so that no trial begins after it. Raises HistoryError.
    """
    sweep = history.get(sweep_id)
    if sweep.state.final:
        return sweep
    rows = rows_of(history, sweep_id)
    if not _over(history, sweep, rows):
        return _show(history, sweep, rows)
    if held:
        return _finish(history, sweep_id)
    try:
        with locked(history.paths.run(sweep_id).sweep_lock, seconds=0):
            return _finish(history, sweep_id)
    except HistoryError:
        return sweep  # whoever has it comes to this as well


def _over(history: History, sweep: RunRecord, rows: Mapping[int, tuple[int, RunRow]]) -> bool:
    if any(not row.state.final for _, row in rows.values()):
        return False
    if stop_of(sweep)[0]:
        return True
    if any(rows[number][0] < attempt for number, attempt in again_of(sweep).items() if number in rows):
        return False
    if turns_of(history, sweep.id, rows):
        return False
    total = int(sweep.submission.get("total", 0))
    return planned(batches_of(sweep)) >= total and len(rows) >= total


def _finish(history: History, sweep_id: str) -> RunRecord:
    sweep, rows = history.get(sweep_id), rows_of(history, sweep_id)  # it may have moved before it was locked
    if sweep.state.final or not _over(history, sweep, rows):
        return sweep
    latest = [row for _, row in rows.values()]
    state, reason, message = end_of([outcome(row) for row in latest], stop_of(sweep))

    def change(r: RunRecord) -> None:
        r.state, r.reason, r.message = state, reason.value, message
        r.started = min((row.started for row in latest if row.started), default=None)
        r.ended = max((row.ended for row in latest if row.ended), default=utc_now())
        # One that was refused has lost its key, and is no trial any more.
        all_failed = history.list(parent=sweep_id, states=[RunState.FAILED], limit=1, include_archived=True)
        failed = next((row.id for row in [*latest, *all_failed] if row.state is RunState.FAILED), None)
        r.submission = {**r.submission, "failed": failed}

    return history.update(sweep_id, change)


def _show(history: History, sweep: RunRecord, rows: Mapping[int, tuple[int, RunRow]]) -> RunRecord:
    states = {row.state for _, row in rows.values()}
    state, reason = sweep.state, sweep.reason
    if sweep.state is RunState.CANCEL_REQUESTED:
        pass
    elif states & _UNDER_WAY or any(each.final for each in states):
        state, reason = RunState.RUNNING, ""
    elif RunState.QUEUED in states:
        state = RunState.QUEUED
        reason = next(row.reason for _, row in rows.values() if row.state is RunState.QUEUED)
    elif RunState.PREPARING in states:
        state, reason = RunState.PREPARING, ""
    started = min((row.started for _, row in rows.values() if row.started), default=None)
    ended = sum(row.state.final for _, row in rows.values())
    total = int(sweep.submission.get("total", 0))
    held = held_of(sweep).get("words")
    words = stop_of(sweep)[1] or f"{ended} of {total} trials have ended"
    if held and not stop_of(sweep)[0]:
        words += f"; waiting: {held}"
    if (state, reason, started, words) == (sweep.state, sweep.reason, sweep.started, sweep.message):
        return sweep

    def change(r: RunRecord) -> None:
        if r.state.final or (state is not r.state and not may_move(r.state, state)):
            return
        r.state, r.reason, r.started, r.message = state, reason, started, words

    return history.update(sweep.id, change)


def progress(history: History, sweep: RunRecord) -> dict[str, Any]:
    """How many trials there are to be, and how many stand how: ``waiting`` are those not submitted yet."""
    states: dict[str, int] = {}
    early = 0
    for _, row in rows_of(history, sweep.id).values():
        early += row.reason == "StoppedEarly"
        states[row.state.value] = states.get(row.state.value, 0) + 1
    total = int(sweep.submission.get("total", 0))
    return {
        "total": total,
        "waiting": 0 if sweep.state.final else max(0, total - sum(states.values())),
        "states": states,
        "stopped_early": early,
    }
