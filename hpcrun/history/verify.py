"""Looking for whatever is wrong with a history. Nothing is changed, and no damage keeps it from going on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcrun.errors import HistoryError
from hpcrun.history import experiments, index, measures
from hpcrun.history.database import BUSY_SECONDS, MIGRATIONS, REBUILD, plain
from hpcrun.history.files import is_lost, locked
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import RunRecord, is_run_id
from hpcrun.history.store import read_record
from hpcrun.history.tables import leaders, read_state, read_table, referred
from hpcrun.metrics.sums import Mark

_RECORD = "put the file back from a backup; the run's other files are not touched by this"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: ``what`` is a word for programs, ``where`` a run id or a path, ``action``
    what to do about it."""

    what: str
    where: str
    message: str
    action: str


@dataclass
class Verified:
    """``snapshots`` are the ids of all snapshots that records name, each with a run that has it."""

    runs: int = 0
    findings: list[Finding] = field(default_factory=list)
    snapshots: dict[str, str] = field(default_factory=dict)

    def found(self, what: str, where: str | Path, message: str, action: str) -> None:
        self.findings.append(Finding(what, str(where), message, action))


@dataclass(frozen=True)
class _Row:
    values: list[object]
    pending: bool
    trial: tuple[str, int] | None
    tags: dict[str, str]
    parameters: dict[str, object]
    files: dict[int, Mark]


def verify(paths: WorkspacePaths) -> Verified:
    """Hold the index, the runs' folders and all else that belongs to a history against each other."""
    report = Verified()
    rows: dict[str, _Row] | None = None
    if not is_lost(paths.database):
        rows = _check_database(paths, report)
    elif any(_folders(paths.runs)):
        report.found("database", paths.database, "it is gone, but there are runs", REBUILD)
    for run_id, row in (rows or {}).items():
        _check_run(paths, run_id, row, report)
    _check_tables(paths, rows or {}, report)
    _check_folders(paths, rows, report)
    _check_markers(paths, report)
    _check_leftovers(paths, report)
    _check_modes(paths, report)
    return report


def _check_database(paths: WorkspacePaths, report: Verified) -> dict[str, _Row] | None:
    """Its rows; None where it cannot be read."""
    try:
        with closing(_connect(paths)) as connection:
            for pragma in ("integrity_check", "foreign_key_check"):
                for row in connection.execute(f"PRAGMA {pragma}").fetchall():
                    if row != ("ok",):
                        words = " ".join(map(str, row))
                        report.found("database", paths.database, f"{pragma}: {words}", REBUILD)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                action = "upgrade: pip install --upgrade hpcrun-toolkit"
                report.found("database", paths.database, "it was made by a newer hpcrun", action)
                return None
            if version == len(MIGRATIONS):
                _check_experiments(paths, connection, report)
            rows = _read_rows(connection)
            report.runs = len(rows)
            return rows
    except sqlite3.Error as error:
        busy = "locked" in str(error)
        action = f"another process is busy with it: fuser -v {paths.database}" if busy else REBUILD
        report.found("database", paths.database, str(error), action)
    return None


def _connect(paths: WorkspacePaths) -> sqlite3.Connection:
    uri = f"{paths.database.absolute().as_uri()}?mode=rw"  # never made here
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _read_rows(connection: sqlite3.Connection, run_id: str | None = None) -> dict[str, _Row]:
    where, parameters = ("", []) if run_id is None else (" WHERE runs.id = ?", [run_id])
    tags: dict[str, dict[str, str]] = {}
    sql = f"SELECT runs.id, tags.key, tags.value FROM tags JOIN runs ON runs.seq = tags.run{where}"
    for owner, key, value in connection.execute(sql, parameters):
        tags.setdefault(owner, {})[key] = value
    sql = f"{index.select_from(connection)}, pending FROM runs{where} ORDER BY seq"
    found = connection.execute(sql, parameters).fetchall()
    told, files = _read_measures(connection, run_id)
    return {
        row[0]: _Row(
            [*row[:-1]],
            row[-1] is not None,
            referred(row[-1]),
            tags.get(row[0], {}),
            told.get(row[0], {}),
            files.get(row[0], {}),
        )
        for row in found
    }


def _read_measures(
    connection: sqlite3.Connection, run_id: str | None
) -> tuple[dict[str, dict[str, object]], dict[str, dict[int, Mark]]]:
    """The parameters of runs, and how far their metrics were read; none in a database of an older schema."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'metric_files'").fetchone():
        return {}, {}
    where, parameters = ("", []) if run_id is None else (" WHERE runs.id = ?", [run_id])
    told = measures.to_parameters(connection.execute(measures.ALL_PARAMETERS + where, parameters))
    files: dict[str, dict[int, Mark]] = {}
    for owner, *rest in connection.execute(measures.ALL_FILES + where, parameters):
        files.setdefault(owner, {}).update(measures.to_marks([rest]))
    return told, files


def _check_experiments(paths: WorkspacePaths, connection: sqlite3.Connection, report: Verified) -> None:
    # In a transaction, for the file is written in one.
    connection.execute("BEGIN IMMEDIATE")
    try:
        agree = experiments.read_file(paths) == experiments.read_rows(connection)
    except HistoryError as error:
        report.found("experiments", paths.experiments, error.message, REBUILD)
    else:
        if not agree:
            message = "it does not say what the index says of archived experiments and used numbers"
            report.found("experiments", paths.experiments, message, "hpcrun history rebuild goes by both")
    finally:
        connection.execute("ROLLBACK")


def _check_run(paths: WorkspacePaths, run_id: str, row: _Row, report: Verified) -> None:
    if not is_run_id(run_id):
        report.found("row", run_id, "the index has a run whose id is none", REBUILD)
        return
    run = paths.run(run_id)
    try:
        if not run.folder.is_dir():
            record = None
        else:
            record = read_record(run) if run.record.exists() or not row.pending else None
            if record is not None and _differences(row, record):
                record, row = _look_again(paths, run_id)
    except HistoryError as error:
        report.found("record", run_id, error.message, _RECORD)
        return
    except sqlite3.Error as error:
        report.found("database", paths.database, str(error), REBUILD)
        return
    if record is None:
        if row.trial is not None:
            pass  # it is made when somebody looks at it, from its table
        elif row.pending:
            message = "its creation was cut off"
            report.found("record", run_id, message, f"hpcrun show {run_id} finishes it")
        elif not (paths.deleting / run_id).is_dir():  # which is said of that folder
            action = "put it back from a backup, or take the run out of the index: hpcrun history rebuild"
            report.found("folder", run_id, f"its folder is gone: {run.folder}", action)
        return
    snapshot = (record.snapshot or {}).get("id")
    if isinstance(snapshot, str):
        report.snapshots.setdefault(snapshot, run_id)
    if (record.snapshot or {}).get("diff") and not run.diff.exists():
        message = "its git.diff is gone: what was not committed when it was submitted"
        action = "put it back from a backup; the run's snapshot has the code itself"
        report.found("file", run_id, message, action)
    if record.type == "function" and not run.function.exists():
        message = "its function.pyz is gone, the call that it made: it cannot be made again"
        report.found("file", run_id, message, "put it back from a backup")
    secrets = RunPaths(Path(record.run_dir)).secrets
    if record.state.final and record.run_dir and record.host is None and os.path.lexists(secrets):
        report.found("leftover", secrets, "the run has ended, and its secrets are there", f"delete {secrets}")
    if record.id != run_id:
        report.found("record", run_id, f"its run.json is that of {record.id}", _RECORD)
    elif (paths.unsettled / run_id).exists():
        return  # said of the marker
    elif wrong := _differences(row, record):
        message = f"the index and run.json do not agree on {', '.join(wrong)}"
        report.found("row", run_id, message, "run.json is right: hpcrun history rebuild")
    elif record.state.final and _unread(paths, row, record):
        message = "the index does not have all of its metrics, or more than there are"
        report.found("metrics", run_id, message, "its files are right: hpcrun history rebuild")


def _check_tables(paths: WorkspacePaths, rows: dict[str, _Row], report: Verified) -> None:
    named = {row.trial[0] for row in rows.values() if row.trial is not None}
    for leader in sorted({*named, *leaders(paths)}):
        common = paths.table(leader)
        try:
            table = read_table(common)
            read_state(common, table.created)
            report.snapshots.setdefault(table.snapshot, leader)
        except HistoryError as error:
            if leader in named:
                report.found("table", leader, error.message, _RECORD)
            elif common.table.exists():
                report.found("table", leader, error.message, f"delete {common.folder}")
            continue
        if not any(line.id in rows for line in table.lines) and not _is_held(common.submit_lock):
            message = "it has no run: a submission was cut off, or all were deleted"
            report.found("leftover", common.folder, message, f"delete {common.folder}")


def _differences(row: _Row, record: RunRecord) -> list[str]:
    pairs = zip(index.COLUMNS, row.values, index.row_values(record), strict=True)
    wrong = [name for name, had, value in pairs if had != value]
    tags = {plain(key): plain(value) for key, value in record.tags.items()}
    wrong += [] if row.tags == tags else ["tags"]
    return wrong if row.parameters == measures.parameter_values(record.parameters) else [*wrong, "parameters"]


def _unread(paths: WorkspacePaths, row: _Row, record: RunRecord) -> bool:
    """Whether a file of metrics that is there is not as long as it was when the index had all of it."""
    home = record.host is not None or not record.run_dir
    for rank, path in measures.files_of(paths.run(record.id) if home else RunPaths(Path(record.run_dir))):
        with suppress(OSError):
            if path.stat().st_size != row.files.get(rank, Mark()).size:
                return True
    return False


def _look_again(paths: WorkspacePaths, run_id: str) -> tuple[RunRecord, _Row]:
    """Record and row while nobody changes them. Raises HistoryError, sqlite3.Error."""
    run = paths.run(run_id)
    with locked(run.lock), closing(_connect(paths)) as connection:
        rows = _read_rows(connection, run_id)
        if run_id not in rows:
            raise HistoryError(f"the run was deleted just now: {run_id}")
        return read_record(run), rows[run_id]


def _check_folders(paths: WorkspacePaths, rows: dict[str, _Row] | None, report: Verified) -> None:
    for folder in _folders(paths.runs):
        run = paths.run(folder.name)
        if not is_run_id(folder.name) or not folder.is_dir():
            report.found("folder", folder, "it is no run's folder", f"move it out of {paths.runs}")
        elif rows is None:
            try:
                read_record(run)
            except HistoryError as error:
                report.found("record", folder.name, error.message, _RECORD)
        elif folder.name in rows or _known_now(paths, folder.name) or _is_held(run.submit_lock):
            continue
        elif run.record.exists():
            message = "it is not in the index"
            report.found("folder", folder.name, message, "take it in: hpcrun history rebuild")
        else:
            message = "a submission was cut off before it was written down: nothing was submitted"
            report.found("folder", folder.name, message, f"delete {folder}")


def _known_now(paths: WorkspacePaths, run_id: str) -> bool:
    """Whether the run came to be since the rows were read."""
    try:
        with closing(_connect(paths)) as connection:
            return bool(_read_rows(connection, run_id))
    except sqlite3.Error:
        return False


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with locked(lock, seconds=0):
            return False
    except HistoryError:
        return True


def _check_markers(paths: WorkspacePaths, report: Verified) -> None:
    for marker in _folders(paths.unsettled):
        run = paths.run(marker.name)
        if not is_run_id(marker.name) or not run.folder.is_dir():
            report.found("marker", marker, "it is the mark of no run", f"delete {marker}")
            continue
        try:
            with locked(run.lock):  # whoever is changing the run takes it away
                left = marker.exists()
        except HistoryError as error:
            report.found("marker", marker.name, error.message, error.hint or "")
            continue
        if left:
            message = "a change was cut off before it was in the index"
            report.found("marker", marker.name, message, "the next command puts it there: hpcrun ls")


def _check_leftovers(paths: WorkspacePaths, report: Verified) -> None:
    if paths.new_database.exists() and not _is_held(paths.database_lock):
        message = "a rebuild was cut off; the history is as it was before"
        report.found("leftover", paths.new_database, message, "hpcrun history rebuild")
    for folder in _folders(paths.deleting):
        report.found("leftover", folder, "its deletion was cut off", "hpcrun history gc --runs --yes")


def _check_modes(paths: WorkspacePaths, report: Verified) -> None:
    inside = (paths.runs, paths.unsettled, paths.snapshots, paths.database, paths.experiments)
    for path in (paths.folder, *inside, *_private(paths)):
        try:
            mode = path.stat().st_mode & 0o777
        except FileNotFoundError:
            continue
        if mode & 0o077:
            report.found("mode", path, f"others may look into it (mode {mode:o})", f"chmod go= {path}")


def _private(paths: WorkspacePaths) -> Iterator[Path]:
    for folder in _folders(paths.runs):
        if folder.is_dir() and not folder.is_symlink():
            yield folder
            yield paths.run(folder.name).record


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
