"""The one connection of this process to a host, by fabric: opened when it is first needed, and once more
when it broke."""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hpcrun.errors import LoginRequired, UnreachableError
from hpcrun.shells import fabric_login
from hpcrun.shells.fabric_login import Ask, Login
from hpcrun.shells.fabric_way import Gate, Tunnel, route
from hpcrun.shells.patience import OutOfPatience, Patience

if TYPE_CHECKING:
    import fabric
    from paramiko import Channel, Transport

    from hpcrun.models.site import Connection

_PATIENCE = 15
"""Seconds for all that comes after the first answer, keys and jump hosts included."""
_KEEPALIVE = 15
_DEAF = 60
"""Seconds after which a connection on which nothing is acknowledged has broken."""
_MOST_WAITING = 300
"""Seconds that a server which thinks about keys or codes is waited for; the total deadline comes first."""


class Link:
    """See the module. Threads may use it at once: each question has a channel of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._state = threading.RLock()
        self._opening = threading.Lock()
        self._freed = threading.Condition()
        self._channels = 0
        self._hops: list[fabric.Connection] = []
        self._refused: UnreachableError | None = None
        self._asked = False

    @property
    def host(self) -> str:
        return str(self._connection.host)

    # -- channels -------------------------------------------------------------

    def channel(self, deadline: float) -> Channel:
        """A channel for one command; to be given back. ``deadline`` is of time.monotonic().

        Raises UnreachableError: nothing has been started then.
        """
        why = ""
        for _ in range(2):
            transport = self.open()
            try:
                return self._channel(transport, deadline)
            except (OSError, EOFError, _SshError()) as error:
                why = _words(error)
                self._drop(transport)
        raise UnreachableError(f"{self.host}: {why}")

    def _channel(self, transport: Transport, deadline: float) -> Channel:
        import paramiko

        pause = 0.05
        while True:
            try:
                # One at a time: paramiko has one place for why a channel was refused.
                with self._opening:
                    limit = max(0.1, min(deadline - time.monotonic(), self._connection.connect_timeout))
                    channel = transport.open_session(timeout=limit)
                with self._freed:
                    self._channels += 1
                return channel
            except paramiko.ChannelException as error:
                # MaxSessions, most likely: others are still talking.
                if time.monotonic() + pause > deadline:
                    raise UnreachableError(f"{self.host} allows no further session: {error.text}") from error
            with self._freed:
                self._freed.wait(pause)
            pause = min(1.0, pause * 2)

    def give_back(self, channel: Channel) -> None:
        """Close a channel, even where the connection is dead."""
        transport = channel.get_transport()
        closing = threading.Thread(target=_close_quietly, args=(channel,), daemon=True)
        closing.start()
        closing.join(2.0)
        if closing.is_alive():
            self._drop(transport)  # nothing gets through any more
        with self._freed:
            self._channels -= 1
            self._freed.notify_all()

    def broke(self, channel: Channel) -> bool:
        """Whether the connection under a channel has ended."""
        return not channel.get_transport().is_active()

    # -- the connection -------------------------------------------------------

    def open(self) -> Transport:
        """The open connection. Raises UnreachableError, LoginRequired."""
        with self._state:
            if self._refused is not None:
                raise self._refused  # asking again would only look like an attack
            transport = self._hops[-1].transport if self._hops else None
            if transport is not None and transport.is_active():
                return transport
            self._close()
            return self._connect()

    def close(self) -> None:
        with self._state:
            self._close()

    def _close(self) -> None:
        hops, self._hops = self._hops, []
        _hang_up(hops)

    def _drop(self, transport: Transport) -> None:
        with self._state:
            if self._hops and self._hops[-1].transport is transport:
                self._close()

    def _connect(self) -> Transport:
        nobody = not fabric_login.somebody_is_there() or self._asked
        if self._connection.two_factor and nobody:
            raise LoginRequired(
                f"{self.host} lets nobody in who does not type something", hint=fabric_login.HINT
            )
        seconds = self._connection.connect_timeout + _PATIENCE
        hops: list[fabric.Connection] = []
        given_up = threading.Event()

        def work(ask: Ask) -> None:
            self._reach(hops, None if nobody else ask, given_up)
            if given_up.is_set():
                _hang_up(hops)

        try:
            Patience(work, self._answer).wait(seconds)
        except BaseException as error:
            given_up.set()
            # In a thread, since paramiko waits for a connection that is still being made.
            threading.Thread(target=_hang_up, args=(hops,), daemon=True).start()
            if isinstance(error, OutOfPatience):
                raise UnreachableError(f"{self.host} cannot be reached: no answer in {seconds} s") from error
            if isinstance(error, (OSError, EOFError, _SshError(), ValueError)):
                raise UnreachableError(f"{self.host} cannot be reached: {_words(error)}") from error
            raise
        self._hops = hops
        transport: Transport = hops[-1].transport
        return transport

    def _answer(self, questions: Any) -> list[str]:
        self._asked = True
        return fabric_login.ask_at_terminal(questions)

    def _reach(self, hops: list[fabric.Connection], ask: Ask | None, given_up: threading.Event) -> None:
        """Connect hop by hop, each through the one before; all in ``hops``, so that they can be closed."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # or it writes to our standard error
        for hop in route(self._connection):
            hops.append(hop)
            for pause in (0.2, 0.5, 1.0, 2.0, None):
                if given_up.is_set():
                    return
                began = time.monotonic()
                try:
                    self._knock(hop, ask)
                    break
                except (EOFError, ConnectionResetError, _SshError()) as error:
                    _hang_up([hop])
                    # Turned away at the door, before any key was shown: MaxStartups. Anything else is final.
                    deaf = time.monotonic() - began > self._connection.connect_timeout - 0.5
                    if pause is None or deaf or not _at_the_door(error):
                        raise
                    time.sleep(pause * random.uniform(0.5, 1.5))

    def _knock(self, hop: fabric.Connection, ask: Ask | None) -> None:
        gate, login = Gate(hop), Login(hop.original_host, hop.user, hop.ssh_config, ask)
        hop.client.set_missing_host_key_policy(gate)
        try:
            hop.client.connect(
                hop.host,
                hop.port,
                hop.user,
                sock=self._way_in(hop),
                timeout=self._connection.connect_timeout,
                banner_timeout=self._connection.connect_timeout,
                auth_timeout=_MOST_WAITING * (12 if ask else 1),
                channel_timeout=self._connection.connect_timeout,
                transport_factory=gate.transport,
                auth_strategy=login,
            )
        except UnreachableError as error:
            if login.tried:
                self._refused = error
            raise
        hop.transport = hop.client.get_transport()
        hop.transport.set_keepalive(_KEEPALIVE)
        _notice_death(hop.transport.sock)

    def _way_in(self, hop: fabric.Connection) -> Any:
        if isinstance(hop.gateway, str):
            return Tunnel(hop.gateway)
        return hop.open_gateway() if hop.gateway else None


# -- all links of this process -------------------------------------------------

_links: dict[tuple[object, ...], Link] = {}
_links_lock = threading.Lock()


def link_to(connection: Connection) -> Link:
    """The link to a host; the same for all who ask. A forked process has its own."""
    c = connection
    shape = (os.getpid(), c.host, c.user, c.port, c.ssh_config, c.jump)
    with _links_lock:
        if not _links:
            atexit.register(close_all)
        if shape not in _links:
            _links[shape] = Link(connection)
        return _links[shape]


def close_all() -> None:
    """Close every connection of this process, and forget who refused."""
    with _links_lock:
        ours = [link for shape, link in _links.items() if shape[0] == os.getpid()]
        _links.clear()
    for link in ours:
        link.close()


# -- what went wrong -----------------------------------------------------------


def _SshError() -> type[Exception]:
    from paramiko import SSHException

    error: type[Exception] = SSHException
    return error


def _at_the_door(error: BaseException) -> bool:
    return isinstance(error, (EOFError, ConnectionResetError)) or "banner" in str(error)


def _words(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    if isinstance(error, EOFError):
        return "the connection was closed at once"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = str(error) or type(error).__name__
    return {"No existing session": "it did not end its greeting in time"}.get(words, words)


def _hang_up(hops: Sequence[fabric.Connection]) -> None:
    for hop in reversed(hops):
        transport = hop.client.get_transport()
        _close_quietly(hop.client)
        if transport is not None:
            _close_quietly(transport.sock)  # one that broke by itself is left open


def _close_quietly(thing: Any) -> None:
    with suppress(Exception):
        thing.close()


def _notice_death(sock: object) -> None:
    """Have the kernel end a connection on which nothing is acknowledged, keepalives included."""
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAF * 1000)
