"""Making the index anew from what stands in the runs' folders.

Where the database can still be used, its rows are put in place of one another in one transaction: whoever has
it open goes on with it, and is kept from writing meanwhile. Where it is gone or damaged, a new one is made
beside it, and takes its place by a rename. Either way the history is, after a kill, what it was before or
what it is to be; and the old database is kept beside it.

What stands in the index alone is taken over from the old one as far as that can be read: the order of
creation, runs whose creation was cut off, and the rows of runs whose run.json is damaged, so that their keys
and numbers are not given out again.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpcrun.errors import HistoryError
from hpcrun.history import experiments, index, measures
from hpcrun.history.database import Database, is_broken
from hpcrun.history.experiments import Kept
from hpcrun.history.files import is_lost, locked, make_folder, sync_folder, touch
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import RunRecord, is_run_id
from hpcrun.history.store import read_record
from hpcrun.history.tables import leaders
from hpcrun.history.trials import lost

_ID, _NUMBER, _EXPERIMENT, _CREATED, _KEY, _RUN_DIR = (
    index.COLUMNS.index(name) for name in ("id", "number", "experiment", "created", "key", "run_dir")
)


@dataclass
class Rebuilt:
    """``left`` says, for each run that could not be taken in from its run.json, why."""

    runs: int = 0
    backup: Path | None = None
    left: dict[str, str] = field(default_factory=dict)


@dataclass
class _Entry:
    """A row to be: ``seq`` is its place in the old index, None for a run that this did not have."""

    values: list[Any]
    tags: dict[str, str]
    parameters: dict[str, Any] = field(default_factory=dict)
    pending: str | None = None
    seq: int | None = None


@dataclass
class _Old:
    """What could be read of the old index."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    experiments: dict[str, Kept] = field(default_factory=dict)


def rebuild(paths: WorkspacePaths) -> Rebuilt:
    """Make the index anew; damaged run.json files are named and left as they are.

    Raises HistoryError if another process holds the database all the while, if a newer hpcrun made it, or
    if the disk fails; the history then is as it was.
    """
    for folder in (paths.runs, paths.unsettled):
        if not folder.is_dir():
            make_folder(folder)
    with locked(paths.database_lock):
        _clear(paths.new_database)
        stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
        try:
            done = None if is_lost(paths.database) else _in_place(paths, stamp)
        except HistoryError as error:
            if not is_broken(error.__cause__):
                raise
            done = None
        return done or _anew(paths, stamp)


def _in_place(paths: WorkspacePaths, stamp: str) -> Rebuilt | None:
    """None if the file is damaged, and a new one is needed."""
    with closing(Database(paths, lock=False)) as database:
        if database.read("PRAGMA integrity_check") != [("ok",)]:
            return None
        with database.write() as connection:
            old = _salvage(connection)
            backup = paths.backup(paths.database, stamp)
            _copy(paths, backup)
            done = _fill(connection, paths, old, stamp)
    done.backup = backup
    return done


def _anew(paths: WorkspacePaths, stamp: str) -> Rebuilt:
    old = _Old()
    if not is_lost(paths.database):
        with suppress(sqlite3.Error), closing(sqlite3.connect(paths.database)) as connection:
            old = _salvage(connection)
    damaged = _lost_trials(paths, old)
    new = paths.new_database
    with closing(Database(paths, file=new, lock=False)) as database, database.write() as connection:
        done = _fill(connection, paths, old, stamp)
    done.left.update(damaged)
    try:
        if paths.database.exists():
            done.backup = paths.backup(paths.database, stamp)
            try:
                done.backup.hardlink_to(paths.database)
            except OSError:  # not every file system has links
                shutil.copy2(paths.database, done.backup)
        for helper in ("-wal", "-shm", "-journal"):  # SQLite would mend the new database by them
            with suppress(FileNotFoundError):
                _beside(paths.database, helper).rename(_beside(paths.backup(paths.database, stamp), helper))
        new.replace(paths.database)
        sync_folder(paths.folder)
    except OSError as error:
        raise HistoryError(f"cannot put {new} in place: {error.strerror}") from error
    return done


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _clear(new: Path) -> None:
    """Take away what a killed rebuild left."""
    for suffix in ("", "-wal", "-shm", "-journal", "-copy", "-copy-journal"):
        _beside(new, suffix).unlink(missing_ok=True)


def _copy(paths: WorkspacePaths, backup: Path) -> None:
    """The database as it was last committed, under another name."""
    part = _beside(paths.new_database, "-copy")
    touch(part)
    with closing(sqlite3.connect(paths.database)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, whatever it was
    part.replace(backup)


def _salvage(connection: sqlite3.Connection) -> _Old:
    old = _Old()
    by_seq: dict[int, _Entry] = {}
    with suppress(sqlite3.Error):
        for *values, seq, pending in connection.execute(
            f"{index.select_from(connection)}, seq, pending FROM runs ORDER BY seq"
        ):
            by_seq[seq] = old.entries[values[_ID]] = _Entry(values, {}, {}, pending, seq)
    with suppress(sqlite3.Error):
        for seq, key, value in connection.execute("SELECT run, key, value FROM tags"):
            if seq in by_seq:
                by_seq[seq].tags[key] = value
    with suppress(sqlite3.Error):
        for seq, name, value, truth in connection.execute("SELECT run, name, value, truth FROM parameters"):
            if seq in by_seq:
                by_seq[seq].parameters[name] = bool(value) if truth else value
    with suppress(sqlite3.Error):
        old.experiments = experiments.read_rows(connection)
    return old


def _lost_trials(paths: WorkspacePaths, old: _Old) -> dict[str, str]:
    """Take in trials without a record of their own that the old index does not tell of; what is damaged."""
    left: dict[str, str] = {}
    for leader in leaders(paths):
        try:
            for record, pending in lost(paths, leader, old.entries.keys()):
                known = measures.parameter_values(record.parameters)
                old.entries[record.id] = _Entry(index.row_values(record), {**record.tags}, known, pending)
        except HistoryError as error:
            left[leader] = error.message
    return left


def _fill(connection: sqlite3.Connection, paths: WorkspacePaths, old: _Old, stamp: str) -> Rebuilt:
    """Put the rows that should be there in place of those that are."""
    done = Rebuilt()
    kept = _kept(paths, old, done, stamp)
    entries = _entries(paths, old, done)
    for name, number in _lost_numbers(old, entries, done):
        kept[name] = replace(kept.get(name, Kept()), last=max(kept.get(name, Kept()).last, number))
    for table in ("tags", *measures.TABLES, "runs", "experiments"):
        connection.execute(f"DELETE FROM {table}")
    ordered = list(_in_order(entries))
    for seq, entry in enumerate(ordered, 1):
        index.put_row(connection, seq, entry.values, entry.pending)
        index.put_tags(connection, entry.values[_ID], entry.tags)
        measures.put_parameters(connection, [(seq, entry.parameters)])
        run_dir = entry.values[_RUN_DIR]
        for file in measures.look_at(
            RunPaths(Path(run_dir)) if run_dir else paths.run(entry.values[_ID]), {}
        ):
            measures.put_files(connection, entry.values[_ID], [file])
    experiments.put(connection, paths, kept)
    for marker in paths.unsettled.iterdir():
        if not paths.run(marker.name).folder.exists():
            marker.unlink()
    done.runs = len(ordered)
    return done


def _kept(paths: WorkspacePaths, old: _Old, done: Rebuilt, stamp: str) -> dict[str, Kept]:
    """What is known of experiments: the file says which are archived, and the higher number counts."""
    try:
        said = experiments.read_file(paths)
    except HistoryError as error:
        done.left[paths.experiments.name] = f"{error.message}; what the old index says is taken instead"
        said = {}
        with suppress(OSError):
            paths.experiments.rename(paths.backup(paths.experiments, stamp))
    kept = {**old.experiments, **said}
    for name, each in old.experiments.items():
        kept[name] = replace(kept[name], last=max(kept[name].last, each.last))
    return kept


def _entries(paths: WorkspacePaths, old: _Old, done: Rebuilt) -> list[_Entry]:
    found: list[_Entry] = []
    kept_rows: list[_Entry] = []
    folders = {path.name for path in paths.runs.iterdir() if is_run_id(path.name) and path.is_dir()}
    for run_id in sorted(folders | old.entries.keys()):
        known = old.entries.get(run_id)
        if known is not None and known.pending is not None and not paths.run(run_id).record.exists():
            found.append(known)
        elif run_id not in folders:
            done.left[run_id] = "its folder is gone: it was taken out of the index"
        elif known is None and not paths.run(run_id).record.exists():
            continue  # a submission that never got as far as being written down
        else:
            try:
                found.append(_entry(read_record(paths.run(run_id)), run_id, known))
            except HistoryError as error:
                done.left[run_id] = f"{error.message}; " + (
                    "it is left out, and its key, if it had one, is free"
                    if known is None
                    else "what the old index says of it is kept"
                )
                kept_rows += [] if known is None else [known]
    return _without_conflicts(kept_rows, found, done)


def _entry(record: RunRecord, run_id: str, known: _Entry | None) -> _Entry:
    if record.id != run_id:
        raise HistoryError(f"the run.json in the folder of {run_id} is that of {record.id}")
    values = index.row_values(record)
    return _Entry([*values], record.tags, record.parameters, None, known.seq if known else None)


def _without_conflicts(first: list[_Entry], then: list[_Entry], done: Rebuilt) -> list[_Entry]:
    """Of two that have the same key or number, the one that was there first."""
    taken: dict[object, str] = {}
    fine: list[_Entry] = []
    last = float("inf")
    for entry in [
        *first,
        *sorted(then, key=lambda e: (e.seq or last, str(e.values[_CREATED]), e.values[_ID])),
    ]:
        run_id, key = entry.values[_ID], entry.values[_KEY]
        marks: dict[object, str] = {(entry.values[_EXPERIMENT], entry.values[_NUMBER]): "number"}
        if key is not None:
            marks[key] = "key"
        clash = next((mark for mark in marks if mark in taken), None)
        if clash is not None:
            done.left[run_id] = f"it has the {marks[clash]} of {taken[clash]}: it is left out"
            continue
        taken.update(dict.fromkeys(marks, run_id))
        fine.append(entry)
    return fine


def _lost_numbers(old: _Old, entries: list[_Entry], done: Rebuilt) -> Iterator[tuple[str, int]]:
    """Numbers up to which none may be given out again, for each experiment that lost a run."""
    there = {entry.values[_ID] for entry in entries}
    highest: dict[str, int] = {}
    for entry in entries:
        name = entry.values[_EXPERIMENT]
        highest[name] = max(highest.get(name, 0), entry.values[_NUMBER])
    unknown: dict[str, int] = {}
    for run_id in done.left:
        if run_id in there or not is_run_id(run_id):
            continue
        if run_id in old.entries:
            values = old.entries[run_id].values
            yield values[_EXPERIMENT], values[_NUMBER]
        else:  # its number is not known, but it can be none that is much higher than all others
            name = run_id.rsplit("_", 2)[0]
            unknown[name] = unknown.get(name, 0) + 1
    for name, count in unknown.items():
        yield name, highest.get(name, 0) + count


def _in_order(entries: list[_Entry]) -> Iterator[_Entry]:
    """As they were created. A clock may have jumped, so a time decides only where nothing else is known:
    the old order holds, and within an experiment that of the numbers."""
    queues: dict[object, list[_Entry]] = {}
    for entry in entries:
        queues.setdefault(None if entry.seq is not None else entry.values[_EXPERIMENT], []).append(entry)
    for queue in queues.values():  # the next one last, where it is taken from
        queue.sort(key=lambda e: e.seq if e.seq is not None else e.values[_NUMBER], reverse=True)
    while queues:
        name = min(
            queues, key=lambda q: (str(queues[q][-1].values[_CREATED]), str(queues[q][-1].values[_ID]))
        )
        yield queues[name].pop()
        if not queues[name]:
            del queues[name]
