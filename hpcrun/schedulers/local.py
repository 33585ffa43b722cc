"""This machine as a compute target: detached runs, as many at once as there are CPUs.

No daemon: each run has one small process (:mod:`hpcrun.schedulers.local_job`) that waits its turn.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcrun.errors import SubmissionAmbiguous
from hpcrun.schedulers import local_job
from hpcrun.schedulers.base import Answer, JobFacts, JobRef, JobRequest
from hpcrun.shells.local import LocalShell
from hpcrun.shells.processes import clean_environment

_START_TIMEOUT = 10.0
_KILL_WAIT = 30.0


class LocalScheduler:
    """``capacity`` is the number of CPUs that runs may use at once; None for all there are."""

    def __init__(self, queue: Path, capacity: int | None = None, kill_wait: float = _KILL_WAIT) -> None:
        # A home folder may be shared by several machines; each has its own queue.
        self._queue = queue / socket.gethostname()
        self._capacity = capacity or len(os.sched_getaffinity(0))
        self._kill_wait = kill_wait

    def submit(self, request: JobRequest) -> str:
        """See :class:`hpcrun.schedulers.base.Scheduler`."""
        for folder in reversed([self._queue, *self._queue.parents]):
            folder.mkdir(mode=0o700, exist_ok=True)  # the mode that parents=True gives is the umask's
        settings = {
            "run_dir": str(request.run_dir),
            "queue": str(self._queue),
            "cpus": request.cpus,
            "capacity": self._capacity,
            "time_limit": request.time_limit,
            "kill_wait": self._kill_wait,
            "lock_fd": request.lock_fd,
            "after": list(request.after),
        }
        log = os.open(
            request.run_dir / "system_logs" / "job.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600
        )
        try:
            pid = LocalShell().spawn(
                [sys.executable, "-I", "-S", local_job.__file__, json.dumps(settings)],
                cwd=request.run_dir,
                env={**clean_environment(), **dict.fromkeys(request.hidden, "")},
                stdout=log,
                keep_fds=[] if request.lock_fd is None else [request.lock_fd],
            )
        finally:
            os.close(log)
        return self._wait_for_start(request, pid)

    def _wait_for_start(self, request: JobRequest, pid: int) -> str:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            facts = _read(request.run_dir)
            if facts is not None:
                return facts.job_id
            time.sleep(0.005)
        raise SubmissionAmbiguous(
            f"the process {pid} that should watch over {request.run_id} said nothing within "
            f"{_START_TIMEOUT:.0f} s; see {request.run_dir}/system_logs/job.txt"
        )

    def query(self, jobs: Sequence[JobRef]) -> Answer:
        """What the runs' own processes wrote; a run whose process is gone without a word is NODE_FAIL."""
        facts = {}
        for job in jobs:
            run_dir = Path(job.run_dir)
            found = _read(run_dir)
            if found is None:
                continue
            if found.ended is None and not is_alive(run_dir):
                found = _read(run_dir) or found  # it may have ended between the two looks
                if found.ended is None:
                    found = JobFacts(
                        found.job_id, "NODE_FAIL", submitted=found.submitted, started=found.started
                    )
            facts[job.run_id] = found
        return Answer(facts)

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        """TERM to the run's own process, which ends all that it started; or to that itself, if it is gone."""
        for job in jobs:
            run_dir = Path(job.run_dir)
            found = _read(run_dir)
            if found is None or found.ended is not None or not is_alive(run_dir):
                continue
            group = _number(_raw(run_dir), "group")
            try:
                if _watches(int(found.job_id), run_dir):
                    os.kill(int(found.job_id), signal.SIGTERM)
                elif group:
                    os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                pass


def is_alive(run_dir: Path) -> bool:
    """Whether the run's process lives: the kernel lets go of its lock when it does not."""
    try:
        fd = os.open(run_dir / "local.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _watches(pid: int, run_dir: Path) -> bool:
    """Whether this process is the one that watches over the run: numbers are given out again."""
    try:
        return os.fsencode(json.dumps(str(run_dir))) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _raw(run_dir: Path) -> dict[str, Any]:
    """What local.json holds; nothing if there is none, or if the payload wrote over it."""
    try:
        raw = json.loads((run_dir / "local.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _number(raw: dict[str, Any], key: str) -> int | None:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read(run_dir: Path) -> JobFacts | None:
    raw = _raw(run_dir)
    pid = _number(raw, "pid")
    if pid is None or not isinstance(raw.get("word"), str):
        return None
    return JobFacts(
        job_id=str(pid),
        word=raw["word"],
        why=why if isinstance(why := raw.get("why"), str) else "",
        exit_code=_number(raw, "exit_code"),
        submitted=raw.get("submitted"),
        started=raw.get("started"),
        ended=raw.get("ended"),
        nodes=socket.gethostname(),
        usage=_usage(raw.get("usage")),
    )


def _usage(raw: object) -> dict[str, float] | None:
    """Numbers by name, whatever stands there."""
    if not isinstance(raw, dict):
        return None
    return {key: value for key, value in raw.items() if type(value) in (int, float) and 0 <= value < 2**63}
