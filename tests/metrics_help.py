"""What the tests of metrics share: runs that have measured something."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.metrics.reading import file_of
from hpcrun.states import RunState
from hpcrun.workspace import Workspace

BEGAN = 1760000000.0
MATRIX = {
    "schema_type": "confusion_matrix",
    "data": {"class_labels": ["cat", "dog"], "matrix": [[5, 1], [2, 7]]},
}


def ended_run(workspace: Workspace, experiment: str = "exp", **more: Any) -> str:
    """A run of this machine that has ended, as it stands in the history; its id."""
    run_id = new_run_id(experiment)
    folder = workspace.history.paths.run(run_id).folder
    data = {
        "id": run_id,
        "experiment": experiment,
        "target": "local",
        "scheduler": "local",
        "state": RunState.COMPLETED,
        "created": "2026-01-31T12:00:00.000Z",
        "started": "2026-01-31T12:00:00.000Z",
        "ended": "2026-01-31T12:01:30.000Z",
        "exit_code": 0,
        "run_dir": str(folder),
        **more,
    }
    workspace.history.create(RunRecord(**data))
    return run_id


def tell(workspace: Workspace, run_id: str, points: Iterable[Mapping[str, Any]], rank: int = 0) -> None:
    """Append what a rank of the run says it measured: ``n``, ``v`` and what else differs from the usual."""
    folder = workspace.history.seen(workspace.history.get(run_id)).metrics
    folder.mkdir(parents=True, exist_ok=True)
    path = file_of(folder, rank)
    known = path.read_bytes().count(b"\n") if path.exists() else 0
    with path.open("a") as file:
        for index, point in enumerate(points, known):
            file.write(json.dumps({"t": BEGAN + index, **point}) + "\n")


def curve(name: str, values: Iterable[Any], **more: Any) -> list[dict[str, Any]]:
    """Points of one name, at steps from 0."""
    return [{"n": name, "v": value, "s": step, **more} for step, value in enumerate(values)]
