"""Somebody at a terminal, for programs that ask."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import Any


class Person:
    """Somebody at a terminal: sees what is shown there, and types."""

    def __init__(self, argv: list[str], **how: Any) -> None:
        self._end, other = os.openpty()
        self.shown = ""
        try:
            # setsid makes the terminal the program's own, for getpass.
            self.process = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *argv],
                stdin=other,
                stdout=subprocess.PIPE,
                stderr=other,
                text=True,
                **how,
            )
        finally:
            os.close(other)

    def answer(self, prompt: str, text: str, *, after: float = 0, end: str = "\n") -> None:
        deadline = time.monotonic() + 60
        while prompt not in self.shown:
            assert time.monotonic() < deadline and self.look(1), self.shown
        time.sleep(after)
        os.write(self._end, (text + end).encode())

    def look(self, patience: float) -> bool:
        """See what is new; whether more may come."""
        if select.select([self._end], [], [], patience)[0]:
            try:
                self.shown += os.read(self._end, 4096).decode()
            except OSError:  # nobody has the terminal open any more
                return False
        return True

    def output(self) -> str:
        said, _ = self.process.communicate(timeout=60)
        while self.look(0.2) and select.select([self._end], [], [], 0)[0]:
            pass
        return str(said)

    def leave(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._end)
