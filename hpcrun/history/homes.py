"""What lies in a run's folder in the history before anything came home: folders, or links to where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hpcrun.history.paths import RunPaths


def link_home(home: RunPaths, there: RunPaths, more: Mapping[str, Path]) -> None:
    """On a shared file system the history's folder shows what the job writes, as it writes it."""
    links = {"outputs": there.outputs, "logs": there.logs}
    if home.folder != there.folder:
        links |= {"user_logs": there.user_logs, "system_logs": there.system_logs, "metrics": there.metrics}
        links |= {"job.sh": there.script, "code": there.code, **more}
    for name, place in links.items():
        link = home.folder / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(place, home.folder) if home.folder == there.folder else place)


def make_home(home: RunPaths) -> None:
    """The folders in the history that will hold what comes home, under the names that they have there."""
    for folder in (home.outputs, home.logs, home.user_logs, home.system_logs, home.metrics):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("outputs", "logs"):
        link = home.folder / name
        if not link.is_symlink():
            link.symlink_to(f"code/{name}")
