"""status.json: the job's own word on how it went."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JobStatus:
    """What the job last said of itself. ``stage`` is where it is or where it failed:
    prepare, environment, launch or payload. ``signal`` is the last one it was sent, or empty."""

    job_id: str
    attempt: int
    state: str
    stage: str
    started: str | None
    ended: str | None
    exit_code: int | None
    signal: str
    nodes: str | None
    message: str
    run_id: str = ""


def read_status(path: Path) -> JobStatus | None:
    """The job's status; None if there is none (yet), or none that can be read.

    It comes from the target, where the payload could have written anything: nothing in it is trusted to
    have the right type, and a link or a pipe in its place is not opened or waited for.
    """
    try:
        try:
            text = _read(path)
        except FileNotFoundError:
            # A network file system remembers what was not there; a listing makes it look again.
            list(path.parent.iterdir())
            text = _read(path)
    except OSError:
        return None
    return _status(text)


def read_attempt(path: Path, status: JobStatus, attempt: int) -> JobStatus | None:
    """What the job of ``status`` said last in this attempt, from the lines in which it said all it ever said.

    A node that was lost, and comes back, ends what still runs there of an earlier attempt, which then
    writes its own end over the status of the later one.
    """
    try:
        lines = _read(path, 1_000_000).splitlines()
    except OSError:
        return None
    said = (_status(line) for line in reversed(lines))
    return next((s for s in said if s and (s.job_id, s.attempt) == (status.job_id, attempt)), None)


def _status(text: bytes) -> JobStatus | None:
    try:
        raw = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    return JobStatus(
        job_id=_text(raw, "job_id") or "",
        attempt=_number(raw, "attempt") or 1,
        state=_text(raw, "state") or "",
        stage=_text(raw, "stage") or "",
        started=_time(raw, "started"),
        ended=_time(raw, "ended"),
        exit_code=_number(raw, "exit_code"),
        signal=_text(raw, "signal") or "",
        nodes=_text(raw, "nodes"),
        message=_text(raw, "message") or "",
        run_id=_text(raw, "run_id") or "",
    )


def _read(path: Path, size: int = 100_000) -> bytes:
    with open(path, "rb", opener=_carefully) as file:
        return file.read(size) or b""


def _carefully(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _text(raw: dict[str, Any], key: str) -> str | None:
    value = raw.get(key)
    return value[:2000] if isinstance(value, str) else None


def _number(raw: dict[str, Any], key: str) -> int | None:
    value = raw.get(key)
    return value if type(value) is int and abs(value) < 2**31 else None


def _time(raw: dict[str, Any], key: str) -> str | None:
    """A time with its zone, as job.sh writes it."""
    value = _text(raw, key)
    try:
        return value if value and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo else None
    except ValueError:
        return None
