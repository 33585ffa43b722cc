"""Following a run on another machine: one channel to one script there, which sends what the job writes.

It is written into the run's folder in the history, from where logs are read as those of a run here are. A
thread holds the channel. Where that is cut, it asks for another by itself, with growing pauses, from where
the logs here end. Both sides let the other one know that they are there: whoever is silent is missed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, cast

from hpcrun.engine.frames import MARK_LENGTH, Anew, BrokenStream, End, Frame, Frames
from hpcrun.engine.mirror import Gap, Mirror
from hpcrun.errors import CommandError, HpcrunError, LoginRequired
from hpcrun.history.paths import RunPaths
from hpcrun.shells.base import PosixShell, Result
from hpcrun.shells.scripts import source

BEAT = 5.0
"""Seconds between two signs of life, from here; the script gives one every four, and waits for forty."""
SILENT = 15.0
"""Seconds after which a channel that says nothing is called so."""
CHANNELS = 4
"""So many runs of one host are followed at once by one process; sshd allows about ten channels in all.
Whoever comes later waits for a channel, and meanwhile asks the scheduler alone."""

_PAUSE, _PAUSE_MOST = 0.5, 30.0
_LASTED = 5.0
_LASTS = 6 * 3600.0
_LOOKS = 60.0
_FETCHED = 600.0
_NO_FOLDER = 92

_channels: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(CHANNELS)
)


class _Stopped(Exception):
    """Nobody wants to know any more."""


class _Beats:
    """What the script reads: a line now and then, "end" when it is to send the rest, and then nothing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._word: bytes | None = None
        self._closed = self._stopped = False

    def read(self, size: int = -1) -> bytes:
        """Called by whoever writes to the script; waits for there to be something to say."""
        with self._changed:
            if self._word is None and not self._closed and not self._stopped:
                self._changed.wait(BEAT)
            if self._stopped:
                raise _Stopped
            if self._closed:
                return b""
            word, self._word = self._word or b"beat\n", None
            return word

    def say_end(self) -> None:
        with self._changed:
            self._word = b"end\n"
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()


class _Looks:
    """A log that is made anew is not written on before whoever reads it has seen that it is empty."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._anew = self._seen = 0

    @property
    def now(self) -> int:
        return self._anew

    def await_one(self) -> None:
        with self._changed:
            self._anew += 1
            mine = self._anew
            self._changed.wait_for(lambda: self._seen >= mine, timeout=_LOOKS)

    def looked(self, since: int) -> None:
        with self._changed:
            self._seen = max(self._seen, since)
            self._changed.notify_all()


class Following:
    """A run on another machine, followed for as long as the block lasts.

    ``error`` is what ended it for good: somebody has to log in, or what came cannot be kept here.
    """

    def __init__(self, shell: PosixShell, host: str, run_dir: str, home: RunPaths, *, logs: bool) -> None:
        self._shell, self._host, self._run_dir, self.logs = shell, host, run_dir, logs
        self._mirror = Mirror(home)
        self._beats = _Beats()
        self._looks = _Looks()
        self._news = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._ending = self._complete = False
        self._heard = time.monotonic()
        self._words = ""
        self._told = False
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._hold, name="hpcrun-follow", daemon=True)

    # -- for the one who waits ------------------------------------------------

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._hurry.set()
        self._beats.stop()
        self._looks.looked(self._looks.now + 1)
        # A connection that hangs must not keep anybody: what then is left ends with this process.
        self._thread.join(0.5)

    def wait(self, seconds: float) -> None:
        """Until something has come, or the time is over."""
        if self._news.wait(seconds):
            self._news.clear()

    def look(self, action: Callable[[], None]) -> None:
        """Have somebody read the logs."""
        since = self._looks.now
        action()
        self._looks.looked(since)

    def trouble(self) -> str:
        """What is the matter, once each time that something is; else nothing."""
        words = self._words
        silent = time.monotonic() - self._heard
        if not words and self._thread.is_alive() and silent > SILENT:
            words = f"{self._host} has said nothing for {silent:.0f} s"
        if not words or self._told:
            self._told = bool(words)
            return ""
        self._told = True
        return f"the connection is lost, and asked for again: {words}" if self._words else words

    def finish(self, look: Callable[[], None]) -> bool:
        """Have the rest of the logs, the job having ended; whether all is here. ``look`` reads meanwhile."""
        self._ending = True
        self._hurry.set()
        self._beats.say_end()
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - max(self._heard, began) < SILENT:
            self.wait(0.1)
            self.look(look)
        return self._complete

    # -- the thread -----------------------------------------------------------

    def _hold(self) -> None:
        gate = _channels[self._host]
        while not gate.acquire(timeout=0.2):
            self._heard = time.monotonic()
            if self._stop.is_set():
                return
        try:
            self._connect_again_and_again()
        except _Stopped:
            pass
        except (HpcrunError, OSError) as error:
            self.error = error
        finally:
            gate.release()
            self._news.set()

    def _connect_again_and_again(self) -> None:
        pause = _PAUSE
        while not self._stop.is_set():
            began = self._heard = time.monotonic()
            try:
                words = self._channel()
            except LoginRequired:
                raise
            except CommandError as error:
                words = error.message
            if self._complete:
                return
            if self._heard - began > _LASTED:
                pause = _PAUSE
            self._words = words
            self._news.set()
            # Whoever is in a hurry waits half a second all the same, and once for that long alone.
            self._stop.wait(_PAUSE)
            self._hurry.wait(max(0.0, pause * random.uniform(0.8, 1.2) - _PAUSE))
            pause = min(pause * 2, _PAUSE_MOST)

    def _channel(self) -> str:
        """Follow over one channel; what was the matter in the end, if anything was."""
        self._beats = _Beats()
        if self._stop.is_set():
            raise _Stopped
        how = "once" if self._ending else "on"
        try:
            result = _ask(
                self._shell, self._run_dir, how, self.logs, self._mirror, _LASTS, self._take, self._beats
            )
        except Gap:
            return ""
        except BrokenStream as error:
            return f"{self._host} sent what nobody asked for: {error}"
        if result.rc == 0 or (result.rc is None and not result.lost):
            return ""
        return _said(result, self._host)

    def _take(self, frame: Frame) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._heard = time.monotonic()
        self._words = ""
        self._mirror.take(frame)
        if isinstance(frame, End):
            self._complete = True
            self._beats.close()
        self._news.set()
        if isinstance(frame, Anew):
            self._looks.await_one()


def fetch(shell: PosixShell, host: str, run_dir: str, home: RunPaths) -> None:
    """Have what a run's job has written until now here. Raises CommandError, OSError."""
    mirror = Mirror(home)
    complete: list[End] = []

    def take(frame: Frame) -> None:
        mirror.take(frame)
        if isinstance(frame, End):
            complete.append(frame)

    for _ in range(2):
        try:
            result = _ask(shell, run_dir, "once", True, mirror, _FETCHED, take, None)
        except Gap:
            continue
        except BrokenStream as error:
            raise CommandError(f"{host} sent what nobody asked for: {error}") from None
        if not complete:
            raise CommandError(f"the logs did not come whole: {_said(result, host)}")
        return
    raise CommandError("the logs did not come whole: they change as they are read")


def _ask(
    shell: PosixShell,
    run_dir: str,
    how: str,
    logs: bool,
    mirror: Mirror,
    timeout: float,
    take: Callable[[Frame], None],
    beats: _Beats | None,
) -> Result:
    mark = os.urandom(MARK_LENGTH // 2).hex()
    frames = Frames(mark)

    def sink(data: bytes) -> None:
        for frame in frames.feed(data):
            take(frame)

    known = " ".join(f"{key}={size}" for key, size in mirror.known().items()) if logs else ""
    words = [run_dir, how, "logs" if logs else "status", mark, known]
    stdin = None if beats is None else cast(BinaryIO, beats)
    return shell.script(source("follow"), words, timeout=timeout, stdin=stdin, sink=sink)


def _said(result: Result, host: str) -> str:
    if result.rc == _NO_FOLDER:
        return f"the run's folder on {host} is gone"
    if result.lost:
        return result.lost
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"it ended with exit code {result.rc}"
