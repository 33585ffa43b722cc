"""Deleting runs: what was asked for and nothing else, and after a kill nothing that verify does not name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hpcrun.engine.gc import delete, doomed, finish
from hpcrun.errors import HistoryError
from hpcrun.history import database
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.rebuild import rebuild
from hpcrun.history.record import RunRecord, new_run_id, utc_now
from hpcrun.history.store import History
from hpcrun.history.verify import verify
from hpcrun.states import RunState
from hpcrun.targets import Targets
from tests.cli_help import Project, document, make_project, refused, typed
from tests.unit.test_history_faults import killed_at


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a site calls its root."""
    return tmp_path / "root"


@pytest.fixture(params=["ext4", "nfs4"], ids=["wal", "rollback-journal"])
def history(
    request: pytest.FixtureRequest, weird_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[History]:
    monkeypatch.setattr(database, "file_system_of", lambda path, mountinfo: request.param)
    with History.open(weird_tmp_path / ".hpcrun", create=True) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def add(
    history: History, root: Path, *, archived: bool = True, ended: str | None = None, active: bool = False
) -> str:
    """A run with a folder on a target, which it has been on."""
    run_id = new_run_id("a")
    there = root / "runs" / run_id
    record = RunRecord(id=run_id, experiment="a", target="t", scheduler="s", run_dir=str(there), key=run_id)
    history.create(record)

    def change(r: RunRecord) -> None:
        r.archived = archived
        r.ended = ended or utc_now()
        r.state = RunState.QUEUED if active else RunState.CANCELED

    history.update(run_id, change)
    (there / "code" / "outputs").mkdir(parents=True)
    (there / "code" / "outputs" / "model").write_bytes(b"x" * 1000)
    (there / "status.json").write_text(json.dumps({"run_id": run_id, "job_id": "1"}))
    (history.paths.run(run_id).folder / "outputs").symlink_to(there / "code" / "outputs")
    return run_id


def chosen(history: History, *run_ids: str, older_than: float | None = None) -> list[str]:
    found, unreadable = doomed(history, run_ids=run_ids, archived=not run_ids, older_than=older_than)
    assert not unreadable
    return [run.record.id for run in found]


def listed(history: History) -> list[str]:
    return [row.id for row in history.list(limit=None, include_archived=True)]


def test_only_archived_runs_that_have_ended_are_meant(history: History, root: Path) -> None:
    old = add(history, root, ended="2020-01-01T00:00:00.000Z")
    new = add(history, root)
    shown = add(history, root, archived=False)
    active = add(history, root, active=True)
    assert chosen(history) == [new, old]
    assert chosen(history, older_than=86400.0) == [old]
    assert chosen(history, shown) == [shown]
    with pytest.raises(HistoryError, match="is Queued, and is not deleted"):
        chosen(history, active)
    with pytest.raises(HistoryError, match="is Queued, and is not deleted"):
        history.delete(active)
    history.archive_experiment("a")
    assert chosen(history) == [shown, new, old]
    assert len(listed(history)) == 4 and verify(history.paths).findings == []


def test_a_deleted_run_is_gone_and_its_number_stays_used(history: History, root: Path) -> None:
    keep, gone = add(history, root), add(history, root)
    (run,), _ = doomed(history, run_ids=[gone])
    there = root / "runs" / gone
    assert run.folders == (history.paths.run(gone).folder, there) and run.size > 1000 and not run.spared
    (there / "code" / "outputs").chmod(0o500)
    (there / "out").symlink_to(root / "runs" / keep)
    delete(history, Targets(history.paths.folder.parent), run)
    assert listed(history) == [keep] and not there.exists() and not [*history.paths.deleting.iterdir()]
    assert (root / "runs" / keep / "code" / "outputs" / "model").exists()
    assert verify(history.paths).findings == []
    assert history.by_key(gone) is None
    assert history.get(add(history, root)).number == 3
    history.close()
    history.paths.database.unlink()
    rebuild(history.paths)
    with History.open(history.paths.folder) as again:
        for run_id in listed(again):
            again.delete(run_id)
        assert again.get(add(again, root)).number == 4


@pytest.mark.parametrize(
    "way", ["another name", "another run", "a link", "another workspace", "not readable"]
)
def test_a_folder_that_may_be_anothers_stays(history: History, root: Path, way: str) -> None:
    run_id = add(history, root)
    there = root / "runs" / run_id
    if way == "another name":
        there = there.rename(root / "runs" / "mine")
        history.update(run_id, lambda record: setattr(record, "run_dir", str(there)))
    elif way == "another run":
        (there / "status.json").write_text(json.dumps({"run_id": new_run_id("a"), "job_id": "1"}))
    elif way == "a link":
        there.rename(root / "real")
        there.symlink_to(root / "real")
    elif way == "another workspace":
        shutil.copy(history.paths.run(run_id).record, there)
    else:
        (there / "status.json").write_bytes(b"{")
    (run,), _ = doomed(history, archived=True)
    assert f"{there} stays" in run.spared and len(run.folders) == 1
    delete(history, Targets(history.paths.folder.parent), run)
    assert listed(history) == [] and (there / "code" / "outputs" / "model").exists()


def test_a_damaged_record_is_not_deleted(history: History, root: Path) -> None:
    run_id = add(history, root)
    history.paths.run(run_id).record.write_bytes(b"{")
    found, unreadable = doomed(history, archived=True)
    assert not found and [*unreadable] == [run_id]


def remove_all(folder: Path) -> None:
    with History.open(folder) as history:
        finish(history)
        for run in doomed(history, archived=True)[0]:
            delete(history, Targets(history.paths.folder.parent), run)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_that_is_not_named(history: History, root: Path) -> None:
    keep, gone = add(history, root, archived=False), add(history, root)
    history.close()
    template, aside = history.paths.folder, root.with_name("aside")
    shutil.copytree(root, aside)
    count, seen = 1, set()
    while True:
        place = WorkspacePaths(template.with_name(f"w{count}"))
        shutil.copytree(template, place.folder, symlinks=True)
        shutil.rmtree(root)
        shutil.copytree(aside, root)
        killed = killed_at(partial(remove_all, place.folder), count)
        told = {finding.what for finding in verify(place).findings}
        left = os.path.lexists(place.run(gone).folder)
        assert told <= {"leftover", "experiments"}  # the latter: a number that is reserved in the file alone
        if not told:
            with History.open(place.folder) as again:
                assert listed(again) == ([gone, keep] if left else [keep])
        seen.add((left, *sorted(told)))
        remove_all(place.folder)
        assert not (root / "runs" / gone).exists() and (root / "runs" / keep / "status.json").exists()
        assert verify(place).findings == []
        with History.open(place.folder) as again:
            assert listed(again) == [keep]
            assert (
                again.create(RunRecord(id=new_run_id("a"), experiment="a", target="t", scheduler="s"))[
                    0
                ].number
                == 3
            )
        shutil.rmtree(place.folder)
        if not killed:
            break
        count += 4
    assert count > 60 and {(True,), (False, "leftover"), (False,)} <= seen


def test_on_the_command_line(project: Project) -> None:
    name = project.config("echo x > outputs/x")
    for _ in range(2):
        typed("submit", name, "--wait")
    newest, oldest = project.runs
    typed("archive", newest)
    assert "nothing was deleted: to delete 1 run, " in typed("history", "gc", "--runs")
    told = document("history", "gc", "--runs", "--older-than", "1h")
    assert told == {"runs": [], "bytes": 0, "deleted": False, "finished": []}
    assert project.runs == [oldest] and project.home(newest).exists()
    told = document("history", "gc", "--runs", "--yes")
    assert [run["id"] for run in told["runs"]] == [newest] and told["bytes"] > 100 and told["deleted"]
    assert not project.home(newest).exists()
    assert "deleted: 1 run, " in typed("history", "gc", oldest, "--yes")
    assert typed("history", "verify") == "all is well: 0 runs, 0 snapshots\n"
    assert "--runs" in refused("history", "gc", code=2)
    typed("submit", name, "--wait")
    assert document("show", "@-1")["number"] == 3
