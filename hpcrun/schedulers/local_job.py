"""What stands for a scheduler on this machine: one small process a run, waiting for room, then watching.

Started detached, by path, with Python's standard library alone. It holds ``local.lock`` in the run's folder
for as long as the run lives (the kernel lets go of it, whatever happens), a ticket in the machine's queue,
and writes ``local.json``: this scheduler's own word on the job, in Slurm's vocabulary.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_TAKEN_AFTER = 1.0


class Ended(Exception):
    """Told to end (TERM), or, by the job itself, to end and begin anew (USR1)."""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Job:
    """One run on this machine, from its place in the queue to its end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.run_dir = Path(settings["run_dir"])
        self.queue = Path(settings["queue"])
        self.cpus = int(settings["cpus"])
        self.capacity = int(settings["capacity"])
        self.limit = settings["time_limit"]
        self.kill_wait = float(settings["kill_wait"])
        self.after = [text.partition(":")[::2] for text in settings["after"]]
        self.started: str | None = None
        self.submitted = now()
        self.told: str | None = None
        self.held: list[int] = []
        self.ticket: Path | None = None
        self.group: int | None = None
        self.usage: dict[str, float] | None = None
        self.elapsed = 0.0
        self.attempt = 1
        self.again = False
        self._ending = self._heeding = False

    def tell(self, word: str, **more: object) -> None:
        """Write local.json, whole or not at all."""
        facts = {
            "pid": os.getpid(),
            "group": self.group,
            "word": word,
            "submitted": self.submitted,
            "started": self.started,
            **more,
        }
        temporary = self.run_dir / f".local.{os.getpid()}"
        temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        temporary.replace(self.run_dir / "local.json")

    def on_term(self, number: int, frame: FrameType | None) -> None:
        """Only where it can be heeded does TERM interrupt: never between a start and its being known."""
        first, self._ending = not self._ending, True
        if first and self._heeding:
            raise Ended

    def on_again(self, number: int, frame: FrameType | None) -> None:
        """USR1: the job is to be queued again, once what runs of it has ended."""
        first, self.again = not self.again, True
        if first and self._heeding and not self._ending:
            raise Ended

    @contextmanager
    def _heeds_term(self) -> Iterator[None]:
        self._heeding = True
        try:
            if self._ending or self.again:
                raise Ended
            yield
        finally:
            self._heeding = False

    def wait_for_others(self) -> bool:
        """Wait until the runs that this one is to come after have ended; whether each did as it was to."""
        waiting, pause = self.after, 0.02
        if waiting:
            self.tell("PENDING", why="Dependency")
        while waiting:
            ends = [(kind, _ended_well(Path(run_dir))) for kind, run_dir in waiting]
            if any(well is (kind != "afterok") for kind, well in ends if kind != "afterany"):
                return False
            waiting = [each for each, (_, well) in zip(waiting, ends, strict=True) if well is None]
            if waiting:
                with self._heeds_term():
                    time.sleep(pause)
                pause = min(pause * 1.5, 0.5)
        if self.after:
            self.tell("PENDING")
        return True

    def wait_for_room(self) -> None:
        """Take a ticket and wait until all that came earlier are served and there are CPUs left."""
        with _locked(self.queue / "lock"):
            name = f"{time.time_ns():020d}.{os.getpid()}.{min(self.cpus, self.capacity)}"
            self.ticket = self.queue / f"{name}.wait"
            fd = os.open(self.ticket, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        self.held.append(fd)
        pause = 0.02
        while True:
            with _locked(self.queue / "lock"):
                if self._fits(self.ticket):
                    self.ticket = self.ticket.rename(self.ticket.with_suffix(".run"))
                    return
            with self._heeds_term():
                time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def _fits(self, ticket: Path) -> bool:
        """Whether this ticket is the first in the queue, and the CPUs that nobody uses are enough for it."""
        used, waiting = 0, []
        for other in sorted(self.queue.glob("*.*.*.*")):
            if other != ticket and _abandoned(other):
                other.unlink(missing_ok=True)
            elif other.suffix == ".run":
                used += int(other.name.split(".")[2])
            else:
                waiting.append(other)
        return waiting[0] == ticket and used + min(self.cpus, self.capacity) <= self.capacity

    def run(self) -> int:
        """Run the script to its end; its exit code as bash has it (128 + N for a signal)."""
        self.started = now()
        environment = {
            **os.environ,
            "HPCRUN_JOB_ID": str(os.getpid()),
            "HPCRUN_ATTEMPT": str(self.attempt),
            "HPCRUN_KILL_WAIT": str(math.ceil(self.kill_wait)),
        }
        process = subprocess.Popen(
            ["bash", "--", str(self.run_dir / "job.sh")],
            cwd=self.run_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Should this process be killed, the run still has its locks while any process of it lives.
            pass_fds=self.held,
        )
        self.group = process.pid
        self.tell("RUNNING")
        began = time.monotonic()
        code = self._watch(process)
        self.elapsed += time.monotonic() - began
        self.usage = _usage(self.elapsed, self.cpus)
        return code if code >= 0 else 128 - code

    def back_to_the_queue(self) -> bool:
        """Whether the job is to begin anew; it has given its room back then."""
        if not self.again or self.told not in (None, "REQUEUED"):
            return False
        if self._ending:  # canceled meanwhile
            self.told = "CANCELLED"
            return False
        self.again, self.told, self.started = False, None, None
        self.attempt += 1
        if self.ticket is not None:
            self.ticket.unlink(missing_ok=True)
            os.close(self.held.pop())
        self.tell("REQUEUED")
        return True

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        deadline = None if self.limit is None else time.monotonic() + float(self.limit)
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with self._heeds_term():
                process.wait(left)
        except subprocess.TimeoutExpired:
            self.told = "TIMEOUT"
        except Ended:
            self.told = "CANCELLED" if self._ending else "REQUEUED"
        return self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """End what is left of the job, as Slurm does: TERM to all of it if it was told to end, and after a
        while KILL; KILL at once to what a job that has ended by itself left behind."""
        if self.told != "REQUEUED":  # or what comes after it would ignore TERM as well
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.told is not None:
            _to_group(process.pid, signal.SIGTERM)
            try:
                process.wait(self.kill_wait)
            except subprocess.TimeoutExpired:
                pass
        _to_group(process.pid, signal.SIGKILL)
        return process.wait()


def _usage(elapsed: float, cpus: int) -> dict[str, float]:
    """What the job took, as far as the kernel says: it counts what was waited for by whoever started it,
    and knows the peak of the largest process alone."""
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "elapsed_seconds": round(elapsed, 3),
        "cpu_seconds": round(taken.ru_utime + taken.ru_stime, 3),
        "allocated_cpus": cpus,
        "max_rss_bytes": taken.ru_maxrss * 1024,
    }


def _to_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _ended_well(run_dir: Path) -> bool | None:
    """Whether a run on this machine ended well, by its local.json; None while it has not ended. One whose
    process is gone without a word, or whose folder is, did not."""
    for _ in range(2):
        try:
            said = json.loads((run_dir / "local.json").read_text(encoding="utf-8"))
            if said.get("ended") is not None:
                return bool(said.get("word") == "COMPLETED")
        except (OSError, ValueError, AttributeError):
            pass
        if not _abandoned(run_dir / "local.lock", fcntl.LOCK_SH):
            return None
    return False  # looked at twice: it may have ended between the two looks


class _locked:
    """An exclusive lock on a file, for the length of a with block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def _abandoned(ticket: Path, how: int = fcntl.LOCK_EX) -> bool:
    """Whether nobody holds the ticket any more. Asked under the queue's lock: one asker at a time, where
    ``how`` is exclusive."""
    try:
        fd = os.open(ticket, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _take(path: Path) -> int | None:
    """The run's lock, held; None if another process has it. Someone may be looking at it for a moment."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + _TAKEN_AFTER
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
        time.sleep(0.02)


def main(settings: dict[str, Any]) -> int:
    os.umask(0o077)
    job = Job(settings)
    signal.signal(signal.SIGTERM, job.on_term)
    signal.signal(signal.SIGUSR1, job.on_again)
    lock = _take(job.run_dir / "local.lock")
    if lock is None:
        return 102  # this run has a job already
    if (job.run_dir / "local.json").exists():
        return 102  # and had one that ended
    job.held.append(lock)
    try:
        job.tell("PENDING")
        if settings["lock_fd"] is not None:
            os.close(settings["lock_fd"])  # from here on local.lock says that there is a job
        if not job.wait_for_others():
            job.tell("CANCELLED", why="DependencyNeverSatisfied", ended=now())
            return 0
        job.wait_for_room()
        code = job.run()
        while job.back_to_the_queue():
            job.wait_for_room()
            code = job.run()
        word = job.told or ("COMPLETED" if code == 0 else "FAILED")
        job.tell(word, exit_code=code, ended=now(), usage=job.usage)
        return code
    except Ended:
        job.tell("CANCELLED", ended=now())
        return 0
    finally:
        if job.ticket is not None:
            job.ticket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
