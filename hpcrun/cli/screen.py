"""The whole terminal, lent for a while: drawn line by line, keys read, and given back as it was."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Any

from hpcrun.cli.text import coloured
from hpcrun.cli.watch import on_signals

_ENTER, _LEAVE = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[?1049l"


class Screen:
    """Draws on the alternate screen: after the block what stood on the terminal before stands there again.

    Ctrl-Z gives the terminal back as well, and so does a signal that ends the program. The cursor is never
    hidden and no thread draws; after a kill -9, ``reset`` is all that is needed.
    """

    def __init__(self) -> None:
        self._out = sys.stdout
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[Any] | None = None
        self._drawn: list[str] = []
        self._size = (0, 0)

    def __enter__(self) -> Screen:
        with ExitStack() as stack:
            # In this order: what is given back is so before a signal means anything else again.
            stack.enter_context(on_signals(self._end, signal.SIGTERM, signal.SIGHUP))
            stack.enter_context(on_signals(signal.default_int_handler, signal.SIGINT))
            stack.enter_context(on_signals(self._stop, signal.SIGTSTP))
            stack.callback(self._give_back)
            self._take()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, each cut to the width; only what has changed is sent."""
        size = width, height = self.size
        clipped = [clip(line, width) for line in lines[:height]]
        anew = size != self._size
        parts = ["\x1b[2J"] if anew else []
        for at in range(max(len(clipped), len(self._drawn))):
            line = clipped[at] if at < len(clipped) else ""
            if anew or at >= len(self._drawn) or self._drawn[at] != line:
                parts.append(f"\x1b[{at + 1};1H\x1b[2K{line}")
        if parts:
            self._write(f"{''.join(parts)}\x1b[{max(1, len(clipped))};1H")
        self._drawn, self._size = clipped, size

    def key(self, seconds: float) -> str:
        """What was typed within so many seconds; else nothing."""
        if self._keys is None:
            time.sleep(seconds)
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        typed = os.read(self._keys, 64)
        if not typed:
            raise EOFError
        return typed.decode("utf-8", "replace")

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._drawn, self._size = [], (0, 0)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # on: here, when the shell lets it go on
        signal.signal(number, self._stop)
        self._take()

    @staticmethod
    def _end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def clip(line: str, width: int) -> str:
    """A line with its colours, cut where the terminal ends."""
    if line.isascii() and "\x1b" not in line and len(line) <= width:
        return line
    from rich.console import Console
    from rich.text import Text

    text = Text.from_ansi(line)
    if text.cell_len <= width:
        return line
    text.truncate(width, overflow="ellipsis")
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, no_color=not coloured())
    console.print(text, end="", no_wrap=True, soft_wrap=True, highlight=False)
    return out.getvalue()
