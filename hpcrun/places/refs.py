"""How a scheduler is asked about a run, by its record: a job of its own, or a task of an array."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from hpcrun.history.record import RunRecord
from hpcrun.schedulers.base import JobRef


def ref_of(record: RunRecord, job_id: str | None = None) -> JobRef:
    """``job_id`` where the record does not have it yet."""
    name, index = task_of(record)
    known = job_id or record.job_id
    return JobRef(
        record.id, record.run_dir, known, record.submission["began"], name, index, is_packed(record)
    )  # fmt: skip


def task_of(record: RunRecord) -> tuple[str, int]:
    """The array that a run is a task of, and which; an empty name for a job of its own."""
    array = record.submission.get("array")
    return (str(array["leader"]), int(array["index"])) if isinstance(array, dict) else ("", 0)


def is_table(record: RunRecord) -> bool:
    """Whether a run is a trial that was written down together with others."""
    array = record.submission.get("array")
    return isinstance(array, dict) and bool(array.get("table"))


def is_packed(record: RunRecord) -> bool:
    """Whether a run is one of several in a job that is no array: a trial of a pack."""
    array = record.submission.get("array")
    return isinstance(array, dict) and bool(array.get("pack"))


def submitted_from(record: RunRecord) -> str:
    """The folder that sbatch is called for: the run's own, or that of the array that it is a task of."""
    name, _ = task_of(record)
    return array_folder(record.run_dir, name) if name else record.run_dir


def array_folder(run_dir: str, leader: str) -> str:
    """Beside the folders of the runs; it holds the job's script, and a link to the log of each task."""
    return posixpath.join(posixpath.dirname(posixpath.dirname(run_dir)), "arrays", leader)


def logs_of(records: Iterable[RunRecord]) -> dict[int, str]:
    """Where the links of an array's folder lead, by task."""
    return {task_of(record)[1]: f"../../runs/{record.id}/system_logs/job.txt" for record in records}
