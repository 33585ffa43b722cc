"""The one gate for subprocesses: argv, a deadline, one Result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpcrun.errors import CommandError


@dataclass(frozen=True)
class Result:
    """What became of a command. ``rc`` is None where it was not known to have ended (a deadline)."""

    argv: tuple[str, ...]
    rc: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def timed_out(self) -> bool:
        return self.rc is None

    def check(self, doing: str = "") -> Result:
        """Self if the command succeeded; else CommandError with its last lines."""
        if self.ok:
            return self
        raise CommandError(self.describe(doing))

    def describe(self, doing: str = "") -> str:
        head = f"{doing}: " if doing else ""
        how = (
            f"did not end within {self.seconds:.0f} s"
            if self.timed_out
            else f"ended with exit code {self.rc}"
        )
        tail = [line for line in (self.stderr or self.stdout).splitlines() if line.strip()][-10:]
        said = "".join(f"\n    {line}" for line in tail)
        return f"{head}{shlex.join(self.argv[:12])}{' …' if len(self.argv) > 12 else ''} {how}{said}"


class Shell(Protocol):
    """Runs programs on one machine.

    ``run`` never raises for a program's own failure: that is in the Result. A program that is missing
    is CommandError. ``timeout`` is in seconds and always applies; when it is over, the program and what
    it started are ended.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | bytes | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Result: ...
