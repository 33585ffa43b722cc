"""The lines of ``metrics/``: one file a rank, ``rank_000.jsonl``, one JSON object a line, only appended to.

    {"n": "loss", "v": 0.25, "s": 10, "t": 1760000000.123}

``n`` is the name, ``v`` the value, ``t`` the time in seconds since 1970, ``s`` the step if one was given,
``k`` the kind where it is not a plain value, ``a`` the attempt from the second on. Numbers that JSON has no
word for are written as Python's json writes them: NaN, Infinity, -Infinity. A line that is cut off or is none
of these, is passed over; the last one, while it has no end yet, is left for the next look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SCALAR = "scalar"
KINDS = (
    *(SCALAR, "list", "row", "table", "image"),
    *("confusion_matrix", "accuracy_table", "residuals", "predictions"),
)
"""What a value can be: a plain one (a number, text, true, false, null), a list of such, a row ``{column:
value}``, a table ``{column: [values]}``, an image ``{"path": below the run's folder}``, or a document."""

_TOGETHER = 2000

_FILE = re.compile(r"rank_([0-9]{3,9})\.jsonl")


class Point(NamedTuple):
    """One line: ``time`` in seconds since 1970, ``step`` None where none was given."""

    name: str
    value: Any
    time: float
    step: float | None
    kind: str
    rank: int
    attempt: int


def file_of(folder: Path, rank: int) -> Path:
    """Where a rank writes."""
    return folder / f"rank_{rank:03d}.jsonl"


def rank_files(folder: Path) -> dict[int, Path]:
    """The files that are there, by rank, in its order; none where the folder cannot be read."""
    try:
        found = [(_FILE.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError:
        return {}
    return {int(match[1]): path for match, path in sorted(found, key=lambda each: each[1].name) if match}


def parse_line(line: bytes, rank: int) -> Point | None:
    """The point of a line; None for one that has none."""
    try:
        return _point(json.loads(line), rank)
    except (ValueError, RecursionError):
        return None


def parse_lines(lines: Sequence[bytes], rank: int) -> Iterator[Point]:
    """The points of the lines that have one."""
    for at in range(0, len(lines), _TOGETHER):
        some = lines[at : at + _TOGETHER]
        found: list[Any] = []
        # Read as one list, which takes half the time, unless a line is not what it should be.
        if all(line.startswith(b"{") and line.endswith(b"}") for line in some):
            with suppress(ValueError, RecursionError):
                found = json.loads(b"[" + b",".join(some) + b"]")
        if len(found) == len(some):
            points = (_point(data, rank) for data in found)
        else:
            points = (parse_line(line, rank) for line in some)
        yield from (point for point in points if point is not None)


def _point(data: Any, rank: int) -> Point | None:
    try:
        name, value, at = data["n"], data["v"], float(data["t"])
        step, kind, attempt = data.get("s"), data.get("k", SCALAR), data.get("a", 1)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    if type(name) is not str or kind not in KINDS or type(attempt) is not int:
        return None
    if step is not None and type(step) not in (int, float):
        return None
    return Point(name, value, at, step, kind, rank, attempt)


def read_new(path: Path, rank: int, offset: int = 0) -> tuple[list[Point], int]:
    """The points of the whole lines from ``offset`` on, in bytes, and where the next look begins.

    A file that is shorter than that was written anew, and is read from its beginning. Raises OSError.
    """
    with path.open("rb") as file:
        if file.seek(0, 2) < offset:
            offset = 0
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return [*parse_lines(data[:end].splitlines(), rank)], offset + end


def read_points(folder: Path, *, rank: int | None = None) -> Iterator[Point]:
    """All points of a run's ``metrics`` folder, rank by rank as they were written; of one ``rank`` alone if
    one is given. What cannot be read is left out."""
    for number, path in rank_files(folder).items():
        if rank is not None and number != rank:
            continue
        try:
            points, _ = read_new(path, number)
        except OSError:
            continue
        yield from points
