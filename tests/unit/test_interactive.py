"""Runs that are no jobs but programs: what they log, how they end, and what is said of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, InteractiveRun, Run, Workspace
from hpcrun.engine.interactive import end, life, process
from hpcrun.engine.verify import verify
from hpcrun.errors import HistoryError, NotFoundError, UsageError
from hpcrun.history.rebuild import rebuild
from hpcrun.history.record import CHILD, INTERACTIVE
from hpcrun.shells.local import LocalShell
from hpcrun.states import RunState
from tests.cli_help import Project, document, hpcrun, make_project, refused, typed
from tests.engine_help import source, until


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    yield from make_project(tmp_path / "project")


@pytest.fixture
def ws(project: Project) -> Iterator[Workspace]:
    with Workspace(project.folder) as made:
        yield made
        for row in made.history.active():
            end(made.history, row.id, RunState.CANCELED)


def start(ws: Workspace, **more: Any) -> InteractiveRun:
    return Experiment(ws, "notes").start_logging(**more)


def changed(ws: Workspace, run: Run, **known: Any) -> None:
    """The run, as that of a process of which this is known."""
    ws.history.update(run.id, lambda r: r.submission["process"].update(known))


def test_it_logs_and_ends_as_its_block_does(ws: Workspace) -> None:
    with start(ws, display_name="by hand", description="a try", tags={"k": "v"}) as run:
        assert (run.type, run.status, run.get_status()) == (INTERACTIVE, "Running", "Running")
        for loss in (0.5, 0.25):
            run.log("loss", loss)
        run.log_row("epoch", number=1, good=True)
        run.tag("stage", "one")
        run.upload_file("model.txt", Path(__file__))
        with run.child_run("fold") as child:
            child.log("acc", 0.9)
        left = run.child_run("left")
    assert run.get_details()["status"] == "Completed" and run.record.ended
    assert run.get_metrics() == {"loss": [0.5, 0.25], "epoch": {"number": 1, "good": True}}
    assert (run.tags, run.display_name, run.description) == ({"k": "v", "stage": "one"}, "by hand", "a try")
    assert run.get_file_names() == ["outputs/model.txt"]
    assert {(c.display_name, c.status, c.type) for c in run.get_children()} == {
        ("fold", "Completed", CHILD),
        ("left", "Completed", CHILD),
    }
    assert Run.get(ws, child.id).get_metrics() == {"acc": 0.9} and left.id != child.id
    assert isinstance(Run.get(ws, run.id), InteractiveRun)
    [found] = Experiment(ws, "notes").get_runs(type=INTERACTIVE, where="loss < 0.3")
    assert found.id == run.id
    assert verify(ws.history.paths, LocalShell()).findings == []
    assert (run.folder / "metrics").stat().st_mode & 0o077 == 0


def test_it_fails_as_its_block_does(ws: Workspace) -> None:
    with pytest.raises(ValueError, match="no good"), start(ws) as run:
        raise ValueError("no good")
    assert (run.status, run.record.message) == ("Failed", "ValueError: no good")
    with pytest.raises(SystemExit), start(ws) as well:
        sys.exit(0)
    assert well.status == "Completed"
    given_up = start(ws)
    given_up.log("loss", 1)
    given_up.cancel()
    given_up.complete()
    assert given_up.status == "Canceled", "final is final"
    with pytest.raises(UsageError, match="has ended: it is Canceled"):
        given_up.log("loss", 2)
    with pytest.raises(AttributeError):
        given_up.no_such_thing  # noqa: B018


def test_its_sources_are_kept_if_asked(ws: Workspace, tmp_path: Path) -> None:
    folder = source(tmp_path / "src", train_py="print(1)\n")
    run = start(ws, snapshot_directory=folder)
    assert run.record.snapshot and run.record.snapshot["files"] == 1
    run.complete()
    with pytest.raises(NotFoundError, match="no snapshot"):
        start(ws).get_snapshot_id()
    with pytest.raises(NotFoundError, match="no configuration that could be run again") as caught:
        run.rerun()
    assert caught.value.hint == "Start its program once more."


PROGRAM = """\
import os, sys
from hpcrun import Experiment, Workspace
run = Experiment(Workspace.open("."), "notes").start_logging()
run.log("loss", 0.5)
print(run.id, flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_a_program_that_dies_without_a_word(ws: Workspace) -> None:
    """While it lives it is Running, for everybody here; then Failed, and Lost, with what it had logged."""
    argv = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        argv, cwd=ws.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        run = Run.get(ws, child.stdout.readline().strip())
        assert run.get_status() == "Running" and run.get_metrics() == {"loss": 0.5}
        assert run.explain()["words"].endswith("which goes on.")
        told = refused("cancel", run.id, code=2)
        assert f"process {child.pid} on this machine" in told
        with pytest.raises(UsageError, match=f"its own program alone, process {child.pid} on "):
            run.log("loss", 1)  # type: ignore[attr-defined]
        child.kill()
    assert until(lambda: run.get_status() == "Failed")
    assert (run.record.reason, run.record.message) == ("Lost", "its program has ended, and had not said how")
    why = document("explain", run.id)
    assert why["cause"] == "Lost" and f"process {child.pid} on " in why["words"]
    assert run.get_metrics() == {"loss": 0.5}


def test_of_another_machine_nothing_is_known(ws: Workspace) -> None:
    run = start(ws)
    changed(ws, run, boot="another", host="elsewhere")
    assert life(run.record) == "unknown"
    assert run.get_status() == "Running"
    assert "cannot be told from here" in run.explain()["words"]
    assert hpcrun("cancel", run.id).exit_code == 0
    assert (run.status, run.record.reason) == ("Canceled", "Canceled")
    again = start(ws)
    changed(ws, again, boot="the one before")
    assert again.get_status() == "Failed"
    assert again.record.message == "its machine was started anew while it ran"
    inside = start(ws)
    changed(ws, inside, space="pid:[1]")
    assert inside.get_status() == "Running", "numbers of processes mean nothing across containers"
    other = start(ws)
    changed(ws, other, began=process()["began"] - 1)
    assert other.get_status() == "Failed", "another process has its number now"


def test_what_commands_say(ws: Workspace) -> None:
    """Of an interactive run, and of a child."""
    run = start(ws, display_name="by hand")
    run.log("loss", 0.5)
    child = run.child_run("fold")
    child.fail("diverged")
    [row] = document("ls")["runs"]
    assert (row["type"], row["state"], row["job_id"]) == ("interactive", "Running", None)
    shown = typed("show", run.id)
    assert f"none: process {os.getpid()} on " in shown and "loss" in shown
    assert "stays in its own terminal" in refused("logs", run.id, code=2)
    assert "loss" in typed("metrics", run.id)
    why = document("explain", run.id)
    assert why["cause"] == "Running" and "which goes on" in why["words"]
    run.complete()
    assert document("explain", run.id)["cause"] == "Completed"
    assert hpcrun("wait", run.id).exit_code == 0

    assert f"none: a part of {run.id.rpartition('_')[2]}" in typed("show", child.id)
    assert "a part of its run's program" in refused("logs", child.id, code=2)
    why = document("explain", child.id)
    assert (why["cause"], why["words"]) == (
        "ChildFailed",
        f"It is a part of the program of {run.id}, and failed: diverged.",
    )
    waited = hpcrun("wait", child.id)
    assert "diverged" in waited.stdout and "logs" not in waited.stdout


def test_it_can_be_rebuilt_and_archived(ws: Workspace) -> None:
    run = start(ws)
    run.complete()
    rebuild(ws.history.paths)
    assert run.status == "Completed"
    Experiment(ws, "notes").archive()
    with pytest.raises(HistoryError, match="archived"):
        start(ws)
    with pytest.raises(UsageError, match="not a name to display"):
        Experiment(ws, "other").start_logging(display_name="a\nb")
