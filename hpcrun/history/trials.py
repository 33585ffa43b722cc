"""Trials by the thousand in the index: written in one transaction, brought up to date in one, and made runs
with a record of their own only as somebody looks at them.

A trial that is looked at is made in one transaction as well: what all have come to until then is in its
record, and what they come to later is written to it as to that of any run. See :mod:`hpcrun.history.tables`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hpcrun.errors import HistoryError
from hpcrun.history import experiments, family, index
from hpcrun.history.creating import is_archived
from hpcrun.history.database import Database, plain
from hpcrun.history.files import locked, make_folder, remove_tree, touch, write_atomically
from hpcrun.history.homes import link_home, make_home
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.history.tables import (
    State,
    Table,
    gone,
    read_state,
    read_table,
    reference,
    referred,
    write_state,
    write_table,
)
from hpcrun.states import RunState

_ID, _NUMBER, _CREATED, _KEY, _RUN_DIR = (
    index.COLUMNS.index(name) for name in ("id", "number", "created", "key", "run_dir")
)
_MOST = 500
"""Values in one question."""

_UNMADE = "parent = ? AND pending >= ? AND pending < ?"


class Trials:
    """Those of one history."""

    def __init__(self, paths: WorkspacePaths, database: Database) -> None:
        self._paths, self._database = paths, database
        self._tables: dict[str, Table] = {}

    def table(self, leader: str) -> Table:
        """Raises HistoryError."""
        if leader not in self._tables:
            self._tables[leader] = read_table(self._paths.table(leader))
        return self._tables[leader]

    def state(self, leader: str) -> State:
        """How far the submission of a table has come. Raises HistoryError."""
        return read_state(self._paths.table(leader), self.table(leader).created)

    def put(self, leader: str, state: State) -> None:
        """Write it down. The caller holds the table's submit lock, and tells the runs that are made already
        (:meth:`made`)."""
        write_state(self._paths.table(leader), state)

    def create(
        self, tables: Sequence[Table], order: Sequence[str], beside: Mapping[str, str]
    ) -> tuple[list[Table], dict[str, str]]:
        """Keep new trials, all of them or none: one transaction. ``order`` are their keys as they follow each
        other, ``beside`` what all runs have beside their records. Gives the tables as they are now, without
        trials whose key is taken, and for each key the id.

        Raises HistoryError as :meth:`History.create`.
        """
        with self._database.write() as connection:
            taken = keys_taken(connection, order)
            fresh = [key for key in order if key not in taken]
            template = RunRecord(**{**tables[0].template, "state": RunState.NOT_STARTED, "extra": {}})
            first = _first_number(connection, template) if fresh else 0
            numbers = {key: first + at for at, key in enumerate(fresh)}
            kept: list[Table] = []
            leaders: dict[str, str] = {}
            for table in tables:
                lines = [
                    each._replace(number=numbers[each.key]) for each in table.lines if each.key in numbers
                ]
                if lines:
                    after = leaders.get(table.after, "")
                    leaders[table.leader] = lines[0].id
                    kept.append(replace(table, leader=lines[0].id, after=after, lines=lines))
            if kept:
                self._write(connection, kept, {key: at for at, key in enumerate(fresh)}, beside)
        self._tables.update((table.leader, table) for table in kept)
        return kept, {**taken, **{line.key: line.id for table in kept for line in table.lines}}

    def _write(
        self,
        connection: sqlite3.Connection,
        tables: Sequence[Table],
        place: Mapping[str, int],
        beside: Mapping[str, str],
    ) -> None:
        make_folder_of(self._paths.trials)
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM runs").fetchone()
        for table in tables:
            paths = self._paths.table(table.leader)
            make_folder(paths.folder)
            for name, text in beside.items():
                write_atomically(paths.folder / name, text.encode("utf-8", "surrogateescape"))
            write_table(paths, table)
            rows = [
                (last + 1 + place[table.lines[at].key], values, reference(table.leader, at))
                for at, values in enumerate(rows_of(table))
            ]
            index.put_trials(connection, rows, table.template["tags"], map(table.parameters, table.lines))

    def with_keys(self, keys: Sequence[str]) -> dict[str, str]:
        """The runs that have these keys, by key."""
        with self._database.write() as connection:
            return keys_taken(connection, keys)

    def make(self, run_id: str) -> None:
        """Give a trial the record of its own that it has not yet. Raises HistoryError."""
        run = self._paths.run(run_id)
        make_folder(run.folder)
        with locked(run.lock):
            if run.record.exists():  # another was quicker
                return
            with self._database.write() as connection:
                found = connection.execute(
                    "SELECT pending, reason FROM runs WHERE id = ?", [run_id]
                ).fetchone()
                named = referred(found[0]) if found else None
                if named is None:
                    raise HistoryError(f"the record of {run_id} is gone: {run.record}")
                record = self.record(*named, reason=found[1])
                self._lay_out(run, record, self.table(named[0]), named[1])
                touch(self._paths.unsettled / run_id)
                write_atomically(run.record, record.to_json().encode("ascii"))
                index.replace(connection, record)
            (self._paths.unsettled / run_id).unlink(missing_ok=True)

    def record(self, leader: str, at: int, *, reason: str = "") -> RunRecord:
        """The record that the trial of a line would have now."""
        record = self.table(leader).record(at)
        self.state(leader).apply(record, at, reason)
        return record

    def _lay_out(self, run: RunPaths, record: RunRecord, table: Table, at: int) -> None:
        """What a run has beside its record."""
        common = self._paths.table(table.leader)
        write_atomically(run.config, record.config["yaml"].encode("utf-8", "surrogateescape"))
        for source, target in ((common.diff, run.diff), (common.builder, run.builder)):
            if source.exists() and not target.exists():
                try:
                    target.hardlink_to(source)
                except OSError:
                    shutil.copy2(source, target)
        if record.host is None:
            link_home(run, RunPaths(Path(record.run_dir)), {})
        else:
            make_home(run)
            text = table.text(table.script, table.lines[at])
            write_atomically(run.script, text.encode("utf-8", "surrogateescape"))

    def unmade(self, *, active: bool = True, unsent: bool = False) -> dict[str, tuple[str, int]]:
        """The trials that nobody has looked at, the oldest first, with table and line: those that have not
        ended, or all; with ``unsent`` those without a job."""
        where = f"{index.ACTIVE_RUNS if active else '1'}{' AND job_id IS NULL' if unsent else ''}"
        sql = f"SELECT id, pending FROM runs WHERE {where} AND pending IS NOT NULL ORDER BY seq"
        rows = self._database.read(sql)
        made = self._unsettled()
        named = ((str(run_id), referred(pending)) for run_id, pending in rows)
        return {run_id: found for run_id, found in named if found is not None and run_id not in made}

    def parts(self, leader: str) -> tuple[list[int], list[str]]:
        """The lines of a table whose trials nobody has looked at; and the ids of those that have a record.

        Whoever is just making one is waited for: what was written down of all before is in its record, or
        it is among those.
        """
        table = self.table(leader)
        with self._database.write() as connection:
            made = self._unsettled()
            sql = f"SELECT CAST(substr(pending, ?) AS INTEGER), id FROM runs WHERE {_UNMADE}"
            rows = connection.execute(sql, [_digits(table), *_bounds(table)]).fetchall()
            known = "SELECT id FROM runs WHERE parent = ? AND pending IS NULL"
            there = {str(row[0]) for row in connection.execute(known, [table.parent])}
        if made:
            there |= {run_id for _, run_id in rows if run_id in made}
            rows = [row for row in rows if row[1] not in made]
        return sorted(row[0] for row in rows), [line.id for line in table.lines if line.id in there]

    def withdraw(self, leader: str) -> None:
        """Take trials that nobody has looked at out of the history again, of which nothing was submitted:
        their keys are free. The caller holds the table's submit lock."""
        table = self.table(leader)
        with self._database.write() as connection:
            made = self._unsettled()
            rows = connection.execute(f"SELECT id FROM runs WHERE {_UNMADE}", _bounds(table)).fetchall()
            for (run_id,) in rows:
                if run_id not in made:
                    index.delete(connection, str(run_id))

    def tell(self, leader: str) -> None:
        """Bring the rows of trials that nobody has looked at up to the state of their table."""
        table, state = self.table(leader), self.state(leader)
        record = table.record(0)
        state.apply(record, 0)
        change = "state = ?, message = ?, ended = ?"
        values: list[object] = [record.state.value, record.message, record.ended]
        if state.job_id is not None:
            change += ", submitted = ?, job_id = ? || substr(pending, ?)"
            values += [state.submitted, f"{state.job_id}_", _digits(table)]
        elif state.word == "rejected":
            change += ", key = NULL, reason = ?"
            values.append(record.reason)
        else:
            return
        with self._database.write() as connection:
            self._change(connection, change, values, table)

    def _change(
        self, connection: sqlite3.Connection, change: str, values: Sequence[object], table: Table
    ) -> None:
        made = sorted(self._unsettled())
        spared = f" AND id NOT IN ({', '.join('?' * len(made))})" if made else ""
        sql = f"UPDATE runs SET {change} WHERE {_UNMADE}{spared}"
        connection.execute(sql, [*map(plain, values), *_bounds(table), *made])

    def restate(self, reasons: Mapping[str, str]) -> None:
        """Note why trials wait that nobody has looked at."""
        if not reasons:
            return
        with self._database.write() as connection:
            made = self._unsettled()
            connection.executemany(
                "UPDATE runs SET reason = ? WHERE id = ? AND pending IS NOT NULL AND state = 'Queued'",
                [(plain(reason), run_id) for run_id, reason in reasons.items() if run_id not in made],
            )

    def leave(self, record: RunRecord) -> None:
        """Note that a run is about to be deleted."""
        task = record.submission.get("array") or {}
        if task.get("table"):
            with suppress(FileNotFoundError), self._paths.table(task["leader"]).gone.open("a") as file:
                file.write(f"{task['index']}\n")

    def is_last(self, record: RunRecord) -> bool:
        """Whether all other trials of a run's table were deleted."""
        task = record.submission["array"]
        left = {*range(len(self.table(task["leader"]).lines))} - gone(self._paths.table(task["leader"]))
        return left <= {int(task["index"])}

    def forget(self, leader: str) -> None:
        """Delete a table all whose runs were deleted. Raises HistoryError."""
        remove_tree(self._paths.table(leader).folder)
        self._tables.pop(leader, None)

    def _unsettled(self) -> set[str]:
        """Runs whose rows may be behind their records: trials among them have one."""
        return {*os.listdir(self._paths.unsettled)}  # noqa: PTH208 (names, often and quickly)


def keys_taken(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
    """The runs that have these keys."""
    found: dict[str, str] = {}
    for first in range(0, len(keys), _MOST):
        part = [plain(key) for key in keys[first : first + _MOST]]
        sql = f"SELECT key, id FROM runs WHERE key IN ({', '.join('?' * len(part))})"
        found.update((str(key), str(run_id)) for key, run_id in connection.execute(sql, part))
    return found


def rows_of(table: Table) -> Iterable[list[object]]:
    """The rows of a table's trials as they are when they are created."""
    common = index.row_values(table.record(0))
    run_dir = str(table.template["run_dir"]) if common[_RUN_DIR] else ""
    for line in table.lines:
        values = list(common)
        values[_ID], values[_NUMBER], values[_KEY] = line.id, line.number, plain(line.key)
        values[_RUN_DIR] = plain(run_dir.replace(table.run, line.id))
        yield values


def _first_number(connection: sqlite3.Connection, record: RunRecord) -> int:
    kept = experiments.read_rows(connection).get(record.experiment, experiments.Kept())
    if kept.archived:
        raise is_archived(record.experiment)
    assert record.parent is not None
    rows = connection.execute(family.PARENT, [record.parent]).fetchall()
    family.check_parent(rows, record.parent, record.experiment)
    last = "SELECT coalesce(max(number), 0) FROM runs WHERE experiment = ?"
    known = connection.execute(last, [record.experiment]).fetchone()[0]
    return int(max(known, kept.last)) + 1


def _bounds(table: Table) -> list[object]:
    start = reference(table.leader, "")
    return [table.parent, start, start[:-1] + "!"]


def _digits(table: Table) -> int:
    """Where in a reference the number of the line begins, as SQL counts."""
    return len(reference(table.leader, "")) + 1


def make_folder_of(path: Path) -> None:
    if not path.is_dir():
        make_folder(path)


def lost(paths: WorkspacePaths, leader: str, known: Collection[str]) -> Iterable[tuple[RunRecord, str]]:
    """Records of trials that are not in the index any more, with their references, as far as their table
    says: those that have neither a record of their own nor were deleted. Raises HistoryError."""
    table, common = read_table(paths.table(leader)), paths.table(leader)
    state, deleted = read_state(common, table.created), gone(common)
    if state.word == "withdrawn":
        return
    for at, line in enumerate(table.lines):
        if line.id not in known and at not in deleted and not paths.run(line.id).record.exists():
            record = table.record(at)
            state.apply(record, at)
            yield record, reference(leader, at)
