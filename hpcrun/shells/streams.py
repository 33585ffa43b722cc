"""Feeding a program and reading what it says, both at once, until a deadline."""

from __future__ import annotations

import io
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, BinaryIO, Protocol

from hpcrun.errors import UnreachableError
from hpcrun.shells import framing
from hpcrun.shells.base import Result, Sink, Stdin
from hpcrun.shells.processes import end_group, start

_PIECE = 1 << 16
_LAST_WORDS = 1.0
"""Seconds in which what was said before the end is still taken."""


def as_stream(stdin: Stdin) -> BinaryIO:
    """What a program is to read, as an open file."""
    if stdin is None:
        return io.BytesIO()
    if isinstance(stdin, str):
        return io.BytesIO(os.fsencode(stdin))
    return io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin


def leave_behind(argv: Sequence[str], env: Mapping[str, str], *, timeout: float) -> Result:
    """Run a program that leaves another behind in the background. What both say goes to a file, so that
    nobody waits for the other one to close a pipe. Raises CommandError."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = start(argv, env, stdin=subprocess.DEVNULL, output=said.fileno(), cwd="/")
        rc: int | None = None
        try:
            rc = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if rc is None:
                end_group(process)
        said.seek(0)
        words = said.read().decode("utf-8", "replace")
    return Result(tuple(argv), rc, "", words, time.monotonic() - began)


class Talking(Protocol):
    """Something that reads, writes to two streams, and ends. ``ended`` is False where the deadline came
    first; ``returncode`` is that of what carried the question."""

    stderr: bytearray
    ended: bool
    listening: threading.Event
    """To be set when the program is known to listen: no sooner is anything taken from ``stdin``."""

    @property
    def returncode(self) -> int | None: ...

    def run(
        self,
        head: bytes,
        stdin: Stdin,
        sink: Sink,
        *,
        timeout: float,
        progress: Callable[[int], None] | None = None,
    ) -> None: ...


class Talk:
    """A started program with its three streams. ``ended`` is False where the deadline came first."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = start(argv, env, stdin=subprocess.PIPE, output=subprocess.PIPE)
        self.stderr = bytearray()
        self.ended = False
        self.listening = threading.Event()
        self.listening.set()
        """Cleared by whoever wants nothing to be taken from ``stdin`` before it is set again."""
        self._over = 0.0
        self._wake = os.pipe()
        self._failure: BaseException | None = None

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self.ended else None

    def run(
        self,
        head: bytes,
        stdin: Stdin,
        sink: Sink,
        *,
        timeout: float,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write ``head`` and ``stdin``, give ``sink`` all that comes; over when the program has ended and
        closed its output, or else when the time is: then it is ended. Whatever ``sink`` raises is raised."""
        deadline = time.monotonic() + timeout
        threads = [
            threading.Thread(target=self._write, args=(head, as_stream(stdin), progress), daemon=True),
            threading.Thread(target=self._read, args=(sink,), daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads[1:]:
                thread.join(max(0.0, deadline - time.monotonic()))
            late = any(thread.is_alive() for thread in threads[1:])
            if not late and self._failure is None:
                self._process.wait(max(0.05, deadline - time.monotonic()))
                self.ended = True
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._end(threads)
        if self._failure is not None:
            raise self._failure

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        if not self.ended:
            end_group(self._process)
        self._over = time.monotonic()
        os.write(self._wake[1], b"x")
        self.listening.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(2 * _LAST_WORDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        for fd in self._wake:
            os.close(fd)

    def _write(self, head: bytes, stream: BinaryIO, progress: Callable[[int], None] | None) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            os.set_blocking(pipe.fileno(), False)
            self._put(pipe.fileno(), head)
            self.listening.wait()
            while not self._over and (piece := stream.read(_PIECE)):
                self._put(pipe.fileno(), piece)
                if progress is not None:
                    progress(len(piece))
            pipe.close()
        except (BrokenPipeError, ValueError):
            pass  # it reads no more: its answer says why
        except BaseException as error:
            self._fail(error)

    def _put(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._over:
            if fd in self._ready(fd, select.POLLOUT):
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    pass

    def _read(self, sink: Sink) -> None:
        try:
            self._take(self._process.stdout, sink)
        except BaseException as error:
            self._fail(error)

    def _listen(self) -> None:
        self._take(self._process.stderr, self.stderr.extend)

    def _take(self, pipe: IO[bytes] | None, sink: Sink) -> None:
        """All that comes. When it is over, what has come by then: others, a master of ssh say, may hold the
        other end for long."""
        assert pipe is not None
        while not self._over or time.monotonic() < self._over + _LAST_WORDS:
            ready = self._ready(pipe.fileno(), select.POLLIN)
            if pipe.fileno() in ready:
                if not (piece := os.read(pipe.fileno(), _PIECE)):
                    return
                sink(piece)
            elif ready:
                return

    def _ready(self, fd: int, what: int) -> set[int]:
        """Wait until something can be done with ``fd``, or all is over."""
        poll = select.poll()
        poll.register(fd, what)
        poll.register(self._wake[0], select.POLLIN)
        return {ready for ready, _ in poll.poll()}

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        end_group(self._process)


@dataclass
class Asked:
    """One framed question, to be put once or, where it certainly was not heard, again."""

    source: str
    words: Sequence[str]
    shown: tuple[str, ...]
    timeout: float
    stdin: Stdin = None
    sink: Sink | None = None
    progress: Callable[[int], None] | None = None
    mark: str = field(default_factory=framing.new_mark)

    def put(self, argv: Sequence[str], env: Mapping[str, str], timeout: float | None = None) -> Heard:
        """Ask the shell that ``argv`` leads to, within what is left of the time. What is to be read from a
        file stays there until the shell has begun, so that a question can be put again.

        Raises CommandError where the program cannot be started.
        """
        return self.over(Talk(argv, env), timeout)

    def over(self, talk: Talking, timeout: float | None = None) -> Heard:
        """Ask the shell at the other end of ``talk``."""
        began = time.monotonic()
        frame, out = framing.Frame(self.mark), bytearray()
        sink = self.sink if self.sink is not None else out.extend
        head = framing.request(self.source, self.words, self.mark)
        if self.progress is not None or not (self.stdin is None or isinstance(self.stdin, (str, bytes))):
            talk.listening.clear()
        else:
            talk.listening.set()

        def take(data: bytes) -> None:
            if answer := frame.feed(data):
                sink(answer)
            if frame.begun:
                talk.listening.set()

        patience = self.timeout if timeout is None else timeout
        talk.run(head, self.stdin, take, timeout=patience, progress=self.progress)
        if answer := frame.finish():
            sink(answer)
        stderr = framing.strip_noise(bytes(talk.stderr), self.mark).decode("utf-8", "replace")
        lost = ""
        if frame.rc is None and talk.ended:
            lost = f"the connection ended without an answer (exit code {talk.returncode})"
        text = out.decode("utf-8", "replace")
        result = Result(self.shown, frame.rc, text, stderr, time.monotonic() - began, lost)
        return Heard(result, talk.returncode, frame.begun, frame.noise.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Heard:
    """What came back: ``returncode`` is that of the program that carried the question; ``begun`` whether the
    shell there began with it; ``noise`` what somebody said before it did, or instead."""

    result: Result
    returncode: int | None
    begun: bool
    noise: str


def understood(heard: Heard, host: str) -> Result:
    """What a question to another machine came to. Raises UnreachableError where it was not carried out."""
    if not heard.result.lost:
        return heard.result
    if heard.returncode == 255:
        return replace(heard.result, lost=f"the connection to {host} broke")
    if heard.begun:
        return heard.result
    # The login shell ended in good order, and all that it said is here: the script never began.
    said = last_line(heard.noise) or last_line(heard.result.stderr)
    raise UnreachableError(
        f"the login shell on {host} did not carry out what it was sent"
        + (f": {said}" if said else f" (exit code {heard.returncode})"),
        hint="Is the account open, and does its .bashrc leave standard input alone?",
    )


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
