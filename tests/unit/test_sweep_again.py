"""A sweep started once more: with the code that it had, and what is said of it now on top."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import HyperDriveRun, Run, Workspace
from tests.cli_help import Project, document, make_project, refused, typed

pytestmark = pytest.mark.slow

TRAIN = """\
import sys
from hpcrun import Run
Run.get_context().log("loss", (float(sys.argv[2]) - 1) ** 2)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text(TRAIN)
    yield from make_project(tmp_path)


def start(project: Project, *options: str, **section: Any) -> dict[str, Any]:
    sweep = {"space": {"x": {"choice": [0, 1, 2]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    run = {"experiment": "exp", "source_directory": "src", "script": "train.py", "tags": {"of": "file"}}
    told = {"notify": {"on": ["completed"], "command": ["true"]}}
    path = project.folder / "sweep.yaml"
    path.write_text(json.dumps({**run, **told, "sweep": {**sweep, **section}}))
    made: dict[str, Any] = document("submit", "sweep.yaml", "--wait", *options)
    return made


def values(sweep: dict[str, Any]) -> list[float]:
    told = document("sweep", "status", sweep["id"])
    return [trial["parameters"]["x"] for trial in sorted(told["trials"], key=lambda each: each["number"])]


def test_the_code_it_had(project: Project) -> None:
    """Its source may be gone by now; who is told of it is told again."""
    first = start(project, "--name", "grid", "--key", "k", "--tag", "a=b")
    (project.folder / "src/train.py").unlink()
    (project.folder / "sweep.yaml").unlink()
    again = document("rerun", "grid", "--wait")
    assert again["id"] != first["id"] and again["properties"]["rerun_of"] == first["id"]
    assert (again["type"], again["state"], again["new"]) == ("sweep", "Completed", True)
    assert again["snapshot"]["id"] == first["snapshot"]["id"]
    assert (again["display_name"], again["key"], again["experiment"]) == (None, None, "exp")
    assert again["tags"]["of"] == "file"
    assert again["config"]["sweep"]["section"] == first["config"]["sweep"]["section"]
    assert values(again) == [0, 1, 2]
    best = document("sweep", "best", again["id"], "-n", "1")["trials"]
    assert best[0]["parameters"] == {"x": 1}
    with Workspace.open(project.folder) as ws:
        assert {ws.history.get(run["id"]).notify["command"][0] for run in (first, again)} == {"true"}
    assert "there is no train.py" in refused("rerun", "grid", "--fresh", code=3)


def test_with_changes(project: Project) -> None:
    """Keys of the sweep and of its run; what is impossible then is said, and changes nothing."""
    start(project, "--name", "grid")
    again = document(
        "rerun", "grid", "--wait", "--set", "sweep.space.x={choice: [5, 6]}", "--set", "experiment=other"
    )
    assert values(again) == [5, 6] and again["experiment"] == "other"
    (project.folder / "src/train.py").write_text(TRAIN.replace("loss", "loss2"))
    fresh = document("rerun", "grid", "--fresh", "--wait", "--set", "sweep.metric=loss2")
    assert document("sweep", "best", fresh["id"])["trials"][0]["best"] == 0.0
    later = document("rerun", "grid", "--wait", "--after", again["id"], "--set", "notify.command=[echo]")
    assert again["id"] in later["config"]["sweep"]["run"]
    with Workspace.open(project.folder) as ws:
        assert ws.history.get(later["id"]).notify["command"] == ["echo"]
    once_more = document("rerun", later["id"], "--wait")
    assert again["id"] not in once_more["config"]["sweep"]["run"]
    shown = typed("rerun", "grid", "--dry-run")
    assert shown.startswith("# trial 0: x=0\n# trial 1: x=1\n")
    assert "a grid is the same every time" in refused("rerun", "grid", "--set", "sweep.seed=1", code=3)
    assert "is not for a sweep" in refused("rerun", "grid", "--", "x", code=2)
    assert len(document("ls")["runs"]) == 5


def test_what_it_resumed_from(project: Project) -> None:
    """The very same sweeps, by whatever word they were named."""
    first = start(project)
    more = start(project, space={"x": {"choice": [0, 1, 2, 3, 4]}}, resume_from=["@-1"])
    assert values(more) == [3, 4]
    again = document("rerun", more["id"], "--wait")
    assert values(again) == [3, 4] and again["config"]["sweep"]["resumed"] == [first["id"]]


def test_from_python(project: Project) -> None:
    first = start(project)
    with Workspace.open(project.folder) as ws:
        again = Run.get(ws, first["id"]).rerun(tags={"a": "b"})
        assert isinstance(again, HyperDriveRun)
        again.wait_for_completion()
        best = again.get_best_run_by_primary_metric()
        assert best is not None and best.get_metrics() == {"loss": 0.0}
        assert again.record.snapshot == Run.get(ws, first["id"]).record.snapshot
        assert again.tags["a"] == "b" and again.properties["rerun_of"] == first["id"]
