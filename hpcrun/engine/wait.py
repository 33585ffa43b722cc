"""Waiting for runs: politely to the scheduler, quickly for the user.

What the job itself writes is looked at often, which costs a stat. The scheduler is asked 15 seconds apart,
growing to 60, or, as long as it does not answer, twice as long each time, up to the same 60; and at once
when the job says that it is at its end, and when its time limit is over. A fifth more or less is left to
chance, so that many who wait do not all ask together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.refresh import refresh
from hpcrun.errors import WaitTimeoutError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.targets import Targets

_LOOK = 0.05
_LOOK_MOST = 1.0
ASK = 15.0
ASK_MOST = 60.0
ASK_AT_END = 1.0


@dataclass(frozen=True)
class Pace:
    """When to ask the scheduler next: ``next_ask`` in seconds since the waiting began; ``pause``, in
    seconds, is what follows the next question. ``hurried``: for which end (limit, end) it came early."""

    next_ask: float = 0.0
    pause: float = ASK
    hurried: str = ""

    def asked(self, now: float, *, trouble: bool = False, chance: float = 0.5) -> Pace:
        """After a question; ``chance`` is a number from 0 to 1."""
        pause = max(self.pause, ASK) if trouble else self.pause
        grown = min(pause * (2.0 if trouble else 1.3), ASK_MOST)
        return replace(self, next_ask=now + pause * (0.8 + 0.4 * chance), pause=grown)

    def seen(self, now: float, *, at_end: bool, left: float | None = None) -> Pace:
        """After a look at the run: ``at_end`` if its job says so, ``left`` seconds until its time limit.

        Near the end the next question comes at once, and the ones after it soon; once, since an end may be
        long in coming: then the pauses grow again.
        """
        if at_end:
            return self if self.hurried == "end" else Pace(now, ASK_AT_END, "end")
        if left is None:
            return replace(self, hurried="")
        if self.hurried != "limit" and now + left < self.next_ask:
            return Pace(now + max(left, 0.0), ASK_AT_END, "limit")
        return self


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
    look, pace = _LOOK, Pace()
    seen: tuple[object, ...] | None = None
    while True:
        now = time.monotonic() - began
        record = history.get(run_id)
        stamp = _stamp(history.seen(record).folder)
        if now >= pace.next_ask:
            trouble = refresh(history, targets, [run_id]).trouble
            if trouble and on_trouble is not None:
                on_trouble(trouble)
            now = time.monotonic() - began  # one that does not answer is given its time
            pace = pace.asked(now, trouble=bool(trouble), chance=random.random())
        elif stamp != seen:
            # What the local scheduler has to say is in a file as well, and costs no command.
            refresh(history, targets, [run_id], ask=record.scheduler == "local")
            look = _LOOK
        record = history.get(run_id)
        pace = pace.seen(now, at_end=_at_end(record), left=_left(record))
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
    """Whether the job says that it has ended, or the scheduler does and the job's own word is still due."""
    if "unseen_since" in record.submission:
        return True
    return any(attempt.get("ended") and "requeued" not in attempt for attempt in record.attempts[-1:])


def _left(record: RunRecord) -> float | None:
    """Seconds until the job's time limit is over; None where that is not known."""
    expected = record.submission.get("expected_end")
    return None if expected is None else -seconds_since(expected)


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
