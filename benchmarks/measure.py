"""Timing two things in turn, and what came of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison; times in seconds. ``goal`` is the highest ratio that holds (for a limit without a
    peer, ``beside`` is that limit and the goal is 1)."""

    what: str
    ours: float
    peer: str
    theirs: float
    goal: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def holds(self) -> bool:
        return self.ratio <= self.goal

    def line(self) -> str:
        return f"{self.what}: {_ms(self.ours)} beside {self.peer} {_ms(self.theirs)}, {self.ratio:.2f}"

    def markdown(self) -> str:
        cells = (
            self.what,
            _ms(self.ours),
            self.peer,
            _ms(self.theirs),
            f"{self.ratio:.2f}",
            f"≤ {self.goal:g}",
        )
        return f"| {' | '.join(cells)} | {'yes' if self.holds else 'no'} |"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 7
) -> tuple[float, float]:
    """The least time of each, taken in turn."""
    best_ours = best_theirs = float("inf")
    for _ in range(rounds):
        best_ours = min(best_ours, timed(ours))
        best_theirs = min(best_theirs, timed(theirs))
    return best_ours, best_theirs


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def program(*argv: str, cwd: Path | None = None) -> Callable[[], object]:
    """Running a program to its end, as an action to be timed."""

    def run() -> object:
        return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, timeout=300)

    return run


def at_most(what: str, seconds: float, limit: float) -> Row:
    """A row that stands beside a limit."""
    return Row(what, seconds, "the limit", limit, 1.0)


def python(*arguments: str) -> Sequence[str]:
    import sys

    return (sys.executable, *arguments)
