"""The row of a new run: what has to be so before there may be one, and what it gets."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from hpcrun.errors import HistoryError
from hpcrun.history import experiments, family, index
from hpcrun.history.database import plain
from hpcrun.history.record import RunRecord, is_experiment, is_run_id, utc_now


def is_archived(experiment: str) -> HistoryError:
    return HistoryError(
        f"the experiment {experiment!r} is archived: it takes no new runs",
        hint=f"restore it first: hpcrun restore --experiment {experiment}",
    )


def begun(record: RunRecord) -> RunRecord:
    """The record with the time of its creation and its first state. Raises HistoryError."""
    if not is_run_id(record.id) or not is_experiment(record.experiment):
        raise HistoryError(f"not a run id and an experiment: {record.id!r}, {record.experiment!r}")
    record = replace(record, created=record.created or utc_now())
    if not record.states:
        record.states = [state_entry(record, record.created)]
    return record


def state_entry(record: RunRecord, at: str | None) -> dict[str, object]:
    return {"state": record.state.value, "reason": str(record.reason), "at": at}


def insert(connection: sqlite3.Connection, record: RunRecord) -> str | None:
    """Give a record its number and its row; or the id of the run that has its key already.

    Raises HistoryError if the id is taken, or the experiment or the parent archived; NotFoundError.
    """
    if record.key is not None:
        taken = connection.execute("SELECT id FROM runs WHERE key = ?", [plain(record.key)]).fetchone()
        if taken is not None:
            return str(taken[0])
    if connection.execute("SELECT 1 FROM runs WHERE id = ?", [record.id]).fetchone():
        raise HistoryError(f"there is a run {record.id} already")
    kept = experiments.read_rows(connection).get(record.experiment, experiments.Kept())
    if kept.archived:
        raise is_archived(record.experiment)
    if record.parent is not None:
        rows = connection.execute(family.PARENT, [record.parent]).fetchall()
        family.check_parent(rows, record.parent, record.experiment)
    last = "SELECT coalesce(max(number), 0) FROM runs WHERE experiment = ?"
    known = connection.execute(last, [record.experiment]).fetchone()[0]
    record.number = max(known, kept.last) + 1
    index.insert(connection, record)
    return None
