"""What the index says of metrics and parameters, and the SQL that writes it.

Metrics are sums of what stands in the ``metrics`` folder of a run: how many values, the last, the least, the
most. How far each file was read stands beside them, and changes in the same transaction, so that after a kill
no value is missing and none is counted twice. Of several ranks that have a metric, the lowest counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.history.database import plain
from hpcrun.history.paths import RunPaths
from hpcrun.metrics.parameters import checked
from hpcrun.metrics.reading import rank_files
from hpcrun.metrics.sums import Look, Mark, Sum, look, sized, told

TABLES = ("metrics", "metric_files", "parameters")

MAX_NAMES, MAX_RANKS = 10_000, 256
"""Metrics of a run, and files of it, that the index holds at most; the files themselves hold all."""

_BATCH = 500

_ADD = """INSERT INTO metrics (run, name, rank, kind, count, last, said, least, most, step, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET
    count = excluded.count + CASE WHEN excluded.rank = rank THEN count ELSE 0 END,
    least = CASE WHEN excluded.rank = rank
        THEN min(coalesce(least, excluded.least), coalesce(excluded.least, least)) ELSE excluded.least END,
    most = CASE WHEN excluded.rank = rank
        THEN max(coalesce(most, excluded.most), coalesce(excluded.most, most)) ELSE excluded.most END,
    rank = excluded.rank, kind = excluded.kind, last = excluded.last, said = excluded.said,
    step = excluded.step, at = excluded.at WHERE excluded.rank <= rank"""


@dataclass(frozen=True)
class Metric:
    """A metric of a run: see :class:`hpcrun.metrics.sums.Sum`. ``last`` is what JSON has for the value."""

    name: str
    kind: str
    count: int
    last: Any
    least: float | None
    most: float | None
    step: float | None
    at: float | None
    rank: int


class File(NamedTuple):
    """A file that was looked at: what was known of it before, and what the look found."""

    rank: int
    before: Mark
    found: Look


def put_parameters(connection: sqlite3.Connection, runs: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Add the parameters of new runs, by their ``seq``: any number of runs at once."""
    connection.executemany(
        "INSERT INTO parameters (run, name, value, truth) VALUES (?, ?, ?, ?)",
        ((seq, *row) for seq, parameters in runs for row in _parameter_rows(parameters)),
    )


def set_parameters(connection: sqlite3.Connection, run_id: str, parameters: Mapping[str, Any]) -> None:
    """Make the index say what the record of one run says."""
    (seq,) = connection.execute("SELECT seq FROM runs WHERE id = ?", [run_id]).fetchone()
    there = connection.execute("SELECT name, value, truth FROM parameters WHERE run = ?", [seq]).fetchall()
    if {*there} != {*_parameter_rows(parameters)}:
        connection.execute("DELETE FROM parameters WHERE run = ?", [seq])
        put_parameters(connection, [(seq, parameters)])


def parameter_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a record as the index gives them back."""
    return {str(name): _parameter(value, truth) for name, value, truth in _parameter_rows(parameters)}


def _parameter_rows(parameters: Mapping[str, Any]) -> Iterator[tuple[object, object, bool]]:
    """Name, value, and whether that is true or false. What is neither a number nor text is none."""
    fine = {
        str(plain(name)): sized(value) if isinstance(value, (int, float)) else plain(value)
        for name, value in parameters.items()
        if isinstance(value, (bool, int, float, str))
    }
    for name, value in checked(fine).items():  # type: ignore[arg-type]
        yield name, value, isinstance(value, bool)


def _parameter(value: object, truth: object) -> object:
    return bool(value) if truth else value


def files_of(folder: RunPaths) -> list[tuple[int, Path]]:
    """The files that the index is made of, by rank; what is no regular file is none."""
    found = list(rank_files(folder.metrics).items())[:MAX_RANKS]
    return [(rank, path) for rank, path in found if path.is_file() and not path.is_symlink()]


def look_at(folder: RunPaths, known: Mapping[int, Mark]) -> Iterator[File]:
    """What is new in the files of a run, chunk by chunk. What cannot be read is left for the next time."""
    for rank, path in files_of(folder):
        mark, more = known.get(rank, Mark()), True
        while more:
            try:
                found = look(path, rank, mark)
            except OSError:
                break
            if found is None:
                break
            yield File(rank, mark, found)
            mark, more = found.mark, found.more


def marks(connection: sqlite3.Connection, run_id: str) -> dict[int, Mark]:
    """How far each file of a run was read."""
    return to_marks(connection.execute(f"{FILES} WHERE id = ?", [run_id]).fetchall())


def to_marks(rows: Iterable[Sequence[Any]]) -> dict[int, Mark]:
    return {rank: Mark(offset, size, bool(within)) for rank, offset, size, within in rows}


def put_files(connection: sqlite3.Connection, run_id: str, files: Sequence[File]) -> None:
    """Count in what was found in files of a run, but for what another process has counted in meanwhile, or
    where the run is gone."""
    row = connection.execute("SELECT seq FROM runs WHERE id = ?", [run_id]).fetchone()
    if row is None:
        return
    seq, known = row[0], marks(connection, run_id)
    for file in files:
        if known.get(file.rank, Mark()) != file.before:
            continue
        left_out = _put_sums(connection, seq, file) or file.found.left_out
        known[file.rank] = file.found.mark
        connection.execute(
            "INSERT INTO metric_files (run, rank, offset, size, within, left_out) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run, rank) DO UPDATE SET offset = excluded.offset, size = excluded.size,"
            " within = excluded.within, left_out = max(left_out, excluded.left_out)",
            [seq, file.rank, *file.found.mark, left_out],
        )


def _put_sums(connection: sqlite3.Connection, seq: int, file: File) -> bool:
    """Whether names were left out, because there are too many."""
    if file.found.anew:
        connection.execute("DELETE FROM metrics WHERE run = ? AND rank = ?", [seq, file.rank])
    sums = {str(plain(name)): each for name, each in file.found.sums.items()}
    (count,) = connection.execute("SELECT count(*) FROM metrics WHERE run = ?", [seq]).fetchone()
    left_out = False
    if count + len(sums) > MAX_NAMES:
        rows = connection.execute("SELECT name FROM metrics WHERE run = ?", [seq])
        known = {str(name) for (name,) in rows}
        new = [name for name in sums if name not in known]
        left_out = len(new) > MAX_NAMES - len(known)
        for name in new[max(0, MAX_NAMES - len(known)) :]:
            del sums[name]
    connection.executemany(_ADD, (_row(seq, name, each) for name, each in sums.items()))
    return left_out


def _row(seq: int, name: str, each: Sum) -> list[object]:
    values = [each.kind, each.count, plain(each.last), each.said, each.least, each.most, each.step, each.at]
    return [seq, name, each.rank, *values]


def forget(connection: sqlite3.Connection, run_id: str) -> None:
    """Take a run out of the tables."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table} WHERE run = (SELECT seq FROM runs WHERE id = ?)", [run_id])


FILES = "SELECT rank, offset, size, within FROM metric_files JOIN runs ON seq = run"
ALL_FILES = (
    "SELECT runs.id, rank, offset, size, within FROM metric_files JOIN runs ON runs.seq = metric_files.run"
)
ALL_PARAMETERS = "SELECT runs.id, name, value, truth FROM parameters JOIN runs ON runs.seq = parameters.run"
PARAMETERS = ALL_PARAMETERS + " WHERE runs.id IN ({})"
METRICS = (
    "SELECT runs.id, name, kind, count, last, said, least, most, step, at, rank FROM metrics"
    " JOIN runs ON runs.seq = metrics.run WHERE runs.id IN ({})"
)


def in_batches(sql: str, run_ids: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The query for any number of runs: SQLite takes so many values at once, and no more."""
    for first in range(0, len(run_ids), _BATCH):
        part = [*run_ids[first : first + _BATCH]]
        yield sql.format(", ".join("?" * len(part))), part


def to_metrics(rows: Iterable[Sequence[Any]]) -> dict[str, list[Metric]]:
    """The rows of :data:`METRICS`, by run."""
    found: dict[str, list[Metric]] = {}
    for run_id, name, kind, count, last, said, *rest in rows:
        found.setdefault(run_id, []).append(Metric(name, kind, count, told(last, said), *rest))
    return found


def to_parameters(rows: Iterable[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """The rows of :data:`PARAMETERS`, by run."""
    found: dict[str, dict[str, Any]] = {}
    for run_id, name, value, truth in rows:
        found.setdefault(run_id, {})[name] = _parameter(value, truth)
    return found
