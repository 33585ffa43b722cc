"""One step for everything in a workspace: look, settle, bring home, go on with sweeps. What cron calls, with
nobody looking.

Ticks may overlap, be late or be killed: each step is one that any command may take at any time. Trouble is
told when it begins and when it changes, not every five minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hpcrun.engine.notices import tell
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sweep_step import step_sweeps
from hpcrun.engine.sync import reach, sync
from hpcrun.errors import CommandError, HistoryError, HpcrunError, NotFoundError
from hpcrun.history.files import locked, write_atomically
from hpcrun.history.store import History
from hpcrun.states import RunState
from hpcrun.targets import Targets


@dataclass
class Tick:
    """``moved``: the runs whose state changed, with what it was; ``trouble``: what is the matter, ``news``:
    what was not the last time, ``over``: what was; ``busy``: another tick is at it, this one did nothing.
    ``exit_code`` is that of the worst error."""

    moved: dict[str, RunState] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    news: dict[str, str] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    busy: bool = False
    exit_code: int = 0


def tick(history: History, targets: Targets) -> Tick:
    """Move every run of the workspace that has not ended one step. Never raises for trouble out there."""
    with _alone(history) as free:
        if not free:
            return Tick(busy=True)
        before = {row.id: row.state for row in history.active()}
        found = Tick()
        again = history.paths.again
        goes_on = bool(before) or (again.is_dir() and any(again.iterdir()))  # trials of what has ended
        away = _step(history, targets, found) if goes_on else set()
        _start(history, targets, found, away)
        told = tell(history)
        _told(found, told.trouble)
        _moved(history, before, found)
        known = _remembered(history)
        found.news = {name: said for name, said in found.trouble.items() if known.get(name) != said}
        found.over = sorted(known.keys() - found.trouble.keys())
        # What was given up is over, and well it is not: it was said, and that is all.
        lasting = {name: said for name, said in found.trouble.items() if name not in told.given_up}
        if lasting != known:
            write_atomically(history.paths.tick, json.dumps(lasting).encode("ascii"))
        return found


def _step(history: History, targets: Targets, found: Tick) -> set[str]:
    """Move the runs; the sites that could not be reached."""
    away = reach(history, targets)
    if away:
        near = [row.id for row in history.active() if row.target.partition(":")[0] not in away]
        found.trouble.update(refresh(history, targets, near).trouble)
    else:
        found.trouble.update(refresh(history, targets).trouble)
    report = sync(history, targets, patience=0, without=away)
    sweeps = step_sweeps(history, targets, without=set(away))
    for name, error in {**report.trouble, **away, **sweeps}.items():
        found.trouble[name] = _words(error)
        found.exit_code = max(found.exit_code, error.exit_code)
    if found.trouble:
        found.exit_code = found.exit_code or CommandError.exit_code
    return set(away)


def _moved(history: History, before: Mapping[str, RunState], found: Tick) -> None:
    """Which of those that had not ended stand otherwise now. Of those that wait no record is made for it."""
    now = {row.id: row.state for row in history.active()}
    for run_id, state in before.items():
        try:
            if (now.get(run_id) or history.get(run_id).state) is not state:
                found.moved[run_id] = state
        except HistoryError as error:
            found.trouble[run_id] = error.message
        except NotFoundError:
            pass  # deleted meanwhile


def _start(history: History, targets: Targets, found: Tick, away: set[str]) -> None:
    """Start what is due by its schedule."""
    if not history.paths.schedules.is_dir():
        return
    from hpcrun.engine.scheduled import start_due

    started = start_due(history, targets, away)
    for run_id in started.runs:
        found.moved[run_id] = RunState.NOT_STARTED
    found.trouble.update(started.trouble)
    found.exit_code = max(found.exit_code, started.exit_code)


def _told(found: Tick, trouble: dict[str, str]) -> None:
    """What does not keep runs from moving, and is to be mended all the same."""
    found.trouble.update(trouble)
    if trouble:
        found.exit_code = found.exit_code or CommandError.exit_code


def _words(error: HpcrunError) -> str:
    return error.message if not error.hint else f"{error.message}: {error.hint}"


@contextmanager
def _alone(history: History) -> Iterator[bool]:
    try:
        with locked(history.paths.tick_lock, seconds=0):
            yield True
    except HistoryError:
        yield False


def _remembered(history: History) -> dict[str, str]:
    try:
        known = json.loads(history.paths.tick.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}
