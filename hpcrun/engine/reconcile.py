"""Submissions whose end nobody saw: find the job, or be certain that there is none, before trying again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

from hpcrun.engine.sending import adopt, carry_out, go_on, held, reject
from hpcrun.errors import CommandError, SubmissionAmbiguous, SubmissionRejected, UnreachableError
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.base import Found
from hpcrun.schedulers.base import SubmissionPostponed
from hpcrun.states import Reason, RunState
from hpcrun.targets import Targets

LOOK_AGAIN = 6.0
"""Seconds between the two looks that make absence certain: sacct lags by up to five."""

SETTLE_WITHIN = 90.0
"""Seconds that a submit waits for a scheduler that does not answer."""

UNSETTLED = ("intent", "preparing", "submitting", "ambiguous", "absent")


def settle(
    history: History,
    targets: Targets,
    run_id: str,
    lock_fd: int,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> RunRecord:
    """Find the job of an ambiguous submission; once there certainly is none, submit again, once.

    The caller holds the submit lock. Raises SubmissionAmbiguous if the scheduler does not answer in time:
    the run stays as it is, and whoever looks next goes on from here.
    """
    deadline = clock() + SETTLE_WITHIN
    absent_since: float | None = None
    while True:
        record = history.get(run_id)
        try:
            found = look(history, targets, record)
        except UnreachableError:
            found = Found(None, answered=False)
        if found.job_id is not None:
            return adopt(history, targets, run_id, found.job_id)
        absent_since = (absent_since or clock()) if found.answered else None
        if found.never or (absent_since is not None and clock() - absent_since >= LOOK_AGAIN):
            try:
                return _again(history, targets, record, lock_fd, found)
            except SubmissionAmbiguous:
                absent_since = None
                if not found.never:  # which comes to pass once; the other, as often as a connection breaks
                    deadline = clock() + SETTLE_WITHIN
        if clock() > deadline:
            raise SubmissionAmbiguous(
                f"{run_id}: the scheduler's answer was lost, and it does not answer now",
                hint="The job may or may not be queued; nothing is submitted twice. "
                f"Look again: hpcrun show {run_id}",
            )
        time.sleep(1.0)


def _again(history: History, targets: Targets, record: RunRecord, lock_fd: int, found: Found) -> RunRecord:
    """Submit a run once more whose job certainly is not there; once, if the scheduler had been asked, and not
    one that was canceled."""
    if record.state is RunState.CANCEL_REQUESTED:
        return cancel_unsent(history, targets, record)
    return carry_out(history, targets, anew(history, targets, record, found), lock_fd)


def anew(history: History, targets: Targets, record: RunRecord, found: Found) -> RunRecord:
    """Write down that a run is to be submitted once more. Raises SubmissionRejected if it was before."""
    if record.submission.get("retried") and not found.never:
        words = "the scheduler lost two submissions in a row: is slurmctld well (scontrol ping)?"
        raise reject(history, targets, record.id, SubmissionPostponed(words))

    def change(r: RunRecord) -> None:
        tries = r.submission.get("tries", 0) + 1
        r.submission = {**r.submission, "state": "absent", "tries": tries, "began": utc_now()}
        r.submission.pop("absent_since", None)
        r.submission["retried"] = not found.never or r.submission.get("retried", False)
        r.submission["script"] = script

    script = targets.get(record.target).place.script(history, record)
    return history.update(record.id, change)


def cancel_unsent(history: History, targets: Targets, record: RunRecord) -> RunRecord:
    def change(r: RunRecord) -> None:
        r.state, r.reason, r.ended = RunState.CANCELED, Reason.CANCELED.value, utc_now()

    targets.forget_secrets(history, record)
    return history.update(record.id, change)


def look(history: History, targets: Targets, record: RunRecord) -> Found:
    """What is known of the run's job. Raises SubmissionRejected if the lost answer is found, and was no;
    UnreachableError where the site is not to be reached."""
    target = targets.get(record.target.partition(":")[0])
    try:
        return target.place.find(history, record, target.scheduler)
    except SubmissionRejected as exc:
        raise reject(history, targets, record.id, exc) from exc
    except UnreachableError:
        raise
    except CommandError:
        return Found(None, answered=False)


def reconcile(history: History, targets: Targets, record: RunRecord) -> RunRecord:
    """Take a submission that its own process left unfinished one step further; never waits.

    Adopts the job if it is found, finishes what was never sent, and leaves alone what another process is
    still at, or what cannot be told yet. All of it under the submit lock: of two that look, one acts.
    """
    if not is_unsettled(record):
        return record
    with held(history.paths.run(record.id)) as lock_fd:
        if lock_fd is None:
            return record
        record = history.get(record.id)  # it may have been settled between the two
        if not is_unsettled(record):
            return record
        try:
            return _step(history, targets, record, lock_fd)
        except (SubmissionRejected, SubmissionAmbiguous):
            return history.get(record.id)


def is_unsettled(record: RunRecord) -> bool:
    waiting = record.state in (RunState.NOT_STARTED, RunState.PREPARING, RunState.CANCEL_REQUESTED)
    return waiting and not record.job_id and record.submission.get("state") in UNSETTLED


def _step(history: History, targets: Targets, record: RunRecord, lock_fd: int) -> RunRecord:
    if record.submission["state"] in ("intent", "absent"):
        if record.state is RunState.CANCEL_REQUESTED:
            return cancel_unsent(history, targets, record)
        return carry_out(history, targets, record, lock_fd)
    if record.submission["state"] == "preparing":
        return go_on(history, targets, record, lock_fd)
    found = look(history, targets, record)
    if found.job_id is not None:
        return adopt(history, targets, record.id, found.job_id)
    if found.never:
        return _again(history, targets, record, lock_fd, found)
    if not found.answered:
        return record
    first = record.submission.get("absent_since")
    if first is None:

        def note(r: RunRecord) -> None:
            r.submission = {**r.submission, "absent_since": utc_now()}

        return history.update(record.id, note)
    age = datetime.now(timezone.utc) - datetime.fromisoformat(first.replace("Z", "+00:00"))
    if age.total_seconds() < LOOK_AGAIN:
        return record
    return _again(history, targets, record, lock_fd, found)
