"""The history held against itself and against the store of snapshots."""

from __future__ import annotations

from hpcrun.errors import SnapshotError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.verify import Verified
from hpcrun.history.verify import verify as verify_history
from hpcrun.shells.base import Shell
from hpcrun.snapshot import SnapshotStore


def verify(paths: WorkspacePaths, shell: Shell) -> Verified:
    """All that :func:`hpcrun.history.verify.verify` finds, and the snapshots that are missing."""
    report = verify_history(paths)
    store = SnapshotStore(paths.snapshots, shell)
    for snapshot, run_id in report.snapshots.items():
        try:
            there = store.contains(snapshot)
        except SnapshotError as error:
            report.found("snapshot", paths.snapshots, error.message, error.hint or "")
            break
        if not there:
            message = f"the snapshot {snapshot[:12]} is not in {paths.snapshots}"
            action = "put the store back from a backup; what the run itself had is in its folder, under code"
            report.found("snapshot", run_id, message, action)
    return report
