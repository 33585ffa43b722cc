"""Waiting for a sweep: whoever waits takes its steps, so that it goes on without cron."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

from hpcrun.engine.notices import tell
from hpcrun.engine.pace import Pace
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sweep_state import to_try_again
from hpcrun.engine.sweep_step import step_sweep
from hpcrun.engine.sweep_trials import rows_of
from hpcrun.engine.sync import OnPlan, sync
from hpcrun.errors import HpcrunError, LoginRequired, SubmissionRejected, WaitTimeoutError
from hpcrun.history.index import RunRow
from hpcrun.history.paths import status_of
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.states import RunState
from hpcrun.targets import Targets

_LOOK = 0.1
_LOOK_MOST = 1.0
_APART = 2.0
"""Seconds between two questions to the scheduler, however many trials end meanwhile."""

Rows = list[RunRow]


def move(
    history: History, targets: Targets, sweep_id: str, *, ask: bool = True, on_plan: OnPlan | None = None
) -> dict[str, HpcrunError | str]:
    """Look at a sweep's trials, bring home what those on other machines reported, and take its next step;
    what was the matter, by site or run."""
    trouble: dict[str, HpcrunError | str] = {}
    if ask:
        # Never by what trials wrote alone: the next begin as others end, and those may not have ended for the
        # scheduler yet.
        wanted = [sweep_id]
        if history.get(sweep_id).state.final:
            wanted = [row.id for row in _unended(history, sweep_id)]
        trouble.update(refresh(history, targets, wanted).trouble)
        far = [row.id for row in _unended(history, sweep_id) if not row.run_dir]
        if far:
            trouble.update(sync(history, targets, far, on_plan, patience=0).trouble)
    try:
        step_sweep(history, targets, sweep_id)
    except SubmissionRejected:
        pass  # the sweep has ended, and says why
    except HpcrunError as exc:
        trouble[sweep_id] = exc
    return trouble


def wait_for_sweep(
    history: History,
    targets: Targets,
    sweep_id: str,
    *,
    timeout: float | None = None,
    on_look: Callable[[RunRecord], None] = lambda record: None,
    on_trouble: Callable[[dict[str, str]], None] = lambda trouble: None,
    on_plan: OnPlan | None = None,
) -> RunRecord:
    """The record of a sweep, once all of its trials have ended and are home. Errors as
    :func:`hpcrun.engine.wait.wait`."""
    began, pace, look = time.monotonic(), Pace(), _LOOK
    seen: object = None
    asked = -_APART
    while True:
        now = time.monotonic() - began
        near = targets.get(history.get(sweep_id).target).site.scheduler.type == "local"
        due = now >= max(pace.next_ask, asked + _APART)
        trouble = move(history, targets, sweep_id, ask=due or near, on_plan=on_plan)
        if due:
            asked = time.monotonic() - began
            pace = pace.asked(asked, trouble=bool(trouble), chance=random.random())
        _tell(trouble, on_trouble)
        record = history.get(sweep_id)
        on_look(record)
        if record.state.final and not _goes_on(history, record):
            tell(history, [sweep_id])  # what does not work is tried again, and told, by a tick
            return record
        stamps = _stamps(history, sweep_id)
        if stamps != seen:
            seen, look = stamps, _LOOK
            pace = replace(pace, hurried="").seen(now, at_end=True)
        if timeout is not None and now >= timeout:
            raise WaitTimeoutError(
                f"{sweep_id} is still {record.state} after {timeout:.0f} s"
                if not record.state.final
                else f"trials of {sweep_id} that are tried again have not ended after {timeout:.0f} s",
                hint=f"Its trials go on. Wait again: hpcrun wait {sweep_id}",
            )
        time.sleep(look if timeout is None else max(0.0, min(look, timeout - now)))
        look = min(look * 1.2, _LOOK_MOST)


def _tell(trouble: dict[str, HpcrunError | str], on_trouble: Callable[[dict[str, str]], None]) -> None:
    """Raises LoginRequired: nobody else can do anything about that."""
    for error in trouble.values():
        if isinstance(error, LoginRequired):
            raise error
    if trouble:
        on_trouble({name: str(getattr(each, "message", each)) for name, each in trouble.items()})


def _goes_on(history: History, sweep: RunRecord) -> bool:
    """Whether trials of a sweep that has ended are being tried again."""
    return bool(_unended(history, sweep.id) or to_try_again(history, sweep))


def _unended(history: History, sweep_id: str) -> Rows:
    return [row for _, row in rows_of(history, sweep_id).values() if not row.state.final]


def _stamps(history: History, sweep_id: str) -> object:
    """Changes when a trial's job has something new to say of its beginning or its end."""
    import os

    found = []
    for row in _unended(history, sweep_id):
        if not row.run_dir or row.state is RunState.NOT_STARTED:
            continue
        try:
            found.append((row.id, os.stat(status_of(row.run_dir)).st_mtime_ns))  # noqa: PTH116 (thousands)
        except OSError:
            continue
    return found
