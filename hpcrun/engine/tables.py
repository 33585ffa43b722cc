"""Trials that were written down together: submitted by one sbatch, as tasks of one job, exactly once.

What :mod:`hpcrun.engine.arrays` does for runs that each have a record, with one state for all that have none
yet. That state is written first, then the rows of those, then the records of the others: whoever is killed in
between leaves what the next one who looks can finish. All of it under the table's submit lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.reconcile import LOOK_AGAIN, SETTLE_WITHIN, UNSETTLED, cancel_unsent, is_unsettled
from hpcrun.engine.sending import adopt, held, mark, reject
from hpcrun.errors import CommandError, HpcrunError, SubmissionAmbiguous, SubmissionRejected, UnreachableError
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.history.tables import State, Table
from hpcrun.places.base import Found
from hpcrun.places.refs import array_folder, ref_of
from hpcrun.places.table import table_script
from hpcrun.schedulers.base import JobRequest, SubmissionPostponed
from hpcrun.schedulers.slurmarrays import array_spec, base_id
from hpcrun.states import RunState
from hpcrun.targets import Target, Targets


@dataclass
class Submission:
    """Of one table. The caller holds its submit lock, which is ``lock_fd``."""

    history: History
    targets: Targets
    table: Table
    lock_fd: int

    @property
    def leader(self) -> str:
        return self.table.leader

    @property
    def target(self) -> Target:
        return self.targets.get(self.table.target)

    def state(self) -> State:
        return self.history.trials.state(self.leader)

    def put(self, **changes: Any) -> State:
        """Write down how far the submission has come."""
        state = self.state()
        known = {**state.submission, **changes}
        state.submission = {key: value for key, value in known.items() if value is not None}
        self.history.trials.put(self.leader, state)
        return state

    def parts(self) -> tuple[list[int], list[RunRecord]]:
        """The lines of the runs that have no record of their own; and those that have, and wait to be
        submitted as all do."""
        lines, ids = self.history.trials.parts(self.leader)
        records = [self.history.get(run_id) for run_id in ids]
        return lines, [record for record in records if is_unsettled(record)]

    def made(self) -> list[RunRecord]:
        return self.parts()[1]

    def carry_out(self) -> None:
        """Send what is written down but not sent. Errors as :func:`hpcrun.engine.sending.carry_out`."""
        lines, made = self.parts()
        for record in made:
            if record.state is RunState.CANCEL_REQUESTED:
                cancel_unsent(self.history, self.targets, record)
        if not lines and all(record.state is RunState.CANCEL_REQUESTED for record in made):
            return
        after = self._after()
        first = self.table.record(0)
        try:
            self.target.place.share(self.history, first, self.table, table_script(self.table, first))
        except UnreachableError:
            raise  # sent as soon as the site can be reached
        except (OSError, HpcrunError) as exc:
            raise self.reject(SubmissionRejected(f"the trials' folder cannot be made: {exc}")) from exc
        state = self.put(state="submitting", began=utc_now())
        lines, made = self.parts()
        live = [r for record in made if not (r := self._sending(record.id, state)).state.final]
        self._submit(sorted([*lines, *(int(r.submission["array"]["index"]) for r in live)]), after)

    def _follows(self) -> bool:
        """Whether others go before; not those that were deleted since."""
        after = self.table.after
        return bool(after) and self.history.paths.table(after).table.exists()

    def _after(self) -> list[str]:
        """The job that all of these come after, where no more than so many trials are to run at once."""
        if not self._follows():
            return []
        job_id = self.history.trials.state(self.table.after).job_id
        lines, ids = self.history.trials.parts(self.table.after)
        active = self.history.active_ids()
        goes_on = bool(lines) or any(run_id in active for run_id in ids)
        return [f"afterany:{job_id}"] if job_id and goes_on else []

    def _sending(self, run_id: str, state: State) -> RunRecord:
        def change(r: RunRecord) -> None:
            if not r.state.final:
                r.submission = {**r.submission, "state": "submitting", "began": state.submission["began"]}

        return self.history.update(run_id, change)

    def _submit(self, indices: Sequence[int], after: list[str]) -> None:
        if not indices:
            return
        first, pack = self.table.record(0), bool(self.table.pack)
        if pack:
            self._leave_out({*range(len(self.table.lines))} - {*indices})
        job = first.submission.get("environment", {}).get("job")
        request = JobRequest(
            self.leader,
            Path(array_folder(first.run_dir, self.leader)),
            lock_fd=self.lock_fd,
            hidden=first.submission["request"]["hidden"],
            token=str(self.state().submission.get("tries", 0)),
            after=[*after, *([f"afterok:{job}"] if job else [])],
            array="" if pack else array_spec(indices, self.table.limit),
            log="pack.txt" if pack else "",
        )
        try:
            job_id = self.target.scheduler.submit(request)
        except SubmissionRejected as exc:
            raise self.reject(exc) from exc
        except SubmissionAmbiguous as exc:
            self.put(state="ambiguous", ended=utc_now(), message=exc.message)
            for record in self.made():
                mark(self.history, record.id, "ambiguous", exc.message)
            raise
        self.adopt(job_id)

    def _leave_out(self, indices: set[int]) -> None:
        """Keep those that were canceled by now from being run by the job of a pack."""
        if indices:
            records = [self.table.record(index) for index in sorted(indices)]
            self.target.scheduler.cancel([ref_of(record) for record in records])

    def adopt(self, job_id: str) -> None:
        """Write down that the trials are tasks of the job."""
        state, base = self.state(), base_id(job_id)
        if state.job_id is None:
            now = utc_now()
            state.job_id, state.submitted = base, now
            state.submission = {**state.submission, "state": "submitted", "ended": now}
            self.history.trials.put(self.leader, state)
        self.history.trials.tell(self.leader)
        for record in self.made():
            adopt(self.history, self.targets, record.id, f"{base}_{record.submission['array']['index']}")

    def reject(self, error: SubmissionRejected) -> SubmissionRejected:
        """Write down that nothing was submitted, and why; gives the error back to be raised.

        A refusal that passes leaves nothing: the sweep has the trials planned, and submits them as others.
        """
        if isinstance(error, SubmissionPostponed):
            return self.withdraw(error)
        self.put(state="rejected", ended=utc_now(), message=error.message, hint=error.hint)
        self.history.trials.tell(self.leader)
        for record in self.made():
            reject(self.history, self.targets, record.id, error)
        return error

    def withdraw(self, error: SubmissionRejected) -> SubmissionRejected:
        """Take the trials back; those that somebody has looked at stay, refused. Gives the error back."""
        self.put(state="withdrawn", ended=utc_now(), message=error.message, hint=error.hint)
        first = self.table.record(0)
        self.history.trials.withdraw(self.leader)
        for record in self.made():
            reject(self.history, self.targets, record.id, error)
        if not any(self.history.trials.parts(self.leader)):
            with suppress(HpcrunError):  # what is left there is a folder that nobody has a name for
                self.target.place.unshare(first)
            self.history.trials.forget(self.leader)
        return error

    def step(self) -> bool:
        """One step towards knowing which job the trials are tasks of; whether more are to be taken."""
        state = self.state()
        if state.job_id is not None:  # whoever wrote that down was cut off before he came to the rest
            self.adopt(state.job_id)
            return False
        if state.word == "withdrawn":
            said = state.submission
            raise self.withdraw(SubmissionPostponed(said["message"], hint=said.get("hint")))
        if state.word == "rejected":
            self.reject(SubmissionRejected(state.submission["message"], hint=state.submission.get("hint")))
            return False
        if state.word in ("intent", "absent"):
            if not self._too_early():
                self.carry_out()
            return False
        if not any(self.parts()):
            return False
        try:
            found = self._look()
        except UnreachableError:
            return True
        if found.job_id is not None:
            self.adopt(found.job_id)
            return False
        if not found.never and self._absent_for(found) < LOOK_AGAIN:
            return True
        self._again(found)
        return False

    def _too_early(self) -> bool:
        """Whether those that go before are not submitted yet. Raises what becomes of these if they never
        will be."""
        if not self._follows():
            if (
                self.table.after
            ):  # they were taken back; others of them may be in an array of their own by now
                raise self.reject(SubmissionPostponed("the trials before these were taken back"))
            return False
        before = self.history.trials.state(self.table.after)
        if before.word == "rejected":
            error = SubmissionRejected(before.submission["message"], hint=before.submission.get("hint"))
            raise self.reject(error)
        return before.word in UNSETTLED

    def _look(self) -> Found:
        lines, made = self.parts()
        at = lines[0] if lines else int(made[0].submission["array"]["index"])
        record = self.table.record(at)
        self.state().apply(record, at)
        try:
            return self.target.place.find(self.history, record, self.target.scheduler)
        except SubmissionRejected as exc:
            raise self.reject(exc) from exc
        except UnreachableError:
            raise
        except CommandError:
            return Found(None, answered=False)

    def _absent_for(self, found: Found) -> float:
        """For how long the job has certainly not been there, in seconds."""
        first = self.state().submission.get("absent_since")
        if found.answered and first is None:
            self.put(absent_since=utc_now())
        return seconds_since(first) if found.answered and first is not None else 0.0

    def _again(self, found: Found) -> None:
        known = self.state().submission
        if known.get("retried") and not found.never:
            words = "the scheduler lost two submissions in a row: is slurmctld well (scontrol ping)?"
            raise self.reject(SubmissionPostponed(words))
        retried = bool(not found.never or known.get("retried"))
        tries = known.get("tries", 0) + 1
        self.put(state="absent", tries=tries, began=utc_now(), retried=retried, absent_since=None)
        self.carry_out()


@contextmanager
def table_held(history: History, leader: str) -> Iterator[int | None]:
    """The submit lock of a table, or None if another process has it. Raises SubmissionPostponed where the
    trials were taken back by the one that had it."""
    folder = history.paths.table(leader).folder
    with ExitStack() as stack:
        try:
            lock_fd = stack.enter_context(held(history.paths.table(leader)))
        except FileNotFoundError:
            lock_fd = None
        if not folder.is_dir():
            raise SubmissionPostponed("another process was refused these trials")
        yield lock_fd


def settle(
    submission: Submission,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Find the job of an ambiguous submission, or be certain that there is none and submit again, once.

    Raises SubmissionAmbiguous, SubmissionRejected.
    """
    deadline = clock() + SETTLE_WITHIN
    while clock() <= deadline:
        if not submission.step():
            return
        time.sleep(1.0)
    raise SubmissionAmbiguous(
        f"{submission.leader}: the scheduler's answer was lost, and it does not answer now",
        hint="The trials may or may not be queued; nothing is submitted twice. "
        f"Look again: hpcrun show {submission.leader}",
    )


def reconcile(history: History, targets: Targets, leader: str) -> None:
    """Take a submission that its own process left unfinished one step further, unless another is at it.

    Raises UnreachableError, HistoryError.
    """
    table = history.trials.table(leader)
    with suppress(SubmissionRejected, SubmissionAmbiguous), table_held(history, leader) as lock_fd:
        if lock_fd is not None:
            Submission(history, targets, table, lock_fd).step()
