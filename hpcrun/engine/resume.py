"""``resume_from``: an earlier run's outputs, or a path on the target."""

from __future__ import annotations

from pathlib import Path

from hpcrun.history.paths import RunPaths
from hpcrun.history.store import History


def resume_path(history: History, resume_from: str | None) -> str | None:
    """What the script finds as ``HPCRUN_RESUME_FROM``. A path begins with ``/`` or ``.``; anything else names
    a run. Raises NotFoundError for a run that is not there.
    """
    if resume_from is None:
        return None
    if resume_from.startswith(("/", "./", "../", "~")):
        return str(Path(resume_from).expanduser().absolute())
    record = history.get(history.resolve(resume_from))
    return str(RunPaths(Path(record.run_dir)).outputs)
