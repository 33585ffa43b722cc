"""Bringing the history up to date: one question to each scheduler, for any number of runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpcrun.engine.decide import Known, Verdict, decide
from hpcrun.engine.reconcile import reconcile
from hpcrun.engine.secrets import forget
from hpcrun.engine.status import JobStatus, read_status
from hpcrun.errors import HistoryError, HpcrunError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.schedulers.base import Answer, JobFacts, JobRef
from hpcrun.states import RunState, may_move
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
    wanted = None if run_ids is None else set(run_ids)
    rows = [row for row in history.active() if wanted is None or row.id in wanted]
    by_site: dict[str, list[RunRecord]] = defaultdict(list)
    report = Report()
    for row in rows:
        site = row.target.partition(":")[0]
        try:
            record = history.get(row.id)
        except HistoryError as exc:  # one damaged run must not keep the others from being looked at
            report.trouble[row.id] = exc.message
            continue
        try:
            if ask:
                record = reconcile(history, targets, record)
        except HpcrunError as exc:
            report.trouble[site] = exc.message
            continue
        record = _of_the_claim(history, record)
        if not record.state.final and record.job_id:
            by_site[site].append(record)
    for site, records in by_site.items():
        answer = _ask(targets, site, records) if ask else Answer(queue=False, complete=False)
        if answer.trouble:
            report.trouble[site] = answer.trouble
        for record in records:
            try:
                _update(history, record, answer)
            except HistoryError as exc:
                report.trouble[record.id] = exc.message
    return report


def _of_the_claim(history: History, record: RunRecord) -> RunRecord:
    """The record, with the job that took the run: of two jobs for one run, that one is the run's."""
    try:
        owner = os.readlink(RunPaths(Path(record.run_dir)).claim)  # noqa: PTH115 (text, not a path)
    except OSError:
        return record
    if record.state.final or not record.job_id or owner == record.job_id:
        return record

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.job_id = owner

    return history.update(record.id, change)


def _ask(targets: Targets, site: str, records: list[RunRecord]) -> Answer:
    refs = [JobRef(r.id, Path(r.run_dir), r.job_id, r.submission["began"]) for r in records]
    try:
        return targets.scheduler_of(site).query(refs)
    except HpcrunError as exc:
        return Answer(queue=False, complete=False, trouble=exc.message)


def _update(history: History, record: RunRecord, answer: Answer) -> None:
    status = read_status(RunPaths(Path(record.run_dir)).status)
    if status is not None and status.job_id != record.job_id:
        status = None
    facts = answer.facts.get(record.id)
    if facts is not None and facts.job_id != record.job_id:
        facts = None  # a second job of the same name, submitted by hand: it leaves by itself
    verdict = decide(
        Known(
            state=record.state,
            facts=facts,
            status=status,
            queue=answer.queue,
            answered=answer.complete,
            unseen=_unseen(record, status),
        )
    )

    def change(r: RunRecord) -> None:
        if r.state.final:
            return  # another process was quicker
        _note_attempt(r, status, facts)
        if facts is not None:
            r.submission.pop("unseen_since", None)
        elif answer.complete:
            r.submission.setdefault("unseen_since", utc_now())
        if verdict is not None:
            _apply(r, verdict, status, facts)

    if verdict is not None and verdict.state.final:
        forget(record)  # before it is written down: nobody looks at a run again that has ended
    history.update(record.id, change)


def _unseen(record: RunRecord, status: JobStatus | None) -> float:
    since = status.ended if status is not None and status.ended else record.submission.get("unseen_since")
    if not since:
        return 0.0
    try:
        moment = datetime.fromisoformat(since.replace("Z", "+00:00"))
        return (datetime.now(timezone.utc) - moment).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _apply(r: RunRecord, verdict: Verdict, status: JobStatus | None, facts: JobFacts | None) -> None:
    if verdict.state is not r.state and not may_move(r.state, verdict.state):
        return
    started = (status.started if status else None) or (facts.started if facts else None)
    if verdict.state.final and r.state is not RunState.FINALIZING:
        # Outputs and logs are where the job wrote them: on a shared file system nothing is left to fetch.
        r.states.append({"state": RunState.FINALIZING.value, "reason": "", "at": utc_now()})
    r.state, r.reason, r.message = verdict.state, str(verdict.reason), verdict.message
    if started and r.state is not RunState.QUEUED:
        r.started = r.started or started
    nodes = (facts.nodes if facts else None) or (status.nodes if status else None)
    r.nodes = nodes or r.nodes
    r.expected_start = facts.expected if facts else None
    if verdict.state.final:
        r.usage = facts.usage if facts else None
        r.exit_code = verdict.exit_code
        r.ended = verdict.ended or utc_now()


def _note_attempt(r: RunRecord, status: JobStatus | None, facts: JobFacts | None) -> None:
    """Keep every start of the run: a requeue is a new attempt of the same run."""
    if status is None:
        return
    attempt: dict[str, Any] = {
        "number": status.attempt,
        "job_id": status.job_id,
        "started": status.started,
        "ended": status.ended,
        "exit_code": status.exit_code,
        "nodes": status.nodes,
    }
    if facts is not None:
        attempt["word"] = facts.word
    for index, known in enumerate(r.attempts):
        if known.get("number") == status.attempt:
            r.attempts[index] = {**known, **attempt}
            return
    r.attempts.append(attempt)
