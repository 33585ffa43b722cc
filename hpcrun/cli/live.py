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
        self._height = 0

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drew = self._height > 0
        self.clear()
        if drew and isinstance(error, KeyboardInterrupt):
            self._write("^C")  # the terminal's own stood on the line that was just erased

    def clear(self) -> None:
        """Take away what is drawn, until the next :meth:`draw`."""
        if self._height:
            self._write(self._erasure())
            self._height = 0

    def draw(self, record: RunRecord, unfinished: str = "") -> None:
        """Draw how the run stands, and above it what it has printed of a line that has no end yet."""
        if not self.on or record.state.final:
            return
        from rich.text import Text

        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            width = 80
        lines = [self._status(record)]
        if unfinished.strip():
            lines.insert(0, Text.from_ansi(unfinished))
        # A full line would take the cursor to the next.
        drawing = "\n".join(self._ansi(line, max(10, width - 1)) for line in lines)
        erasure, self._height = self._erasure(), len(lines)  # first: Ctrl-C may come while it is written
        self._write(f"{erasure}{drawing}")

    def _status(self, record: RunRecord) -> Text:
        from rich.text import Text

        state = Text(state_text(record.state, record.reason), COLOURS.get(record.state) or "")
        name = printable(record.display_name or record.experiment)
        parts = [_times(record), f"{name} {short_id(record.id)}", self._note, time.strftime("%H:%M:%S")]
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
        return _ERASE + _ERASE_ABOVE * (self._height - 1)

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _times(record: RunRecord) -> str:
    """How long it has waited, or has run and may run."""
    if record.state in (RunState.NOT_STARTED, RunState.PREPARING, RunState.QUEUED) or not record.started:
        return f"waits {duration(record.submitted or record.created, None)}"
    limit = record.submission.get("request", {}).get("time_limit")
    took = duration(record.started, record.ended)
    return f"{took} of {human_seconds(limit)}" if isinstance(limit, int) else took
