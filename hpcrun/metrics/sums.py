"""What the lines of a metrics file come to, name by name: read on from where the last look ended."""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.metrics.reading import SCALAR, Point, parse_lines

CHUNK = 8 * 2**20
"""Bytes that are read at once. A line that is longer is passed over."""

MAX_NAME, MAX_TEXT = 255, 200
"""Characters of a name, and of a text that is a value. Longer names have no sum, longer texts are cut."""

Last = int | float | str | None


class Mark(NamedTuple):
    """How far a file was read: the bytes that were dealt with, those that it had then, and whether what
    comes next is the rest of a line that is too long."""

    offset: int = 0
    size: int = 0
    within: bool = False


@dataclass
class Sum:
    """One metric of one rank. ``last`` is its last value, if that is a number or text; true and false are 1
    and 0. ``said`` is the last value in JSON where ``last`` does not tell it: NaN, null, true, false.
    ``least`` and ``most`` are of its numbers, NaN left out; ``step`` and ``at`` those of the last point."""

    rank: int
    kind: str = SCALAR
    count: int = 0
    last: Last = None
    said: str | None = None
    least: float | None = None
    most: float | None = None
    step: float | None = None
    at: float | None = None

    def add(self, point: Point) -> None:
        """Count a point in; each value of a list is one."""
        values = point.value if point.kind == "list" and isinstance(point.value, list) else [point.value]
        self.kind, self.at = point.kind, _real(point.time)
        self.step = None if point.step is None else _real(point.step)
        self.count += len(values)
        for value in values:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                number = value if type(value) is float else sized(value)
                if self.least is None or self.most is None:
                    if number == number:
                        self.least = self.most = number
                elif number < self.least:  # which NaN never is
                    self.least = number
                elif number > self.most:
                    self.most = number
        if values:
            self.last, self.said = kept(values[-1])


@dataclass
class Look:
    """What a look at a file found: ``anew`` where the file is shorter than it was, and so another one;
    ``more`` where it has not come to the end; ``left_out`` where names were too long."""

    mark: Mark
    sums: dict[str, Sum] = field(default_factory=dict)
    anew: bool = False
    more: bool = False
    left_out: bool = False


def kept(value: Any) -> tuple[Last, str | None]:
    """A value as an index can hold it, and what more there is to say of it.

    >>> kept(0.5), kept(True), kept(float("nan")), kept({"a": 1})
    ((0.5, None), (1, 'true'), (None, 'NaN'), (None, None))
    """
    if isinstance(value, bool) or value is None:
        return (None if value is None else int(value)), json.dumps(value)
    if isinstance(value, (int, float)):
        number = sized(value)
        return (number, None) if number == number else (None, "NaN")
    return (value[:MAX_TEXT], None) if isinstance(value, str) else (None, None)


def told(last: Last, said: str | None) -> Any:
    """The value that :func:`kept` was given, for JSON: what it has no number for is text, as ``"NaN"``."""
    if said is not None:
        return {"null": None, "true": True, "false": False}.get(said, said)
    if isinstance(last, float) and math.isinf(last):
        return "Infinity" if last > 0 else "-Infinity"
    return last


def sized(value: int | float) -> int | float:
    """The number itself, or the nearest that 64 bits can hold."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _real(value)
    return value


def _real(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def look(path: Path, rank: int, mark: Mark) -> Look | None:
    """Read on from ``mark``, :data:`CHUNK` bytes at most; None where nothing has come since.

    What is no regular file is none: whoever writes there may have put a pipe in its place. Raises OSError.
    """
    there = path.lstat()
    if not stat.S_ISREG(there.st_mode) or there.st_size == mark.size:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as file:  # noqa: PTH123 (a handle, not a path)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        size = found.st_size
        anew = size < mark.size
        if anew:
            mark = Mark()
        file.seek(mark.offset)
        data = file.read(min(CHUNK, size - mark.offset))
    return _summed(data, rank, mark, size, anew)


def _summed(data: bytes, rank: int, mark: Mark, size: int, anew: bool) -> Look:
    start = 0
    if mark.within:
        start = data.find(b"\n") + 1 or len(data)
    end = data.rfind(b"\n", start) + 1
    within = mark.within and start == len(data) and not data.endswith(b"\n")
    if end == 0:
        end = start
        if not within and len(data) - start >= CHUNK:
            end, within = len(data), True
    offset = mark.offset + end
    more = mark.offset + len(data) < size
    found = Look(Mark(offset, offset if more else size, within), anew=anew, more=more)
    for point in parse_lines(data[start:end].split(b"\n")[:-1], rank):
        if len(point.name) > MAX_NAME or not point.name:
            found.left_out = True
            continue
        found.sums.setdefault(point.name, Sum(rank)).add(point)
    return found
