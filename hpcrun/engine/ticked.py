"""What ticks leave behind: when the last one was, what came of it, and a log that does not grow for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hpcrun.history.files import locked, make_folder, write_atomically
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import utc_now

LOG_SIZE = 1 << 20
"""Bytes from which on the log is put aside, and a new one begun."""

OLD_LOGS = 4
"""How many are kept that were put aside: ``tick.log.1`` is the newest."""


@dataclass(frozen=True)
class Ticked:
    """A tick that is over: its times, its exit code, how many runs moved and how many things were the matter,
    and, where it did not come to its end, the ``error``."""

    began: str
    ended: str
    exit_code: int = 0
    moved: int = 0
    trouble: int = 0
    error: str | None = None


def last_tick(paths: WorkspacePaths) -> Ticked | None:
    """The last tick that is known of."""
    try:
        found = json.loads(paths.ticked.read_bytes())
        return Ticked(**{each.name: found[each.name] for each in fields(Ticked)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_last(paths: WorkspacePaths, ticked: Ticked) -> None:
    """Raises HistoryError."""
    with _held(paths):
        write_atomically(paths.ticked, json.dumps(asdict(ticked)).encode("ascii"))


def write_log(paths: WorkspacePaths, lines: Iterable[str]) -> None:
    """Append lines to the log, each with the time; all of them together, and no other tick's among them.

    Raises HistoryError, OSError.
    """
    now = utc_now()
    text = "".join(f"{now} {line}\n" for line in lines).encode("utf-8", "backslashreplace")
    with _held(paths):
        _put_aside(paths.tick_log, len(text))
        descriptor = os.open(paths.tick_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)


def _held(paths: WorkspacePaths) -> AbstractContextManager[None]:
    make_folder(paths.logs)
    return locked(paths.logs / ".lock")


def _put_aside(log: Path, more: int) -> None:
    try:
        if log.stat().st_size + more <= LOG_SIZE:
            return
    except OSError:
        return
    for number in range(OLD_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        with suppress(FileNotFoundError):
            newer.replace(older)
