"""The environments that a target has: which there are, who uses them, and taking them away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from hpcrun.errors import CommandError, HistoryError, NotFoundError, UsageError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.shells.scripts import source
from hpcrun.targets import Target

_ASK, _REMOVE = 120.0, 1800.0

LEFT_AFTER = 3600.0
"""Seconds after which what nobody finished, and nobody is at, is waste."""


@dataclass(frozen=True)
class Kept:
    """An environment in ``folder``: ``ready``, ``building``, ``failed``, or ``left`` by whoever died over it.

    ``name`` is ``KIND-KEY-MACHINE``. ``used`` is when a run last began with it, else when it was made, by the
    clock there, ``idle`` for how many seconds it has not been. ``about`` is what its environment.json says.
    """

    folder: str
    state: str
    used: str
    idle: float
    size: int
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.partition(".")[0]

    @property
    def title(self) -> str:
        return str(self.about.get("title") or self.name.partition("-")[0])

    def is_meant(self, text: str) -> bool:
        """By its name or folder, how they begin, or its key."""
        key = self.name.split("-")[1] if "-" in self.name else ""
        return bool(text) and (self.folder.startswith(text) or key.startswith(text))


def kept(target: Target, paths: WorkspacePaths) -> tuple[str, list[Kept]]:
    """The folder of the target's environments, and what is in it, what was used last first. Raises
    CommandError."""
    root = target.place.environments(paths.folder)
    result = target.shell.script(source("env_list"), [root], timeout=_ASK)
    text = result.check(f"looking at the environments in {root}").stdout
    return root, sorted(_read(text), key=lambda each: each.idle)


def _read(text: str) -> Iterable[Kept]:
    now, entry = 0, [""]
    for line in text.splitlines():
        letter, _, rest = line.partition(" ")
        try:
            if letter == "N":
                now = int(rest)
            elif letter == "E":
                entry = rest.split()
            elif letter in "BJ" and len(entry) == 3:
                about = json.loads(rest) if letter == "J" else {}
                size = int(about["bytes"]) if letter == "J" else int(rest)
                at = int(entry[2])
                used = datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z")
                yield Kept(entry[0], entry[1], used, max(0.0, float(now - at)), size, about)
        except (ValueError, KeyError, TypeError):  # somebody wrote into it
            continue


def meant(found: Sequence[Kept], text: str) -> Kept:
    """The one that ``text`` names; of several of one name, the one that is ready. Raises NotFoundError,
    UsageError."""
    fits = [each for each in found if each.is_meant(text)]
    ready = [each for each in fits if each.state == "ready"]
    names = sorted({each.name for each in fits})
    if not fits:
        known = ", ".join(sorted({each.name for each in found})[:5]) or "there are none"
        raise NotFoundError(f"no environment is called {text!r}", hint=f"There are: {known}")
    if len(names) > 1:
        raise UsageError(f"{text!r} may be any of {', '.join(names)}", hint="Give more of its name.")
    return (ready or fits)[0]


def users(history: History | None, target: Target, root: str) -> dict[str, list[RunRecord]]:
    """The runs of this workspace, by the environment (KIND-KEY) of ``root`` that they use, newest first."""
    found: dict[str, list[RunRecord]] = {}
    if history is None:
        return found
    for row in history.list(limit=None, include_archived=True, target=target.site.name):
        try:
            record = history.get(row.id)
        except HistoryError:  # its record is damaged
            continue
        made = record.config.get("environment")
        if isinstance(made, dict) and made.get("root") == root and record.host == target.place.host:
            found.setdefault(str(made.get("name")), []).append(record)
    return found


def users_of(each: Kept, runs: dict[str, list[RunRecord]]) -> list[RunRecord]:
    """Those that use this one, as far as this workspace knows."""
    return runs.get(each.name.rpartition("-")[0], [])


def in_use(each: Kept, runs: dict[str, list[RunRecord]]) -> list[RunRecord]:
    """Runs that have not ended and use it."""
    return [record for record in users_of(each, runs) if not record.state.final]


def old(found: Iterable[Kept], runs: dict[str, list[RunRecord]], seconds: float) -> list[Kept]:
    """What may go: environments that nobody has used for so long, and what is left of failed ones."""
    going = []
    for each in found:
        if each.state == "building" and each.idle < LEFT_AFTER:
            continue
        limit = seconds if each.state in ("ready", "failed") else min(seconds, LEFT_AFTER)
        if each.idle >= limit and not (each.state == "ready" and in_use(each, runs)):
            going.append(each)
    return going


def remove(target: Target, root: str, going: Sequence[Kept]) -> list[str]:
    """Take them away; the folders that are gone. Raises CommandError."""
    if not going:
        return []
    folders = [each.folder for each in going]
    result = target.shell.script(source("env_rm"), [root, *folders], timeout=_REMOVE)
    gone = result.stdout.split()
    if not result.ok or set(gone) != set(folders):
        left = sorted(set(folders) - set(gone))
        raise CommandError(result.describe(f"{', '.join(left) or root} cannot be taken away"))
    return gone


def packages(target: Target, root: str, each: Kept) -> str:
    """What is in it, as its kind lists it. Raises CommandError."""
    words = f"{root}/{each.folder}/packages.txt"
    result = target.shell.script('[ ! -e "$1" ] || cat -- "$1"', [words], timeout=_ASK)
    return result.check(f"reading {words}").stdout


def caches(target: Target, root: str) -> dict[str, int]:
    """What lies beside the environments so that the next is made sooner: bytes that would be free without it,
    by name. Raises CommandError."""
    result = target.shell.script(source("env_caches"), [root], timeout=_REMOVE)
    lines = result.check(f"looking at the caches in {root}").stdout.splitlines()
    found = [line.split(" ", 1)[1].rpartition(" ") for line in lines if line.startswith("C ")]
    return {name: int(size) for name, _, size in found if size.isdigit()}


def remove_caches(target: Target, root: str, found: Sequence[Kept], names: Sequence[str]) -> None:
    """Take them away. Raises UsageError while an environment is being made there, CommandError."""
    making = next((each for each in found if each.state == "building"), None)
    if making is not None:
        hint = "Its builder reads them: wait until it is there."
        raise UsageError(f"{making.name} is being made", hint=hint)
    if not names:
        return
    result = target.shell.script(source("env_caches"), [root, *names], timeout=_REMOVE)
    gone = [line.removeprefix("G ") for line in result.stdout.splitlines()]
    if not result.ok or set(gone) != set(names):
        left = ", ".join(sorted(set(names) - set(gone)))
        raise CommandError(result.describe(f"{left or root} cannot be taken away"))
