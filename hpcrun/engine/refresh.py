"""Bringing the history up to date: one question to each scheduler, for any number of runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from hpcrun.engine import interactive, tables, tracked
from hpcrun.engine.arrays import reconcile_any
from hpcrun.engine.before import before_of
from hpcrun.engine.measured import take_in_many
from hpcrun.engine.packed import waits_its_turn
from hpcrun.engine.steps import finish_making, follow_steps, parents_of, with_steps
from hpcrun.engine.sweep_state import follow_sweep
from hpcrun.engine.update import update
from hpcrun.errors import HistoryError, HpcrunError, NotFoundError, UnreachableError
from hpcrun.history.index import RunRow
from hpcrun.history.paths import status_of
from hpcrun.history.record import CHILD, JOBLESS, SWEEP, RunRecord
from hpcrun.history.store import History
from hpcrun.places.refs import is_packed, ref_of, task_of
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
    trials = set() if asked_for is None else _trials_of(history, asked_for)
    if ask:
        silent |= _settle_tables(history, targets, None if asked_for is None else asked_for | trials, report)
    active = _all_made(history, asked_for, report)
    unmade = history.trials.unmade()
    wanted = None if asked_for is None else _with_those_before(history, asked_for, active, unmade.keys())
    look = _Look(history, targets, sites, silent, report, ask, None if wanted is None else wanted - trials)
    for row in reversed(active):  # a run is sent after those that it waits for
        if (wanted is None or row.id in wanted) and row.type not in JOBLESS:
            look.at(row, unmade.get(row.id))
    for site, looked in sites.items():
        answer, reached = Answer(queue=False, complete=False), ask and site not in silent
        if reached:
            try:
                answer = _ask(targets, site, looked.refs())
            except UnreachableError as exc:
                answer, reached = replace(answer, trouble=exc.message), False
        if answer.trouble:
            report.trouble[site] = answer.trouble
        answer = looked.turns(answer)
        told = _told(history, targets, site, looked, answer, report, reached=reached)
        # The oldest first: how a run ended tells why one that was to come after it did not begin.
        for record in sorted(told, key=lambda record: record.created or ""):
            try:
                if not record.state.final and record.outcome is None:
                    update(history, targets, _of_the_claim(history, record), answer)
            except HistoryError as exc:
                report.trouble[record.id] = exc.message
        _measured(history, told, report)
    for row in interactive.of(active, wanted):
        try:
            interactive.look(history, row)
        except HistoryError as exc:
            report.trouble[row.id] = exc.message
    for row in parents_of(active, wanted):
        try:
            (follow_sweep if row.type == SWEEP else follow_steps)(history, row.id)
        except HistoryError as exc:
            report.trouble[row.id] = exc.message
    return report


def _all_made(history: History, wanted: set[str] | None, report: Report) -> Sequence[RunRow]:
    """The runs that have not ended, the newest first, all steps of pipelines among them that are wanted."""
    active, made = history.active(), False
    for row in parents_of(active, wanted):
        try:
            made = finish_making(history, row) or made
        except HistoryError as exc:
            report.trouble[row.id] = exc.message
    return history.active() if made else active


def _trials_of(history: History, run_ids: set[str]) -> set[str]:
    """The trials of those that are sweeps, but for those that are named themselves: like all runs where all
    are looked at, they may be thousands that wait."""
    rows = history.active()
    sweeps = {row.id for row in rows if row.type == SWEEP and row.id in run_ids}
    return {row.id for row in rows if row.parent in sweeps} - run_ids


def _with_those_before(
    history: History, run_ids: set[str], rows: Sequence[RunRow], unmade: Collection[str]
) -> set[str]:
    """The runs, the steps of those that are pipelines, and those that they come after, of all that have not
    ended. What is ``unmade`` comes after none. A child is as the program of its parent says."""
    run_ids = run_ids | {str(row.parent) for row in rows if row.type == CHILD and row.id in run_ids}
    wanted, active = with_steps(run_ids, rows), {row.id for row in rows}
    todo = [run_id for run_id in wanted & active if run_id not in unmade]
    while todo:
        try:
            found = ({before.run for before in before_of(history.get(todo.pop()))} & active) - wanted
        except (HistoryError, NotFoundError):  # said where it is looked at
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
    history.trials.restate(looked.restated(answer))
    for run_id in looked.news(answer):
        try:
            records.append(looked.records.get(run_id) or history.get(run_id))
        except NotFoundError:
            continue
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


def _measured(history: History, records: Sequence[RunRecord], report: Report) -> None:
    """Take in what runs have measured whose files can be read here; those that ended are complete already."""
    started = [r for r in records if r.host is None and not r.state.final and r.state is not RunState.QUEUED]
    try:
        take_in_many(history, started)
        tracked.take_in_many(history, started)
    except HistoryError as exc:  # they are told of as they are; what is missing is taken in the next time
        report.trouble["metrics"] = exc.message


@dataclass
class _Look:
    """A look at runs, one after the other. ``closely``: those that are not passed over
    for having been waiting; None where all runs are looked at, and none is looked at closely."""

    history: History
    targets: Targets
    sites: dict[str, _Looked]
    silent: set[str]
    report: Report
    ask: bool
    closely: set[str] | None

    def at(self, row: RunRow, trial: tuple[str, int] | None) -> None:
        """``trial`` is the place of one that has no record of its own yet, which is not made for nothing."""
        close = self.closely is not None and row.id in self.closely
        site, waits = row.target.partition(":")[0], not close and _only_waits(row)
        if trial is not None and not close and (row.job_id is None or (waits and not self.ask)):
            return
        try:
            if waits and self.ask:
                self.sites[site].wait(self.history, row, trial)
                return
            record = self.history.get(row.id)
        except NotFoundError:
            return  # it was taken away since
        except HistoryError as exc:  # one damaged run must not keep the others from being looked at
            self.report.trouble[row.id] = exc.message
            return
        try:
            if self.ask and site not in self.silent:
                record = reconcile_any(self.history, self.targets, record, self.sites[site].leaders)
        except HpcrunError as exc:
            self.report.trouble[site] = exc.message
            if isinstance(exc, UnreachableError):
                self.silent.add(site)
            return
        self.sites[site].take(_of_the_claim(self.history, record))


@dataclass
class _Looked:
    """The runs of a site: those whose records were read, and rows of those that were last seen waiting, which
    of ten thousand are nearly all, and of which nearly all still do."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    waiting: list[RunRow] = field(default_factory=list)
    arrays: dict[tuple[str, str], str] = field(default_factory=dict)
    leaders: set[str] = field(default_factory=set)  # of arrays that were looked at already
    unmade: set[str] = field(default_factory=set)  # of those that wait, trials without a record of their own
    packs: set[str] = field(default_factory=set)  # of the arrays, jobs that run their tasks themselves

    def take(self, record: RunRecord) -> None:
        if not record.state.final and record.job_id and record.outcome is None:
            self.records[record.id] = record

    def refs(self) -> list[JobRef]:
        known = [ref_of(r) for r in self.records.values()]
        return known + [
            JobRef(row.id, row.run_dir, row.job_id, row.created, *self._task(row)) for row in self.waiting
        ]

    def wait(self, history: History, row: RunRow, trial: tuple[str, int] | None) -> None:
        """Take a run that waits; of an array, one record of all that wait is read, and of a table's none.
        Raises HistoryError."""
        array = _array(row)
        if trial is not None:
            self.unmade.add(row.id)
        if array is not None and array not in self.arrays:
            leader, packed = _place(history, row, trial)
            self.arrays[array] = leader
            if packed:
                self.packs.add(leader)
        self.waiting.append(row)

    def _task(self, row: RunRow) -> tuple[str, int, bool]:
        array = _array(row)
        if array is None:
            return "", 0, False
        leader = self.arrays[array]
        return leader, int(str(row.job_id).rpartition("_")[2]), leader in self.packs

    def turns(self, answer: Answer) -> Answer:
        """The answer, as trials see it that wait for their turn in a job that goes on: had one begun, this
        machine would see its word."""
        facts = {
            row.id: waits_its_turn(found)
            for row in self.waiting
            if row.run_dir and self._task(row)[2] and (found := answer.facts.get(row.id)) is not None
        }
        return replace(answer, facts={**answer.facts, **facts}) if facts else answer

    def news(self, answer: Answer) -> list[str]:
        """The runs of which the answer may tell something new."""
        restated = self.restated(answer)
        return [
            *self.records,
            *(row.id for row in self.waiting if row.id not in restated and not _as_before(row, answer)),
        ]

    def restated(self, answer: Answer) -> dict[str, str]:
        """Trials without a record of their own of which nothing is new but why they wait."""
        found = ((row, why) for row in self.waiting if row.id in self.unmade and (why := _waits(row, answer)))
        return {row.id: why for row, why in found if why != row.reason}


def _place(history: History, row: RunRow, trial: tuple[str, int] | None) -> tuple[str, bool]:
    """The array that a run is a task of, and whether that is a pack. Raises HistoryError."""
    if trial is not None:
        return trial[0], bool(history.trials.table(trial[0]).pack)
    record = history.get(row.id)
    return task_of(record)[0], is_packed(record)


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


def _waits(row: RunRow, answer: Answer) -> str:
    """Why a run still waits, by the answer; empty where it does not, or that is not known."""
    facts = answer.facts.get(row.id)
    word = None if facts is None or facts.job_id != row.job_id else from_slurm(facts.word)
    if facts is None or word is None or word[0] is not RunState.QUEUED:
        return ""
    return facts.why or word[1].value


def _settle_tables(history: History, targets: Targets, wanted: set[str] | None, report: Report) -> set[str]:
    """Take submissions of trials without records of their own one step further; gives the sites that were not
    to be reached."""
    unsent = history.trials.unmade(unsent=True)
    silent: set[str] = set()
    for leader in dict.fromkeys(unsent[run_id][0] for run_id in unsent if wanted is None or run_id in wanted):
        try:
            site = history.trials.table(leader).target.partition(":")[0]
        except HistoryError as exc:
            report.trouble[leader] = exc.message
            continue
        try:
            if site not in silent:
                tables.reconcile(history, targets, leader)
        except HpcrunError as exc:
            report.trouble[site] = exc.message
            if isinstance(exc, UnreachableError):
                silent.add(site)
    return silent


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
