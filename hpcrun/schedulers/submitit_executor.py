"""Submitting through submitit: its SlurmExecutor, with hpcrun's own script.

What hpcrun takes from submitit is how a job is submitted and the Job object that stands for it; what it
puts in instead: the script (rendered from hpcrun's templates), the command line (identity goes there, since
an inherited ``SBATCH_JOB_NAME`` beats the script but not the command line), the gate for programs (a
deadline, a scrubbed environment) and the reading of sbatch's answer (an answer that was lost is no
failure). tests/unit/test_submitit_hooks.py fails if the hooks used here move.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import submitit

from hpcrun.errors import CommandError
from hpcrun.schedulers.base import JobRequest
from hpcrun.schedulers.sbatch import job_id_in, raise_for, sbatch_command
from hpcrun.shells.base import Shell


class ScriptExecutor(submitit.SlurmExecutor):
    """Submits one ready script, exactly as it is."""

    def __init__(self, request: JobRequest, shell: Shell, *, timeout: float) -> None:
        if self.affinity() <= 0:
            raise CommandError(
                "Slurm's commands are not on this machine (no srun on PATH)",
                hint="Submit on a login node of the cluster, or to the target local.",
            )
        super().__init__(folder=request.run_dir / "system_logs")
        self._request = request
        self._shell = shell
        self._timeout = timeout

    def submit_script(self) -> str:
        """The job id. Raises SubmissionRejected or SubmissionAmbiguous."""
        return str(self._submit_command("").job_id)

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return (self._request.run_dir / "job.sh").read_text(encoding="utf-8")

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        asked = self._request
        return sbatch_command(
            asked.run_id, str(asked.run_dir), asked.after, array=asked.array, log=asked.log
        )  # fmt: skip

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        text = string.decode("utf-8", "replace") if isinstance(string, bytes) else string
        return job_id_in(text)

    def _submit_command(self, command: str) -> Any:
        argv = self._make_submission_command(self._request.run_dir / "job.sh")
        fds = [] if self._request.lock_fd is None else [self._request.lock_fd]
        hidden = dict.fromkeys(self._request.hidden, "")  # sbatch keeps its whole environment for the job
        result = self._shell.run(argv, timeout=self._timeout, env=hidden, keep_fds=fds)
        raise_for(result)
        job_id = self._get_job_id_from_submission_command(result.stdout)
        return self.job_class(folder=self.folder, job_id=job_id, tasks=list(range(self._num_tasks())))
