"""What the index says: a row a run, and the SQL that writes and finds rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from hpcrun.history import measures
from hpcrun.history.database import FINAL_STATES, plain
from hpcrun.history.record import RunRecord
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.metrics.where import Name


class RunRow(NamedTuple):
    """A run as the index has it: enough to list and to filter, without opening run.json."""

    id: str
    number: int
    experiment: str
    display_name: str | None
    type: str
    state: RunState
    reason: str
    message: str
    target: str
    scheduler: str
    job_id: str | None
    created: str
    submitted: str | None
    started: str | None
    ended: str | None
    exit_code: int | None
    key: str | None
    archived: bool
    run_dir: str
    parent: str | None


class Asked(NamedTuple):
    """A condition in SQL, what is bound in it, and the metrics and parameters that it is about."""

    sql: str
    values: Sequence[object]
    names: Sequence[Name] = ()


class Along(NamedTuple):
    """A condition in SQL on a table, ``asked``, what is bound in it, and the order of the runs."""

    sql: str
    values: Sequence[object]
    table: str
    order: str


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment: how many runs it has, and the id and time of the newest."""

    name: str
    runs: int
    newest: str
    created: str
    archived: bool = False


COLUMNS = RunRow._fields
_RUN_DIR = COLUMNS.index("run_dir")
SELECT = "SELECT " + ", ".join(f"runs.{name}" for name in COLUMNS)
ARCHIVED_EXPERIMENT = "runs.experiment IN (SELECT name FROM experiments WHERE archived)"
"""A run of such an experiment is hidden as if it were archived itself."""
EXPERIMENTS = (
    "SELECT runs.experiment, counted, id, created,"
    " coalesce((SELECT archived FROM experiments WHERE name = runs.experiment), 0) FROM runs JOIN"
    " (SELECT count(*) AS counted, max(seq) AS newest FROM runs GROUP BY experiment) ON seq = newest"
    " ORDER BY seq DESC"
)
TOP = "runs.parent IS NULL"
"""A run that is no other's child."""
ACTIVE_RUNS = f"runs.state NOT IN {FINAL_STATES}"

_TOOK = "julianday(coalesce(runs.ended, 'now')) - julianday(runs.started)"
SORTS = {
    "started": "runs.started DESC",
    "ended": "runs.ended DESC",
    "duration": f"{_TOOK} DESC",
    "number": "runs.number DESC",
    "experiment": "runs.experiment",
    "name": "runs.display_name IS NULL, lower(runs.display_name)",
    "state": "runs.state",
    "target": "runs.target",
}
"""What runs can be sorted by: the latest, longest, highest or alphabetically first of them first."""

_INSERT = f"INSERT INTO runs ({', '.join(COLUMNS)}, pending) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
_PUT = f"INSERT INTO runs (seq, {', '.join(COLUMNS)}, pending) VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"
_UPSERT = (
    f"{_INSERT} ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS[1:], "pending"))
)  # fmt: skip


def select_from(connection: sqlite3.Connection) -> str:
    """:data:`SELECT` for a database as it is: a column that came with a later schema reads as NULL."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    return "SELECT " + ", ".join(f"runs.{name}" if name in there else "NULL" for name in COLUMNS)


def to_row(values: tuple[Any, ...]) -> RunRow:
    """A row of a query that began with :data:`SELECT`."""
    row = RunRow._make(values)
    return row._replace(state=RunState(row.state), archived=bool(row.archived))


def insert(connection: sqlite3.Connection, record: RunRecord) -> None:
    """The row of a new run, which holds the whole record until run.json does."""
    seq = connection.execute(_INSERT, [*row_values(record), record.to_json()]).lastrowid
    put_tags(connection, record.id, record.tags)
    measures.put_parameters(connection, [(seq or 0, record.parameters)])


def replace(connection: sqlite3.Connection, record: RunRecord) -> None:
    """Make the row say what run.json says."""
    connection.execute(_UPSERT, [*row_values(record), None])
    put_tags(connection, record.id, record.tags)
    measures.set_parameters(connection, record.id, record.parameters)


def put_row(connection: sqlite3.Connection, seq: int, values: Sequence[object], pending: object) -> None:
    """A row at a given place in the order of creation."""
    connection.execute(_PUT, [seq, *values, pending])


def put_trials(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[int, Sequence[object], str]],
    tags: Mapping[str, str],
    parameters: Iterable[Mapping[str, Any]],
) -> None:
    """Rows of trials that are written down together, as :func:`put_row` takes them; their tags are the same,
    their parameters each one's own."""
    connection.executemany(_PUT, ([seq, *values, pending] for seq, values, pending in rows))
    pairs = [(plain(key), plain(value)) for key, value in tags.items()]
    connection.executemany(
        "INSERT INTO tags (run, key, value) VALUES (?, ?, ?)",
        ((seq, key, value) for seq, *_ in rows for key, value in pairs),
    )
    measures.put_parameters(connection, zip((seq for seq, *_ in rows), parameters, strict=True))


def delete(connection: sqlite3.Connection, run_id: str) -> None:
    """Take a run out of the index."""
    measures.forget(connection, run_id)
    connection.execute("DELETE FROM tags WHERE run = (SELECT seq FROM runs WHERE id = ?)", [run_id])
    connection.execute("DELETE FROM runs WHERE id = ?", [run_id])


def row_values(record: RunRecord) -> list[object]:
    """What the row of a record says, in the order of :data:`COLUMNS`. A folder on another machine is none to
    be looked into."""
    values = [plain(getattr(record, name)) for name in COLUMNS]
    if record.host is not None:
        values[_RUN_DIR] = ""
    return values


def put_tags(connection: sqlite3.Connection, run_id: str, tags: Mapping[str, str]) -> None:
    (seq,) = connection.execute("SELECT seq FROM runs WHERE id = ?", [run_id]).fetchone()
    connection.execute("DELETE FROM tags WHERE run = ?", [seq])
    connection.executemany(
        "INSERT INTO tags (run, key, value) VALUES (?, ?, ?)",
        [(seq, plain(key), plain(value)) for key, value in tags.items()],
    )


def listing(
    *,
    experiment: str | None,
    states: Iterable[RunState | str] | None,
    tags: Mapping[str, str | None] | None,
    target: str | None,
    name: str | None,
    include_archived: bool,
    limit: int | None,
    offset: int,
    since: str | None = None,
    sort: str | None = None,
    only_archived: bool = False,
    children: bool = True,
    parent: str | None = None,
    asked: Asked | None = None,
    along: Along | None = None,
) -> tuple[str, list[object]]:
    """The query for :meth:`History.list`, and its parameters."""
    tables, where, parameters = _tagged(tags or {})
    order = ("t0.run" if tags else "runs.seq") + " DESC"
    if sort is not None:
        order = f"{SORTS[sort]}, {order}"
    if along is not None:
        tables, order = f"{along.table} CROSS JOIN {tables}", along.order
        where += ["asked.run = t0.run"] if tags else []
    for each in (along, asked):
        where += [] if each is None else [each.sql]
        parameters += [] if each is None else each.values
    if only_archived:
        where.append(f"(runs.archived = 1 OR {ARCHIVED_EXPERIMENT})")
    elif not include_archived:
        where.append(f"runs.archived = 0 AND NOT {ARCHIVED_EXPERIMENT}")
    if experiment is not None:
        where.append("runs.experiment = ?")
        parameters.append(experiment)
    if parent is not None:
        where.append("runs.parent = ?")
        parameters.append(parent)
    elif not children:
        where.append(TOP)
    if states is not None:
        words = [RunState(state) for state in states]
        # The '+' keeps SQLite from gathering all runs of several states only to sort them by age, which
        # pays for the states that few runs have, and not for the one that most have.
        gather = len(words) == 1 or RunState.COMPLETED not in words
        where.append(f"{'' if gather else '+'}runs.state IN ({', '.join('?' * len(words))})")
        parameters.extend(word.value for word in words)
    if target is not None:
        # A site stands for all of its partitions; ';' is the character after ':'.
        where.append("(runs.target = ? OR (runs.target > ? AND runs.target < ?))")
        parameters += [target, f"{target}:", f"{target};"]
    if name is not None:
        where.append("(instr(lower(runs.id), ?) OR instr(lower(coalesce(runs.display_name, '')), ?))")
        parameters.extend([name.lower()] * 2)
    if since is not None:
        where, parameters = [*where, "runs.created >= ?"], [*parameters, since]
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    parameters.extend([-1 if limit is None else limit, offset])
    return f"{SELECT} FROM {tables}{condition} ORDER BY {order} LIMIT ? OFFSET ?", parameters


def _tagged(tags: Mapping[str, str | None]) -> tuple[str, list[str], list[object]]:
    """The tables, conditions and parameters that leave only runs with all of these tags."""
    # CROSS JOIN fixes the order of the tables: the tags' index has the runs by age, so nothing is sorted.
    tables = "".join(f"tags AS t{i} CROSS JOIN " for i in range(len(tags))) + "runs"
    where: list[str] = []
    parameters: list[object] = []
    for i, (key, value) in enumerate(tags.items()):
        where.append(f"t{i}.run = {'runs.seq' if i == 0 else 't0.run'} AND t{i}.key = ?")
        parameters.append(key)
        if value is not None:
            where.append(f"t{i}.value = ?")
            parameters.append(value)
    return tables, where, parameters
