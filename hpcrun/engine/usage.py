"""What a run took, asked for once more where Slurm's books did not have it yet when the run ended.

A run that says itself that it ended well has ended: nobody waits for sacct, which lags by seconds. So the
first look at such a run afterwards asks. That is one question, of at most one squeue and one sacct: what it
brings is kept, and so is that it brought nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of
from hpcrun.targets import Targets

LAG = timedelta(minutes=2)
"""After this, what accounting does not have, it will not have."""

KEPT = timedelta(days=7)
"""Older runs are not asked about."""


def lacks_usage(record: RunRecord, now: datetime | None = None) -> bool:
    """Whether the run has ended on Slurm lately, and nobody has said yet what it took."""
    if record.usage is not None or not record.state.final:
        return False
    if record.scheduler != "slurm" or not record.job_id or not record.started:
        return False
    return _since(record, now) < KEPT


def complete_usage(history: History, targets: Targets, record: RunRecord) -> RunRecord:
    """The record, with what the run took if it lacked that and accounting now knows. Never raises for
    trouble out there."""
    if not lacks_usage(record):
        return record
    try:
        target = targets.get(record.target.partition(":")[0])
        if not target.site.scheduler.accounting:
            return record
        answer = target.scheduler.query([ref_of(record)])
    except HpcrunError:
        return record
    facts = answer.facts.get(record.id)
    found = facts.usage if facts is not None and facts.job_id == record.job_id else None
    if found is None and answer.complete and _since(record) < LAG:
        return record

    def change(r: RunRecord) -> None:
        r.usage = r.usage or found or {}  # trouble, too, is met once only

    return history.update(record.id, change)


def _since(record: RunRecord, now: datetime | None = None) -> timedelta:
    try:
        ended = datetime.fromisoformat((record.ended or "").replace("Z", "+00:00"))
        return (now or datetime.now(timezone.utc)) - ended
    except (ValueError, TypeError):
        return timedelta.max
