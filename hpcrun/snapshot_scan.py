"""A source directory as the filesystem has it now: what there is to store, how much, and how fresh.

git compares times to the second; here they are compared to the nanosecond, so that a file which is
written to while git reads it is always noticed.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import SnapshotError
from hpcrun.units import human_bytes

Stamp = tuple[int, int, int, int, int]
"""Mode, inode, size, mtime and ctime in ns: equal before and after means not touched in between."""

_TICK = 0.02
"""Longer than a step of the kernel's clock (1 to 10 ms): two writes further apart differ in ctime."""

_RECENT, _PUT_OFF = 0.5, 0.04
"""Seconds: how young a write must be for its writer to be at it still, and how long that is waited for."""

_CULPRITS = 10


@dataclass(frozen=True)
class Scan:
    """``files`` are those that can be stored, ``gone`` the names with no such file (any more).

    ``folders`` are all that hold a file, or a folder that does; the top is ``""``.
    """

    files: dict[str, Stamp]
    gone: set[str]
    folders: list[str]

    @property
    def size(self) -> int:
        return sum(seen[2] for seen in self.files.values())


def stamp(path: str) -> Stamp | None:
    """None where there is nothing."""
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_mode, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def scan(source: Path, names: Sequence[str], fresh: Collection[str]) -> Scan:
    """Look at every one of ``names``; ``fresh`` are those that will be read after this.

    A fresh file that was changed within the last tick could be changed again without its times showing
    it. So the tick is waited for; a file that is still young then is one that is being written to.
    """
    found = _look(source, names)
    newest = max((found.files[name][4] for name in fresh if name in found.files), default=0)
    if newest > time.time_ns() - int(_TICK * 1e9):
        time.sleep(_TICK)
        found = _look(source, names)
    return found


def _look(source: Path, names: Sequence[str]) -> Scan:
    top = f"{source}/"
    real = {"": True}  # folder -> it is one, and so are all above it: not a link to one
    files: dict[str, Stamp] = {}
    gone: set[str] = set()
    try:
        for name in names:
            folder = name.rpartition("/")[0]
            there = real[folder] if folder in real else _is_real(top, folder, real)
            seen = stamp(top + name) if there else None
            if seen is not None and (stat.S_ISREG(seen[0]) or stat.S_ISLNK(seen[0])):
                files[name] = seen
            else:
                gone.add(name)
    except OSError as exc:
        raise SnapshotError(
            f"part of {source} cannot be read: {exc.filename}: {exc.strerror}",
            hint="Make it readable, or name it in the ignore file.",
        ) from exc
    return Scan(files, gone, [folder for folder, is_real in real.items() if is_real])


def _is_real(top: str, folder: str, real: dict[str, bool]) -> bool:
    if folder not in real:
        seen = stamp(top + folder) if _is_real(top, folder.rpartition("/")[0], real) else None
        real[folder] = seen is not None and stat.S_ISDIR(seen[0])
    return real[folder]


def touched(source: Path, found: Scan, names: Collection[str]) -> list[str]:
    """Those of ``names`` that are no longer as they were found.

    A write notes its time when it begins, and may be put off in its middle: where one began a moment ago, it
    is given the time to show itself.
    """
    newest = max((found.files[name][4] for name in names if name in found.files), default=0)
    if newest > time.time_ns() - int(_RECENT * 1e9):
        time.sleep(_PUT_OFF)
    return sorted(n for n in names if n in found.files and stamp(f"{source}/{n}") != found.files[n])


def special_files(source: Path, folders: Sequence[str]) -> list[str]:
    """The pipes, sockets and devices directly in ``folders``."""
    special: list[str] = []
    for folder in folders:
        try:
            with os.scandir(source / folder) as entries:
                special += [
                    f"{folder}/{entry.name}" if folder else entry.name
                    for entry in entries
                    if not (
                        entry.is_file(follow_symlinks=False)
                        or entry.is_dir(follow_symlinks=False)
                        or entry.is_symlink()
                    )
                ]
        except OSError:
            continue  # gone since, or unreadable: git has said so where it matters
    return sorted(special)


def check_limits(source: Path, found: Scan, limits: tuple[int, int], ignore_file: str) -> None:
    """SnapshotError, with the ten biggest culprits, for more than ``limits`` = (bytes, files)."""
    max_bytes, max_files = limits
    size, count = found.size, len(found.files)
    if size > max_bytes:
        what, limit = "The biggest files:", human_bytes(max_bytes)
        biggest = sorted(found.files, key=lambda name: (-found.files[name][2], name))[:_CULPRITS]
        culprits = [(human_bytes(found.files[name][2]), name) for name in biggest]
    elif count > max_files:
        what, limit = "The fullest folders:", f"{max_files:,} files"
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for name, seen in found.files.items():
            folder = name.rpartition("/")[0] or "."
            counts[folder] += 1
            sizes[folder] += seen[2]
        culprits = [
            (f"{number:,} files, {human_bytes(sizes[folder])}", f"{folder}/")
            for folder, number in counts.most_common(_CULPRITS)
        ]
    else:
        return
    width = max(len(amount) for amount, _ in culprits)
    table = "\n".join(f"    {amount:>{width}}  {shown(name)}" for amount, name in culprits)
    raise SnapshotError(
        f"the snapshot of {source} would be {human_bytes(size)} in {count:,} files; "
        f"the limit is {limit}\n{what}\n{table}",
        hint=f"Name what the run does not need in {source / ignore_file} (gitignore syntax), or raise the "
        "snapshot limits.",
    )


def shown(name: str) -> str:
    """A file name for a message: on one line, whatever bytes are in it."""
    return name if name.isprintable() else ascii(name)
