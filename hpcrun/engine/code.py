"""The code of a run: its snapshot, and where it came from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import NotFoundError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.provenance import git_provenance
from hpcrun.shells.base import Shell
from hpcrun.snapshot import Snapshot, SnapshotStore

_GIT = "git."


@dataclass(frozen=True)
class Code:
    """``properties`` and ``diff`` say what git knew of the source when the snapshot was taken. ``names`` are
    those of its files, where they are known."""

    snapshot: Snapshot
    properties: dict[str, str]
    diff: str | None
    names: frozenset[str] | None = None


def take_code(paths: WorkspacePaths, source: Path, shell: Shell) -> Code:
    """The source directory as it is now. Raises SnapshotError."""
    with ThreadPoolExecutor(1) as beside:  # both mostly wait for git
        asked = beside.submit(git_provenance, source, shell)
        snapshot = SnapshotStore(paths.snapshots, shell).take(source)
        provenance = asked.result()
    if provenance is None:
        return Code(snapshot, {}, None)
    return Code(snapshot, provenance.properties(), provenance.diff)


def code_of(paths: WorkspacePaths, record: RunRecord) -> Code:
    """What an earlier run ran, and what git knew of it then. Raises NotFoundError for a run without code."""
    if record.snapshot is None:
        raise NotFoundError(f"run {record.id} has no snapshot of any code")
    known = record.snapshot
    notes = tuple(str(note) for note in known.get("notes", []))
    snapshot = Snapshot(str(known["id"]), int(known["files"]), int(known["bytes"]), notes)
    properties = {key: value for key, value in record.properties.items() if key.startswith(_GIT)}
    try:
        diff = paths.run(record.id).diff.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        diff = None
    return Code(snapshot, properties, diff)
