"""fabric, where there is no ssh program or it may not share a connection: all in this process.

Every question is a channel of the one connection (:mod:`hpcrun.shells.fabric_link`); rsync and git get to it
through a small program (:mod:`hpcrun.shells.bridging`). So whoever has to type something does so once a
process, and not for longer: see docs/fabric.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from hpcrun.shells import framing
from hpcrun.shells.base import Result, Rsh, Sink, Stdin
from hpcrun.shells.bridging import served
from hpcrun.shells.fabric_link import Link, link_to
from hpcrun.shells.framed import FramedShell
from hpcrun.shells.streams import Asked, as_stream, understood

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

_PIECE = 1 << 16


class FabricShell(FramedShell):
    """See :class:`hpcrun.shells.base.RemoteShell`."""

    def __init__(self, connection: Connection) -> None:
        assert connection.host is not None
        super().__init__(connection.host)
        self._boot = framing.BOOT_LOGIN if connection.login_shell else framing.BOOT
        self._link = link_to(connection)

    def _talk(self, asked: Asked) -> Result:
        return understood(asked.over(ChannelTalk(self._link, self._boot)), self.host)

    @contextmanager
    def rsh(self) -> Iterator[Rsh]:
        self._link.open()
        with served(self._link) as argv:
            # git would otherwise try which options of ssh this takes: it takes none.
            yield Rsh(argv, self.host, {"GIT_SSH_VARIANT": "simple"})

    def close(self) -> None:
        """The connection stays: others of this process share it, and opening it may have cost a code."""


class ChannelTalk:
    """See :class:`hpcrun.shells.streams.Talking`: a command on a channel of its own."""

    def __init__(self, link: Link, command: str) -> None:
        self._link, self._command = link, command
        self.stderr = bytearray()
        self.ended = False
        self.listening = threading.Event()
        self._over = False
        self._failure: BaseException | None = None
        self._status: int | None = None

    @property
    def returncode(self) -> int | None:
        return self._status

    def run(
        self,
        head: bytes,
        stdin: Stdin,
        sink: Sink,
        *,
        timeout: float,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """See :meth:`hpcrun.shells.streams.Talk.run`. Raises UnreachableError too."""
        deadline = time.monotonic() + timeout
        self._channel = self._link.channel(deadline)
        write = (head, as_stream(stdin), progress)
        threads = [
            threading.Thread(target=self._write, args=write, daemon=True),
            threading.Thread(target=self._read, args=(sink,), daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads[1:]:
                thread.join(max(0.0, deadline - time.monotonic()))
            self.ended = not any(thread.is_alive() for thread in threads[1:]) and self._failure is None
            if self.ended:
                self._conclude(deadline)
        finally:
            self._over = True
            self.listening.set()
            self._link.give_back(self._channel)
            for thread in threads:
                thread.join(2.0)
        if self._failure is not None:
            raise self._failure

    def _conclude(self, deadline: float) -> None:
        if self._channel.status_event.wait(max(0.05, min(2.0, deadline - time.monotonic()))):
            self._status = self._channel.exit_status
        if self._link.broke(self._channel):
            self._status = 255  # as ssh says it

    def _write(self, head: bytes, stream: BinaryIO, progress: Callable[[int], None] | None) -> None:
        try:
            if not self._taken(self._channel.exec_command, self._command):
                return
            if not self._taken(self._channel.sendall, head):
                return
            self.listening.wait()
            while not self._over and (piece := stream.read(_PIECE)):
                if not self._taken(self._channel.sendall, piece):
                    return
                if progress is not None:
                    progress(len(piece))
            self._taken(self._channel.shutdown_write)
        except BaseException as error:
            self._fail(error)

    def _taken(self, send: Callable[..., None], *what: object) -> bool:
        """Whether it could be sent. If not, the other side reads no more, and its answer says why."""
        from paramiko import SSHException

        try:
            send(*what)
        except (OSError, EOFError, SSHException):
            return False
        return True

    def _read(self, sink: Sink) -> None:
        while True:
            try:
                piece = self._channel.recv(_PIECE)
            except OSError:
                return  # closed, as the time was over
            if not piece:
                return
            try:
                sink(piece)
            except BaseException as error:
                self._fail(error)
                return

    def _listen(self) -> None:
        with suppress(OSError):
            while piece := self._channel.recv_stderr(_PIECE):
                self.stderr += piece

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._channel.close()
