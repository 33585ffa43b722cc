"""The lines below a log that is followed: what is still being printed, and how the run stands."""

from __future__ import annotations

import io
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from hpcrun.cli.text import COLOURS, coloured, drawn, duration, printable, short_id, state_text
from hpcrun.states import RunState
from hpcrun.units import human_seconds

if TYPE_CHECKING:
    from rich.text import Text

    from hpcrun.history.record import RunRecord

_ERASE, _ERASE_ABOVE = "\r\x1b[2K", "\x1b[1A\x1b[2K"


class Live:
    """Draws on stderr, below all else; nothing where that is no terminal.

    What it draws is gone when the block is left, and whoever prints meanwhile calls :meth:`clear` before. The
    cursor is never hidden and no thread draws: a program that is killed or stopped leaves a terminal as it
    should be.
    """

    def __init__(self, note: str = "") -> None:
        self.on = drawn(sys.stderr)
        self._note = note
        self._drawn: list[int] = []  # the width of each line

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drew = bool(self._drawn)
        self.clear()
        if drew and isinstance(error, KeyboardInterrupt):
            self._write("^C")  # the terminal's own stood on the line that was just erased

    def clear(self) -> None:
        """Take away what is drawn, until the next :meth:`draw`."""
        if self._drawn:
            self._write(self._erasure())
            self._drawn = []

    def draw(self, record: RunRecord, unfinished: str = "") -> None:
        """Draw how the run stands, and above it what it has printed of a line that has no end yet."""
        if not self.on or record.state.final:
            return
        from rich.text import Text

        lines = [self._status(record)]
        if unfinished.strip():
            lines.insert(0, Text.from_ansi(unfinished))
        width = max(10, _width() - 1)  # a full line would take the cursor to the next
        drawing = "\n".join(self._ansi(line, width) for line in lines)
        erasure = self._erasure()
        self._drawn = [line.cell_len for line in lines]  # before: Ctrl-C may come while it is written
        self._write(f"{erasure}{drawing}")

    def _status(self, record: RunRecord) -> Text:
        from rich.text import Text

        state = Text(state_text(record.state, record.reason), COLOURS.get(record.state) or "")
        name = printable(record.display_name or record.experiment)
        clock = time.strftime("%H:%M:%S")
        parts = [_times(record), self._note, clock, f"{short_id(record.id)} {name}"]  # cut at its end
        return Text(" · ").join([state, *(Text(part, "dim") for part in parts if part)])

    @staticmethod
    def _ansi(line: Text, width: int) -> str:
        from rich.console import Console

        line.truncate(width, overflow="ellipsis")
        out = io.StringIO()
        console = Console(file=out, width=width, force_terminal=True, no_color=not coloured(sys.stderr))
        console.print(line, end="", no_wrap=True, soft_wrap=True, highlight=False)
        return out.getvalue()

    def _erasure(self) -> str:
        width = _width()  # where the terminal has become narrower, a line now takes several
        return _ERASE + _ERASE_ABOVE * (sum(max(1, -(-cells // width)) for cells in self._drawn) - 1)

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _times(record: RunRecord) -> str:
    """How long it has waited, or has run and may run."""
    if record.state in (RunState.NOT_STARTED, RunState.PREPARING, RunState.QUEUED) or not record.started:
        return f"waits {duration(record.submitted or record.created, None)}"
    limit = record.submission.get("request", {}).get("time_limit")
    took = duration(record.started, record.ended)
    return f"{took} of {human_seconds(limit)}" if isinstance(limit, int) else took
