"""A terminal for tests: a program on it, keys typed, and what stands on its alternate screen."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
from collections.abc import Callable
from typing import ClassVar

from tests import cli_help
from tests.cli_help import _alarm, program


class Terminal:
    """A terminal with hpcrun on it, and what stands on its alternate screen."""

    open: ClassVar[list[Terminal]] = []

    def __init__(self, *args: str, columns: int = 100, lines: int = 24) -> None:
        self.ours, self._theirs = os.openpty()
        self.resize(columns, lines, tell=False)
        self.modes = termios.tcgetattr(self._theirs)
        ends = {"stdin": self._theirs, "stdout": self._theirs, "stderr": self._theirs}
        env = {**os.environ, "TERM": "xterm"}
        self.process = program(*args, env=env, start_new_session=True, **ends)
        self.stream = self._past = ""
        self.open.append(self)

    def forget(self) -> None:
        """Look at nothing that has been drawn until now."""
        self._past, self.stream = self._past + self.stream, ""

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        self.columns, self.lines = columns, lines
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def shown(self) -> list[str]:
        """The lines of the alternate screen; no cell behind the right edge is ever written to."""
        rows: dict[int, str] = {}
        at, text = 0, self.stream.rpartition("\x1b[?1049h")[2]
        for code, words in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([^\x1b]+)", text):
            if code.endswith("H"):
                at = int(code[2:].partition(";")[0] or 1) if code != "\x1b[H" else 1
            elif code in ("\x1b[2J", "\x1b[?1049l"):
                rows = {}
            elif code == "\x1b[2K":
                rows[at] = ""
            elif code.endswith("m"):
                pass
            elif words:
                rows[at] = rows.get(at, "") + words
            else:
                raise AssertionError(f"{code!r} was sent to the terminal")
        return [rows.get(line, "") for line in range(1, max(rows, default=0) + 1)]

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        with _alarm():
            while not condition(self.shown):
                self.stream += os.read(self.ours, 65536).decode()
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """Read to the end; the exit code. The terminal is as it was."""
        code = self.process.wait(cli_help.PATIENCE)
        self.open.remove(self)
        os.set_blocking(self.ours, False)
        try:
            while data := os.read(self.ours, 65536):
                self.stream += data.decode()
        except BlockingIOError:
            pass
        assert termios.tcgetattr(self._theirs) == self.modes
        every = self._past + self.stream
        assert every.count("\x1b[?1049h") == every.count("\x1b[?1049l") > 0
        assert "\x1b[?25l" not in every, "the cursor is never hidden"
        os.close(self.ours)
        os.close(self._theirs)
        return code


def close_all() -> None:
    """For the end of a test: kill what is still on a terminal."""
    for terminal in Terminal.open:
        terminal.process.kill()
        terminal.process.wait()
    Terminal.open.clear()
