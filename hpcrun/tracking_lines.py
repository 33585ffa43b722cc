"""A file of JSON lines that is only appended to: pure standard library, Python 3.8 and later.

A line is one write to a file that is open for appending, so that it is there when the call returns, whatever
becomes of the process, and never within another's. A disk that is full is no reason for a training to end: it
is said once, and counted.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Lines:
    """Appends to ``path``, which is made with its folders when the first line is written."""

    def __init__(self, path: Path, ready: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._ready = ready
        self.dropped = 0
        self._fd: int | None = None
        self._torn = False
        self._lock = threading.RLock()  # a signal's handler may log while the program does
        _ALL.append(self)

    def write(self, line: bytes) -> None:
        """Append one line, its end included."""
        with self._lock:
            fd = self._fd
            try:
                if fd is None:
                    fd = self._fd = self._open()
                if self._torn:
                    line = b"\n" + line
                done = os.write(fd, line)
                if done != len(line):
                    self._finish(fd, line[done:])
                self._torn = False
            except OSError as error:
                self._failed(error)

    def sync(self) -> None:
        """Have all of it on the disk, as far as the disk says."""
        with self._lock:
            if self._fd is not None:
                try:
                    os.fsync(self._fd)
                except OSError as error:
                    self._say(error)

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _open(self) -> int:
        """The file; what a killed process left unfinished in it is closed by a line's end."""
        self._ready()
        make_folder(self.path.parent)
        fd = os.open(str(self.path), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(fd).st_size
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        return fd

    def _finish(self, fd: int, rest: bytes) -> None:
        """What is left of a line that was written in part. Raises OSError."""
        self._torn = True
        while rest:
            done = os.write(fd, rest)
            rest = rest[done:]

    def _failed(self, error: OSError) -> None:
        self.dropped += 1
        if self.dropped == 1:
            self._say(error)

    def _say(self, error: OSError) -> None:
        tell(f"{self.path} cannot be written: {error.strerror}. The program goes on without what it logs.")


_ALL: list[Lines] = []


def make_folder(folder: Path) -> None:
    """Have a folder, for its owner alone, and those above it likewise. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def tell(words: str) -> None:
    """One line on stderr, if that is still there."""
    try:
        sys.stderr.write(f"hpcrun: {words}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def _at_the_end() -> None:
    for lines in _ALL:
        if lines.dropped:
            tell(f"{lines.dropped} lines that were logged are not in {lines.path}")


def _after_fork() -> None:
    """In the child of a fork nobody else has the lock, whoever had it; and what was dropped is not its."""
    for lines in _ALL:
        lines._lock = threading.RLock()
        lines.dropped = 0


atexit.register(_at_the_end)
os.register_at_fork(after_in_child=_after_fork)
