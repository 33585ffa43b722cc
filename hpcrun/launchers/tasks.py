"""The script of a job whose tasks are runs, each with a script of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hpcrun.quoting import ShellText, ShellWord

_OF_ONE_RUN = ("#SBATCH --job-name=", "#SBATCH --chdir=", "#SBATCH --output=")


def shared_directives(script: str) -> tuple[str, ...]:
    """The directives of a job script but for those that tell its run from others: runs in which they are the
    same can be tasks of one array."""
    head = itertools.takewhile(lambda line: line.startswith("#"), script.splitlines())
    return tuple(x for x in head if x.startswith("#SBATCH ") and not x.startswith(_OF_ONE_RUN))


def array_script(script: str, run_dirs: Mapping[int, str]) -> str:
    """The script of a job array: each task goes on with the script of its own run. ``script`` is that of one
    of them, ``run_dirs`` has the folders of the runs by task."""
    table = [ShellText("[{}]={}", task, ShellWord(folder)) for task, folder in sorted(run_dirs.items())]
    lines = [
        "#!/bin/bash",
        *shared_directives(script),
        f"# {len(run_dirs)} runs, each a task of this job. Rendered by hpcrun.",
        "hpcrun_runs=(",
        *map(str, table),
        ")",
        "hpcrun_run=${hpcrun_runs[SLURM_ARRAY_TASK_ID]}",
        'cd -- "$hpcrun_run" || exit 101',
        'exec bash -- "$hpcrun_run/job.sh"',
    ]
    return "".join(f"{line}\n" for line in lines)
