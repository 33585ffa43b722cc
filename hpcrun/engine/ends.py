"""What is to be looked at in a run's folder before its end is written down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from hpcrun.explain.ends import speaks_of_memory
from hpcrun.history.paths import RunPaths

_TAIL = 100_000
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
    try:
        with (paths.system_logs / "job.txt").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return False
    return speaks_of_memory(text.rpartition("hpcrun: attempt ")[2])
