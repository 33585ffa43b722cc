"""Reading what a run's processes print, as it comes: each byte once, whole lines, by rank."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcrun.history.paths import RunPaths

_RANK = re.compile(r"std_log_process_(\d+)\.txt\Z")


@dataclass(frozen=True)
class Line:
    """One line of output, without its line end. ``rank`` is None for a run of one process."""

    rank: int | None
    text: str


class LogReader:
    """Reads the user logs of a run from where it left off. ``rank`` narrows it to one process."""

    def __init__(self, home: RunPaths, rank: int | None = None) -> None:
        self._folder = home.user_logs
        self._only = rank
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
            files = sorted(p for p in self._folder.iterdir() if p.name.startswith("std_log"))
        except OSError:
            return []
        return [p for p in files if self._only is None or (self._rank(p) or 0) == self._only]

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
