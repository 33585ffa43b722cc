"""Timing two things in turn, and what came of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison; times in seconds, unless ``unit`` says of what the numbers are. ``goal`` is the highest
    ratio that holds (for a limit without a peer, ``beside`` is that limit and the goal is 1); None: none is
    set."""

    what: str
    ours: float
    peer: str
    theirs: float
    goal: float | None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def holds(self) -> bool:
        return self.goal is None or self.ratio <= self.goal

    def line(self) -> str:
        return (
            f"{self.what}: {self._of(self.ours)} beside {self.peer} {self._of(self.theirs)}, {self.ratio:.2f}"
        )

    def _of(self, value: float) -> str:
        return _ms(value) if self.unit == "s" else f"{value:,.0f} {self.unit}"

    def markdown(self) -> str:
        cells = (
            self.what,
            self._of(self.ours),
            self.peer,
            self._of(self.theirs),
            f"{self.ratio:.2f}",
            "" if self.goal is None else f"≤ {self.goal:g}",
        )
        holds = "" if self.goal is None else "yes" if self.holds else "no"
        return f"| {' | '.join(cells)} | {holds} |"


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
