"""Slurm, on the machine where its commands are: a login node."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from hpcrun.errors import CommandError, SubmissionRejected
from hpcrun.schedulers.base import Answer, JobFacts, JobRef, JobRequest
from hpcrun.schedulers.slurmtext import SACCT_FORMAT, SQUEUE_FORMAT, parse_sacct, parse_squeue
from hpcrun.shells.base import Shell
from hpcrun.states import from_slurm

SBATCH_TIMEOUT = 60.0
QUERY_TIMEOUT = 20.0
ALLOWED_TIMEOUT = 5.0
# Clocks of hosts may differ by minutes, and sacct's window is closed at its start.
_SKEW = timedelta(hours=1)
# One argument may not be longer than 128 KiB; beyond that all of the user's jobs are asked for.
_MAX_ARGUMENT = 100_000


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
            raise SubmissionRejected(exc.message, hint=self._allowed(exc.message) or exc.hint) from exc

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
        """One squeue, and one sacct for the rest."""
        if not jobs:
            return Answer()
        facts, trouble = self._squeue(jobs)
        queue = not trouble
        missing = [job for job in jobs if job.run_id not in facts or _left_queue(facts[job.run_id])]
        if missing and self._accounting:
            ended, more = self._sacct(missing)
            facts.update(ended)
            trouble = "; ".join(filter(None, (trouble, more)))
        return Answer(facts, queue=queue, complete=not trouble, trouble=trouble)

    def _squeue(self, jobs: Sequence[JobRef]) -> tuple[dict[str, JobFacts], str]:
        argv = ["squeue", "--noheader", "--states=all", f"--user={self._user}", f"--format={SQUEUE_FORMAT}"]
        out, trouble = self._ask(argv)
        return parse_squeue(out, {job.run_id: job.job_id for job in jobs}), trouble

    def _sacct(self, jobs: Sequence[JobRef]) -> tuple[dict[str, JobFacts], str]:
        start = min(datetime.fromisoformat(job.since.replace("Z", "+00:00")) for job in jobs) - _SKEW
        names = [job.run_id for job in jobs]
        argv = [
            "sacct",
            "--noheader",
            "--parsable2",
            f"--user={self._user}",
            f"--starttime={start.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}",
            f"--format={SACCT_FORMAT}",
        ]
        joined = ",".join(names)
        if len(joined) < _MAX_ARGUMENT:
            argv.append(f"--name={joined}")
        out, trouble = self._ask(argv)
        return parse_sacct(out, {job.run_id: job.job_id for job in jobs}), trouble

    def _ask(self, argv: list[str], timeout: float = QUERY_TIMEOUT) -> tuple[str, str]:
        try:
            result = self._shell.run(argv, timeout=timeout, env={"TZ": "UTC"})
        except CommandError as exc:
            return "", exc.message
        if result.timed_out:
            return "", f"{argv[0]} did not answer within {timeout:.0f} s"
        return (result.stdout, "") if result.ok else ("", result.describe())

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        """By name, never by id alone: an id may have been given again to another job."""
        for job in jobs:
            argv = ["scancel", f"--user={self._user}", f"--name={job.run_id}"]
            self._shell.run(argv, timeout=QUERY_TIMEOUT).check(f"canceling {job.run_id}")


def _left_queue(facts: JobFacts) -> bool:
    """Whether squeue shows the job only because it ended a moment ago: sacct knows its exit code."""
    known = from_slurm(facts.word)
    return known is not None and known[0].final
