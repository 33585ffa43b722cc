"""The metrics of a run, as they are told: each look reads what is new."""

from __future__ import annotations

from pathlib import Path

from hpcrun.metrics.reading import rank_files, read_new
from hpcrun.metrics.series import Series, gather


class Growing:
    """A run's ``metrics`` folder and what was read of it until now, in ``series``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._offsets: dict[int, int] = {}
        self._series: dict[tuple[str, str, int], Series] = {}

    @property
    def series(self) -> list[Series]:
        """By rank, and then in the order in which they came first."""
        return sorted(self._series.values(), key=lambda each: each.rank)

    def look(self) -> bool:
        """Read what is new; whether there was anything. What cannot be read is left for the next look."""
        new = False
        for rank, path in rank_files(self.folder).items():
            before = self._offsets.get(rank, 0)
            try:
                points, after = read_new(path, rank, before)
            except OSError:
                continue
            if after < before:  # another file: what was read of the old one counts no more
                self._series = {key: each for key, each in self._series.items() if key[2] != rank}
            self._offsets[rank] = after
            new = new or after != before
            for each in gather(points):
                self._add(each)
        return new

    def _add(self, new: Series) -> None:
        known = self._series.setdefault((new.name, new.kind, new.rank), new)
        if known is not new:
            known.values += new.values
            known.steps += new.steps
            known.times += new.times
            known.attempts += new.attempts


def series_in(folder: Path) -> list[Series]:
    """All of a run's metrics, as they stand now."""
    growing = Growing(folder)
    growing.look()
    return growing.series
