"""What is kept of experiments beyond their runs: whether one is archived, and the numbers of deleted runs.

It stands in the index and, so that the index can be made anew, in ``experiments.json``. The file is written
within the transaction that writes the row: after a kill between the two it says what the transaction was
about to, which does no harm and is made good by doing the same again.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass

from hpcrun.errors import HistoryError
from hpcrun.history.files import write_atomically
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import is_experiment

VERSION = 1
"""The version of experiments.json that this hpcrun writes."""


@dataclass(frozen=True)
class Kept:
    """``last`` is the highest number of an experiment's run that is in the index no more."""

    archived: bool = False
    last: int = 0


def read_rows(connection: sqlite3.Connection) -> dict[str, Kept]:
    """What the index says, by experiment."""
    rows = connection.execute("SELECT name, archived, last FROM experiments ORDER BY name")
    return {name: Kept(bool(archived), last) for name, archived, last in rows}


def read_file(paths: WorkspacePaths) -> dict[str, Kept]:
    """What experiments.json says; nothing where there is none. Raises HistoryError if it is damaged."""
    where = paths.experiments
    try:
        data = json.loads(where.read_bytes())
        kept = {name: Kept(**values) for name, values in data["experiments"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HistoryError(f"cannot read {where}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HistoryError(f"{where} is damaged: {error}") from error
    for name, each in kept.items():
        if not is_experiment(name) or type(each.archived) is not bool or type(each.last) is not int:
            raise HistoryError(f"{where} is damaged: {name!r:.80} cannot be {each}")
    return kept


def put(connection: sqlite3.Connection, paths: WorkspacePaths, kept: dict[str, Kept]) -> None:
    """Keep this of experiments; within a transaction, which also keeps two from writing the file."""
    connection.executemany(
        "INSERT INTO experiments (name, archived, last) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET archived = excluded.archived, last = excluded.last",
        [(name, each.archived, each.last) for name, each in kept.items()],
    )
    kept = read_rows(connection)
    document = {"version": VERSION, "experiments": {name: asdict(each) for name, each in kept.items()}}
    write_atomically(paths.experiments, (json.dumps(document, indent=2) + "\n").encode("ascii"))
