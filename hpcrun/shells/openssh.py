"""The ssh program: one connection a host, which a master process keeps open, and all that ssh_config says.

Whatever is run goes over the master's socket, and never by a connection of its own: the command line tells
ssh that there is no other way. So it is one place that opens connections (:mod:`hpcrun.shells.master`), one
process at a time, and it alone knows how opening failed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import UnreachableError
from hpcrun.shells import framing
from hpcrun.shells.base import Result, Rsh, Sink, Stdin
from hpcrun.shells.bridging import quiet_rsh
from hpcrun.shells.master import Master
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.streams import Asked, last_line

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

# ssh's own words when it found no master, or the master let it have no channel: then nothing was started.
_NOT_STARTED = (
    "Control socket connect",
    "mux_client",
    "Session open refused",
    "Connection closed by UNKNOWN",
    "kex_exchange_identification",
)
_TRIES = 6


class OpenSshShell:
    """See :class:`hpcrun.shells.base.RemoteShell`."""

    def __init__(self, connection: Connection) -> None:
        assert connection.host is not None
        self._connection = connection
        self._boot = framing.BOOT_LOGIN if connection.login_shell else framing.BOOT
        self.master = Master(connection)
        self.noisy = False

    @property
    def host(self) -> str:
        assert self._connection.host is not None
        return self._connection.host

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
        source = framing.command(argv, None if cwd is None else str(cwd), env, timeout)
        return self._talk(source, (), tuple(argv), timeout, stdin, None, None)

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
        return self._talk(source, words, ("sh",), timeout, stdin, sink, progress)

    def _talk(
        self,
        source: str,
        words: Sequence[str],
        shown: tuple[str, ...],
        timeout: float,
        stdin: Stdin,
        sink: Sink | None,
        progress: Callable[[int], None] | None,
    ) -> Result:
        asked = Asked(source, words, shown, timeout, stdin, sink, progress)
        for attempt in range(_TRIES):
            self.master.open()
            heard = asked.put([*self.master.client(), self.host, self._boot], clean_environment())
            self.noisy = self.noisy or heard.noisy
            words_of_ssh = heard.result.stderr
            if heard.returncode != 255 or heard.begun or not any(w in words_of_ssh for w in _NOT_STARTED):
                return heard.result
            time.sleep(0.1 * 2**attempt)
        raise UnreachableError(f"{self.host}: {last_line(words_of_ssh)}")

    @contextmanager
    def rsh(self) -> Iterator[Rsh]:
        self.master.open()
        client = self.master.client()
        yield Rsh(quiet_rsh(client) if self.noisy else client, self.host, {})

    def close(self) -> None:
        """The master stays: that is what it is for. See :meth:`hpcrun.shells.master.Master.end`."""


def has_ssh() -> bool:
    """Whether there is an ssh program on this machine."""
    return any(os.access(Path(f, "ssh"), os.X_OK) for f in os.environ.get("PATH", "").split(os.pathsep) if f)
