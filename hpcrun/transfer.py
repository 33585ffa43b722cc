"""Bringing files of runs home: what there is, what of it is wanted, and getting exactly that.

The target lists its files, and hpcrun names one by one those it wants. So any number of runs is one listing
and one rsync; what a run's folder holds besides, links out of it, pipes, devices, names that climb, is never
followed or asked for. A file appears under its name only when it is whole; what was cut off is kept in
``.hpcrun-partial`` beside it, and continued.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import stat
import tarfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hpcrun.errors import CommandError
from hpcrun.names import PARTIAL
from hpcrun.shells.base import RemoteShell, Result
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.scripts import source
from hpcrun.shells.streams import Talk

_LIST, _FETCH = 600.0, 24 * 3600.0
_TOPS = ("code/outputs", "code/logs", "user_logs", "system_logs", "metrics")
# rsync's own codes: some files vanished, or changed while they were read. The next look tells which.
_HARMLESS = (0, 23, 24)

Progress = Callable[[int], None]
"""Told how many bytes more have come."""


@dataclass(frozen=True)
class Entry:
    """A file on the target. ``name`` is relative to the run's folder, as the history shows it
    (``outputs/model.pt``); ``path`` as it lies there. ``mtime`` is in whole seconds, None where the target
    cannot tell; ``link`` is where it leads, None for a file."""

    name: str
    path: str
    size: int
    mtime: int | None
    link: str | None = None


@dataclass
class Manifest:
    """What the target has of one run; ``gone``: not even a folder."""

    gone: bool = False
    files: list[Entry] = field(default_factory=list)


def parse_manifest(data: bytes) -> dict[str, Manifest]:
    """What ``manifest.sh`` said, by run. What is odd in it is left out: a name that climbs, a link that leads
    out of the folder that it is in, a file behind a link."""
    found: dict[str, Manifest] = {}
    current, run_id = Manifest(), ""
    for record in data.split(b"\0"):
        kind, rest = record[:1], record[1:]
        if kind in (b"R", b"G"):
            run_id = os.fsdecode(rest)
            current = found[run_id] = Manifest(gone=kind == b"G")
            continue
        entry = _entry(kind, rest.split(b"\t"), run_id)
        if entry is not None:
            current.files.append(entry)
    for manifest in found.values():
        links = {entry.path for entry in manifest.files if entry.link is not None}
        manifest.files = [e for e in manifest.files if not links & set(_parents(e.path))]
    return found


def _entry(kind: bytes, fields: list[bytes], run_id: str) -> Entry | None:
    try:
        if kind == b"c":
            size, mtime, name, link = int(fields[1]), None, b"\t".join(fields[2:]), None
        elif kind == b"f":
            size, mtime, name, link = int(fields[0]), _seconds(fields[1]), b"\t".join(fields[2:]), None
        elif kind == b"l" and len(fields) == 4:
            size, mtime, name, link = 0, None, fields[2], os.fsdecode(fields[3])
        else:
            return None
    except (ValueError, IndexError):
        return None
    path = os.fsdecode(name).removeprefix(f"{run_id}/")
    top = next((top for top in _TOPS if path.startswith(f"{top}/")), None)
    if top is None or not os.fsdecode(name).startswith(f"{run_id}/") or _climbs(path) or size < 0:
        return None
    if link is not None:
        leads = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if not link or link.startswith("/") or not leads.startswith(f"{top}/"):
            return None
    return Entry(path.removeprefix("code/"), path, size, mtime, link)


def _seconds(text: bytes) -> int:
    return int(text.partition(b".")[0])


def _climbs(path: str) -> bool:
    return any(part in ("", ".", "..") or part == PARTIAL for part in path.split("/"))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def list_files(shell: RemoteShell, root: str, run_ids: Iterable[str]) -> dict[str, Manifest]:
    """What there is of these runs, by one question. Raises CommandError."""
    data = bytearray()
    ids = "".join(f"{run_id}\n" for run_id in run_ids)
    result = shell.script(root + source("manifest"), timeout=_LIST, stdin=ids, sink=data.extend)
    result.check(f"listing the files of runs on {shell.host}")
    return parse_manifest(bytes(data))


def is_here(folder: Path, entry: Entry) -> bool:
    """Whether the run's folder has this very file: by size and time, as the target has them."""
    try:
        seen = os.lstat(folder / entry.path)
    except OSError:
        return False
    if entry.link is not None:
        return stat.S_ISLNK(seen.st_mode) and os.readlink(folder / entry.path) == entry.link  # noqa: PTH115
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != entry.size:
        return False
    return entry.mtime is None or int(seen.st_mtime) == entry.mtime


def clear_way(folder: Path, entries: Iterable[Entry]) -> None:
    """Take away what stands where a wanted file's folder must be: a link, above all, that leads elsewhere."""
    for parent in {parent for entry in entries for parent in _parents(entry.path)}:
        place = folder / parent
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()


def fetch(
    shell: RemoteShell, root: str, there: str, runs: Path, wanted: Sequence[tuple[str, Entry]],
    progress: Progress | None = None,
) -> str:  # fmt: skip
    """Get the wanted files, each of a run, into ``runs/RUN_ID``; "" or what was said of the way it was done.

    ``there`` is the folder of all runs on the target. Raises CommandError; what has come by then stays.
    """
    names = b"".join(os.fsencode(f"{run_id}/{entry.path}") + b"\0" for run_id, entry in wanted)
    result = _rsync(shell, there, runs, names, progress)
    if result.rc in _HARMLESS:
        return ""
    if not _no_rsync(result):
        result.check(f"bringing files from {shell.host}")
    _tar(shell, root, runs, wanted, names, progress)
    return f"rsync is missing here or on {shell.host}: files came by tar, and one that is cut off starts anew"


def _no_rsync(result: Result) -> bool:
    said = result.stderr.lower()
    missing = "rsync" in said and ("not found" in said or "no such file" in said)
    return result.rc == 127 or missing or "unknown option" in said


def _rsync(shell: RemoteShell, there: str, runs: Path, names: bytes, progress: Progress | None) -> Result:
    out = bytearray()
    counted = _Counter(progress)

    def take(data: bytes) -> None:
        out.extend(data[-1000:])
        counted.feed(data)

    with shell.rsh() as rsh:
        argv = [
            *("rsync", "--files-from=-", "--from0", "--no-implied-dirs", "--links", "--times"),
            *("--safe-links", "--perms", "-s", "--chmod=Du=rwx,Dgo=,Fu=rwX,Fgo=", f"--partial-dir={PARTIAL}"),
            *("--info=progress2", "--no-human-readable", "--outbuf=L", "-e", shlex.join(rsh.argv)),
            *(f"{rsh.host}:{there}/", f"{runs}/"),
        ]
        try:
            talk = Talk(argv, {**clean_environment(), "LC_ALL": "C", **rsh.env})
        except CommandError as exc:
            return Result(("rsync",), 127, "", f"rsync: not found: {exc.message}", 0.0)
        talk.run(names, None, take, timeout=_FETCH)
    stderr = bytes(talk.stderr).decode("utf-8", "replace")
    return Result(("rsync",), talk.returncode, out.decode("utf-8", "replace"), stderr, 0.0)


class _Counter:
    """Reads the bytes that rsync says have come, of which it repeats the sum."""

    _LINE = re.compile(rb"^\s*([0-9,]+)\s+[0-9]+%", re.MULTILINE)

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._so_far = 0

    def feed(self, data: bytes) -> None:
        if self._progress is None:
            return
        for match in self._LINE.finditer(data.replace(b"\r", b"\n")):
            sum_ = int(match[1].replace(b",", b""))
            if sum_ > self._so_far:
                self._progress(sum_ - self._so_far)
                self._so_far = sum_


def _tar(
    shell: RemoteShell, root: str, runs: Path, wanted: Sequence[tuple[str, Entry]], names: bytes,
    progress: Progress | None,
) -> None:  # fmt: skip
    known = {f"{run_id}/{entry.path}": entry for run_id, entry in wanted}
    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def unpack() -> None:
        try:
            with os.fdopen(read_end, "rb") as stream:
                _unpack(stream, runs, known, progress)
                while stream.read(1 << 16):
                    pass
        except (OSError, tarfile.TarError) as exc:
            failure.append(exc)

    thread = threading.Thread(target=unpack, daemon=True)
    thread.start()
    try:
        with os.fdopen(write_end, "wb") as pipe:
            text = root + source("tarred")
            result = shell.script(text, timeout=_FETCH, stdin=names, sink=_ignoring_closed(pipe))
    finally:
        thread.join()
    if failure and not isinstance(failure[0], tarfile.TarError):
        raise CommandError(f"cannot write what comes from {shell.host}: {failure[0]}")
    if result.rc is None or (result.rc != 0 and not result.stderr.strip()) or failure:
        raise CommandError(result.describe(f"bringing files from {shell.host}"))


def _ignoring_closed(pipe: IO[bytes]) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        try:
            pipe.write(data)
        except BrokenPipeError:
            pass  # whoever unpacks has stopped, and says why

    return take


def _unpack(stream: IO[bytes], runs: Path, known: dict[str, Entry], progress: Progress | None) -> None:
    """Regular files and links that were asked for, each written aside and then named."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            entry = known.get(member.name.removeprefix("./"))
            if entry is None:
                continue
            place = runs / member.name.removeprefix("./")
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry.link is not None:
                if member.issym() and member.linkname == entry.link:
                    place.unlink(missing_ok=True)
                    place.symlink_to(entry.link)
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            aside = place.parent / PARTIAL / place.name
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            mode = 0o700 if member.mode & 0o100 else 0o600
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "wb") as file:
                while piece := content.read(1 << 16):
                    file.write(piece)
                    if progress is not None:
                        progress(len(piece))
            os.utime(aside, (member.mtime, member.mtime))
            aside.replace(place)
            try:
                aside.parent.rmdir()
            except OSError:
                pass  # another file waits in there
