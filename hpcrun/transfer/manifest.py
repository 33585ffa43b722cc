"""What the target has of runs, by its own listing, and which of it is here."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hpcrun.names import PARTIAL
from hpcrun.quoting import ShellText, ShellWord
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.scripts import source

_LIST = 600.0
_TOPS = ("code/outputs/", "code/logs/", "user_logs/", "system_logs/", "metrics/", "results/")
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
    the listing is not whole. ``same``: paths of files that look the same here, see :func:`missing`."""

    gone: bool = False
    files: list[Entry] = field(default_factory=list)
    closed: list[Entry] = field(default_factory=list)
    odd: int = 0
    trouble: str = ""
    same: set[str] = field(default_factory=set)


def at(runs: str) -> str:
    """Source that sets ``root`` for scripts, by the folder of all runs there."""
    return str(ShellText("root={}\n", ShellWord(posixpath.dirname(runs))))


def list_files(
    shell: RemoteShell, runs: str, run_ids: Sequence[str], home: Path | None = None
) -> dict[str, Manifest]:
    """What there is of these runs in the folder ``runs`` there, by one question; compared, as it comes, with
    what is in the folder ``home`` here. Raises CommandError."""
    listing = Listing(home)
    ids = "".join(f"{run_id}\n" for run_id in run_ids)
    result = shell.script(at(runs) + source("manifest"), timeout=_LIST, stdin=ids, sink=listing.feed)
    result.check(f"listing the files of runs on {shell.host}")
    found = listing.end()
    for line in result.stderr.splitlines():
        if not line.startswith(_LISTERS) or line.lower().endswith(_EXPECTED):
            continue
        named = [run_id for run_id in run_ids if run_id in line]
        for run_id in named or run_ids:
            if run_id in found:
                found[run_id].trouble = line.strip()
    return found


def parse_manifest(data: bytes) -> dict[str, Manifest]:
    """What ``manifest.sh`` said, by run."""
    listing = Listing()
    listing.feed(data)
    return listing.end()


class Listing:
    """Reads what ``manifest.sh`` says, in pieces. What is odd in it is left out: a name that climbs, a link
    that leads out of the folder that it is in, a file behind a link."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = None if home is None else f"{home}/"
        self._found: dict[str, Manifest] = {}
        self._current = Manifest()
        self._prefix = ""
        self._rest = b""
        # For a folder, as it is called there: how the run's files in it begin, and how the history shows
        # them; None if none of them is wanted. A folder is looked at once, however many files it holds.
        self._folders: dict[str, tuple[str, str] | None] = {}

    def feed(self, data: bytes) -> None:
        """The next piece."""
        whole, end, self._rest = (self._rest + data).rpartition(b"\0")
        if end:
            for record in os.fsdecode(whole).split("\0"):
                self._take(record)

    def end(self) -> dict[str, Manifest]:
        """All that was said, by run; the last word was cut off if no NUL stands behind it."""
        for manifest in self._found.values():
            links = {entry.path for entry in manifest.files if entry.link is not None}
            if links:
                manifest.files = [e for e in manifest.files if not links.intersection(parents(e.path))]
        return self._found

    def _take(self, record: str) -> None:
        kind = record[:1]
        try:
            if kind == "f" or kind == "u":
                size, mtime, name = record[1:].split("\t", 2)
                entry = self._entry(name, int(size), _nanoseconds(mtime))
                if entry is not None:
                    (self._current.files if kind == "f" else self._current.closed).append(entry)
                    if self._home is not None and _is_same(self._home + name, entry):
                        self._current.same.add(entry.path)
            elif kind == "c":
                _, size, name = record[1:].split("\t", 2)
                entry = self._entry(name, int(size), None)
                if entry is not None:
                    self._current.files.append(entry)
            elif kind == "l":
                self._take_link(record)
            elif kind == "R" or kind == "G":
                self._prefix = f"{record[1:]}/"
                self._current = self._found[record[1:]] = Manifest(gone=kind == "G")
        except ValueError:
            pass  # no numbers where there should be

    def _take_link(self, record: str) -> None:
        fields = record[1:].split("\t")
        entry = self._entry(fields[2], 0, None) if len(fields) == 4 else None
        if entry is not None and _stays(entry.path, fields[3]):
            self._current.files.append(entry._replace(link=fields[3]))
        else:
            self._current.odd += 1

    def _entry(self, name: str, size: int, mtime: int | None) -> Entry | None:
        folder, _, base = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = _begin(folder, self._prefix)
        begin = self._folders[folder]
        if begin is None or size < 0 or base in _NO_NAMES or not name.startswith(self._prefix):
            return None
        return Entry(begin[1] + base, begin[0] + base, size, mtime)


def _is_same(place: str, entry: Entry) -> bool:
    try:
        seen = os.lstat(place)
    except OSError:
        return False
    return (seen.st_mtime_ns, seen.st_size) == (entry.mtime, entry.size) and stat.S_ISREG(seen.st_mode)


_NO_NAMES = ("", ".", "..", PARTIAL)


def _begin(folder: str, prefix: str) -> tuple[str, str] | None:
    path = f"{folder[len(prefix) :]}/"
    if prefix in ("", "/") or not folder.startswith(prefix) or not path.startswith(_TOPS):
        return None
    if any(part in _NO_NAMES for part in path[:-1].split("/")):
        return None
    return path, path.removeprefix("code/")


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * _SECOND + int((fraction + "000000000")[:9])


def _top(path: str) -> str:
    return next(top for top in _TOPS if path.startswith(top))


def _stays(path: str, link: str) -> bool:
    """Whether a link leads to something in its own top folder. One that goes down and up again does not, by
    our rule, which is rsync's too: in between there may be other links."""
    parts = link.split("/")
    climbing = 0
    while climbing < len(parts) and parts[climbing] in ("..", ""):
        climbing += 1
    if not link or link.startswith("/") or ".." in parts[climbing:] or parts[-1] == "..":
        return False
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link)).startswith(_top(path))


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


def missing(folder: Path, entries: Sequence[Entry], same: Collection[str] = ()) -> list[Entry]:
    """Those of the files that are not in the run's folder here; what stands in their way is taken away.

    That is a link, above all, where a folder must be, and leads elsewhere; or a folder that is now a file
    there. Where the target cannot tell how old a file is, it is missing. ``same``: those that looked the
    same, while that was not so. Raises OSError.
    """
    if _free_folders(folder, entries):
        same = ()  # they were seen through a link
    found = [
        entry
        for entry in entries
        if entry.path not in same
        and ((entry.mtime is None and entry.link is None) or not is_here(folder, entry))
    ]
    for entry in found:
        place = f"{folder}/{entry.path}"
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            shutil.rmtree(place)
        elif not stat.S_ISREG(mode) and not (stat.S_ISLNK(mode) and entry.link is not None):
            os.unlink(place)  # noqa: PTH108 (text, for thousands of files)
    return found


def _free_folders(folder: Path, entries: Iterable[Entry]) -> bool:
    """Whether anything had to be taken away."""
    folders = {entry.path.rpartition("/")[0] for entry in entries}
    taken = False
    for above in sorted({above for each in folders for above in [*parents(each), each]}):
        way = f"{folder}/{above}"
        try:
            is_folder = stat.S_ISDIR(os.lstat(way).st_mode)
        except OSError:
            continue
        if not is_folder:
            os.unlink(way)  # noqa: PTH108
            taken = True
    return taken


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
