"""Runs as tasks of one job: written down together, submitted by one sbatch, and so either all queued or none.

Each is a run like any other, with its folder, its script and its claim; what they share is the submission.
The first of them leads: its id is the job's name, its submit lock is the array's, and its record has the ids
of all. See :mod:`hpcrun.engine.submit` and :mod:`hpcrun.engine.reconcile`, whose steps these are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcrun.engine import reconcile as single
from hpcrun.engine import tables
from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.giving import give
from hpcrun.engine.reconcile import LOOK_AGAIN, SETTLE_WITHIN, anew, cancel_unsent, is_unsettled, look
from hpcrun.engine.sending import adopt, begin_making, built_by, held, mark, reject
from hpcrun.errors import (
    HpcrunError,
    NotFoundError,
    SubmissionAmbiguous,
    SubmissionRejected,
    UnreachableError,
)
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.launchers.tasks import array_script
from hpcrun.places.base import Found
from hpcrun.places.refs import is_table, submitted_from, task_of
from hpcrun.quoting import Secret
from hpcrun.schedulers.base import JobRequest
from hpcrun.schedulers.slurmarrays import array_spec, base_id
from hpcrun.states import RunState
from hpcrun.targets import Targets

Records = Sequence[RunRecord]


def lead(records: Records, limit: int | None) -> None:
    """Make runs that are not written down yet the tasks of one array, no more than ``limit`` at once."""
    leader = records[0].id
    for index, record in enumerate(records):
        record.submission["array"] = {"leader": leader, "index": index, "limit": limit}
    records[0].submission["array"]["members"] = [record.id for record in records]


def members(history: History, record: RunRecord) -> Records:
    """The runs of the array that a run is a task of. Raises NotFoundError where the first is gone."""
    ids = history.get(task_of(record)[0]).submission["array"]["members"]
    found = []
    for run_id in ids:
        try:
            found.append(history.get(run_id))
        except NotFoundError:
            continue  # it has ended, and was deleted
    return found


def carry_out_all(
    history: History,
    targets: Targets,
    records: Records,
    lock_fd: int,
    values: Mapping[str, Secret] | None = None,
) -> Records:
    """Send runs that are written down but not sent, by one sbatch. The caller holds the array's lock.

    Errors as :func:`hpcrun.engine.sending.carry_out`, for all of them.
    """
    target = targets.get(records[0].target)
    records = [record for record in records if not record.state.final]
    if not records:
        return []
    try:
        for record in records:
            give(history, targets, record)
        whole = [target.place.fill(history, record, values) for record in records]
        dirs = {task_of(record)[1]: record.run_dir for record in records}
        target.place.gather(records, array_script(str(records[0].submission["script"]), dirs))
    except UnreachableError:
        raise  # they are sent as soon as their site can be reached: by reconcile_any
    except (OSError, HpcrunError) as exc:
        error = SubmissionRejected(f"the run's folder cannot be made: {exc}")
        raise _reject_all(history, targets, records, error) from exc
    if not all(whole) and records[0].config["environment"].get("job"):
        # Of an environment that the login node makes, the first run of a map has waited for the end.
        begin_making(history, targets, records[0])
    began = utc_now()

    def sending(r: RunRecord) -> None:
        if not r.state.final:
            r.submission = {**r.submission, "state": "submitting", "began": began}
            r.submission.pop("script", None)

    records = [history.update(record.id, sending) for record in records]
    live = [record for record in records if not record.state.final]
    for record in records:
        if record.state.final:  # canceled before anything was sent
            targets.forget_secrets(history, record)
    return _submit(history, targets, live, lock_fd) if live else []


def _submit(history: History, targets: Targets, live: Records, lock_fd: int) -> Records:
    first = live[0]
    request = JobRequest(
        task_of(first)[0],
        Path(submitted_from(first)),
        lock_fd=lock_fd,
        hidden=first.submission["request"]["hidden"],
        token=str(max(record.submission.get("tries", 0) for record in live)),
        after=built_by(first),
        array=array_spec([task_of(record)[1] for record in live], first.submission["array"]["limit"]),
    )
    try:
        job_id = targets.get(first.target).scheduler.submit(request)
    except SubmissionRejected as exc:
        raise _reject_all(history, targets, live, exc) from exc
    except SubmissionAmbiguous as exc:
        for record in live:
            mark(history, record.id, "ambiguous", exc.message)
        raise
    return _adopt_all(history, targets, live, job_id)


def _adopt_all(history: History, targets: Targets, records: Records, job_id: str) -> Records:
    base = base_id(job_id)
    return [adopt(history, targets, record.id, f"{base}_{task_of(record)[1]}") for record in records]


def _reject_all(
    history: History, targets: Targets, records: Records, error: SubmissionRejected
) -> SubmissionRejected:
    for record in records:
        if not record.state.final:
            reject(history, targets, record.id, error)
    return error


def settle_all(
    history: History,
    targets: Targets,
    leader: str,
    lock_fd: int,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Find the job of an ambiguous submission, or be certain that there is none and submit again, once.

    The caller holds the array's lock. Raises SubmissionAmbiguous, SubmissionRejected.
    """
    deadline = clock() + SETTLE_WITHIN
    while clock() <= deadline:
        if not _step(history, targets, history.get(leader), lock_fd):
            return
        time.sleep(1.0)
    raise SubmissionAmbiguous(
        f"{leader}: the scheduler's answer was lost, and it does not answer now",
        hint="The array may or may not be queued; nothing is submitted twice. "
        f"Look again: hpcrun show {leader}",
    )


def reconcile_any(history: History, targets: Targets, record: RunRecord, looked: set[str]) -> RunRecord:
    """As :func:`hpcrun.engine.reconcile.reconcile`; of a task the whole array goes one step further,
    once: the arrays ``looked`` at are noted there."""
    if not task_of(record)[0]:
        return single.reconcile(history, targets, record)
    if not is_unsettled(record):
        return record
    if task_of(record)[0] in looked:
        return history.get(record.id)
    looked.add(task_of(record)[0])
    if is_table(record):
        tables.reconcile(history, targets, task_of(record)[0])
        return history.get(record.id)
    with held(history.paths.run(task_of(record)[0])) as lock_fd:
        if lock_fd is None:
            return record
        try:
            _step(history, targets, record, lock_fd)
        except (SubmissionRejected, SubmissionAmbiguous, NotFoundError):
            pass
    return history.get(record.id)


def _step(history: History, targets: Targets, record: RunRecord, lock_fd: int) -> bool:
    """One step towards knowing which job the tasks of an array are of; whether more are to be taken."""
    every = members(history, record)
    records = [r for r in every if is_unsettled(r)]
    if not records:
        return False
    known = next((r.job_id for r in every if r.job_id), None)
    sent = [r for r in records if r.submission["state"] not in ("intent", "absent")]
    if known is not None:  # whoever wrote that down was cut off before he came to these
        _adopt_all(history, targets, records, known)
        return False
    if not sent:
        _send(history, targets, records, lock_fd)
        return False
    try:
        found = look(history, targets, sent[0])
    except UnreachableError:
        return True
    except SubmissionRejected as exc:
        raise _reject_all(history, targets, [history.get(r.id) for r in records], exc) from exc
    if found.job_id is not None:
        _adopt_all(history, targets, records, found.job_id)
        return False
    if not found.never and _absent_for(history, sent[0], found) < LOOK_AGAIN:
        return True
    _again(history, targets, records, lock_fd, found)
    return False


def _send(history: History, targets: Targets, records: Records, lock_fd: int) -> None:
    for record in records:
        if record.state is RunState.CANCEL_REQUESTED:
            cancel_unsent(history, targets, record)
    wanted = [r for r in records if r.state is not RunState.CANCEL_REQUESTED]
    carry_out_all(history, targets, wanted, lock_fd)


def _absent_for(history: History, record: RunRecord, found: Found) -> float:
    """For how long the job has certainly not been there, in seconds."""
    if not found.answered:
        return 0.0
    first = record.submission.get("absent_since")
    if first is not None:
        return seconds_since(first)

    def note(r: RunRecord) -> None:
        r.submission = {**r.submission, "absent_since": utc_now()}

    history.update(record.id, note)
    return 0.0


def _again(history: History, targets: Targets, records: Records, lock_fd: int, found: Found) -> None:
    wanted = []
    try:
        for record in records:
            sent = record.submission["state"] not in ("intent", "absent")
            again = sent and record.state is not RunState.CANCEL_REQUESTED
            wanted.append(anew(history, targets, record, found) if again else record)
    except SubmissionRejected as exc:
        raise _reject_all(history, targets, [history.get(r.id) for r in records], exc) from exc
    _send(history, targets, wanted, lock_fd)
