"""Gathering what is known of a run, and having it put into words."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpcrun.engine.asked import asked
from hpcrun.engine.before import WORDS, before_of, came_true, stands, step_names
from hpcrun.engine.interactive import life
from hpcrun.engine.tails import CONTROL, read_tail
from hpcrun.errors import HistoryError
from hpcrun.explain.facts import Ask, Explanation, Facts, Log, Other, Partition
from hpcrun.explain.jobless import JoblessFacts, explain_jobless
from hpcrun.explain.rules import explain as explain_facts
from hpcrun.explain.sweeps import SweepFacts, explain_sweep
from hpcrun.explain.tracebacks import quoted
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import CHILD, INTERACTIVE, SWEEP, RunRecord, is_run_id
from hpcrun.history.store import read_record
from hpcrun.places.refs import is_packed, submitted_from
from hpcrun.schedulers.slurmtext import complaint
from hpcrun.states import Reason, RunState
from hpcrun.targets import Targets
from hpcrun.units import Memory

GLANCE = 8 * 1024
MAX_LOGS = 16
MAX_FILES = 2000
MAX_SOURCE = 2 * 1024 * 1024

_LOG = re.compile(r"std_log(?:_process_(\d{1,9}))?\.txt\Z")
_RECIPE = re.compile(
    r"(?:environment|conda)[\w.-]*\.ya?ml|requirements[\w.-]*\.txt|pyproject\.toml|[\w.-]+\.def"
)
_ATTEMPT = " hpcrun: attempt "
_RANKS = re.compile(r"ranks? ([0-9,-]{1,1000}) on ([^:\s]{0,255})")
_FAILING = re.compile(
    r"Traceback \(most|Error\b|\berror: |\bfatal\b|Killed|Segmentation|not found|core dumped"
)


def explain(record: RunRecord, home: RunPaths, targets: Targets | None = None) -> Explanation:
    """Why a run is as it is, by its record and by its files. Starts no command, and never raises for what
    the files hold; ``home`` is the run's folder in the history. ``targets`` has the description of the site
    that a run waits for."""
    if record.type == SWEEP:
        return explain_sweep(_of_sweep(record))
    if record.type in (CHILD, INTERACTIVE):
        return explain_jobless(_of_jobless(record))
    return explain_facts(gather(record, home, targets))


def _of_jobless(record: RunRecord) -> JoblessFacts:
    known = record.submission.get("process") or {}
    child = record.type == CHILD
    return JoblessFacts(
        run_id=record.id,
        state=record.state,
        reason=record.reason,
        message=record.message,
        parent=str(record.parent) if child else "",
        program=f"process {known.get('pid')} on {known.get('host')}",
        life="unknown" if child else life(record),
    )


def _of_sweep(record: RunRecord) -> SweepFacts:
    known = record.config.get("sweep") or {}
    stop = record.submission.get("stop") or {}
    return SweepFacts(
        run_id=record.id,
        state=record.state,
        reason=record.reason,
        message=record.message,
        total=int(record.submission.get("total", 0)),
        metric=str(known.get("metric", "")),
        stopped_by=str(stop.get("who", "")),
        failed=str(record.submission.get("failed") or ""),
    )


def gather(record: RunRecord, home: RunPaths, targets: Targets | None = None) -> Facts:
    """What the rules may know of a run."""
    there = RunPaths(Path(record.run_dir)) if record.run_dir and record.host is None else home
    config = _config(record)
    start = _moment(record.expected_start)
    first, first_node = first_rank(record)
    ask, partitions = Ask(), dict[str, Partition]()
    if targets is not None and record.state is RunState.QUEUED and record.scheduler == "slurm":
        ask, partitions = asked(record, targets)
    return Facts(
        run_id=record.id,
        state=record.state if record.outcome is None else RunState(record.outcome),
        reason=record.reason,
        message=record.message,
        exit_code=record.exit_code,
        job_id=record.job_id,
        slurm=record.scheduler == "slurm",
        nodes=record.nodes,
        processes=_whole(record.config.get("processes")) or 1,
        elapsed=_elapsed(record),
        time_limit=_time_limit(record),
        memory=_memory(config),
        config=config,
        logs=_logs(record, home),
        first=first,
        first_node=first_node,
        system=_last_attempt(read_tail(home.system_logs / "job.txt")),
        built=_built(record, home),
        hint=_hint(record),
        modules=_modules(there.code),
        recipes=_recipes(there.code),
        source=_Source(there.code),
        folder=there.script.is_file(),  # newer Slurms make the folder of their log anew
        code=there.code.is_dir(),
        usage=record.usage,
        start=start.astimezone().strftime("%Y-%m-%d %H:%M:%S") if start is not None else "",
        before=_before(record, home),
        steps=_steps(record, home),
        starts_in=(start - datetime.now(timezone.utc)).total_seconds() if start is not None else None,
        ask=ask,
        partitions=partitions,
        pack=submitted_from(record) if is_packed(record) else "",
    )


def first_traceback(record: RunRecord, home: RunPaths) -> list[str]:
    """The traceback, as it was printed, of the rank that failed first; empty where it printed none, or where
    no rank is known to be the first: what a single process prints last is easily found."""
    rank, _ = first_rank(record)
    logs = [log for log in _logs(record, home) if log.rank == rank] if rank is not None else []
    return quoted(logs[0].text) if logs else []


def _before(record: RunRecord, home: RunPaths) -> tuple[Other, ...]:
    """The runs that it comes after, as they were last seen."""
    found = []
    for before in before_of(record):
        other = _sibling(home, before.run)
        if other is not None:
            met = came_true(before.when, other)
            found.append(Other(other.id, stands(other), other.reason, WORDS[before.when], met))
    return tuple(found)


def _steps(record: RunRecord, home: RunPaths) -> tuple[Other, ...]:
    found = []
    for run_id, name in step_names(record).items():
        other = _sibling(home, run_id)
        if other is not None:
            found.append(Other(other.id, stands(other), other.reason, name=name))
    return tuple(found)


def _sibling(home: RunPaths, run_id: str) -> RunRecord | None:
    """Another run of the same history; None where it is gone."""
    try:
        return read_record(RunPaths(home.folder.parent / run_id)) if is_run_id(run_id) else None
    except HistoryError:
        return None


def _last_attempt(text: str) -> str:
    """What was said since the job last began: what ended an earlier attempt does not explain this one."""
    begin = text.rfind(_ATTEMPT)
    return text if begin < 0 else text[text.rfind("\n", 0, begin) + 1 :]


def _logs(record: RunRecord, home: RunPaths) -> tuple[Log, ...]:
    """Ends of the processes' logs: those that failed first, as far as is known, come first.

    The job names the ranks whose end ended the others. Where it does not, those whose logs end in words of
    failure come first, and of these the one that was the first to fall silent.
    """
    found: list[tuple[bool, bool, float, int, int | None, Path]] = []
    first = _first_ranks(record.message)
    try:
        for path in home.user_logs.iterdir():
            match = _LOG.match(path.name)
            if match is None:
                continue
            rank = int(match.group(1)) if match.group(1) else None
            written = path.lstat().st_mtime_ns
            fine = _FAILING.search(read_tail(path, GLANCE)) is None
            found.append((rank not in first, fine, written, rank or 0, rank, path))
    except OSError:
        pass
    found.sort(key=lambda entry: entry[:4])
    return tuple(Log(rank, read_tail(path)) for *_, rank, path in found[:MAX_LOGS])


def _first_ranks(message: str) -> set[int | None]:
    """``rank 3 on node1: …``, ``ranks 0-3,7 on node1: …``"""
    match = _RANKS.match(message)
    ranks: set[int | None] = set()
    for part in match.group(1).split(",") if match else ():
        first, _, last = part.partition("-")
        if first.isdigit() and (last.isdigit() or not last):
            ranks.update(range(int(first), min(int(last or first), int(first) + 100_000) + 1))
    return ranks


def first_rank(record: RunRecord) -> tuple[int | None, str]:
    """The one rank that failed first, by the job's own word, and its node."""
    match = _RANKS.match(record.message)
    if match is None or not match[1].isdigit():
        return None, ""
    return int(match[1]), match[2]


def _config(record: RunRecord) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(record.config.get("yaml") or "")
    except (yaml.YAMLError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _memory(config: dict[str, Any]) -> int | None:
    resources = config.get("resources")
    try:
        return int(Memory.parse(resources["memory"])) if isinstance(resources, dict) else None
    except (ValueError, KeyError):
        return None


def _whole(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _time_limit(record: RunRecord) -> int | None:
    request = record.submission.get("request")
    return _whole(request.get("time_limit")) if isinstance(request, dict) else None


def _elapsed(record: RunRecord) -> float | None:
    began = _moment(record.started)
    ended = _moment(record.ended) if record.state.final else datetime.now(timezone.utc)
    return max(0.0, (ended - began).total_seconds()) if began and ended else None


def _moment(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=timezone.utc) if found is not None and found.tzinfo is None else found


def _built(record: RunRecord, home: RunPaths) -> str:
    said = read_tail(home.environment_log) if record.reason == Reason.ENVIRONMENT else ""
    return said if " hpcrun: failed: " in said else ""


def _hint(record: RunRecord) -> str:
    """What to do about a refusal, as was said when it came."""
    if record.reason != Reason.REJECTED or record.scheduler != "slurm":
        return ""
    return str(record.submission.get("hint") or complaint(record.message)[1] or "")


def _modules(code: Path) -> tuple[str, ...]:
    """Paths of the Python files in the run's code, so many at most."""
    found: list[str] = []
    for folder, folders, files in os.walk(code):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        where = Path(folder).relative_to(code)
        found += [(where / name).as_posix() for name in sorted(files) if name.endswith(".py")]
        if len(found) > MAX_FILES:
            break
    return tuple(found[:MAX_FILES])


def _recipes(code: Path) -> tuple[str, ...]:
    """Files at the top of the run's code that say what an environment is made of."""
    try:
        return tuple(sorted(path.name for path in code.iterdir() if _RECIPE.fullmatch(path.name)))
    except OSError:
        return ()


class _Source:
    """Lines of the run's own copy of its code, and of nothing outside it."""

    def __init__(self, code: Path) -> None:
        self._code = code

    def __call__(self, path: str, line: int) -> str | None:
        try:
            inside = Path(os.path.realpath(self._code))
            file = Path(os.path.realpath(inside / path))
            if not file.is_relative_to(inside) or not file.is_file():
                return None
            with file.open("rb") as stream:
                lines = stream.read(MAX_SOURCE).decode("utf-8", "replace").splitlines()
        except (OSError, ValueError):
            return None
        return lines[line - 1].translate(CONTROL) if 0 < line <= len(lines) else None
