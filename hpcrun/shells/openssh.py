"""The ssh program: one connection a host, which a master process keeps open, and all that ssh_config says.

Whatever is run goes over the master's socket, and never by a connection of its own: the command line tells
ssh that there is no other way. So it is one place that opens connections (:mod:`hpcrun.shells.master`), one
process at a time, and it alone knows how opening failed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import UnreachableError
from hpcrun.shells import framing
from hpcrun.shells.base import Result, Rsh
from hpcrun.shells.bridging import quiet_rsh
from hpcrun.shells.framed import FramedShell
from hpcrun.shells.master import Master
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.streams import Asked, understood

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

_MASTERS = 3
"""So often a master may die before it took a question."""
_PAUSE = (0.05, 0.5)
"""Seconds, at least and at most, before a master is asked again whether it has a channel free."""


class OpenSshShell(FramedShell):
    """See :class:`hpcrun.shells.base.RemoteShell`."""

    def __init__(self, connection: Connection) -> None:
        assert connection.host is not None
        super().__init__(connection.host)
        self._boot = framing.BOOT_LOGIN if connection.login_shell else framing.BOOT
        self.master = Master(connection)
        self.noisy = False

    def _talk(self, asked: Asked) -> Result:
        self.master.open()
        deadline, masters = time.monotonic() + asked.timeout, 1
        while True:
            left = max(0.1, deadline - time.monotonic())
            argv = [*self.master.client(), self.host, self._boot]
            heard = asked.put(argv, clean_environment(), left)
            if heard.begun or not self.master.was_not_heard(heard.result.stderr):
                self.noisy = self.noisy or bool(heard.noise.strip())
                return understood(heard, self.host)
            if self.master.is_open():
                # It lives, so it got no channel: a host allows about ten at once (MaxSessions).
                pause = random.uniform(*_PAUSE)
                if time.monotonic() + pause >= deadline:
                    raise UnreachableError(
                        f"{self.host} had no channel free within {asked.timeout:.0f} s",
                        hint="So many commands at once are more than its sshd allows (MaxSessions).",
                    )
                time.sleep(pause)
            elif masters < _MASTERS:
                masters += 1
                self.master.ensure()
            else:
                raise UnreachableError(f"the connection to {self.host} breaks as soon as it is made")

    @contextmanager
    def rsh(self) -> Iterator[Rsh]:
        self.master.ensure()
        client = self.master.client()
        yield Rsh(quiet_rsh(client) if self.noisy else client, self.host)

    def close(self) -> None:
        """The master stays: that is what it is for. See :meth:`hpcrun.shells.master.Master.end`."""


def uses_ssh(connection: Connection) -> bool:
    """Whether a connection is one of this kind."""
    return connection.type == "openssh" or (connection.type == "ssh" and has_ssh())


def has_ssh() -> bool:
    """Whether there is an ssh program on this machine."""
    return any(os.access(Path(f, "ssh"), os.X_OK) for f in os.environ.get("PATH", "").split(os.pathsep) if f)
