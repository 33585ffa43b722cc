"""Feeding a program and reading what it says, both at once, until a deadline."""

from __future__ import annotations

import io
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from hpcrun.shells import framing
from hpcrun.shells.base import Result, Sink, Stdin
from hpcrun.shells.processes import end_group, start

_PIECE = 1 << 16


def as_stream(stdin: Stdin) -> BinaryIO:
    """What a program is to read, as an open file."""
    if stdin is None:
        return io.BytesIO()
    if isinstance(stdin, str):
        return io.BytesIO(os.fsencode(stdin))
    return io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin


class Talking(Protocol):
    """Something that reads, writes to two streams, and ends. ``ended`` is False where the deadline came
    first; ``returncode`` is that of what carried the question."""

    stderr: bytearray
    ended: bool

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
        for thread in threads:
            thread.start()
        try:
            for thread in threads[1:]:
                thread.join(max(0.0, deadline - time.monotonic()))
            late = any(thread.is_alive() for thread in threads[1:])
            if not late and self._failure is None:
                self._process.wait(max(0.05, deadline - time.monotonic()))
                self.ended = True
        except subprocess.TimeoutExpired:
            pass
        finally:
            if not self.ended:
                end_group(self._process)
            for thread in threads:
                thread.join(2.0)
            self._close()
        if self._failure is not None:
            raise self._failure

    def _write(self, head: bytes, stream: BinaryIO, progress: Callable[[int], None] | None) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(head)
            pipe.flush()
            while piece := stream.read(_PIECE):
                pipe.write(piece)
                if progress is not None:
                    progress(len(piece))
            pipe.close()
        except (BrokenPipeError, ValueError):
            pass  # it reads no more: its answer says why

    def _read(self, sink: Sink) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            while piece := os.read(pipe.fileno(), _PIECE):
                sink(piece)
        except (OSError, ValueError):
            pass  # closed, as the time was over
        except BaseException as error:
            self._failure = error
            end_group(self._process)

    def _listen(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        try:
            while piece := os.read(pipe.fileno(), _PIECE):
                self.stderr += piece
        except (OSError, ValueError):
            pass

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass


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

    def put(self, argv: Sequence[str], env: Mapping[str, str]) -> Heard:
        """Ask the shell that ``argv`` leads to. Raises CommandError where that cannot be started."""
        return self.over(Talk(argv, env))

    def over(self, talk: Talking) -> Heard:
        """Ask the shell at the other end of ``talk``."""
        began = time.monotonic()
        frame, out = framing.Frame(self.mark), bytearray()
        sink = self.sink if self.sink is not None else out.extend
        head = framing.request(self.source, self.words, self.mark)

        def take(data: bytes) -> None:
            sink(frame.feed(data))

        talk.run(head, self.stdin, take, timeout=self.timeout, progress=self.progress)
        sink(frame.finish())
        stderr = framing.strip_noise(bytes(talk.stderr), self.mark).decode("utf-8", "replace")
        lost = ""
        if frame.rc is None and talk.ended:
            lost = last_line(stderr) or f"it ended without an answer (exit code {talk.returncode})"
        text = out.decode("utf-8", "replace")
        result = Result(self.shown, frame.rc, text, stderr, time.monotonic() - began, lost)
        return Heard(result, talk.returncode, frame.begun, bool(frame.noise.strip()))


@dataclass(frozen=True)
class Heard:
    """What came back: ``returncode`` is that of the program that carried the question; ``begun`` whether the
    shell there began with it; ``noisy`` whether somebody spoke before it did."""

    result: Result
    returncode: int | None
    begun: bool
    noisy: bool


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
