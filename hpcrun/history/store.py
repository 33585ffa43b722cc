"""The history of a workspace: runs are created, read, found and changed here, and nowhere else.

A run's row is committed first, and holds the whole record until run.json does; so a process killed while
it creates a run leaves nothing, or a run that anyone who looks at it finishes writing. From then on
run.json is the truth and the row follows it. A change is made under the run's lock: an empty file
``unsettled/RUN_ID``, then run.json, then the row, then the file is taken away. Where a process was killed
in between, the file is still there, and the next to open the history writes the row again from run.json.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from hpcrun.errors import HistoryError, NotFoundError
from hpcrun.history import experiments, family, index, lookup, notices
from hpcrun.history.creating import begun, insert, is_archived, state_entry
from hpcrun.history.database import REBUILD, Database
from hpcrun.history.files import is_lost, locked, make_folder, touch, write_atomically
from hpcrun.history.index import Asked, ExperimentRow, RunRow
from hpcrun.history.indexed import Indexed
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import RunRecord, is_run_id, utc_now
from hpcrun.history.tables import referred
from hpcrun.history.trials import Trials
from hpcrun.states import RunState, may_move

Rows = list[RunRow]
Experiments = list[ExperimentRow]

_FIXED = ("id", "number", "experiment", "created", "key", "parent")


class History(Indexed):
    """The run history of one workspace. Threads may share it; a process made by fork opens its own."""

    def __init__(self, paths: WorkspacePaths, database: Database) -> None:
        self.paths = paths
        self._database = database
        self.trials = Trials(paths, database)

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> History:
        """Open the history in a ``.hpcrun`` folder; ``create`` makes the folder if it is not there.

        Raises NotFoundError if there is no such folder, HistoryError if its database cannot be used.
        """
        paths = WorkspacePaths(folder)
        if not folder.is_dir():
            if not create:
                raise NotFoundError(f"no workspace at {folder}", hint="make one: hpcrun init")
            make_folder(folder)
        for inner in (paths.runs, paths.unsettled):
            if not inner.is_dir():
                make_folder(inner)
        if not paths.ignore.exists():
            with locked(paths.database_lock):
                write_atomically(paths.ignore, b"*\n")
        # In this order: where there is a run, the database was whole before. Listing a large history takes
        # time, and is left out where the database is there anyway.
        if is_lost(paths.database) and any(paths.runs.iterdir()) and is_lost(paths.database):
            raise HistoryError(
                f"{paths.database} is gone, but {paths.runs} holds runs",
                hint=REBUILD,
            )
        history = cls(paths, Database(paths))
        try:
            history._settle()
        except BaseException:
            history.close()
            raise
        return history

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create(self, record: RunRecord) -> tuple[RunRecord, bool]:
        """Keep a new run, which gets its number, the time of its creation and its folder.

        Gives the record and True; or, if the record's key is taken in this workspace, the record that has
        it and False. Of many processes that race for a key, exactly one gets True.

        A run with a ``parent`` is its child, and of its parent's experiment.

        Raises HistoryError if the id is taken or not a run id, if the experiment or the parent is archived,
        or if the disk or the database fails; NotFoundError if there is no such parent.
        """
        record = begun(record)
        notices.expect(self.paths, record)
        with self._database.write() as connection:
            taken = insert(connection, record)
        if taken is not None:
            return self.get(taken), False
        self._make_run(record.id, record.to_json())
        return record, True

    def create_all(self, records: Iterable[RunRecord]) -> Sequence[RunRecord]:
        """Keep new runs, all of them or none: one transaction. Errors as :meth:`create`; HistoryError also
        where a key is taken."""
        found = [begun(record) for record in records]
        for record in found:
            notices.expect(self.paths, record)
        with self._database.write() as connection:
            for record in found:
                taken = insert(connection, record)
                if taken is not None:
                    raise HistoryError(f"the run {taken} has the key {record.key!r} already")
        for record in found:
            self._make_run(record.id, record.to_json())
        return found

    def get(self, run_id: str) -> RunRecord:
        """The record of a run. Raises NotFoundError (with the nearest ids), HistoryError if damaged."""
        return read_record(self._run_paths(run_id))

    def seen(self, record: RunRecord) -> RunPaths:
        """Where the run's folder, as the job sees it, can be read here: itself, or what came home of it."""
        if record.host is not None or not record.run_dir:
            return self.paths.run(record.id)
        return RunPaths(Path(record.run_dir))

    def resolve(self, ref: str) -> str:
        """The id of the run that ``ref`` names.

        An id, its last part, or how it begins or ends; a display name; ``@-1``, the newest run, ``@failed``,
        the newest that is so, ``@EXPERIMENT:-1``, ``@EXPERIMENT:7``, ``@highest:val_acc`` …: all of it
        stands in lookup.py.

        Raises NotFoundError (with the nearest ids); UsageError if it may be several (with those).
        """
        return lookup.resolve(self._database, ref, self.get)

    def list(
        self,
        *,
        experiment: str | None = None,
        states: Iterable[RunState | str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        target: str | None = None,
        limit: int | None = 50,
        offset: int = 0,
        include_archived: bool = False,
        only_archived: bool = False,
        name: str | None = None,
        since: str | None = None,
        sort: str | None = None,
        children: bool = True,
        parent: str | None = None,
        where: str | Asked | None = None,
    ) -> Rows:
        """The runs that fit all that is asked for, newest first, from the index alone.

        A target without a partition stands for all of its partitions; a tag's value None for any value;
        ``name`` is any part of an id or a display name, in any case; ``since`` is a time as records have
        it, and the run was created then or later; ``sort`` is a word of :data:`index.SORTS`, or names a
        metric or parameter (:func:`hpcrun.metrics.where.sort_key`), and then only runs that have a number
        there are listed; ``where`` holds for all that are (:mod:`hpcrun.metrics.where`); ``limit`` None
        means all. The runs of an archived experiment count as archived. ``children`` False leaves out runs
        that are children of others; ``parent`` gives the children of this one alone. Raises UsageError for
        a question that cannot be asked.
        """
        along = None if sort is None or sort in index.SORTS else self.along(sort)
        sql, parameters = index.listing(
            experiment=experiment, states=states, tags=tags, target=target, name=name, since=since,
            sort=None if along else sort, include_archived=include_archived, only_archived=only_archived,
            limit=limit, offset=offset, children=children, parent=parent,
            asked=self.ask(where) if isinstance(where, str) else where,
            along=along,
        )  # fmt: skip
        return self._rows(sql, parameters)

    def active(self) -> Rows:
        """All runs that have not ended, newest first, archived ones too."""
        return self._rows(f"{index.SELECT} FROM runs WHERE {index.ACTIVE_RUNS} ORDER BY seq DESC", [])

    def active_ids(self) -> set[str]:
        """Their ids."""
        return {str(row[0]) for row in self._database.read(f"SELECT id FROM runs WHERE {index.ACTIVE_RUNS}")}

    def by_key(self, key: str) -> RunRow | None:
        """The run that was created with this key."""
        rows = self._rows(f"{index.SELECT} FROM runs WHERE key = ?", [key])
        return rows[0] if rows else None

    def experiments(self) -> Experiments:
        """All experiments, archived ones too, the one with the newest run first."""
        return [
            ExperimentRow(str(name), int(str(runs)), str(run_id), str(at), bool(archived))
            for name, runs, run_id, at, archived in self._database.read(index.EXPERIMENTS)
        ]

    def descendants(self, run_id: str) -> Sequence[str]:
        """The ids of a run's children, of their children and so on: each before its parent, newest first."""
        return [str(found) for (found,) in self._database.read(family.DESCENDANTS, [run_id])]

    def count_children(self, run_id: str) -> dict[str, int]:
        """How many children a run has in each state, archived ones too."""
        rows = self._database.read(family.COUNT, [run_id])
        return {str(state): int(str(count)) for state, count in rows}

    def archive(self, run_id: str) -> RunRecord:
        """Hide a run and its children from lists, and nothing else. Errors as :meth:`update`."""
        return self._mark_archived(run_id, True)

    def restore(self, run_id: str) -> RunRecord:
        """Show an archived run and its children in lists again. Errors as :meth:`update`."""
        return self._mark_archived(run_id, False)

    def known_experiment(self, name: str) -> str:
        """The name itself. Raises NotFoundError, with the nearest names, if there is no such experiment."""
        return lookup.known_experiment(self._database, name)

    def archive_experiment(self, name: str) -> None:
        """Hide an experiment and all its runs from lists; no new run of it can be made until it is restored.

        Raises NotFoundError (with the nearest names), HistoryError.
        """
        self._set_archived(self.known_experiment(name), True)

    def restore_experiment(self, name: str) -> None:
        """Take an archived experiment back into lists and use. Errors as :meth:`archive_experiment`."""
        self._set_archived(self.known_experiment(name), False)

    def check_open(self, experiment: str, parent: str | None = None) -> None:
        """Raises what :meth:`create` would for a new run of this experiment and parent."""
        if self._database.read("SELECT 1 FROM experiments WHERE name = ? AND archived", [experiment]):
            raise is_archived(experiment)
        if parent is not None:
            family.check_parent(self._database.read(family.PARENT, [parent]), parent, experiment)

    def update(self, run_id: str, change: Callable[[RunRecord], None]) -> RunRecord:
        """Change a run's record: ``change`` gets the record as it stands, and changes it in place.

        The run is locked meanwhile, so nothing that another process writes is lost; ``change`` must be
        short, and must not itself update the run. ``states`` grows by itself. If ``change`` raises, or
        changes nothing, nothing is written. Gives the record as it now stands.

        Raises NotFoundError; HistoryError for a move of state that is not legal (a run that has ended
        never moves again), a change of what never changes, a lock that another holds too long, or a disk
        or database that fails.
        """
        paths = self._run_paths(run_id)
        with locked(paths.lock):
            record = read_record(paths)
            before, was = record.to_json(), replace(record)
            change(record)
            _check_change(was, record)
            if (record.state, record.reason) != (was.state, was.reason):
                record.states.append(state_entry(record, utc_now()))
            after = record.to_json()
            marker = self.paths.unsettled / run_id
            if after != before:
                touch(marker)
                write_atomically(paths.record, after.encode("ascii"))
            if after != before or marker.exists():
                self._settle_run(record)
        return record

    def set_tags(self, run_id: str, tags: Mapping[str, str | None]) -> RunRecord:
        """Set tags of a run, and take away those whose value is None. Errors as :meth:`update`."""
        return self.update(run_id, lambda record: record.change_tags(tags))

    def delete(self, run_id: str) -> Path:
        """Take a run that has ended out of the history; gives where its folder lies now, to be deleted.

        Its number is never given out again; its key is free. Row and folder go together: after a kill the
        folder may lie in ``deleting`` already while the row is still there, and :meth:`finish_deletions`
        goes on from that. Raises NotFoundError, HistoryError (for a run that has not ended, too).
        """
        paths = self._run_paths(run_id)
        place = self.paths.deleting / run_id
        with locked(paths.lock):
            record = read_record(paths)
            if record.id != run_id or not record.state.final:
                raise HistoryError(
                    f"run {run_id} is {record.state}, and is not deleted",
                    hint=f"first: hpcrun cancel {run_id}",
                )
            make_folder(self.paths.deleting)
            with self._database.write() as connection:
                if connection.execute("SELECT 1 FROM runs WHERE parent = ?", [run_id]).fetchone():
                    raise HistoryError(f"run {run_id} has children, and is not deleted before them")
                self.trials.leave(record)
                self._forget(connection, run_id)
                try:
                    paths.folder.rename(place)
                except OSError as error:
                    raise HistoryError(f"cannot move {paths.folder}: {error.strerror}") from error
        return place

    def finish_deletions(self) -> Iterable[Path]:
        """Take out of the index what a killed deletion left in it; gives the folders still to be deleted."""
        places = sorted(self.paths.deleting.iterdir()) if self.paths.deleting.is_dir() else []
        for place in places:
            if not self.paths.run(place.name).folder.exists():
                with self._database.write() as connection:
                    self._forget(connection, place.name)
        return places

    def _forget(self, connection: sqlite3.Connection, run_id: str) -> None:
        row = connection.execute("SELECT experiment, number FROM runs WHERE id = ?", [run_id]).fetchone()
        if row is not None:
            kept = experiments.read_rows(connection).get(row[0], experiments.Kept())
            kept = replace(kept, last=max(kept.last, row[1]))
            experiments.put(connection, self.paths, {row[0]: kept})
            index.delete(connection, run_id)
        (self.paths.unsettled / run_id).unlink(missing_ok=True)

    def _mark_archived(self, run_id: str, archived: bool) -> RunRecord:
        self._run_paths(run_id)  # or there is no such run
        for each in self.descendants(run_id):  # first, so that after a kill it is plain that it is to be done
            self.update(each, lambda record: setattr(record, "archived", archived))
        return self.update(run_id, lambda record: setattr(record, "archived", archived))

    def _set_archived(self, name: str, archived: bool) -> None:
        with self._database.write() as connection:
            kept = experiments.read_rows(connection).get(name, experiments.Kept())
            experiments.put(connection, self.paths, {name: replace(kept, archived=archived)})

    def _rows(self, sql: str, parameters: Iterable[Any]) -> Rows:
        return [index.to_row(values) for values in self._database.read(sql, [*parameters])]

    def _run_paths(self, run_id: str) -> RunPaths:
        """The folder of a run, with a run.json in it: written now, if the run's creation was cut off."""
        if not is_run_id(run_id):  # may hold anything, and must not become a path
            raise lookup.not_found(self._database, run_id)
        paths = self.paths.run(run_id)
        if not paths.record.exists():
            rows = self._database.read("SELECT pending FROM runs WHERE id = ?", [run_id])
            if not rows:
                raise lookup.not_found(self._database, run_id)
            if rows[0][0] is None:
                raise HistoryError(f"the record of {run_id} is gone: {paths.record}")
            if referred(rows[0][0]) is None:
                self._make_run(run_id, str(rows[0][0]))
            else:
                self.trials.make(run_id)
        return paths

    def _make_run(self, run_id: str, text: str) -> None:
        paths = self.paths.run(run_id)
        make_folder(paths.folder)
        with locked(paths.lock):
            if not paths.record.exists():  # another may have finished it, and gone on from there
                write_atomically(paths.record, text.encode("ascii"))

    def _settle_run(self, record: RunRecord) -> None:
        """Bring the row of a run in line with its record; the run is locked."""
        with self._database.write() as connection:
            index.replace(connection, record)
        (self.paths.unsettled / record.id).unlink(missing_ok=True)

    def _settle(self) -> None:
        """Write again the rows that a killed process left behind their records."""
        for marker in self.paths.unsettled.iterdir():
            paths = self.paths.run(marker.name)
            try:
                with locked(paths.lock, seconds=0):
                    self._settle_run(read_record(paths))
            except HistoryError:
                # Somebody is at it right now, or the disk is full: neither may keep people from reading
                # the rest. The file stays, and the next one to open the history tries again.
                continue


def read_record(paths: RunPaths) -> RunRecord:
    """What run.json says. Raises HistoryError if it cannot be read, or is no record."""
    try:
        text = paths.record.read_bytes()
    except OSError as error:
        raise HistoryError(f"cannot read {paths.record}: {error.strerror}") from error
    return RunRecord.from_json(text, where=str(paths.record))


def _check_change(was: RunRecord, record: RunRecord) -> None:
    for name in _FIXED:
        if getattr(was, name) != getattr(record, name) and not (name == "key" and record.key is None):
            raise HistoryError(f"the {name} of run {was.id} never changes")
    record.state, record.reason = RunState(record.state), str(record.reason)
    if record.state is not was.state and not may_move(was.state, record.state):
        raise HistoryError(f"run {was.id} is {was.state} and cannot become {record.state}")
