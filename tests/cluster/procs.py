"""The harness's one gate to subprocesses, and what it reads from /proc.

Every command is an argv with a deadline.  Processes are named by pid *and*
start time, so that a recycled pid is never signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class ClusterError(Exception):
    """Something about the virtual cluster went wrong; the message says what."""


class CommandError(subprocess.CalledProcessError):
    """A command failed; unlike its parent, it shows what the command said."""

    def __str__(self) -> str:
        said = "\n".join(
            f"  {name}: {text.strip()[-2000:]}"
            for name, text in (("stdout", self.stdout), ("stderr", self.stderr))
            if text and text.strip()
        )
        return f"{super().__str__()}\n{said}" if said else super().__str__()


def call(
    argv: Sequence[str],
    *,
    timeout: float = 30,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run argv on this machine to its end and give back what it said."""
    done = subprocess.run(
        list(argv),
        # An empty input rather than ours: nothing here may wait for a keyboard.
        input=stdin or "",
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=None if env is None else dict(env),
        check=False,
    )
    if check and done.returncode != 0:
        raise CommandError(done.returncode, list(argv), done.stdout, done.stderr)
    return done


def wait_for(predicate: Callable[[], object], timeout: float, what: str) -> None:
    """Return once predicate() is true; after timeout seconds, say what never came.

    The last answer, or the last error, of the predicate is part of the message.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            last: object = predicate()
            if last:
                return
        except (OSError, subprocess.SubprocessError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise ClusterError(f"waited {timeout:g} s in vain for {what}; last answer: {last!r}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Process:
    """One process as this machine sees it, safe against pid reuse."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Name the process that has this pid now; ProcessLookupError if none has."""
        started = _start_time(pid)
        if started is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, started)

    def alive(self) -> bool:
        """True while this very process runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; no error when the process is gone already."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from the state letter on, or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    return text[text.rindex(")") + 2 :].split()


def _start_time(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def state(pid: int) -> str:
    """The kernel's state letter ("T": stopped by a signal), "" when gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def children(pid: int) -> list[int]:
    """Pids of the direct children."""
    return [each for each in all_pids() if (fields := _stat(each)) and int(fields[1]) == pid]


def all_pids() -> Iterator[int]:
    """Every pid of this machine, its namespaces included."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def namespace(pid: int, kind: str) -> int | None:
    """Number of the namespace ("pid", "net", "mnt") that a process is in, or None.

    None also where the kernel will not tell: never for a process of a cluster.
    """
    try:
        return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def name(pid: int) -> str:
    """The process's command name (15 bytes of it), "" when gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def owner(pid: int) -> int | None:
    """The uid a process runs as, or None when gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
