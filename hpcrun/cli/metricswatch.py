"""``hpcrun metrics --watch``: the table, kept up to date until the runs have ended or ``q`` is typed."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import click

from hpcrun.cli.lswatch import LEAST, Rhythm
from hpcrun.cli.metricslook import Choice, Looked, text
from hpcrun.cli.metricstable import Measured
from hpcrun.cli.screen import Screen
from hpcrun.cli.session import refresh_active
from hpcrun.cli.text import drawn, printable, short_id, state_text, styled
from hpcrun.cli.watch import interruptible
from hpcrun.errors import HpcrunError, UsageError

if TYPE_CHECKING:
    from hpcrun.workspace import Workspace

_LOOKS = 0.5
"""Seconds between two looks at files of this machine."""


def check_terminal(*, otherwise: bool) -> None:
    """Raise UsageError where there is nothing to draw on, or something else was asked for."""
    if otherwise:
        raise UsageError("--watch draws a table, and goes with no other form")
    if not drawn():
        raise UsageError(
            "--watch draws on a terminal, and there is none",
            hint="For a program: hpcrun metrics RUN --json, now and then.",
        )


def watch(workspace: Workspace, looked: Looked, runs: Sequence[str], choose: Choice, *, log: bool) -> None:
    """Show the metrics until all runs have ended; then they are printed, and stay."""
    watching = _Watching(workspace, looked, runs, choose, log)
    with interruptible(runs, "metrics -f"), Screen() as screen:
        while not watching.ended:
            screen.draw(watching.lines(*screen.size))
            if "q" in screen.key(0.25).lower():
                break
    looked.again()
    for line in text(workspace, watching.found(), in_full=False, log=log):
        click.echo(line)


class _Watching:
    def __init__(
        self, workspace: Workspace, looked: Looked, runs: Sequence[str], choose: Choice, log: bool
    ) -> None:
        self._workspace, self._looked, self._runs, self._choose, self._log = (
            workspace, looked, runs, choose, log,
        )  # fmt: skip
        history = workspace.history
        self._shared = any(history.get(run).scheduler != "local" for run in runs)
        self._rhythm = Rhythm(LEAST)
        self._asked: Future[dict[str, str]] | None = None
        self._trouble: dict[str, str] = {}
        self._next_look = 0.0
        self._table: list[str] = []
        self._width = 0
        self.ended = False

    def found(self) -> list[Measured]:
        return [Measured(run, self._choose(self._looked.all_of(run))) for run in self._runs]

    def lines(self, width: int, height: int) -> list[str]:
        """What the screen shows now."""
        now = time.monotonic()
        self._keep_asking(now)
        if now >= self._next_look or width != self._width:
            if self._looked.again() or width != self._width:
                self._table = text(self._workspace, self.found(), in_full=False, log=self._log, width=width)
            self._width = width
            # Where there are millions of values to be looked at, most of the time is still nobody's.
            self._next_look = now + max(_LOOKS, 10 * (time.monotonic() - now))
        records = [self._workspace.history.get(run) for run in self._runs]
        self.ended = self._asked is None and all(record.state.final for record in records)
        table = self._table
        states = ", ".join(
            f"{short_id(record.id)} {state_text(record.state, record.reason)}" for record in records[:4]
        ) + (f" and {len(records) - 4} more" if len(records) > 4 else "")
        below = ["", f"q ends · {time.strftime('%H:%M:%S')} · {states}"]
        for site, words in self._trouble.items():
            last = (words.strip().splitlines() or ["no answer"])[-1]
            below.insert(1, styled(f"{site}: {printable(last.strip())}; shown as last seen", "yellow"))
        room = max(1, height - len(below))
        if len(table) > room:
            below[-1] += f" · {len(table) - room} lines do not fit"
        return [*(table[:room] or ["nothing was measured yet"]), *below]

    def _keep_asking(self, now: float) -> None:
        if self._asked is not None and self._asked.done():
            try:
                self._trouble = self._asked.result()
            except HpcrunError as error:
                self._trouble = {"refresh": error.message}
            self._rhythm = self._rhythm.answered(
                now,
                new=True,  # curves are looked at as they grow: the pause stays
                trouble=bool(self._trouble),
                polite=self._shared,
                chance=random.random(),
            )
            self._asked = None
        elif self._asked is None and now >= self._rhythm.next_ask:
            from hpcrun.engine.wait import aside

            self._asked = aside(self._ask)

    def _ask(self) -> dict[str, str]:
        """The states, and what runs on other machines have told. In a thread: nothing is drawn here."""
        trouble = refresh_active(self._workspace, self._runs)
        history = self._workspace.history
        far = [run for run in self._runs if history.get(run).host is not None]
        if far:
            from hpcrun.engine.measures import bring_metrics

            errors = bring_metrics(history, self._workspace.targets, far)
            trouble = {**trouble, **{name: error.message for name, error in errors.items()}}
        return trouble
