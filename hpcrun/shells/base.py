"""The one gate for subprocesses: argv, a deadline, one Result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from hpcrun.errors import CommandError


@dataclass(frozen=True)
class Result:
    """What became of a command. ``rc`` is None where it was not known to have ended: a deadline, or, with
    the words in ``lost``, a connection that broke."""

    argv: tuple[str, ...]
    rc: int | None
    stdout: str
    stderr: str
    seconds: float
    lost: str = ""

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
        if self.lost:
            how = f"was cut off: {self.lost}"
        elif self.timed_out:
            how = f"did not end within {self.seconds:.0f} s"
        else:
            how = f"ended with exit code {self.rc}"
        tail = [line for line in (self.stderr or self.stdout).splitlines() if line.strip()][-10:]
        said = "".join(f"\n    {line}" for line in tail)
        return f"{head}{shlex.join(self.argv[:12])}{' …' if len(self.argv) > 12 else ''} {how}{said}"


Stdin = str | bytes | BinaryIO | None
"""What a program reads: text, bytes, or an open file from where it stands."""

Sink = Callable[[bytes], None]
"""Takes what a program writes, as it comes."""


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


class PosixShell(Shell, Protocol):
    """A shell that also takes source, for what one command cannot do."""

    def script(
        self,
        source: str,
        words: Sequence[str] = (),
        *,
        timeout: float,
        stdin: Stdin = None,
        sink: Sink | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        """Run POSIX shell source, with ``words`` as its positional parameters.

        Both travel where stdin does, never in a command line. The source may read ``stdin``. ``sink`` takes
        its standard output as it comes, which is then not in the Result; ``progress`` is told how many bytes
        of ``stdin`` have gone.
        """
        ...


@dataclass(frozen=True)
class Rsh:
    """How another program, rsync say, gets to a site: the command that ``ssh`` stands for in its manual, to
    be followed by ``host`` and what is to run there; ``env`` is to be added to its environment."""

    argv: list[str]
    host: str
    env: dict[str, str] = field(default_factory=dict)


class RemoteShell(PosixShell, Protocol):
    """Runs programs on another machine, all of them over one connection.

    UnreachableError (LoginRequired where somebody has to type something) if the connection cannot be had:
    then certainly nothing was started. Where it breaks later, the Result has no ``rc`` and says why in
    ``lost``.
    """

    @property
    def host(self) -> str:
        """The machine's name, as the site's description has it."""
        ...

    def rsh(self) -> AbstractContextManager[Rsh]:
        """The same connection, for a program that brings its own protocol."""
        ...

    def close(self) -> None:
        """Let go of what this object alone holds; a connection that others share stays."""
        ...
