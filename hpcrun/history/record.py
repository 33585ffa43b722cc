"""The record of one run, as it stands in run.json, and the names runs have."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any

from hpcrun.errors import HistoryError, UsageError
from hpcrun.states import RunState

VERSION = 1
"""The version of run.json that this hpcrun writes."""

PIPELINE = "pipeline"
"""The type of a run that is nothing but the parent of others, its steps."""

SWEEP = "sweep"
"""The type of a run that is nothing but the parent of others, its trials."""

PARENTS = frozenset({PIPELINE, SWEEP})
"""The types of runs that are nothing but the parents of others."""

CHILD = "child"
"""The type of a run that the program of another made, as a part of it: it has no job of its own."""

INTERACTIVE = "interactive"
"""The type of a run that is no job, but a program that somebody started by hand."""

JOBLESS = PARENTS | {CHILD, INTERACTIVE}
"""The types of runs that no scheduler knows."""

MAX_RUN_ID = 240
"""File systems allow 255 bytes a name; the rest is room for a suffix behind a run id."""

_STAMP = "_yyyymmdd-hhmmss_xxxxxxxx"
_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_RUN_ID = re.compile(
    rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_RUN_ID - len(_STAMP) - 1}}}_[0-9]{{8}}-[0-9]{{6}}_[a-z2-7]{{8}}"
)


def is_experiment(text: str) -> bool:
    """Whether the whole text can be the name of an experiment."""
    return _EXPERIMENT.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """Whether the whole text can be a run id (and so is safe as the name of a folder or a job)."""
    return _RUN_ID.fullmatch(text) is not None


def new_run_id(experiment: str, now: datetime | None = None) -> str:
    """A fresh run id, ``{experiment}_{UTC yyyymmdd-hhmmss}_{8 random base32}``.

    A name of more than 215 characters is cut in the id (never in the record), so that the id still fits
    where a file name must. Raises UsageError for a name no experiment can have.
    """
    if not is_experiment(experiment):
        raise UsageError(
            f"{experiment!r} cannot be the name of an experiment",
            hint="use letters, digits, '_' and '-', with a letter or digit first, 255 at most",
        )
    moment = (now or datetime.now(timezone.utc)).astimezone(timezone.utc)
    head = experiment[: MAX_RUN_ID - len(_STAMP)]
    tail = base64.b32encode(os.urandom(5)).decode("ascii").lower()
    return f"{head}_{moment:%Y%m%d-%H%M%S}_{tail}"


def new_run_ids(experiment: str, count: int) -> list[str]:
    """So many fresh run ids, all different."""
    head = new_run_id(experiment)[:-8]
    found: dict[str, None] = {}
    while len(found) < count:
        for _ in range(count - len(found)):
            found[head + base64.b32encode(os.urandom(5)).decode("ascii").lower()] = None
    return list(found)


def utc_now() -> str:
    """The time in UTC, as records have it: ``2026-01-31T12:00:00.123Z``."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(kw_only=True)
class RunRecord:
    """All that is known of a run. ``number`` and ``created`` are given by :meth:`History.create`;
    ``parent`` is the id of the run that this one is a child of.

    ``run_dir`` is on the machine ``host``, as ssh takes its name; where that is None, it is to be had here.
    ``expected_start`` is the scheduler's guess, while the run waits. ``usage`` is what it took, once it has
    ended (see :class:`hpcrun.schedulers.base.JobFacts`); None where nobody has said yet, empty where nobody
    will. ``config``, ``snapshot``, ``submission``, ``attempts`` and ``extra`` hold what JSON can hold.
    ``outcome`` is the state that a run on another machine will be in when its outputs and logs are home: it
    has ended, and is Finalizing until then. ``sync`` says what has come, when, and whether that is all.
    ``parameters`` is what the script is told by name: bool, int, float or str by name.
    ``after`` names the runs that it comes after (``run``), each with ``when``: ``ok``, ``any`` or ``notok``.
    ``notify`` says who is to be told of its end (``on``, ``webhook``, ``command``, of what is no job
    ``mail``), and who was (``sent``).
    ``extra`` keeps the keys a newer hpcrun wrote, which an older one does not know and must not drop.
    """

    version: int = VERSION
    id: str
    number: int = 0
    experiment: str
    display_name: str | None = None
    description: str | None = None
    type: str = "script"
    parent: str | None = None
    state: RunState = RunState.NOT_STARTED
    reason: str = ""
    message: str = ""
    target: str
    scheduler: str
    created: str | None = None
    submitted: str | None = None
    started: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    run_dir: str = ""
    host: str | None = None
    job_id: str | None = None
    key: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] | None = None
    properties: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    notify: dict[str, Any] = field(default_factory=dict)
    submission: dict[str, Any] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    nodes: str | None = None
    expected_start: str | None = None
    usage: dict[str, Any] | None = None
    outcome: str | None = None
    sync: dict[str, Any] | None = None
    after: list[dict[str, Any]] = field(default_factory=list)
    archived: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def change_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set tags, and take away those whose value is None."""
        self.tags.update({key: value for key, value in tags.items() if value is not None})
        for key in (key for key, value in tags.items() if value is None):
            self.tags.pop(key, None)

    def to_json(self) -> str:
        """The text of run.json. ASCII only, so that even a name that is not UTF-8 survives."""
        known = {name: getattr(self, name) for name in _SHAPES}
        known["state"] = RunState(self.state).value
        return json.dumps({**self.extra, **known}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "run.json") -> RunRecord:
        """Read what :meth:`to_json` wrote. ``where`` names the source in errors.

        Raises HistoryError for anything that is not a run record.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HistoryError(f"{where}: not JSON: {error}") from error
        if not isinstance(data, dict):
            raise HistoryError(f"{where}: not a run record: expected an object")
        known: dict[str, Any] = {}
        for name, kinds in _SHAPES.items():
            if name not in data:
                if name in _REQUIRED:
                    raise HistoryError(f"{where}: not a run record: {name!r} is missing")
                continue
            value = data.pop(name)
            if type(value) not in kinds:
                raise HistoryError(f"{where}: not a run record: {name!r} cannot be {value!r:.80}")
            known[name] = value
        if not is_run_id(known["id"]):
            raise HistoryError(f"{where}: not a run record: {known['id']!r:.80} is not a run id")
        try:
            known["state"] = RunState(known["state"])
        except ValueError:
            raise HistoryError(
                f"{where}: this hpcrun does not know the state {known['state']!r:.80}",
                hint="the record may come from a newer hpcrun",
            ) from None
        return cls(**known, extra=data)


_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, _NONE),
    "str": (str,),
    "str | None": (str, _NONE),
    "bool": (bool,),
    "RunState": (str,),
    "dict[str, Any]": (dict,),
    "dict[str, Any] | None": (dict, _NONE),
    "dict[str, str]": (dict,),
    "list[dict[str, Any]]": (list,),
}
_SHAPES = {f.name: _KINDS[str(f.type)] for f in fields(RunRecord) if f.name != "extra"}
_REQUIRED = {f.name for f in fields(RunRecord) if f.default is MISSING and f.default_factory is MISSING} | {
    "state",
    "number",
}
