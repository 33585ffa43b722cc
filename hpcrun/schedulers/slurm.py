"""Slurm, on the machine where its commands are: a login node."""

from __future__ import annotations

import os
import posixpath
import pwd
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import groupby

from hpcrun.errors import CommandError, SubmissionRejected
from hpcrun.schedulers.base import Answer, JobFacts, JobRef, JobRequest, SubmissionPostponed
from hpcrun.schedulers.slurmarrays import ids, names, spread
from hpcrun.schedulers.slurmtext import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    is_final,
    keeps_no_books,
    parse_sacct,
    parse_squeue,
)
from hpcrun.shells.base import Result, Shell

SBATCH_TIMEOUT = 60.0
QUERY_TIMEOUT = 20.0
ALLOWED_TIMEOUT = 5.0
SPEAK = {"TZ": "UTC", "SLURM_BITSTR_LEN": "0"}
"""How Slurm is to answer: times in UTC, the tasks of an array all named, however many they are."""

# Clocks of hosts may differ by minutes, and sacct's window is closed at its start.
_SKEW = timedelta(hours=1)
# One argument may not be longer than 128 KiB; beyond that all of the user's jobs are asked for.
_MAX_ARGUMENT = 100_000
_ENDED = ("Invalid job id specified", "Job/step already completing or completed")
_TOGETHER = 1000
"""Words of a command that ends tasks of one array, at most."""


class SlurmScheduler:
    """sbatch through submitit; squeue for what is in the queue, sacct only for what no longer is."""

    def __init__(self, shell: Shell, *, accounting: bool = True) -> None:
        self._shell = shell
        self._accounting = accounting
        self._user = pwd.getpwuid(os.getuid()).pw_name

    def submit(self, request: JobRequest) -> str:
        """See :class:`hpcrun.schedulers.base.Scheduler`."""
        from hpcrun.schedulers.submitit_executor import ScriptExecutor

        try:
            return ScriptExecutor(request, self._shell, timeout=SBATCH_TIMEOUT).submit_script()
        except SubmissionRejected as exc:
            if not (isinstance(exc, SubmissionPostponed) and exc.fewer):  # then it is known what there is
                exc.hint = self._allowed(exc.message) or exc.hint
            raise

    def _allowed(self, refusal: str) -> str:
        """What Slurm would have taken, asked for while it can be told; empty where nobody says."""
        from hpcrun.schedulers.slurmallowed import question

        asked = question(refusal, self._user)
        if asked is None:
            return ""
        argv, read = asked
        out, trouble = self._ask(argv, ALLOWED_TIMEOUT)
        return "" if trouble else read(out)

    def query(self, jobs: Sequence[JobRef]) -> Answer:
        """One squeue, and one sacct for the jobs that it does not show, or only because they ended just now.

        The books are not asked while the queue is silent: they call a job ended that was queued again.
        """
        if not jobs:
            return Answer()
        facts, trouble = self._squeue(jobs)
        if trouble:
            return Answer(facts, queue=False, complete=False, trouble=trouble)
        missing = [job for job in jobs if job.run_id not in facts or is_final(facts[job.run_id].word)]
        if missing and self._accounting:
            booked, trouble = self._sacct(missing)
            for run_id, found in booked.items():
                # Of a job that ended just now the books know the exit code, or do not know yet that it ended.
                if run_id not in facts or is_final(found.word):
                    facts[run_id] = found
        return Answer(facts, complete=not trouble, trouble=trouble)

    def _squeue(self, jobs: Sequence[JobRef]) -> tuple[dict[str, JobFacts], str]:
        argv = ["squeue", "--noheader", "--states=all", f"--user={self._user}", f"--format={SQUEUE_FORMAT}"]
        if any(job.array for job in jobs):
            argv.append(
                "--array"
            )  # a line for each task; sacct knows that only from 23.02 on, and needs it less
        out, trouble = self._ask(argv)
        return parse_squeue(spread(out, jobs), {job.run_id: job.job_id for job in jobs}), trouble

    def _sacct(self, jobs: Sequence[JobRef]) -> tuple[dict[str, JobFacts], str]:
        start = min(datetime.fromisoformat(job.since.replace("Z", "+00:00")) for job in jobs) - _SKEW
        known = ids(jobs)
        argv = [
            "sacct",
            "--noheader",
            "--parsable2",
            f"--user={self._user}",
            f"--starttime={start.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}",
            f"--format={SACCT_FORMAT}",
        ]
        joined = ",".join(names(jobs))
        if len(joined) < _MAX_ARGUMENT:
            argv.append(f"--name={joined}")
        # Asked for by time alone, sacct leaves out a job that was canceled before it could ever have begun:
        # one that was held, say. The name still tells it from an earlier one with the same id.
        if all(job.job_id for job in jobs) and len(",".join(known)) < _MAX_ARGUMENT:
            argv.append(f"--jobs={','.join(known)}")
        out, trouble = self._ask(argv)
        if keeps_no_books(trouble):
            trouble = ""
        return parse_sacct(spread(out, jobs), {job.run_id: job.job_id for job in jobs}), trouble

    def _ask(self, argv: list[str], timeout: float = QUERY_TIMEOUT) -> tuple[str, str]:
        try:
            result = self._shell.run(argv, timeout=timeout, env=SPEAK)
        except CommandError as exc:
            return "", exc.message
        if result.timed_out:
            return "", f"{argv[0]} did not answer within {timeout:.0f} s"
        return (result.stdout, "") if result.ok else ("", result.describe())

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        """By name, never by id alone: an id may have been given again to another job."""
        for what, argv in cancel_commands(self._user, jobs):
            check_canceled(self._shell.run(argv, timeout=QUERY_TIMEOUT), what)


def check_canceled(result: Result, what: str) -> None:
    """Raises CommandError for a no of scancel; that a job has ended is none. By its name alone, of one that
    has ended nothing is said; a task that was canceled while it waited, Slurm does not know any more."""
    said = [line for line in result.stderr.splitlines() if line.strip()]
    if result.rc == 1 and said and all(line.endswith(_ENDED) for line in said):
        return
    result.check(f"canceling {what}")


def cancel_commands(user: str, jobs: Sequence[JobRef]) -> list[tuple[str, list[str]]]:
    """What ends these jobs, and which run each command begins with: tasks of one array go together."""
    found: list[tuple[str, list[str]]] = []
    arrays: dict[str, list[str]] = {}
    for folder, packed in groupby(sorted((j for j in jobs if j.packed), key=_folder), key=_folder):
        some = list(packed)
        for at in range(0, len(some), _TOGETHER):
            indices = [job.index for job in some[at : at + _TOGETHER]]
            found.append((some[at].run_id, stop_command(folder, indices)))
    for job in jobs:
        if job.packed:
            continue
        argv = cancel_command(user, job)
        if not argv:
            continue
        known = arrays.get(job.array)
        if known is not None and len(known) < _TOGETHER:
            known.append(argv[-1])
            continue
        found.append((job.run_id, argv))
        if job.array:
            arrays[job.array] = argv
    return found


def _folder(job: JobRef) -> str:
    """Of the job whose tasks these are: see :mod:`hpcrun.places.refs`."""
    return posixpath.join(posixpath.dirname(posixpath.dirname(job.run_dir)), "arrays", job.array)


def stop_command(folder: str, indices: Sequence[int]) -> list[str]:
    """What ends some of the runs of a job that runs several: it looks for these folders."""
    return ["mkdir", "-p", "--", *(posixpath.join(folder, "stop", str(index)) for index in indices)]


def cancel_command(user: str, job: JobRef) -> list[str]:
    """What ends a job; empty for a task of an array whose id is not known yet: its name is that of all."""
    if not job.array:
        return ["scancel", f"--user={user}", f"--name={job.run_id}"]
    return ["scancel", f"--user={user}", f"--name={job.array}", job.job_id] if job.job_id else []
