"""srun that starts nothing, played: tried again where nobody can have begun, and for what passes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcrun import MpiConfiguration, ScriptRunConfig
from tests.engine_help import PATIENCE, install, job, slurm_site, until

# Says what it is told to as often as it is told to, and then does what srun does.
SRUN = """\
#!/bin/bash
echo called >>"$CALLS"
if [ "$(wc -l <"$CALLS")" -le "$TIMES" ]; then
    echo "srun: error: $SAYS" >&2
    exit "$CODE"
fi
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
TIMED_OUT = "Unable to create step for job 7: Socket timed out on send/recv operation"


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/bash\necho n1\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "calls").touch()
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }


def begun(
    tmp_path: Path,
    slurm: dict[str, str],
    says: str,
    *,
    times: int = 1,
    code: int = 1,
    cancel: bool = False,
    **more: Any,
) -> Path:
    """The folder of a run whose script has ended; with ``cancel``, by TERM while it waits."""
    config = ScriptRunConfig(".", command="echo begun", **more)
    folder = install(job(tmp_path / "run", config, slurm_site()), {})
    env = {**os.environ, **slurm, "SAYS": says, "TIMES": str(times), "CODE": str(code)}
    with (folder / "system_logs/job.txt").open("ab") as log:
        process = subprocess.Popen(["bash", folder / "job.sh"], env=env, stdout=log, stderr=log)
    if cancel:
        until(lambda: "again in" in said(folder))
        process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    return folder


def said(folder: Path) -> str:
    return (folder / "system_logs/job.txt").read_text()


def ended(folder: Path) -> tuple[str, int | None]:
    raw = json.loads((folder / "status.json").read_text())
    return raw["state"], raw["exit_code"]


def calls(slurm: dict[str, str]) -> int:
    return len(Path(slurm["CALLS"]).read_text().splitlines())


@pytest.mark.parametrize(
    "says",
    [
        TIMED_OUT,
        "Unable to confirm allocation for job 7: Unable to contact slurm controller (connect failure)",
    ],
)
def test_it_is_tried_again(says: str, tmp_path: Path, slurm: dict[str, str]) -> None:
    folder = begun(tmp_path, slurm, says)
    assert (ended(folder), calls(slurm)) == (("completed", 0), 2)
    assert (folder / "user_logs/std_log.txt").read_text() == "begun\n"
    assert said(folder).count("again in 2 seconds") == 1


def test_of_many_ranks_too(tmp_path: Path, slurm: dict[str, str]) -> None:
    """What srun said of the first try is not taken for the failure of a rank."""
    folder = begun(tmp_path, slurm, TIMED_OUT, distributed_job_config=MpiConfiguration(1, 1))
    assert ended(folder) == ("completed", 0), said(folder)


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("Unable to create step for job 7: More processors requested than permitted", 1),
        ("Unable to create step for job 7: Invalid account or account/partition combination specified", 1),
        ("n1: task 0: Exited with exit code 1", 1),
        (TIMED_OUT, 3),
    ],
)
def test_what_will_not_pass_is_the_end(says: str, code: int, tmp_path: Path, slurm: dict[str, str]) -> None:
    """And so is what a payload may have said that has begun."""
    folder = begun(tmp_path, slurm, says, code=code)
    assert (ended(folder), calls(slurm)) == (("failed", code), 1)


def test_a_cancel_meanwhile_counts_at_once(tmp_path: Path, slurm: dict[str, str]) -> None:
    folder = begun(tmp_path, slurm, TIMED_OUT, times=99, cancel=True)
    assert (ended(folder), calls(slurm)) == (("failed", 143), 1)
