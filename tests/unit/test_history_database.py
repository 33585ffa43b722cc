"""The index's file: journal modes, migrations, modes of files, and what becomes of its errors."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hpcrun.errors import HistoryError
from hpcrun.history import database
from hpcrun.history.database import MIGRATIONS, Database, file_system_of, journal_mode_for
from hpcrun.history.files import locked
from hpcrun.history.paths import WorkspacePaths

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 22 0:41 / /scratch rw master:3 - lustre 10.0.0.1@tcp:/fs rw
32 30 0:42 / /home/anna/local rw - xfs /dev/sdb1 rw
33 22 0:43 / /mnt/two\\040words rw - fuse.sshfs me@host: rw
34 22 0:44 / /data rw - ext4 /dev/sdc1 rw
35 34 0:45 / /data rw - beegfs beegfs_nodev rw
short line
"""


@pytest.fixture
def paths(tmp_path: Path) -> WorkspacePaths:
    return WorkspacePaths(tmp_path)


@pytest.fixture
def file_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A list whose one element is the type of file system that everything seems to lie on."""
    kind = ["ext4"]
    monkeypatch.setattr(database, "file_system_of", lambda path, mountinfo: kind[0])
    yield kind


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def schema_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/opt/x", "ext4"),
        ("/home/anna/.hpcrun", "nfs4"),
        ("/homes", "ext4"),
        ("/home/anna/local/deep/.hpcrun", "xfs"),
        ("/home/anna/../anna/local/x", "xfs"),
        ("/scratch", "lustre"),
        ("/mnt/two words/x", "fuse.sshfs"),
        ("/data/x", "beegfs"),
    ],
)
def test_the_mount_that_counts_is_the_longest_and_last(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTINFO) == kind


def test_a_link_counts_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mountinfo = f"1 1 8:1 / / rw - ext4 d rw\n2 1 0:9 / {tmp_path / 'real'} rw - gpfs d rw\n"
    assert file_system_of(tmp_path / "link" / ".hpcrun", mountinfo) == "gpfs"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "overlay"])
def test_a_local_disk_gets_a_write_ahead_log(kind: str) -> None:
    assert journal_mode_for(kind) == "wal"


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "lustre",
        "gpfs",
        "beegfs",
        "cifs",
        "9p",
        "afs",
        "ceph",
        "fuse.sshfs",
        "fuse.juicefs",
        "",
        "?",
    ],
)
def test_any_other_file_system_gets_a_rollback_journal(kind: str) -> None:
    assert journal_mode_for(kind) == "delete"


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete"), ("", "delete")])
def test_the_journal_goes_by_the_file_system(
    paths: WorkspacePaths, file_system: list[str], kind: str, mode: str
) -> None:
    file_system[0] = kind
    with closing(Database(paths)):
        pass
    assert journal_mode(paths.database) == mode


def test_a_write_ahead_log_is_given_up_on_a_network_and_not_taken_up_again(
    paths: WorkspacePaths, file_system: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, mode in [("ext4", "wal"), ("nfs4", "delete"), ("ext4", "delete")]:
        file_system[0] = kind
        with closing(Database(paths)):
            pass
        assert journal_mode(paths.database) == mode
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE a (x)",)))
    with closing(Database(paths)):  # nor when there is a reason to write to it
        pass
    assert journal_mode(paths.database) == "delete"


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_a_commit_is_on_the_disk_when_it_returns(
    paths: WorkspacePaths, file_system: list[str], kind: str
) -> None:
    file_system[0] = kind
    with closing(Database(paths)) as opened:
        extra = 3
        assert opened.read("PRAGMA synchronous") == [(extra,)]


def test_without_proc_the_journal_is_the_safe_one(
    paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", gone)
    with closing(Database(paths)):
        pass
    assert journal_mode(paths.database) == "delete"


def test_a_database_of_a_newer_hpcrun_is_left_alone(paths: WorkspacePaths) -> None:
    with closing(Database(paths)), closing(sqlite3.connect(paths.database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = paths.database.read_bytes()
    with pytest.raises(HistoryError, match="newer hpcrun") as caught:
        Database(paths)
    assert "upgrade" in str(caught.value.hint)
    assert paths.database.read_bytes() == before
    assert sorted(each.name for each in paths.folder.iterdir()) == ["history.db", "history.lock"]


def test_migrations_are_applied_in_order_and_once(
    paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(paths)):
        pass
    more = (*MIGRATIONS, ("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"), ("INSERT INTO a VALUES (2)",))
    monkeypatch.setattr(database, "MIGRATIONS", more)
    for _ in range(2):
        with closing(Database(paths)) as opened:
            assert opened.read("SELECT x FROM a") == [(1,), (2,)]
    assert schema_version(paths.database) == len(more)


def test_a_migration_that_fails_leaves_nothing_of_itself(
    paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(paths)):
        pass
    more = (
        *MIGRATIONS,
        ("CREATE TABLE good (x)",),
        ("CREATE TABLE half (x)", "INSERT INTO nowhere VALUES (1)"),
    )
    monkeypatch.setattr(database, "MIGRATIONS", more)
    with pytest.raises(HistoryError, match="nowhere"):
        Database(paths)
    assert schema_version(paths.database) == len(MIGRATIONS) + 1
    with closing(sqlite3.connect(paths.database)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "good" in names and "half" not in names


def test_an_empty_file_left_by_a_killed_process_becomes_a_database(paths: WorkspacePaths) -> None:
    paths.database.touch()
    with closing(Database(paths)) as opened:
        assert opened.read("SELECT count(*) FROM runs") == [(0,)]


def test_a_file_that_is_no_database_is_named(paths: WorkspacePaths) -> None:
    paths.database.write_bytes(b"something else altogether, and longer than a header of a hundred bytes" * 9)
    with pytest.raises(HistoryError, match=r"history\.db: file is not a database"):
        Database(paths)


def test_a_database_that_stays_busy_is_an_error_with_a_hint(
    paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(Database(paths)) as opened, closing(sqlite3.connect(paths.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked") as caught, opened.write():
            pass
        assert "fuser" in str(caught.value.hint)
        other.rollback()
        with opened.write() as connection:
            connection.execute("CREATE TABLE a (x)")


def test_a_transaction_that_raises_is_undone(paths: WorkspacePaths) -> None:
    with closing(Database(paths)) as opened:
        with pytest.raises(KeyboardInterrupt), opened.write() as connection:
            connection.execute("CREATE TABLE a (x)")
            raise KeyboardInterrupt
        with opened.write() as connection:
            connection.execute("CREATE TABLE a (x)")


def test_threads_take_turns(paths: WorkspacePaths) -> None:
    with closing(Database(paths)) as opened:
        with opened.write() as connection:
            connection.execute("CREATE TABLE counter (n)")
            connection.execute("INSERT INTO counter VALUES (0)")

        def add() -> None:
            for _ in range(50):
                with opened.write() as connection:
                    (n,) = connection.execute("SELECT n FROM counter").fetchone()
                    connection.execute("UPDATE counter SET n = ?", [n + 1])

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert opened.read("SELECT n FROM counter") == [(200,)]


def test_a_connection_is_not_used_after_a_fork(paths: WorkspacePaths) -> None:
    with closing(Database(paths)) as opened:
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()

        def child() -> None:
            try:
                opened.read("SELECT 1")
                theirs.send("")
            except HistoryError as error:
                theirs.send(str(error))
            os._exit(0)

        process = context.Process(target=child)
        process.start()
        assert "fork" in mine.recv()
        process.join()
        mine.close()
        theirs.close()


def test_an_interrupted_switch_of_journals_waits_for_its_turn(
    paths: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with locked(paths.database_lock), pytest.raises(HistoryError, match="held by another process"):
        Database(paths)
    with closing(Database(paths)):
        pass
    with locked(paths.database_lock), closing(Database(paths)):  # nothing to do, so nothing to wait for
        pass
