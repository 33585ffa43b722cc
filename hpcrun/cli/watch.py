"""Waiting for a run and following what it prints, and what the command line ends with."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click

from hpcrun.cli.errors import Interrupted
from hpcrun.cli.live import Live
from hpcrun.cli.progress import bars
from hpcrun.cli.session import tell_trouble
from hpcrun.cli.text import COLOURS, drawn, duration, printable, short_id, state_text, styled, tamed
from hpcrun.engine.files import file_names
from hpcrun.engine.logs import Line, LogReader
from hpcrun.errors import RunCanceledError, RunFailedError, WaitTimeoutError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import JOBLESS, PIPELINE, SWEEP, RunRecord
from hpcrun.states import RunState
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from hpcrun.engine.sync import Expected

EXIT_CODES = {
    RunState.COMPLETED: 0,
    RunState.FAILED: RunFailedError.exit_code,
    RunState.CANCELED: RunCanceledError.exit_code,
}


def exit_code(state: RunState) -> int:
    """What a command that waits ends with: a run that has not ended was waited for in vain."""
    return EXIT_CODES.get(state, WaitTimeoutError.exit_code)


def wait_for_end(
    workspace: Workspace,
    run_id: str,
    *,
    timeout: float | None = None,
    on_look: Callable[[RunRecord, Live], None] = lambda record, live: live.draw(record),
    note: str = "",
) -> RunRecord:
    """The run's record at its end, or at the end of the time to wait; ``on_look`` sees it meanwhile, and what
    is drawn below the log of a terminal. ``note`` is told there, too.

    A run that has ended is taken as it is, and nothing is loaded or asked for it.
    """
    record = workspace.history.get(run_id)
    if record.state.final:
        on_look(record, Live())
        return record
    from hpcrun.engine.wait import wait

    with bars() as on_plan, Live(note) as live:

        def plan(expected: Expected) -> Callable[[int], None] | None:
            live.clear()
            return on_plan(expected)

        try:
            return wait(
                workspace.history,
                workspace.targets,
                run_id,
                timeout=timeout,
                logs=isinstance(on_look, (Follower, StepFollower)),
                on_look=lambda record: on_look(record, live),
                on_trouble=_TroubleOnce(live),
                on_plan=plan,
            )
        except WaitTimeoutError:
            return workspace.history.get(run_id)


class _TroubleOnce:
    """Tells what is the matter with a scheduler when it begins, and not each time it is asked."""

    def __init__(self, live: Live) -> None:
        self._told: dict[str, str] = {}
        self._live = live

    def __call__(self, trouble: dict[str, str]) -> None:
        self._live.clear()
        tell_trouble({site: words for site, words in trouble.items() if self._told.get(site) != words})
        self._told = trouble


@contextmanager
def on_signals(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Call ``handler`` for these signals as long as the block lasts, but for those that are ignored."""
    minded = {}
    if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
        minded = {number: signal.getsignal(number) for number in numbers}
    minded = {number: before for number, before in minded.items() if before is not signal.SIG_IGN}
    for number in minded:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in minded.items():
            signal.signal(number, before)


@contextmanager
def interruptible(run_ids: Sequence[str], come_back: str) -> Iterator[None]:
    """Make of Ctrl-C the words that the runs go on, and how to come back to them."""
    try:
        with on_signals(signal.default_int_handler, signal.SIGINT):
            yield
    except KeyboardInterrupt:
        what = f"run {run_ids[0]} goes on" if len(run_ids) == 1 else f"{len(run_ids)} runs go on"
        named = " ".join(short_id(run_id) for run_id in run_ids)
        hint = f"come back: hpcrun {come_back} {named}\nend: hpcrun cancel {named}"
        raise Interrupted(f"interrupted; {what}", hint) from None


class Follower:
    """Prints the new lines of a run on ``out``, and its changes of state on stderr."""

    def __init__(
        self,
        workspace: Workspace,
        run_id: str,
        *,
        ranks: Collection[int] | None = None,
        tail: int | None = None,
        out: TextIO | None = None,
    ) -> None:
        self._reader = LogReader(workspace.history.paths.run(run_id), ranks)
        self._width = rank_width(workspace.history.get(run_id))
        self._tail = tail  # of what is there already; what comes later is shown in full
        self._out = out or sys.stdout
        self._said = ""

    def __call__(self, record: RunRecord, live: Live) -> None:
        state = state_text(record.state, record.reason)
        if state != self._said and not record.state.final:
            live.clear()
            tell_state(record)
            self._said = state
        lines: Iterable[Line] = self._reader.read(to_end=record.state.final)
        if self._tail is not None:
            lines, self._tail = deque(lines, maxlen=self._tail), None
        for line in lines:
            live.clear()
            print(log_line(line, self._out, self._width), file=self._out)
        self._out.flush()
        if live.on:
            begun = self._reader.unfinished()
            live.draw(record, "" if begun is None else log_line(begun, sys.stderr, self._width))


class StepFollower:
    """The same of a pipeline: its steps one after the other, in their order, each under its name."""

    def __init__(self, workspace: Workspace, *, out: TextIO) -> None:
        self._workspace, self._out = workspace, out
        self._followers: dict[str, Follower] = {}

    def __call__(self, record: RunRecord, live: Live) -> None:
        if record.type == PIPELINE:  # it has ended, and its steps as well
            from hpcrun.engine.steps import steps_of

            for row in steps_of(self._workspace.history, record.id):
                self(self._workspace.history.get(row.id), live)
            return
        if record.id not in self._followers:
            live.clear()
            name = printable(record.display_name or record.id)
            click.echo(styled(f"==> {name} ({short_id(record.id)})", "cyan", stream=sys.stderr), err=True)
            self._followers[record.id] = Follower(self._workspace, record.id, out=self._out)
        self._followers[record.id](record, live)


RANK_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_green")


def log_line(line: Line, stream: TextIO | None = None, width: int = 1) -> str:
    """A line of the log, with its rank where there are several: as it is, but for a terminal tamed.

    Ranks take ``width`` digits, and a colour each where colours are welcome.
    """
    text = tamed(line.text) if drawn(stream) else line.text
    if line.rank is None:
        return text
    colour = RANK_COLOURS[line.rank % len(RANK_COLOURS)]
    return f"{styled(f'[rank {line.rank:>{width}}]', colour, stream=stream)} {text}"


def rank_width(record: RunRecord) -> int:
    """How many digits the highest rank of a run has."""
    processes = record.config.get("processes")
    return len(str(processes - 1)) if isinstance(processes, int) and processes > 1 else 1


def traceback_of(record: RunRecord, home: RunPaths) -> list[str]:
    """What Python said of the failure that was the first."""
    from hpcrun.engine.explain import first_traceback

    return first_traceback(record, home)


def tell_state(record: RunRecord) -> None:
    """One line on stderr: the time and the state."""
    words = styled(state_text(record.state, record.reason), COLOURS.get(record.state), stream=sys.stderr)
    click.echo(f"[{time.strftime('%H:%M:%S')}] {words}", err=True)


def summary(workspace: Workspace, record: RunRecord, *, stream: TextIO | None = None) -> str:
    """What became of a run, in a few lines."""
    home = workspace.history.paths.run(record.id)
    words = styled(state_text(record.state, record.reason), COLOURS.get(record.state), stream=stream)
    took = duration(record.started, record.ended)
    first = f"{record.id}: {words}" + (f" after {took}" if took else "")
    lines = [first]
    if record.message:
        lines.append(f"  {printable(record.message)}")
    if not record.state.final:
        lines.append(f"  it goes on; wait again: hpcrun wait {short_id(record.id)}")
        return "\n".join(lines)
    if record.type == PIPELINE:
        name = short_id(record.id)
        return "\n".join([*lines, f"  its steps: hpcrun show {name}"])
    if record.type == SWEEP:
        from hpcrun.cli.sweeptext import finished_lines

        return "\n".join([*lines, *finished_lines(workspace, record)])
    if record.state is RunState.FAILED:
        lines += [f"  | {printable(line)}" for line in traceback_of(record, home)]
    outputs = len(file_names(home, ("outputs",)))
    count = "no outputs" if not outputs else "1 output" if outputs == 1 else f"{outputs} outputs"
    lines.append(f"  {count} in {home.folder / 'outputs'}")
    if record.state is RunState.FAILED:
        name = short_id(record.id)
        if record.type in JOBLESS:
            pass  # what its program prints is not its own
        elif any(LogReader(home).read(to_end=True)):
            lines.append(f"  what it printed: hpcrun logs {name}")
        else:  # it may not have got as far as its own code
            lines.append(f"  it printed nothing; what went on around it: hpcrun logs {name} --system")
        lines.append(f"  all about it: hpcrun show {name}")
        lines.append(f"  why: hpcrun explain {name}")
    return "\n".join(lines)
