"""``hpcrun sweep status --watch``: the table, kept up to date; whoever watches moves the sweep."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

import click

from hpcrun.cli.lswatch import LEAST, Rhythm, check_terminal
from hpcrun.cli.screen import Screen
from hpcrun.cli.sweeptext import clock, over, status_lines, sweep_document
from hpcrun.cli.text import printable, styled
from hpcrun.cli.watch import interruptible
from hpcrun.errors import HpcrunError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hpcrun.workspace import Workspace


def watch_sweep(workspace: Workspace, sweep_id: str, *, as_json: bool) -> None:
    """Show how a sweep stands, and take its steps, until it has ended or ``q`` is typed; how it stands then
    is printed, and stays."""
    check_terminal(as_json=as_json)
    watching = _Watching(workspace, sweep_id)
    with interruptible([sweep_id], "sweep status --watch"), Screen() as screen:
        while not watching.ended:
            screen.draw(watching.lines(screen.size[1]))
            if "q" in screen.key(0.25).lower():
                break
    for line in watching.table():
        click.echo(line)


class _Watching:
    def __init__(self, workspace: Workspace, sweep_id: str) -> None:
        self._workspace, self._id = workspace, sweep_id
        site = workspace.targets.get(workspace.history.get(sweep_id).target).site
        self._polite = site.scheduler.type != "local"
        self._rhythm, self._trouble, self._before = Rhythm(LEAST), "", ""
        self._asked: Future[str] | None = None
        self._table: list[str] = []
        self._listed = -math.inf
        self.ended = False

    def table(self) -> list[str]:
        """How the sweep stands."""
        history = self._workspace.history
        record = history.get(self._id)
        document = sweep_document(self._workspace, record)
        self.ended = self._asked is None and over(record, document)
        return status_lines(history, record, document)

    def lines(self, height: int) -> list[str]:
        """What the screen shows now."""
        now = time.monotonic()
        self._keep_moving(now)
        if now >= self._listed:
            self._table = self.table()
            # Where there are thousands of trials, most of the time is still nobody's.
            self._listed = now + max(1.0, 10 * (time.monotonic() - now))
        below = ["", f"q ends · {clock()}"]
        if self._trouble:
            below.insert(1, styled(self._trouble, "yellow"))
        room = max(1, height - len(below))
        if len(self._table) > room:
            below[-1] += f" · {len(self._table) - room} lines do not fit"
        return [*self._table[:room], *below]

    def _keep_moving(self, now: float) -> None:
        if self._asked is not None and self._asked.done():
            try:
                self._trouble = self._asked.result()
            except HpcrunError as error:
                self._trouble = printable(error.message)
            self._asked, seen = None, "\n".join(self._table[2:])
            self._rhythm = self._rhythm.answered(
                now, new=seen != self._before, trouble=bool(self._trouble), polite=self._polite,
                chance=random.random(),
            )  # fmt: skip
            self._before, self._listed = seen, -math.inf
        elif self._asked is None and not self.ended and now >= self._rhythm.next_ask:
            from hpcrun.engine.wait import aside

            self._asked = aside(self._move)

    def _move(self) -> str:
        """One step, and what was the matter. In a thread: nothing is drawn here."""
        from hpcrun.engine.sweep_wait import move

        found = move(self._workspace.history, self._workspace.targets, self._id)
        words = [f"{name}: {getattr(each, 'message', each)}" for name, each in found.items()]
        return " · ".join(printable((each.strip().splitlines() or ["?"])[-1]) for each in words)
