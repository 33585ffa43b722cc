"""Whatever is wrong with a history is found, and the index can be made anew from the runs' folders."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import HistoryError
from hpcrun.history import database
from hpcrun.history.files import locked
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.rebuild import rebuild
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.history.store import History
from hpcrun.history.verify import verify
from hpcrun.states import RunState
from tests.cli_help import Project, document, hpcrun, make_project, typed
from tests.unit.test_history_faults import at_once, killed_at

pytestmark = pytest.mark.slow


@pytest.fixture(params=["ext4", "nfs4"], ids=["wal", "rollback-journal"])
def paths(
    request: pytest.FixtureRequest, weird_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> WorkspacePaths:
    """A history of five runs of two experiments, one of them archived."""
    monkeypatch.setattr(database, "file_system_of", lambda path, mountinfo: request.param)
    paths = WorkspacePaths(weird_tmp_path / ".hpcrun")
    with History.open(paths.folder, create=True) as history:
        for i, name in enumerate("ababa"):
            run, _ = history.create(make(name, key=f"k{i}", tags={"i": str(i), "é": "\udcff"}))
            history.update(run.id, lambda record: setattr(record, "state", RunState.QUEUED))
        history.archive_experiment("b")
    return paths


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def make(experiment: str, **more: Any) -> RunRecord:
    return RunRecord(id=new_run_id(experiment), experiment=experiment, target="t", scheduler="s", **more)


def content(paths: WorkspacePaths) -> list[Any]:
    """All that the index says, in order."""
    with History.open(paths.folder) as history:
        tags = {row.id: history.get(row.id).tags for row in history.list(limit=None, include_archived=True)}
        return [
            history.list(limit=None, include_archived=True), history.list(limit=None), tags,
            history.experiments(), [row.id for row in history.list(limit=None, tags={"i": None})],
        ]  # fmt: skip


def found(paths: WorkspacePaths) -> list[tuple[str, str]]:
    return [(finding.what, finding.message) for finding in verify(paths).findings]


def ids(paths: WorkspacePaths) -> list[str]:
    """Ids in the order of creation."""
    with History.open(paths.folder) as history:
        return [row.id for row in history.list(limit=None, include_archived=True)][::-1]


def sql(paths: WorkspacePaths, statement: str) -> None:
    with closing(sqlite3.connect(paths.database)) as connection, connection:
        connection.execute(statement)


def garbage(paths: WorkspacePaths) -> None:
    paths.database.write_bytes(b"something else altogether, and longer than a header of a hundred bytes" * 9)


def scribbled(paths: WorkspacePaths) -> None:
    with closing(sqlite3.connect(paths.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(paths.database.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at : at + 200] = b"\xa5" * 200
    paths.database.write_bytes(data)


WAYS: dict[str, Callable[[WorkspacePaths], object]] = {
    "nothing": lambda paths: None,
    "gone": lambda paths: paths.database.unlink(),
    "empty": lambda paths: paths.database.write_bytes(b""),
    "garbage": garbage,
    "scribbled": scribbled,
    "no table": lambda paths: sql(paths, "DROP TABLE runs"),
    "no rows": lambda paths: sql(paths, "DELETE FROM runs"),
    "a wrong row": lambda paths: sql(paths, "UPDATE runs SET state = 'Failed', number = number + 7"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_index_is_made_anew_whatever_befell_it(paths: WorkspacePaths, way: str) -> None:
    before = content(paths)
    assert found(paths) == []
    WAYS[way](paths)
    assert bool(found(paths)) == (way != "nothing")
    done = rebuild(paths)
    assert (done.runs, done.left) == (5, {})
    assert found(paths) == [] and content(paths) == before
    assert (done.backup is None) == (way == "gone")
    if done.backup is not None:
        assert done.backup.name.startswith("history.db.bak-") and done.backup.stat().st_mode & 0o077 == 0
    assert paths.database.stat().st_mode & 0o777 == 0o600
    with History.open(paths.folder) as history:
        assert history.create(make("a", key="k0"))[1] is False
        assert history.create(make("a"))[0].number == 4
        with pytest.raises(HistoryError, match="archived"):
            history.create(make("b"))


@pytest.mark.parametrize("way", ["gone", "empty", "garbage", "no table"])
def test_a_lost_index_points_to_its_remedy(paths: WorkspacePaths, way: str) -> None:
    WAYS[way](paths)
    with pytest.raises(HistoryError) as caught, History.open(paths.folder) as history:
        history.list()
    assert "hpcrun history rebuild" in str(caught.value.hint)


def test_a_clock_that_jumped_changes_no_order(paths: WorkspacePaths) -> None:
    order = ids(paths)
    file = paths.run(order[4]).record
    file.write_text(json.dumps({**json.loads(file.read_text()), "created": "1999-01-01T00:00:00.000Z"}))
    rebuild(paths)
    assert ids(paths) == order
    paths.database.unlink()  # without the old order, the numbers still stand
    rebuild(paths)
    assert [run_id[0] for run_id in ids(paths)].count("a") == 3
    assert [run_id for run_id in ids(paths) if run_id[0] == "a"] == [r for r in order if r[0] == "a"]


@pytest.mark.parametrize("gone", [False, True], ids=["index there", "index gone"])
def test_a_damaged_record_is_named_and_its_number_kept(paths: WorkspacePaths, gone: bool) -> None:
    newest = ids(paths)[-1]
    paths.run(newest).record.write_bytes(b"{ha")
    assert [what for what, _ in found(paths)] == ["record"]
    if gone:
        paths.database.unlink()
    done = rebuild(paths)
    assert done.runs == (4 if gone else 5) and [*done.left] == [newest]
    assert "not JSON" in done.left[newest]
    assert paths.run(newest).record.read_bytes() == b"{ha"
    with History.open(paths.folder) as history:
        assert history.create(make("a"))[0].number == 4
        if gone:  # the key was known to nobody else
            assert history.create(make("a", key="k4"))[1]
        else:
            with pytest.raises(HistoryError, match="not JSON"):
                history.create(make("a", key="k4"))


def test_a_run_whose_creation_was_cut_off_is_not_lost(paths: WorkspacePaths) -> None:
    with History.open(paths.folder) as history:
        run, _ = history.create(make("c", key="new"))
    shutil.rmtree(paths.run(run.id).folder)
    assert [message for _, message in found(paths)] == ["its creation was cut off"]
    assert rebuild(paths).runs == 6
    with History.open(paths.folder) as history:
        assert history.get(run.id) == run
    assert found(paths) == []


def test_a_folder_that_was_deleted_leaves_its_number_behind(paths: WorkspacePaths) -> None:
    newest = ids(paths)[-1]
    shutil.rmtree(paths.run(newest).folder)
    assert [what for what, _ in found(paths)] == ["folder"]
    assert [*rebuild(paths).left] == [newest]
    assert found(paths) == [] and newest not in ids(paths)
    paths.database.unlink()
    rebuild(paths)
    with History.open(paths.folder) as history:
        assert history.create(make("a"))[0].number == 4


def test_a_copied_record_is_no_second_run(paths: WorkspacePaths) -> None:
    first = ids(paths)[0]
    copy = paths.run(new_run_id("a"))
    shutil.copytree(paths.run(first).folder, copy.folder)
    assert found(paths) == [("folder", "it is not in the index")]
    assert [*rebuild(paths).left] == [copy.folder.name]
    other = json.loads(paths.run(first).record.read_text()) | {"id": copy.folder.name}
    copy.record.write_text(json.dumps(other))
    assert "it has the number of" in rebuild(paths).left[copy.folder.name]
    assert ids(paths)[0] == first and len(ids(paths)) == 5


def test_a_run_brought_back_from_a_backup_is_taken_in(paths: WorkspacePaths) -> None:
    order = ids(paths)
    kept = paths.folder / "kept"
    paths.run(order[2]).folder.rename(kept)
    rebuild(paths)
    kept.rename(paths.run(order[2]).folder)
    assert found(paths) == [("folder", "it is not in the index")]
    rebuild(paths)
    assert ids(paths) == order


def test_what_else_may_be_wrong_is_found(paths: WorkspacePaths) -> None:
    a, b, *_ = ids(paths)
    (paths.runs / "notes.txt").touch()
    (paths.unsettled / a).touch()
    (paths.unsettled / new_run_id("x")).touch()
    paths.run(new_run_id("x")).folder.mkdir(mode=0o700)
    paths.run(b).folder.chmod(0o755)
    sql(paths, "UPDATE experiments SET last = 9")
    report = verify(paths)
    assert all(finding.action for finding in report.findings)
    assert sorted(finding.what for finding in report.findings) == [
        "experiments", "folder", "folder", "marker", "marker", "mode",
    ]  # fmt: skip


def test_a_run_that_is_being_submitted_is_no_finding(paths: WorkspacePaths) -> None:
    run = paths.run(new_run_id("x"))
    run.folder.mkdir(mode=0o700)
    with locked(run.submit_lock):
        assert found(paths) == []
    assert [what for what, _ in found(paths)] == ["folder"]


def test_a_damaged_experiments_json_is_kept_aside(paths: WorkspacePaths) -> None:
    paths.experiments.write_bytes(b"{")
    assert [what for what, _ in found(paths)] == ["experiments"]
    assert [*rebuild(paths).left] == ["experiments.json"]
    assert found(paths) == [] and [*paths.folder.glob("experiments.json.bak-*")]
    with History.open(paths.folder) as history, pytest.raises(HistoryError, match="archived"):
        history.create(make("b"))


def test_a_newer_history_is_not_rebuilt(paths: WorkspacePaths) -> None:
    sql(paths, "PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match="newer hpcrun"):
        rebuild(paths)
    assert found(paths) == [("database", "it was made by a newer hpcrun")]


def test_a_busy_history_is_not_rebuilt(paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(paths.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked"):
            rebuild(paths)
        other.rollback()
    assert found(paths) == [] and not [*paths.folder.glob("*.bak-*")]


def test_nothing_is_written_to_a_database_that_was_replaced(paths: WorkspacePaths) -> None:
    with History.open(paths.folder) as history:
        run_id = history.list()[0].id
        WAYS["gone"](paths)
        with pytest.raises(HistoryError, match="is gone") as caught:
            history.create(make("a"))
        assert "rebuild" in str(caught.value.hint)
        rebuild(paths)
        with pytest.raises(HistoryError, match="was replaced while it was open"):
            history.set_tags(run_id, {"x": "y"})
    with History.open(paths.folder) as history:
        assert [row.id for row in history.list(tags={"x": "y"})] == [run_id]
    assert found(paths) == []


@pytest.mark.slow
def test_rebuilds_and_writers_at_once_lose_nothing(paths: WorkspacePaths) -> None:
    def work(i: int) -> list[str]:
        if i % 4 == 0:
            return [str(rebuild(paths).left) for _ in range(3)]
        with History.open(paths.folder) as history:
            made = [history.create(make("a", key=f"{i}-{n}")) for n in range(5)]
            for run, new in made:
                assert new
                history.set_tags(run.id, {"done": str(i)})
            return []

    answers = at_once(8, work)
    assert {text for texts in answers for text in texts} == {"{}"}
    assert found(paths) == []
    with History.open(paths.folder) as history:
        assert len(history.list(tags={"done": None}, limit=None)) == 30
        numbers = [row.number for row in history.list(experiment="a", limit=None)]
        assert numbers == list(range(33, 0, -1))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["a wrong row", "gone", "garbage"])
def test_a_kill_in_the_middle_of_a_rebuild_leaves_old_or_new(paths: WorkspacePaths, way: str) -> None:
    before = content(paths)
    count, step = 1, 3
    while True:
        place = WorkspacePaths(paths.folder.with_name(f"w{count}"))
        shutil.copytree(paths.folder, place.folder)
        WAYS[way](place)
        killed = killed_at(partial(rebuild, place), count)
        told = verify(place).findings
        assert all(each.action for each in told)
        if not killed:
            assert not told
            break
        if not told:  # what verify calls sound is whole
            assert content(place) == before
        assert rebuild(place).left == {}
        assert found(place) == [] and content(place) == before
        assert not [*place.folder.glob("*.new*")]
        shutil.rmtree(place.folder)
        count += step
    assert count > 60


def test_on_the_command_line(project: Project) -> None:
    name = project.config("true")
    for _ in range(2):
        typed("submit", name, "--wait")
    assert typed("history", "verify") == "all is well: 2 runs, 1 snapshot\n"
    assert document("history", "verify") == {"sound": True, "runs": 2, "findings": []}
    workspace = project.folder / ".hpcrun"
    (workspace / "history.db").unlink()
    assert "hpcrun history rebuild" in hpcrun("ls").stderr
    told = typed("history", "verify", code=9)
    assert "it is gone, but there are runs\n  make it anew" in told
    assert document("history", "rebuild") == {"runs": 2, "backup": None, "left": {}}
    assert typed("history", "rebuild").startswith(
        "history.db was made anew: 2 runs; the old history.db is now"
    )
    shutil.rmtree(workspace / "snapshots.git")
    findings = document("history", "verify", code=9)["findings"]
    assert [finding["what"] for finding in findings] == ["snapshot"]
    assert len(document("ls")["runs"]) == 2
    assert "Did you mean verify?" in hpcrun("history", "verfy").stderr
    assert "verify" in typed("history")
    os.chdir("/")
    assert hpcrun("history", "verify").exit_code == 4
