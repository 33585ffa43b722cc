"""How sbatch is called, and what its answer comes to, wherever it is called from."""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.errors import SubmissionAmbiguous, SubmissionRejected
from hpcrun.schedulers.base import SubmissionPostponed
from hpcrun.schedulers.slurmtext import (
    answer_lost,
    complaint,
    not_now,
    parse_job_id,
    too_many,
    was_not_sent,
)
from hpcrun.shells.base import Result


def sbatch_command(
    run_id: str,
    folder: str,
    after: Sequence[str] = (),
    *,
    array: str = "",
    log: str = "",
) -> list[str]:
    """The command line that submits a run's script: identity stands there, since an inherited
    ``SBATCH_JOB_NAME`` beats the script, but not the command line. So does what the job waits for (see
    :class:`hpcrun.schedulers.base.JobRequest`), which is known only when it is submitted."""
    waits = [f"--dependency={','.join(after)}", "--kill-on-invalid-dep=yes"] if after else []
    log = "%a.txt" if array else log or "system_logs/job.txt"
    return [
        "sbatch",
        "--parsable",
        *([f"--array={array}"] if array else []),
        f"--job-name={run_id}",
        f"--chdir={folder}",
        f"--output={folder.replace('%', '%%')}/{log}",
        *waits,
        f"{folder}/job.sh",
    ]


def job_id_in(stdout: str) -> str:
    """The id in sbatch's answer. Raises SubmissionAmbiguous where there is none."""
    job_id = parse_job_id(stdout)
    if job_id is None:
        raise SubmissionAmbiguous(f"sbatch's answer holds no job id: {stdout.strip()[:200]!r}")
    return job_id


def _killed(code: int) -> bool:
    """Whether it was ended from outside: by a signal, as we and as a shell see it, or by timeout(1). What
    sbatch ends with itself, when it says no, may be 255."""
    return code < 0 or code == 124 or 128 < code <= 192


def raise_for(result: Result) -> None:
    """Raises SubmissionAmbiguous where nobody knows what became of it, SubmissionRejected for a no, which is
    SubmissionPostponed where it passes."""
    if result.ok:
        return
    if result.rc is None or _killed(result.rc) or answer_lost(result.stderr):
        raise SubmissionAmbiguous(f"the answer to sbatch was lost: {result.describe()}")
    words, hint = complaint(result.stderr)
    if was_not_sent(result.stderr):
        raise SubmissionPostponed(
            f"Slurm's controller cannot be reached, nothing was submitted: {words}",
            hint="Try again when scontrol ping answers.",
        )
    message = f"Slurm refused the job: {words}"
    if too_many(result.stderr):
        raise SubmissionPostponed(message, hint=hint, fewer=True)
    if not_now(result.stderr):
        raise SubmissionPostponed(message, hint=hint)
    raise SubmissionRejected(message, hint=hint)
