"""Reading what a run's processes print, as it comes: each byte once, whole lines, by rank."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import UsageError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord

_RANK = re.compile(r"std_log_process_(\d+)\.txt\Z")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_STAMP = re.compile(
    r"[^0-9]{0,20}(?:\d{1,6}\D{1,3})?"
    r"(\d{4}-\d\d-\d\d)[T _](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Line:
    """One line of output, without its line end. ``rank`` is None for a run of one process."""

    rank: int | None
    text: str


def parse_ranks(text: str) -> list[int]:
    """``0,3,5-7`` as numbers, each once, in their order. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"expected ranks such as 3, or 0,3,5-7, found {text!r:.80}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 1_000_000:
            raise ValueError(f"not a range of ranks: {part.strip()!r}")
        found.update(range(first, last + 1))
    return sorted(found)


def check_ranks(record: RunRecord, ranks: Collection[int]) -> None:
    """Raises UsageError for ranks that the run does not have."""
    processes = record.config.get("processes")
    if isinstance(processes, int) and any(not 0 <= rank < processes for rank in ranks):
        there = (
            "one process, rank 0" if processes == 1 else f"{processes} processes, ranks 0 to {processes - 1}"
        )
        raise UsageError(f"the run has {there}", hint="Name no rank to see all.")


def merged(lines: Iterable[Line]) -> list[Line]:
    """The lines of all processes in one order, as far as there is any.

    Files hold no times, and so what counts is the time at the beginning of a line, where the program writes
    one (``2026-01-31 12:00:00,123``); a line without one belongs to the line before it. No process's own
    lines change places. If only one process writes no times at all, they stay rank after rank.
    """
    ranks: dict[int | None, list[Line]] = {}
    for line in lines:
        ranks.setdefault(line.rank, []).append(line)
    stamped = [_stamped(each) for each in ranks.values()]
    if not all(each and each[-1][0] for each in stamped):
        return [line for each in ranks.values() for line in each]
    return [line for _, line in heapq.merge(*stamped, key=lambda entry: entry[0])]


def _stamped(lines: list[Line]) -> list[tuple[str, Line]]:
    latest, found = "", []
    for line in lines:
        match = _STAMP.match(_COLOUR.sub("", line.text[:200]))
        if match is not None:
            latest = max(latest, f"{match[1]}T{match[2]}.{match[3] or '0'}")
        found.append((latest, line))
    return found


class LogReader:
    """Reads the user logs of a run from where it left off. ``ranks`` narrows it to some of the processes."""

    def __init__(self, home: RunPaths, ranks: Collection[int] | None = None) -> None:
        self._folder = home.user_logs
        self._only = None if ranks is None else frozenset(ranks)
        self._at: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}

    def read(self, *, to_end: bool = False) -> Iterator[Line]:
        """The lines that have come since the last call; ``to_end`` also gives a last line without an end."""
        for path in self._files():
            rank = self._rank(path)
            for raw in self._new_lines(path, to_end):
                yield Line(rank, raw.decode("utf-8", "replace"))

    def unfinished(self) -> Line | None:
        """What has been read of a line that has no end yet: of several processes, the lowest rank's."""
        for path, raw in sorted(self._rest.items()):
            if raw.strip():
                return Line(self._rank(path), raw.decode("utf-8", "replace"))
        return None

    def any_there(self) -> bool:
        """Whether there is any log, if only an empty one."""
        return bool(self._files())

    def _files(self) -> list[Path]:
        try:
            # Listed, not guessed: on network file systems a listing also refreshes what stat then says.
            found = (p for p in self._folder.iterdir() if p.name.startswith("std_log"))
            files = sorted(found, key=lambda p: (self._rank(p) or 0, p.name))
        except OSError:
            return []
        return [p for p in files if self._only is None or (self._rank(p) or 0) in self._only]

    @staticmethod
    def _rank(path: Path) -> int | None:
        match = _RANK.match(path.name)
        return int(match.group(1)) if match else None

    def _new_lines(self, path: Path, to_end: bool) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                if file.seek(0, 2) < self._at.get(path, 0):
                    self._at[path], self._rest[path] = 0, b""  # made anew by the script: read it anew
                file.seek(self._at.get(path, 0))
                data = file.read()
                self._at[path] = file.tell()
        except OSError:
            return
        data = self._rest.pop(path, b"") + data
        *lines, rest = data.split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
        if rest and to_end:
            yield rest
        elif rest:
            self._rest[path] = rest
