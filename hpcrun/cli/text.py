"""Words and tables for people: local times, short ids, colour only where a terminal wants it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, TextIO

import click

from hpcrun.engine.clocks import moment
from hpcrun.states import RunState
from hpcrun.units import human_seconds

COLOURS = {
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.CANCELED: "yellow",
    RunState.RUNNING: "cyan",
    RunState.FINALIZING: "cyan",
    RunState.STARTING: "cyan",
    RunState.NOT_RESPONDING: "red",
}


def drawn(stream: TextIO | None = None) -> bool:
    """Whether there is a terminal that can be drawn on."""
    return bool((stream or sys.stdout).isatty()) and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO | None = None) -> bool:
    """Whether colours are welcome: on a terminal, unless NO_COLOR is set."""
    return drawn(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, colour: str | None, *, stream: TextIO | None = None) -> str:
    """``text`` in a colour, where colours are welcome."""
    return click.style(text, fg=colour) if colour and coloured(stream) else text


def printable(text: str) -> str:
    """Text that came from a job or a scheduler, unable to play tricks on the terminal."""
    return "".join(
        c if c.isprintable() else " " if c in "\n\t\r" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


_COLOUR = r"\x1b\[[0-9;:]*m"
_ESCAPE = re.compile(
    rf"(?!{_COLOUR})\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]"
)


def tamed(line: str) -> str:
    """A line of a job's log for a terminal: colours stay, all that would move the cursor or do worse goes.

    Of what a progress bar wrote over itself, the last is left.
    """
    parts = [part for part in line.split("\r") if part.strip()]
    text = _ESCAPE.sub("", parts[-1] if parts else "")
    return f"{text}\x1b[0m" if "\x1b" in text else text


def state_text(state: RunState, reason: str) -> str:
    """``Failed (OutOfMemory)``; a reason that only repeats the state is left out."""
    return f"{state.value} ({printable(reason)})" if reason and reason != state.value else state.value


def short_id(run_id: str) -> str:
    """The last part of an id, by which a run can be named."""
    return run_id.rpartition("_")[2]


def local_time(text: str | None) -> str:
    """``2026-01-31 13:00:00`` in the user's time zone."""
    at = moment(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else text or ""


def age(text: str | None, now: datetime | None = None) -> str:
    """How long ago that was, in its largest unit: ``5m``."""
    at = moment(text)
    if at is None:
        return ""
    seconds = ((now or datetime.now(timezone.utc)) - at).total_seconds()
    return human_seconds(max(0.0, seconds)).split(" ")[0]


def until(text: str | None, now: datetime | None = None) -> str:
    """How long that still is: `` (in 2h 5m)``; empty for what is past."""
    at = moment(text)
    left = (at - (now or datetime.now(timezone.utc))).total_seconds() if at is not None else 0
    return f" (in {human_seconds(left)})" if left > 0 else ""


def duration(started: str | None, ended: str | None, now: datetime | None = None) -> str:
    """From start to end, or until now; empty for a run that has not started."""
    begin = moment(started)
    if begin is None:
        return ""
    end = moment(ended) or now or datetime.now(timezone.utc)
    return human_seconds(max(0.0, (end - begin).total_seconds()))


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns set apart by two spaces. Lines are cut where a terminal is too narrow, nowhere else."""
    table = [list(heads), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
    room = shutil.get_terminal_size().columns if drawn() else max(map(len, lines))
    return "\n".join(line if len(line) <= room else f"{line[: room - 1]}…" for line in lines)


def print_json(document: Any) -> None:
    """One JSON document on stdout; ASCII, so that any name survives."""
    click.echo(json.dumps(document, indent=2))


def value_text(value: Any, most: int = 40) -> str:
    """A value in few characters: six figures of a float, all of an integer, the beginning of a text."""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, str):
        text = printable(value)
    else:
        text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= most else f"{text[: most - 1]}…"
