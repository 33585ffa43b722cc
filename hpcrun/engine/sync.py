"""Bringing outputs and logs home from other machines: any number of runs, one listing and one rsync a site.

While a run goes on, what comes is provisional. Once it has ended, its files are compared with a listing made
on the target after the end; only when all that is wanted is here, as long and as old as there, is the run in
the state in which it ended. Until then it is Finalizing, and every sync goes on where the last one left off.
"""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcrun.engine import tracked
from hpcrun.engine.measured import take_in_many
from hpcrun.errors import CommandError, HistoryError, HpcrunError, UnreachableError
from hpcrun.globs import matches
from hpcrun.history.files import locked, write_atomically
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.refs import is_table
from hpcrun.places.writing import private
from hpcrun.shells.base import RemoteShell
from hpcrun.states import RunState
from hpcrun.targets import Targets
from hpcrun.transfer.fetch import Fetched, Progress, fetch
from hpcrun.transfer.manifest import Entry, Manifest, is_here, list_files, missing
from hpcrun.units import Memory

_TIMES = 3
"""How often a run that has ended is looked at anew, where its files still change."""

_LOCK = 3600.0
_AT_ONCE = 200
"""Runs in one listing, each of which has a lock that is held meanwhile."""

_NOTHING_YET = (RunState.NOT_STARTED, RunState.PREPARING, RunState.QUEUED)


@dataclass
class SyncReport:
    """``done``: the runs that were brought as far as they go; ``trouble``: what was the matter, by site or
    run; ``busy``: those that another process is bringing, where that was not to be waited for; ``notes``:
    what a person may want to know of how it was done."""

    done: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0
    trouble: dict[str, HpcrunError] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """What is about to come: of how many runs, how many files, how many bytes."""

    runs: int
    files: int
    size: int


OnPlan = Callable[[Expected], Progress | None]
OnWait = Callable[[str], None]
"""Told of a run that another process is bringing, before it is waited for."""


def reach(history: History, targets: Targets, run_ids: Iterable[str] | None = None) -> dict[str, HpcrunError]:
    """Have the connections that runs which have not ended need: which sites cannot be reached, and why.

    So a site that is away is tried once, and not anew with each question.
    """
    wanted = None if run_ids is None else set(run_ids)
    trouble: dict[str, HpcrunError] = {}
    sites = {row.target.partition(":")[0] for row in history.active() if wanted is None or row.id in wanted}
    for site in sorted(sites):
        try:
            remote = targets.get(site).remote
            if remote is not None:
                with remote.rsh():
                    pass
        except UnreachableError as exc:
            trouble[site] = exc
        except HpcrunError:
            pass  # whoever asks more of it says what is the matter
    return trouble


def bring_logs(history: History, targets: Targets, run_id: str) -> dict[str, HpcrunError]:
    """Have the logs of one run here, and nothing else of it; what was the matter, by site or run."""
    return sync(history, targets, [run_id], logs_only=True).trouble


def sync(
    history: History,
    targets: Targets,
    run_ids: Iterable[str] | None = None,
    on_plan: OnPlan | None = None,
    *,
    logs_only: bool = False,
    patience: float = _LOCK,
    on_wait: OnWait | None = None,
    without: Iterable[str] = (),
) -> SyncReport:
    """Bring home what these runs have (those on other machines; None: all that may have something and have
    not come home yet), but for those of the sites ``without``.

    A run that another process is bringing is waited for, for ``patience`` seconds (0: it is left to that
    one). Never raises for trouble out there; it is in the report.
    """
    report = SyncReport()
    places: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for run_id in _not_home(history) if run_ids is None else dict.fromkeys(run_ids):
        try:
            record = history.get(run_id)
        except HistoryError as exc:
            report.trouble[run_id] = exc
            continue
        site = record.target.partition(":")[0]
        if record.host is not None and record.submission.get("state") == "submitted" and site not in without:
            # Where it was sent to, wherever the site's root is by now.
            places[site, posixpath.dirname(record.run_dir)].append(record)
    for (site, there), records in places.items():
        try:
            if isinstance(report.trouble.get(site), UnreachableError):
                continue
            shell = _shell(targets, site, records[0])
            for first in range(0, len(records), _AT_ONCE):
                with ExitStack() as locks:
                    free = _locked(
                        history, records[first : first + _AT_ONCE], locks, report, patience, on_wait
                    )
                    _bring(_Bringing(history, shell, there, report, on_plan, logs_only), free)
        except HpcrunError as exc:
            report.trouble[site] = exc
    return report


def _not_home(history: History) -> list[str]:
    """Runs on other machines that have started."""
    return [r.id for r in history.active() if r.job_id and not r.run_dir and r.state not in _NOTHING_YET]


def _shell(targets: Targets, site: str, record: RunRecord) -> RemoteShell:
    remote = targets.get(site).remote
    if remote is None:
        raise CommandError(f"{site} is on this machine, and {record.id} was sent to {record.host}")
    return remote


def _locked(
    history: History,
    records: list[RunRecord],
    locks: ExitStack,
    report: SyncReport,
    patience: float,
    on_wait: OnWait | None,
) -> list[RunRecord]:
    """The records, once nobody else brings their files; in one order, so that no two wait for each other."""
    found = []
    for record in sorted(records, key=lambda r: r.id):
        path = history.paths.run(record.id).sync_lock
        try:
            locks.enter_context(locked(path, seconds=0))
        except HistoryError:
            if patience <= 0:
                report.busy.append(record.id)
                continue
            if on_wait is not None:
                on_wait(record.id)
            locks.enter_context(locked(path, seconds=patience))
        found.append(history.get(record.id))
    return found


@dataclass
class _Bringing:
    history: History
    shell: RemoteShell
    there: str
    report: SyncReport
    on_plan: OnPlan | None
    logs_only: bool

    def folder(self, run_id: str) -> Path:
        return self.history.paths.run(run_id).folder

    def get(self, away: Sequence[tuple[str, Entry]]) -> Fetched:
        """Bring these files, if there are any."""
        if not away:
            return Fetched()
        size = sum(entry.size for _, entry in away)
        plan = Expected(len({run_id for run_id, _ in away}), len(away), size)
        progress = self.on_plan(plan) if self.on_plan is not None else None
        try:
            with private():
                fetched = fetch(self.shell, self.there, self.history.paths.runs, away, progress)
        except OSError as exc:
            raise CommandError(f"cannot write what comes from {self.shell.host}: {exc}") from exc
        if fetched.note and fetched.note not in self.report.notes:
            self.report.notes.append(fetched.note)
        self.report.files += len(away)
        self.report.size += size
        return fetched

    def missing(self, run_id: str, entries: Sequence[Entry], same: Collection[str] = ()) -> list[Entry]:
        """Those of the files that are not here, whose way is free then."""
        try:
            return missing(self.folder(run_id), entries, same)
        except OSError as exc:
            raise CommandError(f"cannot make room for the files of {run_id}: {exc}") from exc


def _bring(b: _Bringing, records: list[RunRecord]) -> None:
    left = {record.id: record for record in records}
    wrong: dict[str, str] = {}
    for _ in range(_TIMES):
        if not left:
            return
        settled, wrong = _once(b, list(left.values()))
        for run_id in settled:
            left.pop(run_id)
            b.report.done.append(run_id)
    for run_id in left:
        error = CommandError(f"{run_id}: {wrong[run_id]}", hint="The next hpcrun sync goes on.")
        b.report.trouble[run_id] = error


def _once(b: _Bringing, records: list[RunRecord]) -> tuple[list[str], dict[str, str]]:
    """One listing, one transfer. The runs of which nothing is left to do for now, and what is the matter with
    the others."""
    home = b.history.paths.runs
    manifests = list_files(b.shell, b.there, [record.id for record in records], home)
    wanted: dict[str, list[Entry]] = {}
    away: dict[str, list[Entry]] = {}
    for record in records:
        manifest = manifests.setdefault(record.id, Manifest(trouble=f"{b.shell.host} did not tell of it"))
        come, stay = choose(record, manifest)
        wanted[record.id] = [e for e in come if is_log(e)] if b.logs_only else come
        away[record.id] = b.missing(record.id, wanted[record.id], manifest.same)
        others = [] if not b.logs_only else b.missing(record.id, [e for e in come if not is_log(e)])
        _note_files(b.history.paths.run(record.id), [*away[record.id], *others, *stay])
    fetched = b.get([(run_id, entry) for run_id, entries in away.items() for entry in entries])
    take_in_many(b.history, records, all_of_it=True)  # before it is written down that they are home
    settled, wrong = [], {}
    for record in records:
        absent = [e for e in away[record.id] if not is_here(b.folder(record.id), e)]
        manifest = manifests[record.id]
        if record.outcome is None and not record.state.final:
            absent = []  # it goes on, and so do its files
        if absent:
            wrong[record.id] = f"{absent[0].name} did not come as it is there: " + (
                fetched.complaint or "it changes each time"
            )
        elif manifest.trouble:
            wrong[record.id] = f"not all of its files could be listed: {manifest.trouble}"
        else:
            settled.append(record.id)
            if not b.logs_only:
                _write_down(b, record, manifest, wanted[record.id])
    return settled, wrong


def _write_down(b: _Bringing, record: RunRecord, manifest: Manifest, wanted: list[Entry]) -> None:
    """How far a run has come home, and that it is, if it has ended."""
    ended = record.outcome is not None or record.state.final
    tracked.take_in(b.history, record, RunState(record.outcome or record.state) if ended else None)
    summary: dict[str, Any] = {
        "state": "final" if ended else "provisional",
        "at": utc_now(),
        "files": len(wanted),
        "bytes": sum(entry.size for entry in wanted),
        "left": len(manifest.files) + len(manifest.closed) - len(wanted),
    }
    if manifest.odd:
        summary["odd"] = manifest.odd
    known = record.sync or {}
    if manifest.gone:  # what came before stays, and stays told of
        summary |= {key: known[key] for key in ("at", "files", "bytes", "odd") if key in known}
        summary["gone"] = True
    if ended and {**summary, "at": ""} == {**known, "at": ""}:
        summary = known

    def change(r: RunRecord) -> None:
        r.sync = summary
        if r.outcome is not None and not r.state.final:
            r.state = RunState(r.outcome)
            if manifest.gone and not r.message and not _never_had_one(r):
                r.message = f"its folder is gone from {r.host}: what was not home yet is lost"

    b.history.update(record.id, change)


def _never_had_one(record: RunRecord) -> bool:
    """Whether a run has no folder there since its task, which makes it, never began."""
    return is_table(record) and record.started is None and not record.attempts


def choose(record: RunRecord, manifest: Manifest) -> tuple[list[Entry], list[Entry]]:
    """The files to bring, and those to leave there, by the run's configuration. Logs come always; what may
    not be read there stays."""
    rules = record.config.get("sync") or {}
    include, exclude = rules.get("include") or [], rules.get("exclude") or []
    most = rules.get("max_file_size")
    limit = None if most is None else int(Memory.parse(most)) * 2**20
    if not include and not exclude and limit is None:
        return manifest.files, manifest.closed
    come: list[Entry] = []
    stay: list[Entry] = [*manifest.closed]
    for entry in manifest.files:
        fits = (not include or matches(entry.name, include)) and not matches(entry.name, exclude)
        small = limit is None or entry.size <= limit
        (come if is_log(entry) or (fits and small) else stay).append(entry)
    return come, stay


def is_log(entry: Entry) -> bool:
    """Whether a file is one of hpcrun's own folders, which come home whatever the configuration says."""
    return not entry.name.startswith(("outputs/", "logs/"))


def _note_files(home: RunPaths, away: list[Entry]) -> None:
    """Keep in mind what the target has that is not here, for those who look for a file."""
    text = json.dumps({"version": 1, "left": [[e.name, e.size] for e in away]}).encode("ascii")
    try:
        if home.files.read_bytes() == text:
            return
    except OSError:
        if not away:
            return
    write_atomically(home.files, text)


def left_there(home: RunPaths) -> dict[str, int]:
    """The files that the target had, when it was last asked, and that were not here, with their sizes."""
    try:
        document = json.loads(home.files.read_bytes())
        return {str(name): int(size) for name, size, *_ in document["left"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def fetch_some(
    history: History,
    targets: Targets,
    run_id: str,
    wanted: Callable[[str], bool],
    on_plan: OnPlan | None = None,
) -> None:
    """Bring the files whose names are wanted, whatever the run's configuration leaves there, and no others.

    Raises CommandError, also where a file is not to be had whole.
    """
    record = history.get(run_id)
    if record.host is None or record.submission.get("state") != "submitted":
        return
    shell = _shell(targets, record.target.partition(":")[0], record)
    home, there = history.paths.run(run_id), posixpath.dirname(record.run_dir)
    b = _Bringing(history, shell, there, SyncReport(), on_plan, False)
    with locked(home.sync_lock, seconds=_LOCK):
        for entry, complaint in _some(b, record, wanted):
            raise CommandError(
                f"{entry.name} did not come as it is on {record.host}: {complaint}", hint="Try again."
            )


def _some(b: _Bringing, record: RunRecord, wanted: Callable[[str], bool]) -> Iterator[tuple[Entry, str]]:
    """Bring them; those that did not come, and why."""
    manifest = list_files(b.shell, b.there, [record.id]).get(record.id, Manifest(gone=True))
    there = [*manifest.files, *manifest.closed]
    away = b.missing(record.id, [entry for entry in there if wanted(entry.name)])
    folder = b.folder(record.id)
    _note_files(b.history.paths.run(record.id), [e for e in there if not is_here(folder, e)])
    fetched = b.get([(record.id, entry) for entry in away])
    for entry in away:
        goes_on = record.outcome is None and not record.state.final
        if not is_here(folder, entry) and not (goes_on and (folder / entry.path).is_file()):
            yield entry, fetched.complaint or "it changes meanwhile"
