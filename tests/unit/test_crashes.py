"""Crashes by the hundred, and what they leave: whole, named by verify, made anew (faults 40, 41)."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from hpcrun import Experiment, ScriptRunConfig, Workspace
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sending import held
from hpcrun.engine.verify import verify
from hpcrun.history import database
from hpcrun.history.files import locked
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.rebuild import rebuild
from hpcrun.history.store import History
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot_git import Store
from hpcrun.states import RunState
from tests.engine_help import PATIENCE, source, until, workspace
from tests.snapshot_help import git, write
from tests.unit.test_history_faults import killed_at, make

pytestmark = pytest.mark.slow

SHELL = LocalShell()


@pytest.fixture(params=["ext4", "nfs4"], ids=["wal", "rollback-journal"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with either kind of journal: the type of its file system is a fake."""
    monkeypatch.setattr(database, "file_system_of", lambda path, mountinfo: request.param)
    return tmp_path / ".hpcrun"


def intact(paths: WorkspacePaths) -> None:
    with closing(sqlite3.connect(paths.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def life(folder: Path, key: str) -> None:
    """All that is ever written about a run, its deletion but for one in three too."""
    with History.open(folder, create=True) as history:
        run, _ = history.create(make(key=key, tags={"life": key}))
        history.update(run.id, lambda record: setattr(record, "state", RunState.QUEUED))
        history.archive(run.id)
        history.update(run.id, lambda record: setattr(record, "state", RunState.CANCELED))
        history.archive_experiment("cifar")
        history.restore_experiment("cifar")
        if not key.endswith("0"):
            shutil.rmtree(history.delete(run.id))


@pytest.mark.slow
def test_crashes_in_transactions(folder: Path) -> None:
    """Steps are counted, so that a crash falls between any two with the same chance.

    With the two journals 250, and as many in the migrations below.
    """
    chance = random.Random(folder.parent.name + "20260131")
    paths = WorkspacePaths(folder)
    life(folder, "first0")
    crashes = 0
    while crashes < 125:
        crashes += killed_at(partial(life, folder, f"{crashes}"), chance.randrange(1, 220))
        intact(paths)
    known = {"leftover", "marker", "record", "experiments"}
    assert {finding.what for finding in verify(paths, SHELL).findings} <= known
    with History.open(folder) as history:
        before = {
            row.id: history.get(row.id).to_json() for row in history.list(limit=None, include_archived=True)
        }
        last = max(row.number for row in history.list(limit=None, include_archived=True))
        for place in history.finish_deletions():
            shutil.rmtree(place)
            before.pop(place.name, None)
    paths.database.unlink()
    rebuild(paths)
    assert verify(paths, SHELL).findings == []
    with History.open(folder) as history:
        rows = history.list(limit=None, include_archived=True)
        assert {row.id: history.get(row.id).to_json() for row in rows} == before
        history.restore_experiment("cifar")  # it may have been killed just before it did so
        assert history.create(make())[0].number > last


@pytest.mark.slow
@pytest.mark.parametrize("version", range(len(database.MIGRATIONS)))
def test_crashes_in_migrations_from_every_version(
    folder: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = (
        *database.MIGRATIONS,
        ("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)", "DROP TABLE more"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", every[: version + 1])
        folder.mkdir()
        with closing(database.Database(WorkspacePaths(folder))):
            pass
    monkeypatch.setattr(database, "MIGRATIONS", every)
    place, seen = folder.with_name("copy"), set()
    for count in range(1, 1000):
        shutil.copytree(folder, place)
        killed = killed_at(lambda: database.Database(WorkspacePaths(place)).close(), count)
        intact(WorkspacePaths(place))
        with closing(sqlite3.connect(WorkspacePaths(place).database)) as connection:
            seen.add(int(connection.execute("PRAGMA user_version").fetchone()[0]))
            assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall() == []
        with closing(database.Database(WorkspacePaths(place))) as opened:  # the next one goes on from there
            assert opened.read("PRAGMA user_version") == [(len(every),)]
        shutil.rmtree(place)
        if not killed:
            break
    assert count > 20 and seen == set(range(version + 1, len(every) + 1))


def submit_lock(ws: Workspace) -> Callable[[], object]:
    run = ws.history.paths.run(ws.history.list()[0].id)

    def take() -> None:
        with held(run) as fd:
            assert fd is not None, "held by another"
            time.sleep(60)

    return take


def history_lock(name: str) -> Callable[[Workspace], Callable[[], object]]:
    def of(ws: Workspace) -> Callable[[], object]:
        run = ws.history.paths.run(ws.history.list()[0].id)
        path = run.lock if name == "run" else ws.history.paths.database_lock

        def take() -> None:
            with locked(path, seconds=0):
                time.sleep(60)

        return take

    return of


def transaction(ws: Workspace) -> Callable[[], object]:
    def take() -> None:
        with closing(sqlite3.connect(ws.history.paths.database, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(60)

    return take


def snapshot_lock(ws: Workspace) -> Callable[[], object]:
    store = Store(ws.history.paths.snapshots, SHELL)

    def take() -> None:
        with store.in_use(alone=True, seconds=0):
            for index in store.indexes.glob("*.index"):
                with store.lock(index.stem):
                    time.sleep(60)

    return take


LOCKS = {
    "submission": submit_lock,
    "record": history_lock("run"),
    "database": history_lock("database"),
    "transaction": transaction,
    "snapshots": snapshot_lock,
}


@pytest.mark.parametrize("name", LOCKS)
def test_what_a_dead_process_held_is_taken_over(name: str, tmp_path: Path) -> None:
    """Fault 41: its holder is killed, and whoever comes next goes on at once, without being told."""
    with workspace(tmp_path / "ws") as ws:
        config = ScriptRunConfig(source(tmp_path / "src", train_sh="echo x\n"), "train.sh")
        run = Experiment(ws, "test").submit(config)
        run.wait_for_completion(timeout=PATIENCE)
        ready = multiprocessing.get_context("fork").Event()
        take = LOCKS[name](ws)
        pid = os.fork()
        if pid == 0:
            real = time.sleep

            def asleep(seconds: float) -> None:
                ready.set() if seconds == 60 else None
                real(seconds)

            time.sleep = asleep  # type: ignore[assignment]
            try:
                take()
            finally:
                os._exit(1)
        assert ready.wait(PATIENCE)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        began = time.monotonic()
        ws.history.set_tags(run.id, {"a": "b"})
        with held(ws.history.paths.run(run.id)) as fd:
            assert fd is not None
        with locked(ws.history.paths.database_lock, seconds=0):
            pass
        write(tmp_path / "src", {"more": "1"})
        again = Experiment(ws, "test").submit(config)
        assert again.wait_for_completion(timeout=PATIENCE)["status"] == "Completed"
        assert time.monotonic() - began < database.BUSY_SECONDS, "nobody waited for the dead"


SUBMIT = """
import os, sys
from hpcrun import Experiment, ScriptRunConfig, Workspace
import hpcrun.engine.submit as submit, hpcrun.history.store as store
workspace, folder, step = sys.argv[1:]
def killed(*args, **more):
    os.kill(os.getpid(), 9)
if step == "before the row":
    store.History.create = killed
else:
    submit.carry_out = killed
with Workspace(workspace) as ws:
    Experiment(ws, "test").submit(ScriptRunConfig(folder, "train.sh"))
"""


@pytest.fixture
def dirty(tmp_path: Path) -> Iterator[Path]:
    """A source with an edit that was not committed."""
    folder = source(tmp_path / "src", train_sh="echo x\n")
    git(folder, "init", "-q")
    git(folder, "add", "train.sh")
    git(folder, "commit", "-qm", "first")
    (folder / "train.sh").write_text("echo edited\n")
    yield folder


def crash(ws: Workspace, folder: Path, step: str) -> None:
    done = subprocess.run([sys.executable, "-c", SUBMIT, str(ws.folder), str(folder), step], timeout=PATIENCE)
    assert done.returncode == -9


def test_a_folder_without_a_row_is_named(dirty: Path, tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        crash(ws, dirty, "before the row")
        (finding,) = verify(ws.history.paths, SHELL).findings
        assert finding.what == "folder" and "nothing was submitted" in finding.message
        assert ws.history.list() == []
        shutil.rmtree(ws.history.paths.runs / finding.where)
        assert verify(ws.history.paths, SHELL).findings == []


def test_no_row_is_without_its_diff_and_one_that_is_lost_is_named(dirty: Path, tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        crash(ws, dirty, "after the row")
        (row,) = ws.history.list()
        diff = ws.history.paths.run(row.id).diff
        assert "+echo edited" in diff.read_text()
        until(lambda: refresh(ws.history, ws.targets) and ws.history.get(row.id).state.final, "the end")
        assert verify(ws.history.paths, SHELL).findings == []
        diff.unlink()
        (finding,) = verify(ws.history.paths, SHELL).findings
        assert (finding.what, finding.where) == ("file", row.id) and "git.diff" in finding.message
