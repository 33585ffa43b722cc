"""The SQLite index: one connection, short transactions, append-only migrations.

The journal is a write-ahead log on file systems known to be local, and a rollback journal on all others:
a write-ahead log needs memory that all processes share, which two hosts on NFS or Lustre do not have.
``synchronous=EXTRA``: a commit that has returned survives a power cut in both modes (it is FULL, plus a
sync of the folder where the rollback journal is deleted). NORMAL would be quicker, but could lose the row
that says that a key was submitted already, and the same key would then be submitted again.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hpcrun.errors import HistoryError
from hpcrun.history.files import locked, touch
from hpcrun.history.paths import WorkspacePaths

BUSY_SECONDS = 30.0
"""How long a transaction waits for the transactions of others."""

REBUILD = "make it anew from the runs' folders: hpcrun history rebuild"

FINAL_STATES = "('Completed', 'Failed', 'Canceled')"
"""In SQL. Frozen in the schema: a partial index serves only queries with exactly its own condition."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # seq is the order of creation in this workspace. It sorts runs by age without an index of its
        # own, and unlike a time it does not jump with a clock. `pending` holds the record until it is
        # known to stand in run.json.
        """CREATE TABLE runs (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, number INTEGER NOT NULL,
            experiment TEXT NOT NULL, display_name TEXT, type TEXT NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL, message TEXT NOT NULL, target TEXT NOT NULL, scheduler TEXT NOT NULL,
            job_id TEXT, created TEXT NOT NULL, submitted TEXT, started TEXT, ended TEXT,
            exit_code INTEGER, key TEXT, archived INTEGER NOT NULL, run_dir TEXT NOT NULL, pending TEXT,
            UNIQUE (experiment, number))""",
        "CREATE UNIQUE INDEX runs_key ON runs (key) WHERE key IS NOT NULL",
        "CREATE INDEX runs_experiment ON runs (experiment)",
        "CREATE INDEX runs_state ON runs (state)",
        f"CREATE INDEX runs_active ON runs (seq) WHERE state NOT IN {FINAL_STATES}",
        "CREATE INDEX runs_display_name ON runs (display_name) WHERE display_name IS NOT NULL",
        "CREATE INDEX runs_last_part ON runs (substr(id, -8))",
        """CREATE TABLE tags (
            run INTEGER NOT NULL REFERENCES runs (seq), key TEXT NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (run, key)) WITHOUT ROWID""",
        "CREATE INDEX tags_value ON tags (key, value, run)",
    ),
    (
        # Only experiments of which there is more to know than their runs tell: see experiments.py.
        """CREATE TABLE experiments (
            name TEXT PRIMARY KEY, archived INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID""",
    ),
    (
        # Lists leave children out unless asked for them: however many there are, they are not walked through.
        "ALTER TABLE runs ADD COLUMN parent TEXT",
        "CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL",
        "CREATE INDEX runs_top ON runs (seq) WHERE parent IS NULL",
        "CREATE INDEX runs_top_experiment ON runs (experiment) WHERE parent IS NULL",
        "CREATE INDEX runs_top_state ON runs (state) WHERE parent IS NULL",
    ),
    (
        # Values are numbers or text: see measures.py.
        """CREATE TABLE metrics (
            run INTEGER NOT NULL REFERENCES runs (seq), name TEXT NOT NULL, rank INTEGER NOT NULL,
            kind TEXT NOT NULL, count INTEGER NOT NULL, last, said TEXT, least REAL, most REAL,
            step REAL, at REAL, PRIMARY KEY (run, name)) WITHOUT ROWID""",
        "CREATE INDEX metrics_last ON metrics (name, last, run)",
        "CREATE INDEX metrics_least ON metrics (name, least, run)",
        "CREATE INDEX metrics_most ON metrics (name, most, run)",
        """CREATE TABLE metric_files (
            run INTEGER NOT NULL REFERENCES runs (seq), rank INTEGER NOT NULL, offset INTEGER NOT NULL,
            size INTEGER NOT NULL, within INTEGER NOT NULL, left_out INTEGER NOT NULL,
            PRIMARY KEY (run, rank)) WITHOUT ROWID""",
        """CREATE TABLE parameters (
            run INTEGER NOT NULL REFERENCES runs (seq), name TEXT NOT NULL, value NOT NULL,
            truth INTEGER NOT NULL, PRIMARY KEY (run, name)) WITHOUT ROWID""",
        "CREATE INDEX parameters_value ON parameters (name, value, run)",
    ),
)
"""One tuple of statements a version. Never change one that was released: add another."""

_LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
_BROKEN = ("malformed", "not a database", "no such table", "no such column", "has no column")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def journal_mode_for(file_system: str) -> str:
    """``wal`` on a file system known to be local, ``delete`` on any other (nfs4, lustre, fuse.sshfs, …)."""
    return "wal" if file_system in _LOCAL else "delete"


def file_system_of(path: Path, mountinfo: str) -> str:
    """The type of the file system a path lies on, read from the text of ``/proc/self/mountinfo``.

    Empty if the text does not tell.
    """
    parts = path.resolve().parts
    best, depth = "", 0
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:
            continue
        point = Path(_ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[4])).parts
        if len(point) >= depth and parts[: len(point)] == point:  # a later mount hides an earlier one
            best, depth = tail.split(" ")[0], len(point)
    return best


def _journal_mode(folder: Path) -> str:
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        mountinfo = ""
    return journal_mode_for(file_system_of(folder, mountinfo))


def is_broken(error: BaseException | None) -> bool:
    """Whether SQLite says that the file is damaged, rather than busy or the disk full."""
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _BROKEN)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def plain(value: object) -> object:
    """A value SQLite takes: text without the stray halves of characters that a name not in UTF-8 has."""
    if isinstance(value, str):
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return value


class Database:
    """One connection to the index. Threads may share it, one transaction at a time; a fork may not."""

    def __init__(self, paths: WorkspacePaths, *, file: Path | None = None, lock: bool = True) -> None:
        """Open the database and bring its schema up to date; made (0600) if it is not there.

        ``file`` is another file in its stead; ``lock`` is False where the caller holds the database's lock.
        Raises HistoryError if it cannot be read, is busy too long, or was made by a newer hpcrun.
        """
        self._path = file or paths.database
        self._mutex = threading.RLock()
        self._owner = os.getpid()
        with self._translated():
            touch(self._path)  # SQLite would go by the umask; its helper files take the mode of this one
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._file = _identity(self._path)
            try:
                self._connection.execute("PRAGMA synchronous = EXTRA")
                self._prepare(paths, lock)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        with self._mutex:
            self._connection.close()

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows of a query, taken at once so that no read transaction stays open."""
        with self._mutex, self._translated():
            return self._connection.execute(sql, [plain(value) for value in parameters]).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its beginning; undone if the block raises."""
        with self._mutex, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._check_in_place()
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def _check_in_place(self) -> None:
        """What is written to a file that was replaced would be lost without a word."""
        there = _identity(self._path)
        if there is None:
            raise HistoryError(f"{self._path} is gone", hint=REBUILD)
        if there != self._file:
            raise HistoryError(f"{self._path} was replaced while it was open", hint="try again")

    def _prepare(self, paths: WorkspacePaths, lock: bool) -> None:
        # A write-ahead log is chosen once, and given up for good by the first who sees the database on a
        # network: one host may see a local disk where others see NFS, and must not switch it back.
        wal = self._pragma("journal_mode") == "wal"
        leave = wal and _journal_mode(paths.folder) != "wal"
        if self._version() == len(MIGRATIONS) and not leave:
            return
        # Two processes that switch the journal mode at once get in each other's way.
        with locked(paths.database_lock, seconds=BUSY_SECONDS) if lock else nullcontext():
            if leave or self._version() == 0:
                self._pragma(f"journal_mode = {_journal_mode(paths.folder)}")
            while (version := self._version()) < len(MIGRATIONS):
                with self.write() as connection:
                    for statement in MIGRATIONS[version]:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {version + 1}")

    def _version(self) -> int:
        version = int(str(self._pragma("user_version")))
        if version > len(MIGRATIONS):
            raise HistoryError(
                f"{self._path} was made by a newer hpcrun: its schema is {version}, the newest that this one"
                f" knows is {len(MIGRATIONS)}",
                hint="upgrade: pip install --upgrade hpcrun-toolkit",
            )
        return version

    def _pragma(self, pragma: str) -> object:
        return self._connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._owner:  # SQLite would corrupt the file without a word
            raise HistoryError(
                "the history was opened before a fork", hint="open it again in the child process"
            )
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:  # a number beyond 64 bits
            hint = REBUILD if is_broken(error) else None
            if "locked" in str(error):
                hint = f"another process is busy with it: fuser -v {self._path}"
            raise HistoryError(f"{self._path}: {error}", hint=hint) from error
