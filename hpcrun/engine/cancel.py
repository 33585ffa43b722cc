"""Canceling runs."""

from __future__ import annotations

from hpcrun.engine.refresh import refresh
from hpcrun.engine.steps import follow_steps, steps_of
from hpcrun.errors import HpcrunError
from hpcrun.history.record import PIPELINE, RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of
from hpcrun.states import Reason, RunState
from hpcrun.targets import Targets


def cancel(history: History, targets: Targets, run_id: str) -> RunRecord:
    """Ask for the end of a run. One that has ended is left as it is; asking twice does no harm.

    Raises CommandError if the scheduler cannot be told: the run then is as it was.
    """
    refresh(history, targets, [run_id])
    record = history.get(run_id)
    if record.state.final or record.outcome is not None:
        return record
    if record.type == PIPELINE:
        return _cancel_steps(history, targets, record)
    if record.job_id is None and record.submission.get("state") in ("intent", "preparing"):
        targets.forget_secrets(history, record)
        return history.update(run_id, _never_sent)
    # Told before it is written down: a cancel that was recorded but never sent would wait for ever.
    targets.scheduler_of(record.target).cancel([ref_of(record)])

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.reason = RunState.CANCEL_REQUESTED, ""

    history.update(run_id, change)
    refresh(history, targets, [run_id])
    return history.get(run_id)


def _cancel_steps(history: History, targets: Targets, pipeline: RunRecord) -> RunRecord:
    """What waits for a step goes before it. All are tried, whatever becomes of one; raises the last error."""
    trouble: HpcrunError | None = None
    for row in reversed(steps_of(history, pipeline.id)):
        try:
            if not row.state.final:
                cancel(history, targets, row.id)
        except HpcrunError as exc:
            trouble = exc
    if trouble is not None:
        raise trouble

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.reason = RunState.CANCEL_REQUESTED, ""

    history.update(pipeline.id, change)
    return follow_steps(history, pipeline.id)


def _never_sent(r: RunRecord) -> None:
    if not r.state.final:
        r.state, r.reason, r.ended = RunState.CANCELED, Reason.CANCELED.value, utc_now()
