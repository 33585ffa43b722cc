"""Many processes at once, and processes killed anywhere: nothing lost, nothing half there."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hpcrun.history import database
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord, is_run_id, new_run_id
from hpcrun.history.store import History
from hpcrun.states import RunState

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["ext4", "nfs4"], ids=["wal", "rollback-journal"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that is not there yet, with either kind of journal."""
    monkeypatch.setattr(database, "file_system_of", lambda path, mountinfo: request.param)
    return tmp_path / ".hpcrun"


def make(experiment: str = "cifar", **more: Any) -> RunRecord:
    return RunRecord(id=new_run_id(experiment), experiment=experiment, target="t", scheduler="s", **more)


def at_once(count: int, work: Callable[[int], object]) -> list[Any]:
    """What ``work`` gives in each of many processes that start at a barrier."""
    barrier = FORK.Barrier(count)

    def child(i: int, answer: Connection) -> None:
        try:
            barrier.wait(60)
            answer.send(work(i))
        except BaseException as error:
            answer.send(error)
        os._exit(0)

    pipes = [FORK.Pipe() for _ in range(count)]
    processes = [FORK.Process(target=child, args=(i, pipe[1])) for i, pipe in enumerate(pipes)]
    for process in processes:
        process.start()
    answers = [mine.recv() for mine, _ in pipes]
    for process, pipe in zip(processes, pipes, strict=True):
        process.join()
        for end in pipe:
            end.close()
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert not failed, failed
    return answers


def check(folder: Path) -> dict[str, RunRecord]:
    """All records, after making sure that index and folders are whole and agree."""
    paths = WorkspacePaths(folder)
    with History.open(folder, create=True) as history:
        rows = {row.id: row for row in history.list(limit=None)}
        records = {run_id: history.get(run_id) for run_id in rows}  # finishes what was cut off
        for run_id, record in records.items():
            row = rows[run_id]
            assert (row.state, row.number, row.key) == (record.state, record.number, record.key)
            assert all(
                run_id in {r.id for r in history.list(tags={k: v}, limit=None)}
                for k, v in record.tags.items()
            )
        assert {path.name for path in paths.runs.iterdir()} == set(rows)
        assert not [*paths.unsettled.iterdir()]
    with closing(sqlite3.connect(paths.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for found in (folder, *folder.rglob("*")):
        assert found.stat().st_mode & 0o077 == 0, found
    return records


@pytest.mark.slow
def test_fifty_processes_create_runs_at_once(folder: Path) -> None:
    def work(i: int) -> list[str]:
        with History.open(folder, create=True) as history:  # even making the workspace is a race
            return [history.create(make(name))[0].id for name in ("a", "b", "a")]

    created = [run_id for ids in at_once(50, work) for run_id in ids]
    records = check(folder)
    assert set(records) == set(created) and len(created) == 150
    for name, count in (("a", 100), ("b", 50)):
        numbers = sorted(record.number for record in records.values() if record.experiment == name)
        assert numbers == list(range(1, count + 1))


def test_twenty_processes_race_for_a_key(folder: Path) -> None:
    History.open(folder, create=True).close()

    def work(i: int) -> tuple[str, bool]:
        with History.open(folder) as history:
            record, new = history.create(make(key="k", config={"i": i}))
            assert history.get(record.id) == record
            return record.id, new

    answers = at_once(20, work)
    assert sorted(new for _, new in answers) == [False] * 19 + [True]
    assert len({run_id for run_id, _ in answers}) == 1
    assert len(check(folder)) == 1


def test_processes_that_change_one_run_lose_nothing(folder: Path) -> None:
    with History.open(folder, create=True) as history:
        run_id = history.create(make())[0].id

    def work(i: int) -> None:
        def change(record: RunRecord) -> None:
            record.attempts.append({"by": i})
            record.tags["count"] = str(int(record.tags.get("count", "0")) + 1)

        with History.open(folder) as history:
            for _ in range(10):
                history.update(run_id, change)

    at_once(8, work)
    record = check(folder)[run_id]
    assert record.tags == {"count": "80"}
    assert sorted(attempt["by"] for attempt in record.attempts) == sorted(list(range(8)) * 10)


def life(folder: Path, key: str) -> None:
    """All a run's writes, from an empty place on."""
    with History.open(folder, create=True) as history:
        run, _ = history.create(make(key=key, config={"x": "y" * 3000}, tags={"life": key}))
        history.update(run.id, lambda record: setattr(record, "state", RunState.QUEUED))
        history.set_tags(run.id, {"done": key})


def killed_at(work: Callable[[], object], count: int) -> bool:
    """Do some work in a process that is killed before it asks the system, or SQLite, for the n-th time.

    False if it came to the end.
    """
    pid = os.fork()
    if pid == 0:
        left = count

        def count_down(frame: FrameType, event: str, function: Any) -> None:
            nonlocal left
            owner = type(getattr(function, "__self__", None)).__module__
            if event == "c_call" and {owner, function.__module__} & {"posix", "fcntl", "sqlite3", "_io"}:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count_down)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_old_or_new(folder: Path) -> None:
    seen: set[str] = set()
    count = 1
    while killed_at(partial(life, place := folder.with_name(f"w{count}"), "k"), count):
        records = check(place)
        assert len(records) <= 1
        before = None
        for before in records.values():
            assert before.number == 1 and before.config == {"x": "y" * 3000} and before.tags["life"] == "k"
        with History.open(place, create=True) as history:
            after, new = history.create(make(key="k"))  # a second try finds the first one's run, whole
        assert new is (before is None) and (before is None or after == before)
        seen.add("nothing" if before is None else "tagged" if "done" in before.tags else str(before.state))
        count += 1
    assert count > 100  # so many steps there are, about
    assert check(place) and seen == {"nothing", "NotStarted", "Queued", "tagged"}


@pytest.mark.slow
def test_a_kill_at_a_random_moment_leaves_old_or_new(folder: Path) -> None:
    chance = random.Random(20260131)
    committed: set[str] = set()

    def work(answer: Connection, round_: int) -> None:
        for i in range(10_000):
            key = f"{round_}-{i}"
            life(folder, key)
            answer.send(key)

    for round_ in range(50):
        mine, theirs = FORK.Pipe()
        process = FORK.Process(target=work, args=(theirs, round_))
        process.start()
        theirs.close()
        committed.add(mine.recv())
        time.sleep(chance.random() * 0.02)  # the random moment
        process.kill()
        process.join()
        with suppress(EOFError):
            while True:
                committed.add(mine.recv())
        mine.close()
    records = {record.key: record for record in check(folder).values()}
    assert committed <= set(records)
    assert all(records[key].tags == {"life": key, "done": key} for key in committed)
    assert sorted(record.number for record in records.values()) == list(range(1, len(records) + 1))
    assert all(is_run_id(record.id) for record in records.values())


def test_a_kill_in_a_migration_leaves_the_old_schema(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life(folder, "k")
    more = (*database.MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO more SELECT kill()", "SELECT 1"))
    pid = os.fork()
    if pid == 0:
        try:
            connect = sqlite3.connect

            def with_kill(*args: Any, **kwargs: Any) -> sqlite3.Connection:
                connection: sqlite3.Connection = connect(*args, **kwargs)
                connection.create_function("kill", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
                return connection

            monkeypatch.setattr(sqlite3, "connect", with_kill)
            monkeypatch.setattr(database, "MIGRATIONS", more)
            History.open(folder)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert len(check(folder)) == 1
    with closing(sqlite3.connect(WorkspacePaths(folder).database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall() == []
