"""One entry of a crontab: its line, and its place among the others, which stay as they are to the byte."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from hpcrun.errors import UsageError
from hpcrun.quoting import PosixWord
from hpcrun.units import human_seconds

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def mark_of(workspace: Path) -> str:
    """What an entry of this workspace is known by, by whatever path the workspace is named."""
    return f"hpcrun-{hashlib.sha256(os.fsencode(workspace.resolve())).hexdigest()[:12]}"


def timetable(every: int, mark: str) -> str:
    """The five fields for a tick every so many seconds; which minute of them, the mark says, so that not all
    the users of a cluster ask its scheduler at once.

    Raises UsageError for what a crontab cannot say.
    """
    chance = int(hashlib.sha256(mark.encode()).hexdigest()[:8], 16)
    minutes, hours = every // _MINUTE, every // _HOUR
    if every == _MINUTE:
        return "* * * * *"
    if every % _MINUTE == 0 and minutes < 60 and 60 % minutes == 0:
        return f"{chance % minutes}-59/{minutes} * * * *"
    if every == _HOUR:
        return f"{chance % 60} * * * *"
    if every % _HOUR == 0 and hours < 24 and 24 % hours == 0:
        return f"{chance % 60} {chance % hours}-23/{hours} * * *"
    if every == _DAY:
        return f"{chance % 60} {chance % 24} * * *"
    raise UsageError(
        f"a crontab cannot say every {human_seconds(every)}: {_near(every)}",
        hint="It takes minutes that divide an hour, hours that divide a day, or a day; --systemd takes any.",
    )


def _near(every: int) -> str:
    steps = [m * _MINUTE for m in range(1, 60) if 60 % m == 0]
    steps += [h * _HOUR for h in range(1, 25) if 24 % h == 0]
    below = max((step for step in steps if step < every), default=steps[0])
    above = min((step for step in steps if step > every), default=steps[-1])
    near = dict.fromkeys((human_seconds(below), human_seconds(above)))
    return f"take {' or '.join(near)}"


def entry(fields: str, program: Path, workspace: Path, mark: str) -> bytes:
    """The lines of an entry that runs the script ``program``. Raises UsageError for a path that cron cannot
    be told."""
    path = str(program)
    if not path.isprintable() or "\\" in path:
        raise UsageError(
            f"cron cannot be told this path: {path!r}",
            hint="HPCRUN_CONFIG_HOME names another folder for what hpcrun keeps of yours.",
        )
    name = "".join(c if c.isprintable() else "?" for c in str(workspace))
    # To cron % is a line break, unless there is a backslash before it.
    command = f"/bin/sh {PosixWord(path)}".replace("%", "\\%")
    return f"# {mark}: hpcrun tick in {name}\n{fields} {command}\n".encode("utf-8", "surrogateescape")


def without(crontab: bytes, mark: str) -> bytes:
    """The crontab without the entry that has this mark."""
    return b"\n".join(line for line in crontab.split(b"\n") if not _is_ours(line, mark))


def _is_ours(line: bytes, mark: str) -> bool:
    """The comment, or the line itself, which somebody may have commented out."""
    word = re.escape(mark.encode())
    return bool(re.match(rb"# " + word + rb": |(#\s*)?(\S+ ){5}/bin/sh \S.*/" + word + rb"\.sh\'?$", line))


def fields_in(crontab: bytes, mark: str) -> str | None:
    """The five fields of the entry that has this mark; None where there is none, or it is commented out."""
    for line in crontab.split(b"\n"):
        if _is_ours(line, mark) and not line.startswith(b"#"):
            return b" ".join(line.split()[:5]).decode("ascii", "replace")
    return None


def with_entry(crontab: bytes, mark: str, lines: bytes) -> bytes:
    """The crontab with this entry, in place of the one it had with the mark."""
    others = without(crontab, mark)
    if others and not others.endswith(b"\n"):
        others += b"\n"
    return others + lines
