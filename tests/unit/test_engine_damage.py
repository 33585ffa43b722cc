"""One damaged run must not cost the others anything, nor a spawned one the process table."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine.refresh import refresh
from hpcrun.errors import NotFoundError
from hpcrun.shells.local import LocalShell
from tests.engine_help import until


def start(workspace: Workspace, source: Path) -> Run:
    return Experiment(workspace, "damaged").submit(ScriptRunConfig(source, command=["true"]))


def has_ended(status: Path) -> bool:
    """Whether the run's own process on this machine says so: it writes last."""
    return status.exists() and json.loads(status.read_text())["word"] == "COMPLETED"


def test_a_damaged_record_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    with Workspace(tmp_path) as workspace:
        damaged, sound = start(workspace, source), start(workspace, source)
        for run in (damaged, sound):
            until(partial(has_ended, run.folder / "local.json"), "the run's end")
        (damaged.folder / "run.json").write_text("{")
        report = refresh(workspace.history, workspace.targets)
        assert list(report.trouble) == [damaged.id]
        assert "run.json" in report.trouble[damaged.id]
        assert sound.status == "Completed"


def test_spawned_programs_do_not_stay_in_the_process_table(tmp_path: Path) -> None:
    shell = LocalShell()
    with (tmp_path / "log").open("wb") as log:
        first = shell.spawn(["true"], cwd=tmp_path, env={}, stdout=log.fileno())
        stat = Path(f"/proc/{first}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "the program to end")
        shell.spawn(["true"], cwd=tmp_path, env={}, stdout=log.fileno())
    assert not stat.exists()


def test_a_named_workspace_is_that_folder_and_none_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace(tmp_path).close()
    inner = tmp_path / "inner"
    inner.mkdir()
    os.environ.pop("HPCRUN_WORKSPACE", None)
    with Workspace.open(inner) as found:
        assert found.folder == tmp_path
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(inner))
    with pytest.raises(NotFoundError, match="no workspace here"):
        Workspace.open()
