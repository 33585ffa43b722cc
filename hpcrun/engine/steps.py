"""The steps of a pipeline, seen from their parent: made as they were written down, and what becomes of it.

The record of the parent is committed first, and holds the whole records of all steps until each has its own.
So a process that is killed while it submits a pipeline leaves nothing, or a pipeline that whoever looks at it
next finishes: it makes the steps that are missing, and reconcile sends each of them, exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hpcrun.engine.before import step_names
from hpcrun.engine.sending import held
from hpcrun.errors import NotFoundError
from hpcrun.history.index import RunRow
from hpcrun.history.record import PARENTS, PIPELINE, RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.states import Reason, RunState, may_move

PLANNED, MADE = "planned", "made"
"""What a parent's submission has for its state: whether each of its steps is a run by now."""

_UNDER_WAY = frozenset(
    {RunState.STARTING, RunState.RUNNING, RunState.PAUSED, RunState.FINALIZING, RunState.NOT_RESPONDING}
)


def planned_snapshots(record: RunRecord) -> set[str]:
    """The snapshots of steps that may not be runs yet."""
    steps = record.submission.get("steps") if record.type == PIPELINE else None
    records = [step.get("record") for step in steps or []]
    return {str(planned["snapshot"]["id"]) for planned in records if planned and planned.get("snapshot")}


def make_steps(history: History, parent_id: str) -> None:
    """Make those of the steps that are no runs yet. The caller holds the parent's submit lock."""
    parent = history.get(parent_id)
    if parent.submission.get("state") != PLANNED or parent.state is not RunState.NOT_STARTED:
        return
    for step in parent.submission["steps"]:
        planned = RunRecord.from_json(json.dumps(step["record"]), where=f"step {step['name']} of {parent_id}")
        try:
            history.get(planned.id)
            continue
        except NotFoundError:
            pass
        history.create(planned)
    history.update(parent_id, _made)


def _made(parent: RunRecord) -> None:
    kept = [{"name": step["name"], "id": step["id"]} for step in parent.submission["steps"]]
    parent.submission = {**parent.submission, "state": MADE, "steps": kept, "ended": utc_now()}


def finish_making(history: History, row: RunRow) -> bool:
    """Go on with a pipeline whose steps were not all made, unless another process is at it; whether there was
    anything to be done."""
    if (
        row.type != PIPELINE
        or row.state is not RunState.NOT_STARTED
        or history.get(row.id).submission.get("state") != PLANNED
    ):
        return False
    with held(history.paths.run(row.id)) as lock_fd:
        if lock_fd is not None:
            make_steps(history, row.id)
    return lock_fd is not None


def steps_of(history: History, parent_id: str) -> list[RunRow]:
    """The steps that are runs, in the order in which they were made."""
    return [*reversed(history.list(parent=parent_id, limit=None, include_archived=True))]


def follow_steps(history: History, parent_id: str) -> RunRecord:
    """Bring a pipeline's own record up to what its steps are. Raises HistoryError."""
    parent = history.get(parent_id)
    if parent.state.final:
        return parent
    names = step_names(parent)
    rows = [row for row in steps_of(history, parent_id) if row.id in names]
    if len(rows) < len(names) and parent.state is not RunState.CANCEL_REQUESTED:
        return parent

    def change(r: RunRecord) -> None:
        state, reason, message = _stands(r, rows, names)
        if state is not r.state and not may_move(r.state, state):
            return
        r.state, r.reason, r.message = state, reason, message
        r.started = min((row.started for row in rows if row.started), default=None)
        if state.final:
            r.ended = max((row.ended for row in rows if row.ended), default=utc_now())
            _made(r)

    return history.update(parent_id, change)


def _stands(parent: RunRecord, rows: Sequence[RunRow], names: dict[str, str]) -> tuple[RunState, str, str]:
    states = {row.state for row in rows}
    if all(state.final for state in states):
        return _ended(parent, rows, names)
    if parent.state is RunState.CANCEL_REQUESTED:
        return parent.state, "", ""
    if states & _UNDER_WAY or any(state.final for state in states):
        return RunState.RUNNING, "", ""
    if RunState.QUEUED in states:
        return RunState.QUEUED, next(row.reason for row in rows if row.state is RunState.QUEUED), ""
    if RunState.PREPARING in states:
        return RunState.PREPARING, "", ""
    return parent.state, parent.reason, parent.message


def _ended(parent: RunRecord, rows: Sequence[RunRow], names: dict[str, str]) -> tuple[RunState, str, str]:
    """The first step that failed counts; those that waited for it in vain are no news."""
    for state in (RunState.FAILED, RunState.CANCELED):
        ended = [row for row in rows if row.state is state]
        # What somebody canceled goes before what could not begin for it.
        ended.sort(key=lambda row: row.reason == Reason.DEPENDENCY)
        if ended:
            first = ended[0]
            words = f"step {names[first.id]} is {state} ({first.reason})" if first.reason else ""
            return state, first.reason, f"{words}: {first.message}" if first.message else words
    if len(rows) < len(names):
        return RunState.CANCELED, Reason.CANCELED.value, ""
    return RunState.COMPLETED, "", ""


def with_steps(wanted: set[str], active: Sequence[RunRow]) -> set[str]:
    """The runs, and the steps of those that are pipelines (the trials, of sweeps), as far as they have not
    ended."""
    parents = {row.id for row in active if row.type in PARENTS and row.id in wanted}
    return wanted | {row.id for row in active if row.parent in parents}


def parents_of(active: Sequence[RunRow], wanted: set[str] | None) -> list[RunRow]:
    """The pipelines and sweeps among the runs that have not ended that are wanted, or of which a step is."""
    parents: set[Any] = set() if wanted is None else {row.parent for row in active if row.id in wanted}
    return [row for row in active if row.type in PARENTS and (wanted is None or row.id in wanted | parents)]
