"""Where run folders are, seen from here: on a file system of this machine, or on another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.history.tables import Table
from hpcrun.quoting import Secret
from hpcrun.schedulers.base import Scheduler


@dataclass(frozen=True)
class Here:
    """What the caller's own session says of environments; None where the run does not see the same files."""

    python: str | None = None
    conda_root: str | None = None


@dataclass(frozen=True)
class Found:
    """What is known of the job of a submission whose answer was lost.

    ``answered``: all that could know it did answer. ``never``: there certainly is none and, by that
    submission, never will be; nobody needs to look twice.
    """

    job_id: str | None
    answered: bool
    never: bool = False


@dataclass(frozen=True)
class Given:
    """What of an earlier run a new one is given, whose machine does not have it: the file or folder ``name``
    (``outputs/x``) of ``run``. ``slot`` is a name of its own among those of the new run."""

    run: str
    name: str
    slot: str

    def below(self, run_dir: str) -> str:
        """Where the new run, whose folder on another machine this is, finds it."""
        return str(RunPaths(Path(run_dir)).given / self.slot / self.name)


OnSend = Callable[[int, int], Callable[[int], None] | None]
"""Told how many files, and how many bytes, are about to be sent; gives what is told of those that went."""


class Place(Protocol):
    """The seam between the engine and the files of runs."""

    @property
    def host(self) -> str | None:
        """The machine, as records have it; None where the files are to be had from here."""
        ...

    def run_dir(self, home: Path, run_id: str, *, ask: bool = True) -> str:
        """The run's folder there; ``home`` is the one in the workspace. ``ask=False``: by what is known
        already, however that is spelled. Raises ConfigError, CommandError."""
        ...

    def here(self) -> Here: ...

    def environments(self, workspace: Path, *, ask: bool = True) -> str:
        """The folder there that holds environments; ``workspace`` is the one here, ``ask`` as above."""
        ...

    def fill(self, history: History, record: RunRecord, values: Mapping[str, Secret] | None) -> bool:
        """Make the run's folder complete: code, folders, secrets, the script last. Done again, it does what
        is missing. ``values`` are those of the secrets, None to read them anew. Whether all is there: False
        where the environment that the run wants is not.

        Raises OSError and HpcrunError; nothing was submitted then.
        """
        ...

    def give(
        self, record: RunRecord, given: Given, path: Path, *, trusted: bool, on_send: OnSend | None
    ) -> None:
        """Have the file or folder ``path`` of this machine where ``record`` looks for what it is given, whole
        or not at all. ``trusted``: only its owner has written to it.

        Raises OSError, CommandError, UnreachableError; what has come by then is gone on with.
        """
        ...

    def gather(self, records: Sequence[RunRecord], script: str) -> None:
        """Make the folder of the job array whose tasks these runs are; see :mod:`hpcrun.places.refs`.

        Raises OSError and HpcrunError; nothing was submitted then.
        """
        ...

    def share(self, history: History, record: RunRecord, table: Table, script: str) -> None:
        """Make the folder of the job array whose tasks make the folders of their runs themselves, those of a
        table; see :mod:`hpcrun.places.table`. ``record`` is that of one of them.

        Raises OSError and HpcrunError; nothing was submitted then.
        """
        ...

    def unshare(self, record: RunRecord) -> None:
        """Take that folder away again, of which no task will be. Raises OSError, HpcrunError."""
        ...

    def script(self, history: History, record: RunRecord) -> str:
        """The job script, as it was sent."""
        ...

    def look(self, history: History, records: Iterable[RunRecord]) -> None:
        """Have what the runs' own jobs say where :meth:`History.seen` reads it. Raises CommandError."""
        ...

    def find(self, history: History, record: RunRecord, scheduler: Scheduler) -> Found:
        """Look for the job of a submission whose answer was lost.

        Raises SubmissionRejected if the answer is found, and was no; CommandError.
        """
        ...

    def forget(self, history: History, record: RunRecord) -> None:
        """Take the values of the run's secrets away. Never raises for trouble out there."""
        ...
