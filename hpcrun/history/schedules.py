"""The schedules of a workspace: a file each, changed under one lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hpcrun.errors import HistoryError, NotFoundError, UsageError
from hpcrun.history.files import locked, make_folder, write_atomically
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import is_experiment


@dataclass
class Schedule:
    """What is to be submitted when ``fields``, in the time zone ``zone``, say so.

    ``kind`` is ``run``, ``pipeline`` or ``sweep``, ``config`` what it is, as it was when it was scheduled.
    ``catch_up``: of slots that were missed, the ``latest`` is started, or ``all``. ``done`` is the slot up to
    which all is done. ``last``: the ``slot`` that was dealt with last, the ``run`` that it became, or the
    ``error``.
    """

    name: str
    fields: str
    zone: str
    kind: str
    config: dict[str, Any]
    target: str
    created: str
    done: str
    catch_up: str = "latest"
    paused: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    last: dict[str, Any] | None = None
    version: int = 1


class Schedules:
    """Those of one workspace."""

    def __init__(self, paths: WorkspacePaths) -> None:
        self._folder = paths.schedules

    def __iter__(self) -> Iterator[Schedule]:
        for name in self.names():
            with suppress(NotFoundError):  # taken away just now
                yield self.get(name)

    def names(self) -> list[str]:
        try:
            return sorted(path.stem for path in self._folder.glob("*.json") if is_experiment(path.stem))
        except OSError:
            return []

    def get(self, name: str) -> Schedule:
        """Raises NotFoundError with the nearest name, HistoryError for a file that is damaged."""
        if not is_experiment(name) or not self._path(name).exists():
            raise self._unknown(name)
        try:
            found = json.loads(self._path(name).read_bytes())
            return Schedule(**{each.name: found[each.name] for each in fields(Schedule)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HistoryError(
                f"{self._path(name)} is damaged: {error}", hint=f"Take it away: hpcrun schedule rm {name}"
            ) from None

    def add(self, schedule: Schedule) -> None:
        """Raises UsageError for a name that is taken, or is none."""
        if not is_experiment(schedule.name):
            raise UsageError(
                f"{schedule.name!r} cannot be the name of a schedule",
                hint="Letters, digits, _ and -; give another by --name.",
            )
        make_folder(self._folder)
        with self._lock():
            if self._path(schedule.name).exists():
                raise UsageError(
                    f"there is a schedule {schedule.name} already",
                    hint=f"Another name: --name NAME; or first: hpcrun schedule rm {schedule.name}",
                )
            self._write(schedule)

    def change(self, name: str, change: Callable[[Schedule], None]) -> Schedule:
        """Change a schedule as it stands. Raises NotFoundError, HistoryError."""
        self.get(name)  # or there is no folder for the lock
        with self._lock():
            schedule = self.get(name)
            change(schedule)
            self._write(schedule)
        return schedule

    def remove(self, name: str) -> None:
        """Raises NotFoundError."""
        if name not in self.names():
            raise self._unknown(name)
        with self._lock():
            self._path(name).unlink(missing_ok=True)

    def _write(self, schedule: Schedule) -> None:
        write_atomically(self._path(schedule.name), json.dumps(asdict(schedule), indent=2).encode("ascii"))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _lock(self) -> Any:
        return locked(self._folder / ".lock")

    def _unknown(self, name: str) -> NotFoundError:
        import difflib

        names = self.names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names) or 'none'}"
        return NotFoundError(f"there is no schedule {name}", hint=hint)
