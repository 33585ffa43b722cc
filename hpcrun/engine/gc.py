"""Deleting runs for good, their records and their folders at home and on the target; and snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from hpcrun.engine.steps import planned_snapshots
from hpcrun.errors import HistoryError
from hpcrun.history.files import remove_tree, size_of
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History, read_record
from hpcrun.places.far import FarPlace
from hpcrun.places.refs import is_table, submitted_from, task_of
from hpcrun.places.status import read_status
from hpcrun.shells.base import Shell
from hpcrun.snapshot import SnapshotStore
from hpcrun.snapshot_gc import Unused
from hpcrun.targets import Targets


@dataclass(frozen=True)
class Doomed:
    """A run that can be deleted: ``size`` is in bytes, of all ``folders``; ``spared`` says which folder of
    it stays, and why."""

    record: RunRecord
    folders: tuple[Path, ...]
    size: int
    spared: str


def doomed(
    history: History, *, run_ids: Sequence[str] = (), archived: bool = False, older_than: float | None = None
) -> tuple[list[Doomed], dict[str, str]]:
    """The runs that may be deleted: those named, and with ``archived`` all that are archived and have ended.

    The children of one that is named go with it; one that is not goes only together with all of its own.
    ``older_than`` leaves out those that ended fewer seconds ago. Also gives, by id, why a run is left out
    whose record cannot be read, or whose children stay. Raises HistoryError if one that was named, or a
    child of it, has not ended.
    """
    named = [each for run_id in run_ids for each in (*history.descendants(run_id), run_id)]
    ids = list(named)
    if archived:  # newest first, and so children before their parents
        ids += [row.id for row in history.list(only_archived=True, limit=None) if row.state.final]
    found: list[Doomed] = []
    unreadable: dict[str, str] = {}
    going: set[str] = set()
    for run_id in dict.fromkeys(ids):
        try:
            record = history.get(run_id)
        except HistoryError as error:
            unreadable[run_id] = error.message
            continue
        if not record.state.final:
            if run_id in named:
                raise HistoryError(
                    f"run {run_id} is {record.state}, and is not deleted",
                    hint=f"first: hpcrun cancel {run_id}",
                )
        elif older_than is None or _ended_before(record, older_than):
            if going.issuperset(history.descendants(run_id)):
                found.append(_doomed(history, record))
                going.add(run_id)
            else:
                unreadable[run_id] = "it has children that stay"
    return found, unreadable


def snapshots_in_use(history: History) -> set[str]:
    """The snapshots that runs have, archived ones too, and those whose row is lost.

    Raises HistoryError for a record that cannot be read: what its run has must not go.
    """
    unmade = history.trials.unmade(active=False)
    run_ids = {row.id for row in history.list(include_archived=True, limit=None)} - unmade.keys()
    run_ids.update(path.name for path in history.paths.runs.iterdir() if RunPaths(path).record.exists())
    records = []
    for run_id in sorted(run_ids):
        paths = history.paths.run(run_id)
        try:
            records.append(read_record(paths) if paths.record.exists() else history.get(run_id))
        except HistoryError as error:
            hint = "No snapshot is deleted while a record cannot be read: hpcrun history verify"
            raise HistoryError(error.message, hint=hint) from error
    found = {str(record.snapshot["id"]) for record in records if record.snapshot and "id" in record.snapshot}
    found.update(history.trials.table(leader).snapshot for leader, _ in unmade.values())
    return found.union(*(planned_snapshots(record) for record in records))


@contextmanager
def unused_snapshots(history: History, shell: Shell) -> Iterator[Unused]:
    """The snapshots that no run has; nobody can submit anything while this lasts.

    Raises HistoryError, SnapshotError.
    """
    # Looked up only once nobody can take one: what was taken before has a run by then.
    with SnapshotStore(history.paths.snapshots, shell).unused(lambda: snapshots_in_use(history)) as unused:
        yield unused


def delete(history: History, targets: Targets, run: Doomed) -> None:
    """Delete a run for good. Raises HistoryError; what is left then is deleted by :func:`finish`.

    Of a run on another machine the folder there goes first: HpcrunError if it cannot be deleted, and the run
    stays.
    """
    if run.record.host is not None and run.record.run_dir:
        place = targets.get(run.record.target.partition(":")[0]).place
        if isinstance(place, FarPlace):
            place.remove(run.record, last=is_table(run.record) and history.trials.is_last(run.record))
    _remove(history, history.delete(run.record.id), run.record)


def finish(history: History) -> list[str]:
    """Go on with deletions that were cut off; the ids. Raises HistoryError."""
    done = []
    for place in history.finish_deletions():
        try:
            record = read_record(RunPaths(place))
        except HistoryError:  # deleted in part, for which the folder on the target goes first
            record = None
        _remove(history, place, record)
        done.append(place.name)
    return done


def _remove(history: History, place: Path, record: RunRecord | None) -> None:
    again = history.paths.run(place.name).folder.exists()  # a new run was given the same id
    if record is not None and record.id == place.name and not again:
        there, _ = _on_target(history, record)
        if there is not None:
            remove_tree(there)
        if is_table(record):
            _leave_table(history, record)
        elif record.host is None and task_of(record)[0]:
            _leave_array(Path(submitted_from(record)), task_of(record)[1])
    remove_tree(place)


def _leave_table(history: History, record: RunRecord) -> None:
    """The same for a trial: what the others' folders are made from goes with the last of them."""
    leader, index = task_of(record)
    if not history.paths.table(leader).table.exists():
        return
    folder = Path(submitted_from(record))
    last = history.trials.is_last(record)
    if record.host is None:
        (folder / f"{index}.txt").unlink(missing_ok=True)
        if last and folder.parent.name == "arrays":
            remove_tree(folder)
    if last:
        history.trials.forget(leader)


def _leave_array(folder: Path, index: int) -> None:
    """Take a run's link away, and the folder with the last one."""
    with suppress(OSError):
        (folder / f"{index}.txt").unlink(missing_ok=True)
        if folder.parent.name == "arrays" and not any(folder.glob("*.txt")):
            (folder / "job.sh").unlink(missing_ok=True)
            folder.rmdir()


def _doomed(history: History, record: RunRecord) -> Doomed:
    home = history.paths.run(record.id).folder
    there, spared = _on_target(history, record)
    folders = (home,) if there is None else (home, there)
    return Doomed(record, folders, sum(size_of(folder) for folder in folders), spared)


def _on_target(history: History, record: RunRecord) -> tuple[Path | None, str]:
    """The run's folder on the target, if it is another than that at home and is certainly this run's; or
    None, and why one that is there is spared."""
    folder = Path(record.run_dir)
    if record.host is not None:
        return None, ""  # see delete
    if not record.run_dir or not folder.is_dir():
        return None, ""
    if folder.parent.exists() and folder.parent.samefile(history.paths.runs):
        return None, ""
    there = RunPaths(folder)
    reason = ""
    if not folder.is_absolute() or folder.name != record.id or folder.parent.name != "runs":
        reason = "it is no folder that hpcrun makes"
    elif folder.is_symlink():
        reason = "it is a link"
    elif there.record.exists():
        reason = "it belongs to the history of another workspace"
    elif os.path.lexists(
        there.status
    ):  # where the run never started, there is its name alone, which is random
        status = read_status(there.status)
        if status is None or status.run_id != record.id:
            reason = "its status.json does not say that it is this run's"
    return (None, f"{folder} stays: {reason}") if reason else (folder, "")


def _ended_before(record: RunRecord, seconds: float) -> bool:
    try:
        ended = datetime.fromisoformat((record.ended or "").replace("Z", "+00:00"))
        return (datetime.now(timezone.utc) - ended).total_seconds() >= seconds
    except (ValueError, TypeError):  # not known: better kept
        return False
