"""A small TCP relay, to make a connection slow, short-lived or deaf."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class Relay:
    """Forward connections to 127.0.0.1:port to a target, with a fault.

    latency     seconds that every chunk waits, each way
    cut_up      close a connection once this many bytes went to the target
    cut_down    close a connection once this many bytes came from the target
    cuts        how many connections to close so; all, if None
    black_hole  take connections and never answer

    The attributes may be changed while it runs; `connections` counts, as do `bytes_up` and `bytes_down`,
    over all of them.
    """

    def __init__(
        self,
        target: tuple[str, int],
        latency: float = 0,
        cut_up: int | None = None,
        cut_down: int | None = None,
        black_hole: bool = False,
    ) -> None:
        self.target = target
        self.latency = latency
        self.cut_up = cut_up
        self.cut_down = cut_down
        self.black_hole = black_hole
        self.cuts: int | None = None
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut every connection and listen no more."""
        for each in (self._listener, *self._open):
            _cut(each)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._open):
            each.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # how close() ends it
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._open.append(near)
                if self.black_hole:
                    continue
                far = socket.create_connection(self.target, timeout=10)
                far.settimeout(None)
                self._open.append(far)
                self._start(self._pump, near, far, "cut_up", "bytes_up")
                self._start(self._pump, far, near, "cut_down", "bytes_down")

    def _pump(self, source: socket.socket, sink: socket.socket, limit: str, count: str) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                time.sleep(self.latency)
                setattr(self, count, getattr(self, count) + len(chunk))
                most: int | None = getattr(self, limit)
                if most is not None and passed + len(chunk) >= most and self.cuts != 0:
                    self.cuts = self.cuts and self.cuts - 1
                    sink.sendall(chunk[: most - passed])
                    break
                sink.sendall(chunk)
                passed += len(chunk)
        _cut(source)
        _cut(sink)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
