"""Slurm on another machine: the same questions, and a submission that a broken connection cannot double.

A try to submit has a token, a folder that is made in the run's folder before sbatch is called, and that holds
sbatch's answer after. Whoever makes that folder first has it. So one who looks after a connection that broke
finds the answer, or takes the token himself: then what may still be on its way finds it taken, and ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.errors import CommandError, SubmissionAmbiguous, SubmissionRejected, UnreachableError
from hpcrun.schedulers.base import JobRef, JobRequest, SubmissionPostponed
from hpcrun.schedulers.sbatch import job_id_in, raise_for, sbatch_command
from hpcrun.schedulers.slurm import (
    QUERY_TIMEOUT,
    SBATCH_TIMEOUT,
    SlurmScheduler,
    cancel_commands,
    check_canceled,
)
from hpcrun.shells.base import RemoteShell, Result
from hpcrun.shells.scripts import source

_AWAY = 15.0
"""Seconds that a question may take on its way, beyond what is done there."""

_TAKEN, _GONE, _FULL = 91, 92, 95


class RemoteSlurmScheduler(SlurmScheduler):
    """See :class:`hpcrun.schedulers.base.Scheduler`."""

    def __init__(self, shell: RemoteShell, *, accounting: bool = True) -> None:
        super().__init__(shell, accounting=accounting)
        self._remote = shell
        self._user = ""  # whoever one is there

    def submit(self, request: JobRequest) -> str:
        """See :class:`hpcrun.schedulers.base.Scheduler`."""
        folder = str(request.run_dir)
        argv = sbatch_command(request.run_id, folder, request.after, array=request.array, log=request.log)
        words = [str(int(SBATCH_TIMEOUT)), folder, request.token, *argv]
        result = self._remote.script(source("clean", "submit"), words, timeout=SBATCH_TIMEOUT + _AWAY)
        if result.rc == _TAKEN and not result.stdout:
            raise SubmissionAmbiguous(f"{request.run_id} is being submitted, or was, with the same token")
        if result.rc == _GONE and not result.stdout:
            raise SubmissionRejected(f"the run's folder {folder} is gone from {self._remote.host}")
        if result.rc == _FULL and not result.stdout:
            said = " ".join(result.stderr.split())
            raise SubmissionRejected(f"nothing can be written to {folder} on {self._remote.host}: {said}")
        return self._job_id(result)

    def _job_id(self, result: Result) -> str:
        """What sbatch's answer comes to. Raises SubmissionRejected, SubmissionAmbiguous."""
        try:
            raise_for(result)
        except SubmissionRejected as exc:
            if not (isinstance(exc, SubmissionPostponed) and exc.fewer):  # then it is known what there is
                exc.hint = self._allowed(exc.message) or exc.hint
            raise
        return job_id_in(result.stdout)

    def recover(self, folder: str, token: str) -> tuple[str | None, str]:
        """The job of a submission whose answer was lost, if that answer is found; and else the word on it:
        never, under way, dead (sbatch was begun and is gone, without an answer), gone (so is the folder).

        Raises SubmissionRejected if the answer was no, CommandError if nobody answers.
        """
        words = [str(int(SBATCH_TIMEOUT)), folder, token]
        result = self._remote.script(source("recover"), words, timeout=QUERY_TIMEOUT + _AWAY)
        result.check(f"looking for the job of {folder}")
        word, _, said = result.stdout.partition("\n")
        if not word.startswith("code "):
            return None, word
        answer = Result(("sbatch",), int(word[5:]), said, result.stderr, result.seconds)
        try:
            return self._job_id(answer), word
        except SubmissionAmbiguous:
            return None, "dead"

    def _ask(self, argv: list[str], timeout: float = QUERY_TIMEOUT) -> tuple[str, str]:
        try:
            result = self._in(argv, timeout)
        except UnreachableError:
            raise
        except CommandError as exc:
            return "", exc.message
        if result.timed_out or result.rc == 124:
            words = f"{argv[0]} did not answer within {timeout:.0f} s"
            return "", f"{self._remote.host}: {result.lost or words}"
        return (result.stdout, "") if result.ok else ("", result.describe())

    def _in(self, argv: list[str], timeout: float) -> Result:
        words = [str(int(timeout)), *argv]
        result = self._remote.script(source("clean", "ask"), words, timeout=timeout + _AWAY)
        return Result(tuple(argv), result.rc, result.stdout, result.stderr, result.seconds, result.lost)

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        """By name, as everywhere."""
        for what, argv in cancel_commands("", jobs):
            check_canceled(self._in(argv, QUERY_TIMEOUT), what)
