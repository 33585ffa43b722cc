"""What the script that follows a run sends (``follow.sh``), taken apart: bytes in, frames out, no I/O.

Nothing in it is believed further than it has to be: logs have keys, of which file names are made here, and
whatever is not exactly a frame ends the stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MARK_LENGTH = 64
"""Hexadecimal digits behind each frame: more than anybody guesses, and more than the shell's own frame
(:mod:`hpcrun.shells.framing`) keeps back until it sees what follows."""

PIECE = 1 << 20
"""Bytes of a log that a frame holds at most."""

_LONGEST = PIECE + (1 << 16)
_KEY = r"log|job|[0-9]{1,9}"
_NUMBER = r"[0-9]{1,18}"
_PIECE_HEAD = re.compile(rf"F ({_KEY}) ({_NUMBER}) ({_NUMBER})")
_ANEW_HEAD = re.compile(rf"N ({_KEY})")
_END_HEAD = re.compile(rf"E(?: (?:{_KEY})={_NUMBER})*")


class BrokenStream(ValueError):
    """What came is no frame."""


@dataclass(frozen=True)
class Status:
    """The whole of status.json."""

    text: str


@dataclass(frozen=True)
class Anew:
    """A log that is shorter than it was, or another file: what is here of it counts no more."""

    key: str


@dataclass(frozen=True)
class Piece:
    """What stands in a log from the byte ``at`` on."""

    key: str
    at: int
    data: bytes


@dataclass(frozen=True)
class Beat:
    """Nothing new, and somebody is there."""


@dataclass(frozen=True)
class End:
    """All that there was has been sent; how long each log was then."""

    sizes: Mapping[str, int] = field(default_factory=dict)


Frame = Status | Anew | Piece | Beat | End


def log_name(key: str) -> str:
    """The name, in a run's folder, of the log with this key. Raises ValueError for what is none."""
    if re.fullmatch(_KEY, key) is None:
        raise ValueError(f"not the key of a log: {key!r}")
    if key == "job":
        return "system_logs/job.txt"
    return "user_logs/std_log.txt" if key == "log" else f"user_logs/std_log_process_{key}.txt"


def key_of(name: str) -> str | None:
    """The key of the user log with this file name; None for a file that is none."""
    if name == "std_log.txt":
        return "log"
    found = re.fullmatch(r"std_log_process_([0-9]{1,9})\.txt", name)
    return found[1] if found else None


class Frames:
    """Finds the frames in what comes, however it is cut into pieces."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete by now. Raises BrokenStream."""
        seen = max(0, len(self._rest) - len(self._mark) + 1)
        self._rest += data
        found = []
        while (end := self._rest.find(self._mark, seen)) >= 0:
            found.append(_frame(bytes(self._rest[:end])))
            del self._rest[: end + len(self._mark)]
            seen = 0
        if len(self._rest) > _LONGEST:
            raise BrokenStream("a frame without an end")
        return found


def _frame(text: bytes) -> Frame:
    head, separator, body = text.partition(b";")
    words = head.decode("ascii", "replace")
    if words == "S" and separator:
        return Status(body.decode("utf-8", "replace"))
    if match := _PIECE_HEAD.fullmatch(words):
        # Shorter where the log was cut between the look and the reading: the next look says so.
        if len(body) > int(match[3]):
            raise BrokenStream(f"a frame of {len(body)} bytes that was to have {match[3]}")
        return Piece(match[1], int(match[2]), body)
    if body or not separator:
        raise BrokenStream(f"not a frame: {text[:60]!r}")
    if words == "B":
        return Beat()
    if match := _ANEW_HEAD.fullmatch(words):
        return Anew(match[1])
    if _END_HEAD.fullmatch(words):
        sizes = (word.partition("=") for word in words.split()[1:])
        return End({key: int(size) for key, _, size in sizes})
    raise BrokenStream(f"not a frame: {words[:60]!r}")
