"""A run as one JSON document: its record, its outputs and where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.engine.files import file_names

if TYPE_CHECKING:
    from hpcrun.history.paths import RunPaths
    from hpcrun.history.record import RunRecord
    from hpcrun.workspace import Workspace


def run_document(workspace: Workspace, record: RunRecord) -> dict[str, Any]:
    """All keys of run.json, and ``children`` (their ids, the newest first), ``metrics`` (the last value of
    each), ``folder``, and ``outputs`` (``name`` within the folder, ``bytes``)."""
    home = workspace.history.paths.run(record.id)
    document: dict[str, Any] = json.loads(record.to_json())
    children = workspace.history.list(parent=record.id, limit=None, include_archived=True)
    document["children"] = [row.id for row in children]
    measured = workspace.history.metrics_of([record.id]).get(record.id, [])
    document["metrics"] = {each.name: each.last for each in measured}
    document["folder"] = str(home.folder)
    document["outputs"] = [{"name": name, "bytes": size} for name, size in outputs(home)]
    return document


def outputs(home: RunPaths, folders: tuple[str, ...] = ("outputs",)) -> list[tuple[str, int]]:
    """Names such as ``outputs/model.pt``, with their sizes."""
    found = []
    for name in file_names(home, folders):
        size = _size(home.folder / name)
        if size is not None:
            found.append((name, size))
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # taken away by the script between the two looks
        return None
