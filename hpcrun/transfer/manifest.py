"""What the target has of runs, by its own listing, and which of it is here."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hpcrun.names import PARTIAL
from hpcrun.quoting import ShellText, ShellWord
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.scripts import source

_LIST = 600.0
_TOPS = ("code/outputs", "code/logs", "user_logs", "system_logs", "metrics")
_SECOND = 1_000_000_000
# Who complains of what it could not list; of a folder that it may not look into, or that has gone meanwhile,
# is no reason to think that the listing is not whole.
_LISTERS = ("find: ", "stat: ", "cksum: ")
_EXPECTED = ("permission denied", "no such file or directory")


class Entry(NamedTuple):
    """A file on the target. ``name`` is relative to the run's folder, as the history shows it
    (``outputs/model.pt``); ``path`` as it lies there. ``mtime`` is in nanoseconds, or whole seconds of them,
    None where the target cannot tell; ``link`` is where it leads, None for a file."""

    name: str
    path: str
    size: int
    mtime: int | None
    link: str | None = None


@dataclass
class Manifest:
    """What the target has of one run. ``closed``: files that may not be read; ``odd``: how many links lead
    out of the run's folders, and are not followed. ``gone``: there is not even a folder; ``trouble``: why
    the listing is not whole."""

    gone: bool = False
    files: list[Entry] = field(default_factory=list)
    closed: list[Entry] = field(default_factory=list)
    odd: int = 0
    trouble: str = ""


def at(runs: str) -> str:
    """Source that sets ``root`` for scripts, by the folder of all runs there."""
    return str(ShellText("root={}\n", ShellWord(posixpath.dirname(runs))))


def list_files(shell: RemoteShell, runs: str, run_ids: Sequence[str]) -> dict[str, Manifest]:
    """What there is of these runs in the folder ``runs`` there, by one question. Raises CommandError."""
    data = bytearray()
    ids = "".join(f"{run_id}\n" for run_id in run_ids)
    result = shell.script(at(runs) + source("manifest"), timeout=_LIST, stdin=ids, sink=data.extend)
    result.check(f"listing the files of runs on {shell.host}")
    found = parse_manifest(bytes(data))
    for line in result.stderr.splitlines():
        if not line.startswith(_LISTERS) or line.lower().endswith(_EXPECTED):
            continue
        named = [run_id for run_id in run_ids if run_id in line]
        for run_id in named or run_ids:
            if run_id in found:
                found[run_id].trouble = line.strip()
    return found


def parse_manifest(data: bytes) -> dict[str, Manifest]:
    """What ``manifest.sh`` said, by run. What is odd in it is left out: a name that climbs, a link that leads
    out of the folder that it is in, a file behind a link."""
    found: dict[str, Manifest] = {}
    current, prefix = Manifest(), ""
    for record in data.split(b"\0"):
        kind = record[:1]
        if kind in (b"R", b"G"):
            run_id = os.fsdecode(record[1:])
            prefix = f"{run_id}/"
            current = found[run_id] = Manifest(gone=kind == b"G")
            continue
        entry = _entry(kind, record[1:], prefix)
        if entry is not None:
            (current.closed if kind == b"u" else current.files).append(entry)
        elif kind == b"l":
            current.odd += 1
    for manifest in found.values():
        links = {entry.path for entry in manifest.files if entry.link is not None}
        if links:
            manifest.files = [e for e in manifest.files if not links.intersection(parents(e.path))]
    return found


def _entry(kind: bytes, record: bytes, prefix: str) -> Entry | None:
    mtime: int | None = None
    link: str | None = None
    try:
        if kind in (b"f", b"u"):
            size_, mtime_, name_ = record.split(b"\t", 2)
            size, mtime = int(size_), _nanoseconds(mtime_)
        elif kind == b"c":
            _, size_, name_ = record.split(b"\t", 2)
            size = int(size_)
        elif kind == b"l":
            _, _, name_, link_ = record.split(b"\t")
            size, link = 0, os.fsdecode(link_)
        else:
            return None
    except ValueError:
        return None
    name = os.fsdecode(name_)
    path = name[len(prefix) :]
    top = next((top for top in _TOPS if path.startswith(f"{top}/")), None)
    if top is None or not prefix or not name.startswith(prefix) or _climbs(path) or size < 0:
        return None
    if link is not None and not _stays(path, link, top):
        return None
    return Entry(path.removeprefix("code/"), path, size, mtime, link)


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * _SECOND + int((fraction + b"000000000")[:9])


def _climbs(path: str) -> bool:
    if "/." not in path and "//" not in path and path[-1] != "/":
        return False
    return any(part in ("", ".", "..") or part == PARTIAL for part in path.split("/"))


def _stays(path: str, link: str, top: str) -> bool:
    """Whether a link leads to something in its own top folder. One that goes down and up again does not, by
    our rule, which is rsync's too: in between there may be other links."""
    parts = link.split("/")
    climbing = 0
    while climbing < len(parts) and parts[climbing] in ("..", ""):
        climbing += 1
    if not link or link.startswith("/") or ".." in parts[climbing:] or parts[-1] == "..":
        return False
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link)).startswith(f"{top}/")


def parents(path: str) -> list[str]:
    """The folders above a path, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def is_here(folder: Path, entry: Entry) -> bool:
    """Whether the run's folder has this very file: by size and time, as the target has them."""
    place = f"{folder}/{entry.path}"
    try:
        seen = os.lstat(place)
        if entry.link is not None:
            return stat.S_ISLNK(seen.st_mode) and os.readlink(place) == entry.link  # noqa: PTH115 (text)
    except OSError:
        return False
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != entry.size:
        return False
    return entry.mtime is None or _same_time(seen.st_mtime_ns, entry.mtime)


def _same_time(here: int, there: int) -> bool:
    """To the microsecond, as file systems keep it; by the second, where one side knows no more."""
    if here % _SECOND == 0 or there % _SECOND == 0:
        return here // _SECOND == there // _SECOND
    return abs(here - there) < 1000


def clear_way(folder: Path, entries: Iterable[Entry]) -> None:
    """Take away what stands where a wanted file, or its folder, must be: a link, above all, that leads
    elsewhere, or a folder that is now a file there. Raises OSError."""
    entries = list(entries)
    folders = {posixpath.dirname(entry.path) for entry in entries}
    for above in sorted({above for each in folders for above in [*parents(each), each]}):
        way = folder / above
        if way.is_symlink() or (way.exists() and not way.is_dir()):
            way.unlink()
    for entry in entries:
        place = f"{folder}/{entry.path}"
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            shutil.rmtree(place)
        elif not stat.S_ISREG(mode) and not (stat.S_ISLNK(mode) and entry.link is not None):
            os.unlink(place)  # noqa: PTH108 (text, for thousands of files)


_UNFINISHED = re.compile(r"\.?(?P<name>.+)\.[A-Za-z0-9]{6}\Z", re.DOTALL)


def rescue(folder: Path, entries: Iterable[Entry]) -> None:
    """Put what a killed rsync left beside a wanted file where the next one finds it and goes on. The lock of
    the run is held. Raises OSError."""
    wanted: dict[str, set[str]] = {}
    for entry in entries:
        where, _, name = entry.path.rpartition("/")
        wanted.setdefault(where, set()).add(name)
    for where, names in wanted.items():
        place = folder / where
        if not place.is_dir():
            continue
        for found in list(os.scandir(place)):
            match = _UNFINISHED.fullmatch(found.name) if found.name.startswith(".") else None
            if match is None or found.name in names or not found.is_file(follow_symlinks=False):
                continue
            name = match["name"] if match["name"] in names else f".{match['name']}"
            if name in names:
                _keep(Path(found.path), place / PARTIAL / name)


def _keep(unfinished: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o700, exist_ok=True)
    if place.exists() and place.stat().st_size >= unfinished.stat().st_size:
        unfinished.unlink()
    else:
        unfinished.replace(place)
