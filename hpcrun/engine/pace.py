"""When to ask a scheduler again: politely, and at once where there is something to learn."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
