"""hpcrun's side of :mod:`hpcrun.shells.bridge`: how rsync and git come to ride on a connection."""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from hpcrun.shells.framing import new_mark
from hpcrun.shells.ssh_files import private_folder

if TYPE_CHECKING:
    from paramiko import Channel

    from hpcrun.shells.fabric_link import Link

_PROGRAM = Path(__file__).with_name("bridge.py")
_PIECE = 1 << 16
_LONGEST = 1 << 22
"""Bytes in a command line, at most."""
_START = 60.0
"""Seconds that a channel is waited for."""
_counter = itertools.count()


def quiet_rsh(argv: list[str]) -> list[str]:
    """What to give to rsync or git in place of ``argv``, which leads to ssh: what the login shell there says
    before the command does not reach them."""
    return [*_bridge("after"), str(len(argv)), *argv]


def _bridge(how: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_PROGRAM), how]


@contextmanager
def served(link: Link) -> Iterator[list[str]]:
    """The command line that stands for ssh, for as long as the context is open; then what rides on the
    connection is cut off."""
    folder = private_folder()
    _forget_the_dead(folder)
    path = folder / f"bridge-{os.getpid()}-{next(_counter)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(16)
        server = _Server(link, listener)
        accepting = threading.Thread(target=server.accept, daemon=True)
        accepting.start()
        try:
            yield [*_bridge("over"), str(path)]
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            server.end()


def _forget_the_dead(folder: Path) -> None:
    """Take away the sockets of processes that were killed."""
    for path in folder.glob("bridge-*"):
        try:
            os.kill(int(path.name.split("-")[1]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            pass


class _Server:
    def __init__(self, link: Link, listener: socket.socket) -> None:
        self._link, self._listener = link, listener
        self._riding: dict[_Ride, threading.Thread] = {}

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                ride = _Ride(self._link, near)
                thread = threading.Thread(target=ride.go, daemon=True)
                self._riding[ride] = thread
                thread.start()

    def end(self) -> None:
        for ride, thread in self._riding.items():
            ride.cut()
            thread.join(5)


class _Ride:
    """One bridge program, and the command at the site that its streams belong to."""

    def __init__(self, link: Link, near: socket.socket) -> None:
        self._link, self._near = link, near
        self._channel: Channel | None = None
        self._streams: list[int] = []
        self._threads: list[threading.Thread] = []
        self._mark = new_mark()
        self._cut = False

    def cut(self) -> None:
        self._cut = True
        if self._channel is not None:
            self._channel.close()
        with suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)

    def go(self) -> None:
        code = 255
        try:
            code = self._go()
        except Exception as error:
            self._complain(str(error))
        finally:
            with suppress(OSError):
                self._near.sendall(struct.pack("!i", code))
            with suppress(OSError):
                self._near.shutdown(socket.SHUT_RDWR)  # wakes the thread that sends
            if self._channel is not None:
                self._link.give_back(self._channel)
            for thread in self._threads:
                thread.join(5)
            for stream in self._streams:
                with suppress(OSError):
                    os.close(stream)
            self._near.close()

    def _complain(self, why: str) -> None:
        if len(self._streams) == 3:
            with suppress(OSError):
                os.write(self._streams[2], os.fsencode(f"hpcrun: {why}\n"))

    def _go(self) -> int:
        asked = self._request()
        if asked["host"] != self._link.host:
            raise ValueError(f"this connection leads to {self._link.host}, not to {asked['host']}")
        channel = self._channel = self._link.channel(monotonic() + _START)
        # The mark comes first: what a .bashrc says before it would be taken for the command's own words.
        channel.exec_command(os.fsencode(f"printf '\\n%s\\n' {self._mark}; {asked['command']}"))
        stdin, stdout, stderr = self._streams
        self._threads = [
            threading.Thread(target=self._send, args=(channel, stdin), daemon=True),
            threading.Thread(target=self._take_errors, args=(channel, stderr), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._take(channel, stdout)
        except OSError:
            channel.close()  # whoever read here is gone
        self._threads[1].join()
        channel.status_event.wait(10)
        # A command that was cut off sees its input end, and may well take that for a good end.
        if channel.exit_status >= 0 and not self._cut:
            return int(channel.exit_status)
        if self._link.broke(channel):
            self._complain(f"the connection to {self._link.host} broke")
        return 255

    def _request(self) -> dict[str, str]:
        first, self._streams, _, _ = socket.recv_fds(self._near, 4, 3)
        head = first + self._exactly(4 - len(first))
        (length,) = struct.unpack("!I", head)
        if len(self._streams) != 3 or length > _LONGEST:
            raise ValueError("not a request of hpcrun's bridge")
        for stream in self._streams:
            os.set_blocking(stream, True)
        asked: dict[str, str] = json.loads(self._exactly(length))
        return asked

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self._near.recv(count - len(got))
            if not piece:
                raise EOFError("the bridge has gone")
            got += piece
        return got

    def _send(self, channel: Channel, stdin: int) -> None:
        """From the program to the site, until its input or the bridge itself ends."""
        waiting = select.poll()
        for stream in (stdin, self._near.fileno()):
            waiting.register(stream, select.POLLIN | select.POLLHUP)
        with suppress(OSError):
            while True:
                ready = [stream for stream, _ in waiting.poll()]
                if stdin not in ready:
                    break  # the bridge was killed, or has heard how it ended
                piece = os.read(stdin, _PIECE)
                if piece:
                    channel.sendall(piece)
                    continue
                channel.shutdown_write()
                waiting.unregister(stdin)
        channel.close()

    def _take(self, channel: Channel, stdout: int) -> None:
        mark, kept = f"\n{self._mark}\n".encode(), b""
        while piece := channel.recv(_PIECE):
            if mark:
                before, found, piece = (kept + piece).partition(mark)
                if not found:
                    kept = before[-len(mark) :]
                    continue
                mark = b""
            _write(stdout, piece)

    def _take_errors(self, channel: Channel, stderr: int) -> None:
        with suppress(OSError):
            while piece := channel.recv_stderr(_PIECE):
                _write(stderr, piece)


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]
