"""What all shells on other machines share: questions as framed scripts. How to get there is each its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcrun.shells import framing
from hpcrun.shells.base import Result, Sink, Stdin
from hpcrun.shells.streams import Asked


class FramedShell(ABC):
    """The part of :class:`hpcrun.shells.base.RemoteShell` that asks. A kind adds ``_talk``, ``rsh`` and
    ``close``."""

    def __init__(self, host: str) -> None:
        self._host = host

    @property
    def host(self) -> str:
        return self._host

    @abstractmethod
    def _talk(self, asked: Asked) -> Result:
        """Put a question to :data:`hpcrun.shells.framing.BOOT` there."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | bytes | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Result:
        """``keep_fds`` mean nothing there: what is asked to hold a lock holds none."""
        folder = None if cwd is None else str(cwd)
        source = framing.command(argv, folder, env, timeout)
        result = self._talk(Asked(source, (), tuple(argv), timeout, stdin))
        framing.check_started(result.rc, result.stderr, argv, folder, self.host)
        return result

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
        return self._talk(Asked(source, words, ("sh",), timeout, stdin, sink, progress))
