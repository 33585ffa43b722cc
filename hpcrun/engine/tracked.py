"""What programs told of their runs (tags, names, children: see tracking_run.py), taken into the history.

It stands in files beside the metrics, a line each, which the program may write as it likes: nothing in it is
trusted, and what makes no sense is passed over. How far a file was taken in stands in the run's record, so
that a tag that was changed at home since stays changed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.engine.measured import take_in_many as measure
from hpcrun.errors import HistoryError, HpcrunError, NotFoundError
from hpcrun.history.record import CHILD, RunRecord, is_run_id, utc_now
from hpcrun.history.store import History
from hpcrun.states import RunState
from hpcrun.tracking_place import CHILDREN

MOST_CHILDREN = 10_000
"""Children of one run, whatever it says."""

_LONGEST, _AT_ONCE, _MOST_NAMES = 1 << 16, 1 << 23, 1000
_ENDS = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELED)
_MARKS = "told"


class _Event(NamedTuple):
    """``child`` is the id of the child that it is about, or None: the run itself."""

    kind: str
    child: str | None
    value: Any
    time: float


def take_in(history: History, record: RunRecord, outcome: RunState | None = None) -> None:
    """Apply what the program of a run has told since the last time, as far as it can be read here.

    ``outcome``: how the run ended, if it has; children that have not said how they ended then end with it.
    Raises HistoryError.
    """
    folder = history.seen(record).metrics
    if not (_MARKS in record.submission or os.path.lexists(folder / "told_000.jsonl") or _told_files(folder)):
        return  # as of most of thousands of runs
    while True:
        record = history.get(record.id)
        marks = record.submission.get(_MARKS) or {}
        events, now = _read(folder, marks)
        if now != marks:
            _apply(history, record, events, marks, now)
        if outcome is None or now == marks:
            break
    if now.get(CHILDREN):
        alive = _alive(history, record)
        measure(history, alive, all_of_it=outcome is not None)
        if outcome is not None:
            for child in alive:
                _end(history, child.id, outcome, _last_words(outcome), utc_now())


def take_in_many(history: History, records: Iterable[RunRecord]) -> None:
    """The same for any number of runs that go on. Raises HistoryError."""
    for record in records:
        take_in(history, record)


def _told_files(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith("told_") and name.endswith(".jsonl"))


def _read(folder: Path, marks: dict[str, Any]) -> tuple[list[_Event], dict[str, Any]]:
    """The whole lines that are new, and how far the files were read with them."""
    events: list[_Event] = []
    now = dict(marks)
    for name in _told_files(folder)[:_MOST_NAMES]:
        begin = marks.get(name, 0)
        data = _piece(folder / name, begin if type(begin) is int else 0)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == _AT_ONCE:
            end = len(data)  # no line is that long
        if end:
            now[name] = begin + end
            events += filter(None, (_event(line) for line in data[:end].split(b"\n") if line))
    if any(event.kind == "child" for event in events):
        now[CHILDREN] = True
    return sorted(events, key=lambda event: event.kind != "child"), now


def _piece(path: Path, begin: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.pread(fd, _AT_ONCE, begin)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _event(line: bytes) -> _Event | None:
    if len(line) > _LONGEST:
        return None
    try:
        data = json.loads(line)
        kind, child, value, at = data["e"], data.get("c"), data["v"], float(data["t"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    if type(kind) is not str or not (child is None or type(child) is str):
        return None
    return _Event(kind, child, value, at)


def _apply(
    history: History, record: RunRecord, events: Sequence[_Event], marks: dict[str, Any], now: dict[str, Any]
) -> None:
    """The children first: while the run's own record does not have the new marks, it is all done anew."""
    of_children: dict[str, list[_Event]] = {}
    for event in events:
        if event.child is not None:
            of_children.setdefault(event.child, []).append(event)
    room = MOST_CHILDREN
    if of_children:
        room -= len(history.descendants(record.id))
    for child_id, told in of_children.items():
        room -= _apply_to_child(history, record, child_id, told, room > 0)

    def change(r: RunRecord) -> None:
        if (r.submission.get(_MARKS) or {}) == marks:
            for event in events:
                if event.child is None:
                    _change(r, event)
            r.submission = {**r.submission, _MARKS: now}

    history.update(record.id, change)


def _apply_to_child(
    history: History, record: RunRecord, child_id: str, events: Sequence[_Event], room: bool
) -> bool:
    """Whether there is a new child now."""
    if not is_run_id(child_id) or child_id[:-8] != record.id[:-8]:
        return False
    made = False
    try:
        child = history.get(child_id)
    except NotFoundError:
        if events[0].kind != "child" or not room:
            return False
        child = _make(history, record, child_id, events[0])
        made = True
    except HpcrunError:
        return False
    if child.type != CHILD or child.submission.get("of") != record.id:
        return False
    _link(history, record, child_id)

    def change(r: RunRecord) -> None:
        for event in events:
            _change(r, event)

    history.update(child_id, change)
    for event in events:
        if event.kind == "end" and isinstance(event.value, dict):
            state = event.value.get("state")
            if state in _ENDS:
                words = _clean(event.value.get("message"), 2000)
                measure(history, [child], all_of_it=True)
                _end(history, child_id, RunState(state), words, _time(event.time))
    return made


def _make(history: History, record: RunRecord, child_id: str, event: _Event) -> RunRecord:
    said = event.value if isinstance(event.value, dict) else {}
    parent = said.get("parent")
    try:
        known = type(parent) is str and history.get(parent).submission.get("of") == record.id
    except HpcrunError:
        known = False
    child = RunRecord(
        id=child_id,
        experiment=record.experiment,
        display_name=_line(said.get("name")),
        type=CHILD,
        parent=str(parent) if known else record.id,
        state=RunState.RUNNING,
        target=record.target,
        scheduler=record.scheduler,
        started=_time(event.time),
        submission={"state": CHILD, "of": record.id},
        archived=record.archived,
    )
    return history.create(child)[0]


def _link(history: History, record: RunRecord, child_id: str) -> None:
    """What a child measured and kept lies in its parent's folder, wherever that has come to."""
    folder = history.paths.run(child_id).folder
    for name in ("metrics", "outputs"):
        link = folder / name
        if not link.is_symlink():
            try:
                link.symlink_to(f"../{record.id}/{name}/{CHILDREN}/{child_id}")
            except OSError as error:
                raise HistoryError(f"cannot make {link}: {error.strerror}") from error


def _change(r: RunRecord, event: _Event) -> None:
    """Apply what was told of tags, properties, names."""
    value = event.value
    if event.kind in ("tags", "properties") and isinstance(value, dict):
        for key, text in [*value.items()][:_MOST_NAMES]:
            if not key.strip() or not key.isprintable() or len(key) > 255:
                continue
            if event.kind == "tags" and text is None:
                r.tags.pop(key, None)
            elif event.kind == "tags" and (key in r.tags or len(r.tags) < _MOST_NAMES):
                r.tags[key] = _clean(text, 5000)
            elif event.kind == "properties" and len(r.properties) < _MOST_NAMES:
                r.properties.setdefault(key, _clean(text, 5000))
    elif event.kind == "name":
        r.display_name = _line(value)
    elif event.kind == "description":
        r.description = _clean(value, 5000) or None


def _alive(history: History, record: RunRecord) -> list[RunRecord]:
    """The run's children, and theirs, that have not ended."""
    family = set(history.descendants(record.id))
    rows = [row.id for row in history.active() if row.type == CHILD and row.id in family]
    return [history.get(run_id) for run_id in rows]


def _end(history: History, child_id: str, state: RunState, words: str, at: str) -> None:
    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.message, r.ended = state, words, max(at, r.started or at)

    history.update(child_id, change)


def _last_words(outcome: RunState) -> str:
    return "" if outcome is RunState.COMPLETED else "it ended with its run, and had not said how"


def _clean(value: Any, most: int) -> str:
    """Text without what terminals obey."""
    text = value if type(value) is str else ""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text[:most])


def _line(value: Any) -> str | None:
    return _clean(value, 256).replace("\n", " ").strip() or None


def _time(seconds: float) -> str:
    """As records have it; now, for what can be none."""
    if not 946684800 < seconds < 4102444800:
        return utc_now()
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
