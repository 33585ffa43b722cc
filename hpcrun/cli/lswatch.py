"""``hpcrun ls --watch``: the table, kept up to date until somebody has seen enough."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcrun.cli.screen import Screen
from hpcrun.cli.text import drawn, printable, styled
from hpcrun.errors import HpcrunError, UsageError

if TYPE_CHECKING:
    from hpcrun.history.index import RunRow

LEAST, MOST = 15, 60
"""Seconds between two questions to the schedulers, at least, and at most where nothing changes."""

HERE = 2
"""Seconds between two looks where all runs that go on are on this machine."""

Listing = Callable[[int], "tuple[list[RunRow], bool]"]
"""So many rows at most, and whether there are more."""


@dataclass(frozen=True)
class Rhythm:
    """When the schedulers are asked: ``least`` seconds after an answer that told something new, and 1.3 times
    as long each time that one did not, or twice as long after no answer, up to :data:`MOST`."""

    least: float
    next_ask: float = 0.0
    pause: float = 0.0

    def answered(
        self, now: float, *, new: bool, trouble: bool = False, polite: bool = True, chance: float = 0.5
    ) -> Rhythm:
        """After an answer; a tenth more, as ``chance`` (0 to 1) has it, keeps many who watch apart. Not
        ``polite`` where nobody was asked but files of this machine: then soon again."""
        if not polite:
            return replace(self, next_ask=now + HERE, pause=0.0)
        if trouble:
            pause = max(self.pause, self.least) * 2.0
        else:
            pause = self.least if new else max(self.pause * 1.3, self.least)
        pause = min(pause, max(MOST, self.least))
        return replace(self, next_ask=now + pause * (1.0 + 0.1 * chance), pause=pause)


def check_terminal(*, as_json: bool) -> None:
    """Raise UsageError where there is nothing to draw on."""
    if as_json:
        raise UsageError("--watch does not go with --json", hint="Ask again for each document.")
    if not drawn():
        raise UsageError(
            "--watch draws on a terminal, and there is none",
            hint="To wait for an end: hpcrun wait RUN. For a program: hpcrun ls --json, now and then.",
        )


def watch(
    listing: Listing,
    refresh: Callable[[], dict[str, str]] | None,
    *,
    limit: int | None,
    draw: Callable[[Sequence[RunRow]], str],
    seconds: float,
    polite: Callable[[], bool] = lambda: True,
) -> None:
    """Show the runs, as ``draw`` does, until ``q`` is typed. ``refresh`` asks the schedulers, and gives what
    was the matter; ``polite`` is whether there are any that many people share."""
    watching = _Watching(listing, refresh, polite, limit, draw, Rhythm(seconds))
    with Screen() as screen:
        while True:
            screen.draw(watching.lines(*screen.size))
            # A quarter of a second is how soon a terminal of another size is noticed.
            if "q" in screen.key(0.25).lower():
                return


class _Watching:
    def __init__(
        self,
        listing: Listing,
        refresh: Callable[[], dict[str, str]] | None,
        polite: Callable[[], bool],
        limit: int | None,
        draw: Callable[[Sequence[RunRow]], str],
        rhythm: Rhythm,
    ) -> None:
        self._listing, self._refresh, self._limit, self._draw = listing, refresh, limit, draw
        self._rhythm, self._polite = rhythm, polite
        self._asked: Future[dict[str, str]] | None = None
        self._trouble: dict[str, str] = {}
        self._before: object = None
        self._rows: list[RunRow] = []
        self._more = False
        self._listed = -1.0

    def lines(self, width: int, height: int) -> list[str]:
        """What the screen shows now."""
        now = time.monotonic()
        self._keep_asking(now)
        if now >= self._listed + 0.2:  # other processes change the history too
            self._list(now)
        trouble = " · ".join(f"{site}: {_last(words)}" for site, words in self._trouble.items())
        if trouble:
            trouble = styled(f"{trouble}; shown as last seen", "yellow")
        below = ["", *([trouble] if trouble else []), self._state(now)]
        room = max(1, height - 1 - len(below))
        kept, left = self._rows[:room], len(self._rows) - room
        if left > 0:
            below[-1] += f" · {left} more do not fit"
        elif self._more:
            below[-1] += " · there are more: -n N"
        return [*(self._draw(kept).splitlines() if kept else ["no runs"]), *below]

    def _list(self, now: float) -> None:
        self._rows, self._more = self._listing(self._limit or 1000)
        self._listed = now

    def _keep_asking(self, now: float) -> None:
        if self._refresh is None:
            return
        if self._asked is not None and self._asked.done():
            trouble = _answer(self._asked)
            self._list(now)
            seen = [(row.id, row.state, row.reason) for row in self._rows]
            self._rhythm = self._rhythm.answered(
                now,
                new=seen != self._before,
                trouble=bool(trouble),
                polite=self._polite(),
                chance=random.random(),
            )
            self._asked, self._trouble, self._before = None, trouble, seen
        elif self._asked is None and now >= self._rhythm.next_ask:
            from hpcrun.engine.wait import aside

            self._asked = aside(self._refresh)

    def _state(self, now: float) -> str:
        """The clock, and when the schedulers are asked."""
        clock = time.strftime("%H:%M:%S")
        if self._refresh is None:
            return f"q ends · {clock} · schedulers are not asked"
        if self._asked is not None:
            return f"q ends · {clock} · asking"
        return f"q ends · {clock} · next question in {max(0, round(self._rhythm.next_ask - now))} s"


def _answer(asked: Future[dict[str, str]]) -> dict[str, str]:
    try:
        return asked.result()
    except HpcrunError as error:
        return {"refresh": error.message}


def _last(words: str) -> str:
    lines = words.strip().splitlines() or ["no answer"]
    return printable(lines[-1].strip())
