"""Which runs' ends somebody is still to be told of: a file a run, there from before the run is."""

from __future__ import annotations

import time
from pathlib import Path

from hpcrun.history.files import make_folder, touch
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord, is_run_id

_STRAY = 86400.0
"""Seconds after which a file of no run is taken for what a killed submission left."""


def expect(paths: WorkspacePaths, record: RunRecord) -> None:
    """Note that somebody is to be told of the run's end, if so. Raises HistoryError."""
    own = any(record.notify.get(way) for way in ("webhook", "command", "mail"))
    of_all = not record.notify and record.parent is None and paths.notify.exists()
    if (own or of_all) and not record.state.final:
        make_folder(paths.notices)
        touch(paths.notices / record.id)


def expected(paths: WorkspacePaths) -> list[str]:
    """The runs, in the order of their names."""
    try:
        return sorted(path.name for path in paths.notices.iterdir() if is_run_id(path.name))
    except OSError:
        return []


def drop_stray(file: Path) -> None:
    """Take away the file of a run that never came to be."""
    try:
        if time.time() - file.stat().st_mtime > _STRAY:
            file.unlink(missing_ok=True)
    except OSError:
        pass
