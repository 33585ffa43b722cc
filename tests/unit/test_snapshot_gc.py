"""Deleting snapshots that no run has: those and no others, whatever goes on or breaks off meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine import submit as engine_submit
from hpcrun.engine.gc import snapshots_in_use, unused_snapshots
from hpcrun.engine.verify import verify
from hpcrun.errors import HistoryError, SnapshotError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.store import History
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from tests.cli_help import Project, document, make_project, refused, typed
from tests.snapshot_help import contents, write
from tests.unit.test_history_faults import killed_at

SHELL = LocalShell()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


@pytest.fixture
def config(project: Project) -> str:
    write(project.folder, {"src/same": "s" * 5000, "src/sub/own": "0" * 5000})
    return project.config("cat sub/own", source_directory="src")


def run(project: Project, config: str, content: str) -> str:
    """A run with code of its own; its id."""
    write(project.folder, {"src/sub/own": content * 5000})
    typed("submit", config, "--wait")
    return project.runs[0]


def store_of(project: Project) -> Path:
    return WorkspacePaths(project.folder / ".hpcrun").snapshots


def fsck(store: Path) -> None:
    """All that is in the store is whole."""
    done = subprocess.run(
        ["git", "-C", str(store), "fsck", "--full", "--no-dangling"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "missing" not in done.stdout + done.stderr, done


def test_only_what_no_run_has_goes_and_reruns_still_work(project: Project, config: str) -> None:
    archived, gone, shown = (run(project, config, content) for content in "123")
    typed("archive", archived)
    assert document("history", "gc", "--snapshots", "--yes")["snapshots"] == []
    tree = project.record(gone)["snapshot"]["id"]
    typed("history", "gc", gone, "--yes")
    told = document("history", "gc", "--snapshots")
    assert [each["id"] for each in told["snapshots"]] == [tree] and not told["deleted"]
    assert 5000 < told["snapshot_bytes"] == told["snapshots"][0]["bytes"] < 10_000, "the shared file stays"
    store = SnapshotStore(store_of(project), SHELL)
    assert store.contains(tree)
    lines = typed("history", "gc", "--snapshots").splitlines()
    assert lines[0].startswith(f"snapshot {tree[:12]}  taken 2")
    assert lines[1].startswith("nothing was deleted: to delete 1 snapshot, ") and lines[1].endswith(
        "add --yes"
    )
    assert typed("history", "gc", "--snapshots", "--yes").splitlines()[1].startswith("deleted: 1 snapshot, ")
    assert not store.contains(tree)
    fsck(store_of(project))
    for left, content in ((archived, "1"), (shown, "3")):
        assert typed("rerun", left, "--follow") == content * 5000 + "\n"
    again = run(project, config, "2")  # what was deleted is stored anew
    assert project.record(again)["snapshot"]["id"] == tree
    fsck(store_of(project))
    assert verify(WorkspacePaths(project.folder / ".hpcrun"), SHELL).findings == []


def test_the_source_is_read_anew_where_its_snapshot_is_gone(project: Project, config: str) -> None:
    only = run(project, config, "1")
    typed("history", "gc", only, "--yes")
    typed("history", "gc", "--snapshots", "--yes")
    assert not any(store_of(project).glob("objects/??/*"))
    assert run(project, config, "1") != only
    fsck(store_of(project))


def test_parts_of_a_take_that_was_broken_off_go_too(project: Project, config: str) -> None:
    kept = run(project, config, "1")
    done = subprocess.run(
        ["git", "-C", str(store_of(project)), "hash-object", "-w", "--stdin"],
        input=b"part",
        capture_output=True,
    )
    assert "parts of no snapshot: " in typed("history", "gc", "--snapshots", "--yes")
    name = done.stdout.decode().strip()
    assert name and not (store_of(project) / "objects" / name[:2] / name[2:]).exists()
    assert typed("rerun", kept, "--follow")


def test_a_record_that_cannot_be_read_keeps_everything(project: Project, config: str) -> None:
    damaged, gone = run(project, config, "1"), run(project, config, "2")
    tree = project.record(gone)["snapshot"]["id"]
    typed("history", "gc", gone, "--yes")
    (project.home(damaged) / "run.json").write_bytes(b"{")
    assert "hpcrun history verify" in refused("history", "gc", "--snapshots", "--yes", code=9)
    assert SnapshotStore(store_of(project), SHELL).contains(tree)


def test_a_run_whose_row_is_lost_still_has_its_snapshot(project: Project, config: str) -> None:
    run_id = run(project, config, "1")
    database = project.folder / ".hpcrun" / "history.db"
    with History.open(project.folder / ".hpcrun") as history, history._database.write() as connection:
        connection.execute("DELETE FROM runs")
    assert database.exists()
    with History.open(project.folder / ".hpcrun") as history:
        assert snapshots_in_use(history) == {project.record(run_id)["snapshot"]["id"]}


def test_a_submission_going_on_is_waited_for(
    project: Project, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is taken, and no row has it yet: nothing can be deleted just then."""
    outcomes: list[Any] = []
    real = engine_submit.intent

    def collect(answer: Any) -> None:
        with History.open(project.folder / ".hpcrun") as history:
            store = SnapshotStore(history.paths.snapshots, SHELL)
            try:
                with store.unused(lambda: snapshots_in_use(history), seconds=0.1) as unused:
                    unused.remove()
                answer.put("deleted")
            except SnapshotError as error:
                answer.put(error.message)

    def meanwhile(*args: Any) -> Any:
        context = multiprocessing.get_context("fork")
        answer = context.Queue()
        process = context.Process(target=collect, args=(answer,))
        process.start()
        outcomes.append(answer.get(timeout=60))
        process.join()
        return real(*args)

    monkeypatch.setattr(engine_submit, "intent", meanwhile)
    run(project, config, "1")
    assert len(outcomes) == 1 and "another user of the snapshots has held its lock" in outcomes[0]
    assert project.record()["state"] == "Completed"


def remove_all(folder: Path) -> None:
    with History.open(folder) as history, unused_snapshots(history, SHELL) as unused:
        unused.remove()


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_the_store_sound(project: Project, config: str) -> None:
    kept = run(project, config, "1")
    write(project.folder, {f"src/more/{i}": str(i) for i in range(30)})
    gone = run(project, config, "2")
    typed("history", "gc", gone, "--yes")
    tree = project.record(kept)["snapshot"]["id"]
    template = project.folder / ".hpcrun"
    count, sizes = 1, set()
    while True:
        place = WorkspacePaths(project.folder / f"w{count}" / ".hpcrun")
        shutil.copytree(template, place.folder, symlinks=True)
        killed = killed_at(partial(remove_all, place.folder), count)
        sizes.add(sum(1 for _ in place.snapshots.glob("objects/??/*")))
        store = SnapshotStore(place.snapshots, SHELL)
        out = place.folder / "out"
        store.check_out(tree, out)
        assert contents(out)[b"sub/own"][1] == b"1" * 5000
        fresh = store.take(project.folder / "src")  # what was being deleted is the source as it is now
        store.check_out(fresh.id, place.folder / "again")
        assert contents(place.folder / "again") == contents(project.folder / "src")
        remove_all(place.folder)
        fsck(place.snapshots)
        shutil.rmtree(place.folder.parent)
        if not killed:
            break
        count += 7
    assert count > 100 and len(sizes) > 2
    assert json.loads((project.home(kept) / "run.json").read_text())["snapshot"]["id"] == tree


def test_what_is_asked_for_must_be_said(project: Project, config: str) -> None:
    run(project, config, "1")
    assert "--snapshots" in refused("history", "gc", code=2)
    assert "about runs" in refused("history", "gc", "--snapshots", "--older-than", "1d", code=2)
    with pytest.raises(HistoryError), History.open(project.folder / ".hpcrun") as history:
        (history.paths.run(project.runs[0]).record).write_bytes(b"")
        snapshots_in_use(history)
