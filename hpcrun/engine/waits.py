"""What a submission is to wait for: for runs that have ended decided here, for others by the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.engine.before import WHEN, Before, before_of, came_true, in_vain, stands
from hpcrun.engine.update import update
from hpcrun.errors import NotFoundError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of
from hpcrun.targets import Targets


class InVainError(Exception):
    """A run that is to be waited for has ended otherwise than it was to."""


def too_early(history: History, record: RunRecord) -> bool:
    """Whether a run that is to be waited for has no job yet, or one that this run's scheduler does not know:
    on another site."""
    others = [_get(history, before.run) for before in before_of(record)]
    going = [other for other in others if other is not None and not stands(other).final]
    return any(other.job_id is None or _site(other) != _site(record) for other in going)


def check_waits(history: History, record: RunRecord) -> None:
    """Raises InVainError where what a run waits for cannot come true any more, by what the records say."""
    for before in before_of(record):
        other = _get(history, before.run)
        if other is None:
            raise InVainError(f"it was to wait for {before.run}, which is gone from the history")
        if came_true(before.when, other) is False:
            raise InVainError(in_vain(before, other))


def jobs_before(history: History, targets: Targets, record: RunRecord) -> list[str]:
    """What :attr:`hpcrun.schedulers.base.JobRequest.after` is for a run, as of now.

    The scheduler is asked first: it forgets a job some time after its end (Slurm then refuses one that is to
    come after it), and only the records know how it ended. Raises InVainError, UnreachableError.
    """
    wanted, found = before_of(record), []
    for before, other in zip(wanted, _as_they_are(history, targets, wanted), strict=True):
        if other is None:
            raise InVainError(f"it was to wait for {before.run}, which is gone from the history")
        ended = came_true(before.when, other)
        if ended is False:
            raise InVainError(in_vain(before, other))
        if ended is None:
            job = other.run_dir if other.scheduler == "local" else other.job_id
            found.append(f"{WHEN[before.when]}:{job}")
    return found


def _as_they_are(history: History, targets: Targets, wanted: Sequence[Before]) -> list[RunRecord | None]:
    records = [_get(history, before.run) for before in wanted]
    asked = [r for r in records if r is not None and r.job_id and not r.state.final and r.outcome is None]
    if not asked:
        return records
    target = targets.get(_site(asked[0]))  # all of them are on the site of the run, see too_early
    answer = target.scheduler.query([ref_of(r) for r in asked])
    target.place.look(history, [r for r in asked if r.host is not None])
    for other in asked:
        update(history, targets, other, answer)
    return [_get(history, before.run) for before in wanted]


def _site(record: RunRecord) -> str:
    return record.target.partition(":")[0]


def _get(history: History, run_id: str) -> RunRecord | None:
    try:
        return history.get(run_id)
    except NotFoundError:
        return None
