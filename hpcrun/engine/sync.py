"""Bringing outputs and logs home from other machines: any number of runs, one listing and one rsync a site.

While a run goes on, what comes is provisional. Once it has ended, its files are compared with a listing made
on the target after the end; only when all that is wanted is here, as long and as old as there, is the run in
the state in which it ended. Until then it is Finalizing, and every sync goes on where the last one left off.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcrun.errors import CommandError, HistoryError, HpcrunError
from hpcrun.globs import matches
from hpcrun.history.files import locked, write_atomically
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.far import FarPlace
from hpcrun.places.writing import private
from hpcrun.states import RunState
from hpcrun.targets import Target, Targets
from hpcrun.transfer import Entry, Manifest, Progress, clear_way, fetch, is_here, list_files
from hpcrun.units import Memory

_TIMES = 3
"""How often a run that has ended is looked at anew, where its files still change."""

_LOCK = 3600.0


@dataclass
class SyncReport:
    """``done``: the runs that were brought as far as they go; ``trouble``: what was the matter, by site or
    run; ``notes``: what a person may want to know of how it was done."""

    done: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0
    trouble: dict[str, HpcrunError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """What is about to come: of how many runs, how many files, how many bytes."""

    runs: int
    files: int
    size: int


OnPlan = Callable[[Expected], Progress | None]


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
) -> SyncReport:
    """Bring home what these runs have (those on other machines; None: all that have not come home yet).

    Never raises for trouble out there; it is in the report.
    """
    report = SyncReport()
    sites: dict[str, list[RunRecord]] = defaultdict(list)
    for run_id in _not_home(history) if run_ids is None else dict.fromkeys(run_ids):
        try:
            record = history.get(run_id)
        except HistoryError as exc:
            report.trouble[run_id] = exc
            continue
        if record.host is not None and record.submission.get("state") == "submitted":
            sites[record.target.partition(":")[0]].append(record)
    for site, records in sites.items():
        try:
            target = targets.get(site)
            if target.remote is None:
                raise CommandError(f"{site} is on this machine, and the runs were sent to {records[0].host}")
            with ExitStack() as locks:
                _bring(
                    _Bringing(history, target, report, on_plan, logs_only), _locked(history, records, locks)
                )
        except HpcrunError as exc:
            report.trouble[site] = exc
    return report


def _not_home(history: History) -> list[str]:
    return [row.id for row in history.active() if row.job_id and not row.run_dir]


def _locked(history: History, records: list[RunRecord], locks: ExitStack) -> list[RunRecord]:
    """The records, once nobody else brings their files; in one order, so that no two wait for each other."""
    found = []
    for record in sorted(records, key=lambda r: r.id):
        locks.enter_context(locked(history.paths.run(record.id).sync_lock, seconds=_LOCK))
        found.append(history.get(record.id))
    return found


@dataclass
class _Bringing:
    history: History
    target: Target
    report: SyncReport
    on_plan: OnPlan | None
    logs_only: bool

    @property
    def place(self) -> FarPlace:
        assert isinstance(self.target.place, FarPlace)
        return self.target.place


def _bring(b: _Bringing, records: list[RunRecord]) -> None:
    left = {record.id: record for record in records}
    for _ in range(_TIMES):
        for run_id in _once(b, list(left.values())):
            left.pop(run_id)
            b.report.done.append(run_id)
        if not left:
            return
    for run_id in left:
        words = f"{run_id}: its files changed each time they were brought: the next sync goes on"
        b.report.trouble[run_id] = CommandError(words)


def _once(b: _Bringing, records: list[RunRecord]) -> list[str]:
    """One listing, one transfer; the runs of which nothing is left to do for now."""
    remote = b.target.remote
    assert remote is not None
    root, there = b.place.reach()
    manifests = list_files(remote, root, (record.id for record in records))
    wanted: dict[str, list[Entry]] = {}
    missing: list[tuple[str, Entry]] = []
    for record in records:
        manifest = manifests.get(record.id, Manifest(gone=True))
        folder = b.history.paths.run(record.id).folder
        wanted[record.id], stays = choose(record, manifest)
        if b.logs_only:
            wanted[record.id] = [e for e in wanted[record.id] if is_log(e)]
        else:
            _note_files(RunPaths(folder), wanted[record.id], stays)
        missing += [(record.id, e) for e in wanted[record.id] if not is_here(folder, e)]
    if missing:
        size = sum(entry.size for _, entry in missing)
        plan = Expected(len({run_id for run_id, _ in missing}), len(missing), size)
        progress = b.on_plan(plan) if b.on_plan is not None else None
        with private():
            for record in records:
                clear_way(b.history.paths.run(record.id).folder, wanted[record.id])
            note = fetch(remote, root, there, b.history.paths.runs, missing, progress)
        if note and note not in b.report.notes:
            b.report.notes.append(note)
        b.report.files += len(missing)
        b.report.size += size
    if b.logs_only:
        return [record.id for record in records]
    return [r.id for r in records if _settled(b, r, manifests.get(r.id, Manifest(gone=True)), wanted[r.id])]


def _settled(b: _Bringing, record: RunRecord, manifest: Manifest, wanted: list[Entry]) -> bool:
    """Write down how far it is; whether nothing is left to be done for this run now."""
    folder = b.history.paths.run(record.id).folder
    whole = all(is_here(folder, entry) for entry in wanted)
    ended = record.outcome is not None or record.state.final
    if ended and not whole:
        return False
    done = "final" if ended else "provisional"
    summary = {
        "state": done,
        "at": utc_now(),
        "files": len(wanted),
        "bytes": sum(entry.size for entry in wanted),
        "left": len(manifest.files) - len(wanted),
    }
    if ended and manifest.gone:
        summary["gone"] = True

    def change(r: RunRecord) -> None:
        r.sync = summary
        if r.outcome is not None and not r.state.final:
            r.state = RunState(r.outcome)
            if manifest.gone and not r.message:
                r.message = f"its folder is gone from {r.host}: what was not home yet is lost"

    b.history.update(record.id, change)
    return True


def choose(record: RunRecord, manifest: Manifest) -> tuple[list[Entry], list[Entry]]:
    """The files to bring, and those to leave there, by the run's configuration. Logs come always."""
    rules = record.config.get("sync") or {}
    include, exclude = rules.get("include") or [], rules.get("exclude") or []
    most = rules.get("max_file_size")
    limit = None if most is None else int(Memory.parse(most))
    come: list[Entry] = []
    stay: list[Entry] = []
    for entry in manifest.files:
        fits = (not include or matches(entry.name, include)) and not matches(entry.name, exclude)
        small = limit is None or entry.size <= limit
        (come if is_log(entry) or (fits and small) else stay).append(entry)
    return come, stay


def is_log(entry: Entry) -> bool:
    """Whether a file is one of hpcrun's own folders, which come home whatever the configuration says."""
    return not entry.name.startswith(("outputs/", "logs/"))


def _note_files(home: RunPaths, come: list[Entry], stay: list[Entry]) -> None:
    """Keep the listing: it says what there is, and what stayed."""
    document: dict[str, Any] = {
        "version": 1,
        "at": utc_now(),
        "files": [[e.name, e.size, e.mtime, e.link] for e in come],
        "left": [[e.name, e.size, e.mtime, e.link] for e in stay],
    }
    write_atomically(home.files, json.dumps(document).encode("ascii"))


def left_there(home: RunPaths) -> dict[str, int]:
    """The files that stayed on the target, by name, with their sizes."""
    try:
        document = json.loads(home.files.read_bytes())
        return {str(name): int(size) for name, size, *_ in document["left"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def fetch_left(
    history: History, targets: Targets, run_id: str, names: Iterable[str], on_plan: OnPlan | None = None
) -> list[Path]:
    """Bring files that stayed on the target; where they are now. Raises CommandError, NotFoundError."""
    record = history.get(run_id)
    target = targets.get(record.target.partition(":")[0])
    remote = target.remote
    if remote is None:
        return []
    home = history.paths.run(run_id)
    chosen = set(names)
    with locked(home.sync_lock, seconds=_LOCK):
        assert isinstance(target.place, FarPlace)
        root, there = target.place.reach()
        manifest = list_files(remote, root, [run_id]).get(run_id, Manifest(gone=True))
        entries = [entry for entry in manifest.files if entry.name in chosen]
        missing = [(run_id, entry) for entry in entries if not is_here(home.folder, entry)]
        if missing:
            plan = Expected(1, len(missing), sum(entry.size for _, entry in missing))
            with private():
                clear_way(home.folder, entries)
                progress = on_plan(plan) if on_plan is not None else None
                fetch(remote, root, there, history.paths.runs, missing, progress)
    wrong = [entry.name for entry in entries if not is_here(home.folder, entry)]
    if wrong:
        raise CommandError(f"{wrong[0]} did not come whole: it changed meanwhile", hint="Try again.")
    return [home.folder / entry.path for entry in entries]
