"""Waiting for runs: politely to the scheduler, quickly for the user.

What the job itself writes is looked at often, which costs a stat; the scheduler is asked 15 seconds apart,
growing to 60, and at once when the job says that it is at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hpcrun.engine.refresh import refresh
from hpcrun.errors import WaitTimeoutError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.targets import Targets

_LOOK = 0.05
_LOOK_MOST = 1.0
_ASK = 15.0
_ASK_MOST = 60.0
_ASK_AT_END = 1.0


def wait(
    history: History,
    targets: Targets,
    run_id: str,
    *,
    timeout: float | None = None,
    on_look: Callable[[RunRecord], None] | None = None,
    on_trouble: Callable[[dict[str, str]], None] | None = None,
) -> RunRecord:
    """The record of the run, once it has ended and its outputs and logs are there.

    ``on_look`` is called each time the run was looked at (to print new log lines), ``on_trouble``
    each time the scheduler did not (fully) answer, with what was the matter by site. Raises
    WaitTimeoutError after ``timeout`` seconds; the run goes on.
    """
    began = time.monotonic()
    look, pause = _LOOK, _ASK
    next_ask = 0.0
    seen: tuple[object, ...] | None = None
    while True:
        now = time.monotonic() - began
        record = history.get(run_id)
        stamp = _stamp(Path(record.run_dir))
        if now >= next_ask:
            trouble = refresh(history, targets, [run_id]).trouble
            if trouble and on_trouble is not None:
                on_trouble(trouble)
            next_ask, pause = now + pause, min(pause * 1.3, _ASK_MOST)
        elif stamp != seen:
            # What the local scheduler has to say is in a file as well, and costs no command.
            refresh(history, targets, [run_id], ask=record.scheduler == "local")
            look = _LOOK
        record = history.get(run_id)
        if stamp != seen and not record.state.final and _at_end(record):
            next_ask, pause = now, _ASK_AT_END
        seen = stamp
        if on_look is not None:
            on_look(record)
        if record.state.final:
            return record
        if timeout is not None and now >= timeout:
            raise WaitTimeoutError(
                f"{run_id} is still {record.state} after {timeout:.0f} s",
                hint=f"It goes on. Wait again: hpcrun wait {run_id}",
            )
        time.sleep(look if timeout is None else max(0.0, min(look, timeout - now)))
        look = min(look * 1.2, _LOOK_MOST)


def _at_end(record: RunRecord) -> bool:
    return any(attempt.get("ended") for attempt in record.attempts[-1:])


def _stamp(run_dir: Path) -> tuple[object, ...]:
    """Changes whenever the job, or the local scheduler, has something new to say."""
    stamps: list[object] = []
    for name in ("status.json", "local.json"):
        try:
            info = (run_dir / name).stat()
            stamps.append((info.st_mtime_ns, info.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
