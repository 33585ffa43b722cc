"""What is to be looked at in a run's folder before its end is written down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from hpcrun.engine.tails import read_tail
from hpcrun.history.paths import RunPaths
from hpcrun.places.status import JobStatus
from hpcrun.schedulers.slurmtext import step_aborted

_FILES = 10_000


def files_seen(paths: RunPaths) -> None:
    """List the run's files, and look at each: then they are there for whoever is told that the run ended.

    A network file system may show for a while what was there when it last looked; a listing makes it look
    again, and so finds the files that the job wrote on its node. After some thousands it leaves off.
    """
    for path in islice(_files(paths), _FILES):
        try:
            path.stat()
        except OSError:
            continue  # a link to nowhere, or it was just taken away


def _files(paths: RunPaths) -> Iterator[Path]:
    for top in (paths.outputs, paths.logs, paths.user_logs, paths.system_logs):
        for folder, _, names in os.walk(top):
            yield from (Path(folder, name) for name in names)


def ended_for_memory(paths: RunPaths) -> bool:
    """Whether Slurm said in the job's own log that the last attempt took too much memory.

    Its word for the job may only be FAILED: where a step was killed and not the script, or without cgroups.
    """
    from hpcrun.explain.ends import speaks_of_memory

    return speaks_of_memory(_last_attempt(paths))


def as_it_was(status: JobStatus, paths: RunPaths) -> JobStatus:
    """The job's word, but for an end that it took for a good one since srun, whose step was gone, said so."""
    well = status.ended is not None and status.exit_code == 0 and not status.signal
    if not well or not step_aborted(_last_attempt(paths)):
        return status
    words = "srun lost the payload's step, and nobody knows how it ended"
    return replace(status, state="failed", exit_code=1, message=words)


def _last_attempt(paths: RunPaths) -> str:
    """The end of the job's log, from where its last attempt begins."""
    return read_tail(paths.system_logs / "job.txt").rpartition("hpcrun: attempt ")[2]
