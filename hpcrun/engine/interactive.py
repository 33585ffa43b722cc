"""Interactive runs: a program that somebody started by hand, and no job. Its process says how it ends.

Which process that is stands in the record: the kernel's boot id, the namespace of its numbers, its number and
when it began. So nobody else is taken for it, and on another machine nothing is known of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpcrun.engine import tracked
from hpcrun.engine.measured import take_in as measure
from hpcrun.history.index import RunRow
from hpcrun.history.record import INTERACTIVE, RunRecord, new_run_id, utc_now
from hpcrun.history.store import History
from hpcrun.places.writing import private, write
from hpcrun.states import Reason, RunState

if TYPE_CHECKING:
    from hpcrun.engine.code import Code

Life = Literal["alive", "gone", "unknown"]

_GONE = "its program has ended, and had not said how"
_AGAIN = "its machine was started anew while it ran"


def begin(
    history: History,
    experiment: str,
    *,
    display_name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    snapshot: Path | None = None,
) -> RunRecord:
    """A new run, which is this process's. ``snapshot`` is a folder to keep the sources of.

    Raises HistoryError if the experiment is archived, SnapshotError.
    """
    from hpcrun.engine.code import take_code
    from hpcrun.shells.local import LocalShell
    from hpcrun.snapshot import SnapshotStore

    history.check_open(experiment, None)
    with ExitStack() as kept:
        code: Code | None = None
        if snapshot is not None:
            with private():
                kept.enter_context(SnapshotStore(history.paths.snapshots, LocalShell()).in_use())
                code = take_code(history.paths, snapshot, LocalShell())
        record, _ = history.create(
            RunRecord(
                id=new_run_id(experiment),
                experiment=experiment,
                display_name=display_name,
                description=description,
                type=INTERACTIVE,
                state=RunState.RUNNING,
                target="local",
                scheduler="local",
                started=utc_now(),
                snapshot=None if code is None else _snapshot(code),
                properties={} if code is None else dict(code.properties),
                tags=dict(tags or {}),
                nodes=socket.gethostname(),
                submission={"state": INTERACTIVE, "process": process()},
            )
        )
    home = history.paths.run(record.id)
    with private():
        (home.folder / "outputs").mkdir(exist_ok=True)
        if code is not None and code.diff:
            write(home.diff, code.diff)
    return record


def _snapshot(code: Code) -> dict[str, Any]:
    found = code.snapshot
    known = {"id": found.id, "files": found.files, "bytes": found.size, "diff": bool(code.diff)}
    return {**known, "notes": [*found.notes]}


def process() -> dict[str, Any]:
    """This process, so that it can be told from all others."""
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id").strip(),
        "space": _space(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
    }


def life(record: RunRecord) -> Life:
    """Whether the run's process lives, as far as that can be told from here."""
    known = record.submission.get("process") or {}
    here = process()
    if known.get("boot") != here["boot"]:
        return "gone" if known.get("host") == here["host"] and known.get("boot") else "unknown"
    if known.get("space") != here["space"] or not here["space"]:
        return "unknown"
    pid = known.get("pid")
    return "alive" if type(pid) is int and _began(pid) == known.get("began") is not None else "gone"


def mine(record: RunRecord) -> bool:
    """Whether it is this process's."""
    return record.submission.get("process") == process()


def end(
    history: History, run_id: str, state: RunState, message: str = "", reason: Reason = Reason.NONE
) -> RunRecord:
    """Write down how the run ended, with all that it logged; one that has ended stays as it ended."""
    record = history.get(run_id)
    if record.state.final:
        return record
    measure(history, record)
    tracked.take_in(history, record, state)

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.reason, r.message, r.ended = state, reason.value, message, utc_now()

    return history.update(run_id, change)


def look(history: History, row: RunRow) -> None:
    """Take in what the run has logged until now; it is Failed if its process is gone. Raises HistoryError."""
    record = history.get(row.id)
    if record.state.final:
        return
    if life(record) != "gone":
        measure(history, record, all_of_it=False)
        tracked.take_in(history, record)
        return
    known = record.submission.get("process") or {}
    words = _GONE if known.get("boot") == process()["boot"] else _AGAIN
    end(history, row.id, RunState.FAILED, words, Reason.LOST)


def of(rows: Iterable[RunRow], wanted: set[str] | None) -> list[RunRow]:
    """The interactive runs among them that are asked for."""
    return [row for row in rows if row.type == INTERACTIVE and (wanted is None or row.id in wanted)]


def _began(pid: int) -> int | None:
    """When a process began, in the kernel's own count; None where there is none, or it is dead."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return int(fields[19])


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
