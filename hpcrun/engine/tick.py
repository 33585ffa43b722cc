"""One step for everything in a workspace: look, settle, bring home. What cron calls, with nobody looking.

Ticks may overlap, be late or be killed: each step is one that any command may take at any time. Trouble is
told when it begins and when it changes, not every five minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hpcrun.engine.refresh import refresh
from hpcrun.engine.sync import reach, sync
from hpcrun.errors import CommandError, HistoryError, HpcrunError
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
        if before:
            _step(history, targets, found)
        for run_id, state in before.items():
            try:
                if history.get(run_id).state is not state:
                    found.moved[run_id] = state
            except HistoryError as error:
                found.trouble[run_id] = error.message
        known = _remembered(history)
        found.news = {name: said for name, said in found.trouble.items() if known.get(name) != said}
        found.over = sorted(known.keys() - found.trouble.keys())
        if found.trouble != known:
            write_atomically(history.paths.tick, json.dumps(found.trouble).encode("ascii"))
        return found


def _step(history: History, targets: Targets, found: Tick) -> None:
    away = reach(history, targets)
    if away:
        near = [row.id for row in history.active() if row.target.partition(":")[0] not in away]
        found.trouble.update(refresh(history, targets, near).trouble)
    else:
        found.trouble.update(refresh(history, targets).trouble)
    report = sync(history, targets, patience=0, without=away)
    for name, error in {**report.trouble, **away}.items():
        found.trouble[name] = _words(error)
        found.exit_code = max(found.exit_code, error.exit_code)
    if found.trouble:
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
