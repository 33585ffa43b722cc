"""Which rank failed first, by what srun and the witnesses said: the rule of failure.sh.j2, in bash."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[2] / "templates/failure.sh.j2"

# Seen on a cluster: rank 3 was killed, and rank 7 lost its PMIx before anybody had said so.
KILLED = """\
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
hpcrun: rank 7 on node2 is gone
slurmstepd-node1: error: *** STEP 3.1 ON node1 CANCELLED AT 2026-11-23T11:34:49 ***
hpcrun: rank 3 on node1 is gone
hpcrun: rank 2 on node1 is gone
hpcrun: rank 6 on node2 is gone
srun: error: node1: tasks 0-3: Killed
srun: Terminating StepId=3.1
srun: error: node2: tasks 4-6: Killed
srun: error: node2: task 7: Exited with exit code 14
"""
ALL_LOST = """\
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
hpcrun: rank 1 on node1 is gone
hpcrun: rank 0 on node1 is gone
srun: error: node1: tasks 0-1: Exited with exit code 14
"""
BY_ITSELF = """\
hpcrun: rank 1 on node1 is gone
srun: error: node1: task 1: Exited with exit code 14
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
hpcrun: rank 0 on node1 is gone
srun: error: node1: task 0: Killed
"""
# Seen with Open MPI 5: mpirun says nothing of rank 3, which was killed.
BY_MPIRUN = """\
[node2:00000] *** reported by process [1569193985,7]
hpcrun: rank 7 on node2 is gone
hpcrun: rank 3 on node1 is gone
hpcrun: rank 4 on node2 is gone
--------------------------------------------------------------------------
prterun has exited due to process rank 7 with PID 226 on node node2 calling
"abort". This may have caused other processes in the application to be
terminated by signals sent by prterun (as reported here).
--------------------------------------------------------------------------
"""


def first_failure(folder: Path, said: str, words: dict[int, str] | None = None) -> tuple[str, str]:
    """The message and the code."""
    for name in ("system_logs", "user_logs"):
        (folder / name).mkdir()
    (folder / "system_logs/job.txt").write_text(said)
    for rank, text in (words or {}).items():
        (folder / f"user_logs/std_log_process_{rank:03d}.txt").write_text(text)
    rule = re.sub(r"\{#.*?#\}", "", TEMPLATE.read_text(), flags=re.DOTALL)
    ask = (
        'hpcrun_said=0 hpcrun_code=14; hpcrun_first_failure; printf "%s\\n" "$hpcrun_message" "$hpcrun_code"'
    )
    argv = ["bash", "-u", "-c", f"{rule}\n{ask}"]
    done = subprocess.run(
        argv, env={"HPCRUN_RUN_DIR": str(folder), "PATH": "/usr/bin:/bin"}, text=True, capture_output=True
    )
    assert done.stderr == ""
    message, code = done.stdout.splitlines()
    return message, code


def test_who_lost_its_pmix_is_not_the_first(tmp_path: Path) -> None:
    assert first_failure(tmp_path, KILLED) == ("rank 3 on node1: Killed", "137")


@pytest.mark.parametrize("said", [ALL_LOST, BY_ITSELF])
def test_unless_there_is_no_other(tmp_path: Path, said: str) -> None:
    """Or where it says itself that it failed."""
    words = {1: "ValueError: no good\n"} if said == BY_ITSELF else {}
    expected = ("rank 1 on node1: Exited with exit code 14", "14")
    assert first_failure(tmp_path, said, words) == expected


def test_under_mpirun_it_is_the_one_that_was_gone_first(tmp_path: Path) -> None:
    noticed = "rank 7 on node2: exited with exit code 14"
    assert first_failure(tmp_path, BY_MPIRUN) == (f"rank 3 on node1: was gone first; {noticed}", "14")
