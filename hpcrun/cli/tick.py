"""``hpcrun tick``: what cron calls."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

import click

from hpcrun.cli.document import run_document
from hpcrun.cli.errors import describe
from hpcrun.cli.group import Command
from hpcrun.cli.options import duration_of, json_option
from hpcrun.cli.session import history_paths, open_workspace
from hpcrun.cli.sync import sync_text
from hpcrun.cli.text import print_json, printable, state_text
from hpcrun.errors import CommandError
from hpcrun.history.record import utc_now
from hpcrun.units import Duration, human_seconds

if TYPE_CHECKING:
    from hpcrun.engine.tick import Tick
    from hpcrun.history.paths import WorkspacePaths
    from hpcrun.workspace import Workspace

_AGAIN = 30.0
"""Seconds after which a tick that is told to end, and does not, is told again."""


@click.command("tick", cls=Command)
@click.option("--verbose", "-v", is_flag=True, help="Also say which runs moved, and trouble that goes on.")
@click.option(
    "--log",
    is_flag=True,
    help="Also write all of it to .hpcrun/logs/tick.log, and tell an error only once: for cron.",
)
@click.option(
    "--limit",
    callback=duration_of,
    metavar="DURATION",
    help="End after so long, whatever it is at; the next tick goes on.",
)
@json_option
def command(verbose: bool, log: bool, limit: Duration | None, as_json: bool) -> None:
    """Look at every run that has not ended, and bring home what it has; one step, for cron.

    Silent unless something is wrong; trouble is told when it begins, when it changes and when it is over, and
    shows in the exit code for as long as it lasts. Two at a time do no harm. hpcrun cron install has it
    called.
    """
    said = _Said(history_paths(), log)
    with said.kept(), _within(limit):
        workspace = open_workspace()
        from hpcrun.engine.tick import tick

        found = tick(workspace.history, workspace.targets)
        said.take(workspace, found)
    if as_json:
        runs = [run_document(workspace, workspace.history.get(run_id)) for run_id in found.moved]
        document = {"busy": found.busy, "moved": runs, "trouble": found.trouble, "news": found.news}
        print_json({**document, "over": found.over})
        click.get_current_context().exit(found.exit_code)
    for line in said.moved if verbose else ():
        click.echo(line)
    for name, words in (found.trouble if verbose else found.news).items():
        click.echo(f"hpcrun: {name}: {_last_line(words)}", err=True)
    for name in found.over:
        click.echo(f"hpcrun: {name}: all is well again", err=True)
    click.get_current_context().exit(found.exit_code)


def _last_line(words: str) -> str:
    lines = [line for line in words.strip().splitlines() if line.strip()] or ["no answer"]
    return printable(lines[-1].strip())


@dataclass
class _Said:
    """What a tick has to say, and what is kept of it."""

    paths: WorkspacePaths
    log: bool
    began: str = field(default_factory=utc_now)
    moved: list[str] = field(default_factory=list)
    found: Tick | None = None

    def take(self, workspace: Workspace, found: Tick) -> None:
        self.found = found
        if found.busy:
            self.moved.append("another tick is at it")
        for run_id in found.moved:
            record = workspace.history.get(run_id)
            words = f", {sync_text(record)}" if record.host is not None else ""
            self.moved.append(f"{run_id}: {state_text(record.state, record.reason)}{words}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write down how the tick ended, even if by an error; with ``--log`` one that was told the last time
        is not told again."""
        try:
            yield
        except Exception as error:
            told = describe(error)
            if self._over(told["exit_code"], str(told["message"])) and self.log:
                click.get_current_context().exit(told["exit_code"])
            raise
        self._over(0 if self.found is None else self.found.exit_code)

    def _over(self, exit_code: int, error: str | None = None) -> bool:
        """Whether the last tick ended with the same error."""
        from hpcrun.engine.ticked import Ticked, keep_last, last_tick, write_log

        found, last = self.found, last_tick(self.paths)
        if self.log:
            write_log(self.paths, self._lines(exit_code, error))
        if found is None or not found.busy:
            counts = (0, 0) if found is None else (len(found.moved), len(found.trouble))
            keep_last(self.paths, Ticked(self.began, utc_now(), exit_code, *counts, error))
        return error is not None and last is not None and last.error == error

    def _lines(self, exit_code: int, error: str | None) -> list[str]:
        lines = list(self.moved)
        if self.found is not None:
            lines += [f"{name}: {_last_line(words)}" for name, words in self.found.trouble.items()]
            lines += [f"{name}: all is well again" for name in self.found.over]
        if error is not None:
            lines += [f"error: {printable(error)}"]
        return [*lines, f"tick since {self.began}: exit code {exit_code}"]


class _Late(BaseException):
    """No Exception, which would be taken for trouble with one site, and the rest be gone on with."""


@contextmanager
def _within(limit: Duration | None) -> Iterator[None]:
    """Raises CommandError when the time is over."""
    if limit is None:
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, float(limit), _AGAIN)
    try:
        yield
    except _Late:
        raise CommandError(
            f"this tick took longer than {human_seconds(limit)}, and was ended", hint="The next goes on."
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
