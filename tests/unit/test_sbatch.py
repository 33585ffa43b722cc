"""What sbatch's answer comes to, by its exit code and its words."""

from __future__ import annotations

import pytest

from hpcrun.errors import HpcrunError, SubmissionAmbiguous, SubmissionRejected
from hpcrun.schedulers.base import SubmissionPostponed
from hpcrun.schedulers.sbatch import job_id_in, raise_for, sbatch_command
from hpcrun.shells.base import Result

NO = "sbatch: error: Batch job submission failed: Invalid partition name specified"


@pytest.mark.parametrize(
    ("code", "stderr", "error"),
    [
        (1, NO, SubmissionRejected),
        (255, "sbatch: error: Invalid time specification (pos=0): yesteryear", SubmissionRejected),
        (1, "sbatch: error: Batch job submission failed: Socket timed out on send/recv", SubmissionAmbiguous),
        (None, "", SubmissionAmbiguous),
        (124, "", SubmissionAmbiguous),  # timeout(1)
        (137, "", SubmissionAmbiguous),  # a shell's word for kill -9
        (-9, "", SubmissionAmbiguous),  # our own
    ],
)
def test_a_no_is_told_from_silence(code: int | None, stderr: str, error: type[HpcrunError]) -> None:
    with pytest.raises(error):
        raise_for(Result(("sbatch",), code, "", stderr, 1.0))


POLICY = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)"


@pytest.mark.parametrize(
    ("said", "passes", "fewer"),
    [
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: {POLICY}", True, True),
        (f"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: {POLICY}", True, True),
        (f"sbatch: error: QOSGrpSubmitJobsLimit\nsbatch: error: {POLICY}", True, True),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: {POLICY}", False, False),
        (f"sbatch: error: {POLICY}", False, False),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", True, False),
        ("sbatch: error: Required partition not available (inactive or drain)", True, False),
        ("sbatch: error: Slurm backup controller in standby mode", True, False),
        ("sbatch: error: invalid partition specified: nowhere", False, False),
        ("sbatch: error: Invalid account or account/partition combination specified", False, False),
    ],
)
def test_what_passes(said: str, passes: bool, fewer: bool) -> None:
    """What will never be taken is told from what is not taken now, and from what is too many at once."""
    with pytest.raises(SubmissionRejected) as caught:
        raise_for(Result(("sbatch",), 1, "", said, 0.1))
    assert isinstance(caught.value, SubmissionPostponed) is passes
    assert getattr(caught.value, "fewer", False) is fewer


def test_a_yes() -> None:
    raise_for(Result(("sbatch",), 0, "7\n", "sbatch: a warning", 1.0))
    assert job_id_in("Welcome!\n7;cluster\n") == "7"
    with pytest.raises(SubmissionAmbiguous):
        job_id_in("Welcome!\n")


def test_what_it_waits_for_stands_on_the_command_line() -> None:
    """All of it is to come true; a wait in vain ends the job, which would wait for ever by default."""
    command = sbatch_command("a_run", "/runs/a_run", ["afterok:7", "afterany:8"])
    assert command[-3:-1] == ["--dependency=afterok:7,afterany:8", "--kill-on-invalid-dep=yes"]
    assert not any("dep" in word for word in sbatch_command("a_run", "/runs/a_run"))


def test_who_it_is_stands_on_the_command_line() -> None:
    command = sbatch_command("a_run", "/data/100%/runs/a_run")
    assert command[0] == "sbatch" and command[-1] == "/data/100%/runs/a_run/job.sh"
    assert "--job-name=a_run" in command and "--output=/data/100%%/runs/a_run/system_logs/job.txt" in command
