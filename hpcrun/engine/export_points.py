"""What other programs take of metrics: numbers with whole steps; and how far a run has been told to them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.history.files import make_folder, write_atomically
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.reading import SCALAR, Point, rank_files, read_new
from hpcrun.metrics.series import LIST, number


class Number(NamedTuple):
    """A number; ``time`` in seconds since 1970."""

    name: str
    step: int
    time: float
    value: float


@dataclass
class Told:
    """How far the metrics of a run have been told: bytes by rank (as text), how many values of each name had
    no step of their own, the files that were written, and which documents were told."""

    offsets: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Told:
        """What :meth:`save` wrote; nothing told, where there is nothing, or something else."""
        try:
            data = json.loads(path.read_bytes())
            return cls(**{key: kind(data[key]) for key, kind in _KINDS.items()})
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return cls()

    def save(self, path: Path) -> None:
        """Raises HistoryError."""
        write_atomically(path, json.dumps(asdict(self)).encode())

    def unread(self, folder: Path) -> Iterator[tuple[int, list[Point]]]:
        """What each rank has told since, rank by rank; it counts as told then."""
        for rank, path in rank_files(folder).items():
            before = self.offsets.get(str(rank), 0)
            try:
                points, after = read_new(path, rank, before)
            except OSError:
                continue
            if after > before:
                yield rank, points
                self.offsets[str(rank)] = after

    def is_of_another(self, folder: Path) -> bool:
        """Whether the files were written anew since."""
        for rank, path in rank_files(folder).items():
            try:
                if path.stat().st_size < self.offsets.get(str(rank), 0):
                    return True
            except OSError:
                continue
        return False

    def numbers(self, point: Point) -> Iterator[Number]:
        """The numbers of a point: the value, each of a list, or those of a row, as ``NAME/COLUMN``."""
        if point.kind == "row" and isinstance(point.value, dict):
            for column, value in point.value.items():
                if _is_number(value):
                    yield self._placed(f"{point.name}/{column}", value, point)
        elif point.kind == LIST and isinstance(point.value, list):
            yield from (self._placed(point.name, v, point, own=False) for v in point.value if _is_number(v))
        elif point.kind in (SCALAR, LIST) and _is_number(point.value):
            yield self._placed(point.name, point.value, point)

    def _placed(self, name: str, value: Any, point: Point, *, own: bool = True) -> Number:
        at = point.time if math.isfinite(point.time) else 0.0
        if own and point.step is not None and abs(point.step) < 2**53:  # so no NaN either
            return Number(name, round(point.step), at, number(value))
        counts = self.counts.setdefault(str(point.rank), {})
        counts[name] = counts.get(name, -1) + 1
        return Number(name, counts[name], at, number(value))


_KINDS: dict[str, Any] = {"offsets": dict, "counts": dict, "files": list}


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def picture_of(history: History, record: RunRecord, point: Point, most: int = 32 << 20) -> bytes | None:
    """What stands in the file of an image; None for one that is not here, or not in the run's folder."""
    name = point.value.get("path") if point.kind == "image" and isinstance(point.value, dict) else None
    if not isinstance(name, str):
        return None
    # In the run's own folder, or in that of the history, which holds links to where the files really are.
    folders = (history.paths.run(record.id).folder, history.seen(record).folder)
    for folder in folders:
        try:
            path = (folder / name).resolve()
            inside = any(path.is_relative_to(own.resolve()) for own in folders)
            if inside and path.is_file() and path.stat().st_size <= most:
                return path.read_bytes()
        except (OSError, ValueError, RuntimeError):
            continue
    return None


def told_folder(path: Path) -> Path:
    """Make a folder of mode 0700 with those above it. Raises HistoryError."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            make_folder(folder)
    return path
