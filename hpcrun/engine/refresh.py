"""Bringing the history up to date: one question to each scheduler, for any number of runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hpcrun.engine.arrays import reconcile_any
from hpcrun.engine.before import before_of
from hpcrun.engine.steps import finish_making, follow_steps, pipelines_of, with_steps
from hpcrun.engine.update import update
from hpcrun.errors import HistoryError, HpcrunError, UnreachableError
from hpcrun.history.index import RunRow
from hpcrun.history.paths import status_of
from hpcrun.history.record import PIPELINE, RunRecord
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of, task_of
from hpcrun.schedulers.base import Answer, JobRef
from hpcrun.states import RunState, from_slurm
from hpcrun.targets import Targets


@dataclass
class Report:
    """``trouble``: for each site that did not (fully) answer, and each run whose record is damaged, what was
    the matter; these runs are shown as last seen."""

    trouble: dict[str, str] = field(default_factory=dict)


def refresh(
    history: History, targets: Targets, run_ids: Iterable[str] | None = None, *, ask: bool = True
) -> Report:
    """Update runs that have not ended (all of them, or those of ``run_ids``).

    ``ask=False`` only reads what the jobs themselves wrote, and starts no command.
    """
    asked_for = None if run_ids is None else {*run_ids}
    sites: dict[str, _Looked] = defaultdict(_Looked)
    report = Report()
    silent: set[str] = set()  # sites that were not to be reached: once is enough
    active = _all_made(history, asked_for, report)
    wanted = None if asked_for is None else _with_those_before(history, asked_for, active)
    for row in reversed(active):  # a run is sent after those that it waits for
        site = row.target.partition(":")[0]
        if (wanted is not None and row.id not in wanted) or row.type == PIPELINE:
            continue
        if ask and wanted is None and _only_waits(row):
            try:
                sites[site].wait(history, row)
            except HistoryError as exc:
                report.trouble[row.id] = exc.message
            continue
        try:
            record = history.get(row.id)
        except HistoryError as exc:  # one damaged run must not keep the others from being looked at
            report.trouble[row.id] = exc.message
            continue
        try:
            if ask and site not in silent:
                record = reconcile_any(history, targets, record, sites[site].leaders)
        except HpcrunError as exc:
            report.trouble[site] = exc.message
            if isinstance(exc, UnreachableError):
                silent.add(site)
            continue
        sites[site].take(_of_the_claim(history, record))
    for site, looked in sites.items():
        answer, reached = Answer(queue=False, complete=False), ask and site not in silent
        if reached:
            try:
                answer = _ask(targets, site, looked.refs())
            except UnreachableError as exc:
                answer, reached = replace(answer, trouble=exc.message), False
        if answer.trouble:
            report.trouble[site] = answer.trouble
        told = _told(history, targets, site, looked, answer, report, reached=reached)
        # The oldest first: how a run ended tells why one that was to come after it did not begin.
        for record in sorted(told, key=lambda record: record.created or ""):
            try:
                if not record.state.final and record.outcome is None:
                    update(history, targets, _of_the_claim(history, record), answer)
            except HistoryError as exc:
                report.trouble[record.id] = exc.message
    for row in pipelines_of(active, wanted):
        try:
            follow_steps(history, row.id)
        except HistoryError as exc:
            report.trouble[row.id] = exc.message
    return report


def _all_made(history: History, wanted: set[str] | None, report: Report) -> Sequence[RunRow]:
    """The runs that have not ended, the newest first, all steps of pipelines among them that are wanted."""
    active, made = history.active(), False
    for row in pipelines_of(active, wanted):
        try:
            made = finish_making(history, row) or made
        except HistoryError as exc:
            report.trouble[row.id] = exc.message
    return history.active() if made else active


def _with_those_before(history: History, run_ids: set[str], rows: Sequence[RunRow]) -> set[str]:
    """The runs, the steps of those that are pipelines, and those that they come after, of all that have not
    ended."""
    wanted, active = with_steps(run_ids, rows), {row.id for row in rows}
    todo = [*wanted & active]
    while todo:
        try:
            found = ({before.run for before in before_of(history.get(todo.pop()))} & active) - wanted
        except HistoryError:  # said where it is looked at
            continue
        wanted |= found
        todo += found
    return wanted


def _told(
    history: History,
    targets: Targets,
    site: str,
    looked: _Looked,
    answer: Answer,
    report: Report,
    *,
    reached: bool,
) -> list[RunRecord]:
    """The records of the runs with news, once what their jobs say of them is to be read here; none of those
    of which it cannot be had."""
    records = []
    for run_id in looked.news(answer):
        try:
            records.append(looked.records.get(run_id) or history.get(run_id))
        except HistoryError as exc:
            report.trouble[run_id] = exc.message
    far = [record for record in records if record.host is not None]
    if far and reached:
        try:
            targets.get(site).place.look(history, far)
        except HpcrunError as exc:
            report.trouble[site] = exc.message
            return [record for record in records if record.host is None]
    return records


@dataclass
class _Looked:
    """The runs of a site: those whose records were read, and rows of those that were last seen waiting, which
    of ten thousand are nearly all, and of which nearly all still do."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    waiting: list[RunRow] = field(default_factory=list)
    arrays: dict[tuple[str, str], str] = field(default_factory=dict)
    leaders: set[str] = field(default_factory=set)  # of arrays that were looked at already

    def take(self, record: RunRecord) -> None:
        if not record.state.final and record.job_id and record.outcome is None:
            self.records[record.id] = record

    def refs(self) -> list[JobRef]:
        known = [ref_of(r) for r in self.records.values()]
        return known + [
            JobRef(row.id, row.run_dir, row.job_id, row.created, *self._task(row)) for row in self.waiting
        ]

    def wait(self, history: History, row: RunRow) -> None:
        """Take a run that waits; of an array, one record of all that wait is read. Raises HistoryError."""
        array = _array(row)
        if array is not None and array not in self.arrays:
            self.arrays[array] = task_of(history.get(row.id))[0]
        self.waiting.append(row)

    def _task(self, row: RunRow) -> tuple[str, int]:
        array = _array(row)
        return ("", 0) if array is None else (self.arrays[array], int(str(row.job_id).rpartition("_")[2]))

    def news(self, answer: Answer) -> list[str]:
        """The runs of which the answer may tell something new."""
        return [*self.records, *(row.id for row in self.waiting if not _as_before(row, answer))]


def _array(row: RunRow) -> tuple[str, str] | None:
    """What tells the array that a waiting run is a task of: its id, and when, since ids are given again."""
    base, underscore, _ = (row.job_id or "").partition("_")
    return (base, str(row.created)[:16]) if underscore else None


def _only_waits(row: RunRow) -> bool:
    """Whether a run was last seen in the queue, and its job has not written anything."""
    return (
        row.state is RunState.QUEUED
        and not row.message  # there is something to be taken back
        and row.job_id is not None
        and not (row.run_dir and os.path.lexists(status_of(row.run_dir)))
    )


def _as_before(row: RunRow, answer: Answer) -> bool:
    """Whether a run still waits, for the same reason; its record then needs no reading."""
    facts = answer.facts.get(row.id)
    if facts is None:
        return not answer.queue
    word = from_slurm(facts.word)
    return (
        facts.job_id == row.job_id
        and word is not None
        and word[0] is RunState.QUEUED
        and row.reason == (facts.why or word[1].value)
    )


def _of_the_claim(history: History, record: RunRecord) -> RunRecord:
    """The record, with the job that took the run: of two jobs for one run, that one is the run's."""
    try:
        owner = os.readlink(history.seen(record).claim)  # noqa: PTH115 (text, not a path)
    except OSError:
        return record
    if record.state.final or not record.job_id or owner == record.job_id:
        return record

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.job_id = owner

    return history.update(record.id, change)


def _ask(targets: Targets, site: str, refs: list[JobRef]) -> Answer:
    try:
        return targets.scheduler_of(site).query(refs)
    except UnreachableError:
        raise
    except HpcrunError as exc:
        return Answer(queue=False, complete=False, trouble=exc.message)
