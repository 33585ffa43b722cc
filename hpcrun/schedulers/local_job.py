"""What stands for a scheduler on this machine: one small process a run, waiting for room, then watching.

Started detached, by path, with Python's standard library alone. It holds ``local.lock`` in the run's folder
for as long as the run lives (the kernel lets go of it, whatever happens), a ticket in the machine's queue,
and writes ``local.json``: this scheduler's own word on the job, in Slurm's vocabulary.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any


class Ended(Exception):
    """Told to end (TERM)."""


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
        self.word = "PENDING"
        self.started: str | None = None
        self.submitted = now()
        self.told: str | None = None
        self.held: list[int] = []

    def tell(self, word: str, **more: object) -> None:
        """Write local.json, whole or not at all."""
        self.word = word
        facts = {
            "pid": os.getpid(),
            "word": word,
            "submitted": self.submitted,
            "started": self.started,
            **more,
        }
        temporary = self.run_dir / f".local.{os.getpid()}"
        temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        temporary.replace(self.run_dir / "local.json")

    def wait_for_room(self) -> Path:
        """Take a ticket and wait until all that came earlier are served and there are CPUs left."""
        name = f"{time.time_ns():020d}.{os.getpid()}.{min(self.cpus, self.capacity)}"
        ticket = self.queue / f"{name}.wait"
        with _locked(self.queue / "lock"):
            fd = os.open(ticket, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        self.held.append(fd)
        pause = 0.02
        while True:
            with _locked(self.queue / "lock"):
                if self._fits(ticket):
                    return ticket.rename(ticket.with_suffix(".run"))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def _fits(self, ticket: Path) -> bool:
        used, first = 0, True
        for other in sorted(self.queue.glob("*.*.*.*")):
            if other == ticket:
                return first and used + min(self.cpus, self.capacity) <= self.capacity
            if _abandoned(other):
                other.unlink(missing_ok=True)
            elif other.suffix == ".run":
                used += int(other.name.split(".")[2])
            else:
                first = False
        return False

    def run(self) -> int:
        """Run the script to its end; its exit code as bash has it (128 + N for a signal)."""
        self.started = now()
        environment = {**os.environ, "HPCRUN_JOB_ID": str(os.getpid())}
        process = subprocess.Popen(
            ["bash", "--", str(self.run_dir / "job.sh")],
            cwd=self.run_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Should this process be killed, the run still has its locks while any process of it lives.
            pass_fds=self.held,
        )
        self.tell("RUNNING")
        code = self._watch(process)
        return code if code >= 0 else 128 - code

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        deadline = None if self.limit is None else time.monotonic() + float(self.limit)
        while True:
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                return process.wait(left)
            except subprocess.TimeoutExpired:
                self.told = "TIMEOUT"
            except Ended:
                self.told = self.told or "CANCELLED"
            return self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """TERM to every process of the job, as Slurm does; KILL to what is left after a while."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _to_group(process.pid, signal.SIGTERM)
        try:
            process.wait(self.kill_wait)
        except subprocess.TimeoutExpired:
            pass
        _to_group(process.pid, signal.SIGKILL)
        return process.wait()


def _to_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


class _locked:
    """An exclusive lock on a file, for the length of a with block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def _abandoned(ticket: Path) -> bool:
    """Whether nobody holds the ticket any more. Asked under the queue's lock: one asker at a time."""
    try:
        fd = os.open(ticket, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _on_term(number: int, frame: FrameType | None) -> None:
    raise Ended


def main(settings: dict[str, Any]) -> int:
    os.umask(0o077)
    job = Job(settings)
    signal.signal(signal.SIGTERM, _on_term)
    lock = os.open(job.run_dir / "local.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 102  # this run has a job already
    if (job.run_dir / "local.json").exists():
        return 102  # and had one that ended
    job.held.append(lock)
    ticket: Path | None = None
    try:
        job.tell("PENDING")
        if settings["lock_fd"] is not None:
            os.close(settings["lock_fd"])  # from here on local.lock says that there is a job
        ticket = job.wait_for_room()
        code = job.run()
        word = job.told or ("COMPLETED" if code == 0 else "FAILED")
        job.tell(word, exit_code=code, ended=now())
        return code
    except Ended:
        job.tell("CANCELLED", ended=now())
        return 0
    finally:
        if ticket is not None:
            ticket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
