"""Canceling runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hpcrun.engine import interactive
from hpcrun.engine.refresh import refresh
from hpcrun.engine.steps import follow_steps, steps_of
from hpcrun.engine.sweep_state import follow_sweep, stop
from hpcrun.engine.sweep_trials import rows_of
from hpcrun.errors import HpcrunError, UsageError
from hpcrun.history.record import CHILD, INTERACTIVE, PIPELINE, SWEEP, RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of, task_of
from hpcrun.schedulers.base import JobRef
from hpcrun.schedulers.slurmarrays import base_id
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
    if record.type == CHILD:
        hint = f"Cancel that: hpcrun cancel {record.parent}"
        raise UsageError(
            f"{run_id} is a part of {record.parent}, and cannot be canceled by itself", hint=hint
        )
    if record.type == INTERACTIVE:
        return _give_up(history, record)
    if record.type == PIPELINE:
        return _cancel_steps(history, targets, record)
    if record.type == SWEEP:
        return _cancel_trials(history, targets, record)
    if record.job_id is None and record.submission.get("state") in ("intent", "preparing"):
        targets.forget_secrets(history, record)
        return history.update(run_id, _never_sent)
    # Told before it is written down: a cancel that was recorded but never sent would wait for ever.
    targets.scheduler_of(record.target).cancel(_jobs_of(history, [record]))

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.reason = RunState.CANCEL_REQUESTED, ""

    history.update(run_id, change)
    refresh(history, targets, [run_id])
    return history.get(run_id)


def _give_up(history: History, record: RunRecord) -> RunRecord:
    """A program that nobody can see from here is not asked, and the run is over all the same."""
    if interactive.life(record) == "alive":
        known = record.submission["process"]
        raise UsageError(
            f"{record.id} is no job, and its program goes on: process {known['pid']} on this machine",
            hint=f"End its program, or have it say run.cancel(): kill {known['pid']}",
        )
    words = f"given up; whether its program still runs, {record.nodes} alone can tell"
    return interactive.end(history, record.id, RunState.CANCELED, words, Reason.CANCELED)


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


def _cancel_trials(history: History, targets: Targets, sweep: RunRecord) -> RunRecord:
    """Nothing more is submitted; what was, is canceled. Raises the last of what went wrong."""
    stop(history, sweep.id, "user", "")
    rows = [row for _, row in rows_of(history, sweep.id).values()]
    trouble = cancel_all(history, targets, [row.id for row in rows if not row.state.final])
    for error in trouble.values():
        raise error
    refresh(history, targets, [sweep.id])
    return follow_sweep(history, sweep.id)


def cancel_all(history: History, targets: Targets, run_ids: Iterable[str]) -> dict[str, HpcrunError]:
    """Ask for the end of many runs that were just looked at; what was the matter, by site or run.

    Those of one site are ended together. One that has ended is left as it is; asking twice does no harm.
    """
    sites: dict[str, list[RunRecord]] = defaultdict(list)
    trouble: dict[str, HpcrunError] = {}
    for run_id in run_ids:
        try:
            record = history.get(run_id)
            if record.state.final or record.outcome is not None:
                continue
            if record.job_id is None and record.submission.get("state") in ("intent", "preparing"):
                targets.forget_secrets(history, record)
                history.update(run_id, _never_sent)
            else:
                sites[record.target].append(record)
        except HpcrunError as exc:
            trouble[run_id] = exc
    for target, records in sites.items():
        try:
            targets.scheduler_of(target).cancel(_jobs_of(history, records))
            for record in records:
                history.update(record.id, _requested)
        except HpcrunError as exc:
            trouble[target] = exc
    return trouble


def _jobs_of(history: History, records: Sequence[RunRecord]) -> list[JobRef]:
    """What is to be ended for these to end. A job that several share is, once none of them is to go on."""
    found = [ref_of(record) for record in records]
    packs = {task_of(record)[0]: ref for record, ref in zip(records, found, strict=True) if ref.packed}
    if not packs:
        return found
    ended = {record.id for record in records}
    going = {
        base_id(row.job_id)
        for row in history.active()
        if row.job_id and row.id not in ended and row.state is not RunState.CANCEL_REQUESTED
    }
    whole = [
        replace(ref, run_id=leader, array="", packed=False)
        for leader, ref in packs.items()
        if ref.job_id and base_id(ref.job_id) not in going
    ]
    return [*found, *whole]


def _requested(r: RunRecord) -> None:
    if not r.state.final and r.outcome is None:
        r.state, r.reason = RunState.CANCEL_REQUESTED, ""


def _never_sent(r: RunRecord) -> None:
    if not r.state.final:
        r.state, r.reason, r.ended = RunState.CANCELED, Reason.CANCELED.value, utc_now()
