"""Trials of a sweep once more: those that failed, with the same hyperparameters and the same code."""

from __future__ import annotations

from hpcrun.engine.sweep_step import step_sweep
from hpcrun.engine.sweep_trials import rows_of
from hpcrun.errors import UsageError
from hpcrun.history.files import locked, touch
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.writing import private
from hpcrun.states import RunState
from hpcrun.targets import Targets

_PATIENCE = 60.0


def retry(history: History, targets: Targets, sweep_id: str) -> list[int]:
    """Try the failed trials of a sweep again; their numbers.

    Each is a new run with a key of its own, and counts for its trial from then on; the failed run stays in
    the history. They take their turn as others end; a sweep that has ended stays as it ended. Errors as
    :func:`hpcrun.engine.submit.submit`; UsageError for a sweep that was told to stop.
    """
    sweep = history.get(sweep_id)
    if sweep.state is RunState.CANCEL_REQUESTED:
        raise UsageError(f"{sweep_id} is being stopped", hint=f"Once it has: hpcrun sweep retry {sweep_id}")
    with locked(history.paths.run(sweep_id).sweep_lock, seconds=_PATIENCE):
        wanted = _note(history, sweep_id)
    if wanted:
        step_sweep(history, targets, sweep_id, patience=_PATIENCE)
    return wanted


def _note(history: History, sweep_id: str) -> list[int]:
    """Write down which are to be tried again: whoever moves the sweep does so."""
    wanted = {
        str(number): attempt + 1
        for number, (attempt, row) in rows_of(history, sweep_id).items()
        if row.state is RunState.FAILED
    }

    def change(r: RunRecord) -> None:
        r.submission = {**r.submission, "again": {**r.submission.get("again", {}), **wanted}}

    if wanted:
        with private():
            history.paths.again.mkdir(exist_ok=True)
        # First: of a sweep that has ended nothing else says that it goes on.
        touch(history.paths.again / sweep_id)
        history.update(sweep_id, change)
    return sorted(map(int, wanted))
