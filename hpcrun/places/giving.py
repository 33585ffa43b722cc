"""Files of an earlier run, sent beside a new one on another machine; see give.sh.

What is the same is there once, however many runs are given it: its name comes from the earlier run and from
what lies there, by names, sizes and times.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.places.base import Given, OnSend
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.scripts import source
from hpcrun.transfer.send import Links, send

_ASK = 60.0
_CONNECTIONS = 3
"""How often sending is begun, where the connection breaks."""


class Giving:
    """One thing that a run is given: ``path`` is it on this machine, ``mine`` a word for this workspace."""

    def __init__(self, shell: RemoteShell, run_dir: str, given: Given, path: Path, mine: str) -> None:
        self._shell, self._given, self._path = shell, given, path
        self.root, _, run = run_dir.rpartition("/runs/")
        entries = list(_entries(path))
        self._files, self._size = len(entries), sum(size for _, size, _ in entries)
        digest = hashlib.sha256(os.fsencode(repr((given.name, entries)))).hexdigest()[:16]
        key = f"{given.run}-{digest}"
        self._part = f"{self.root}/given/{key}.part.{mine}"
        self._words = [self.root, key, run, given.slot, given.name, self._part]

    def give(
        self, alone: Callable[[], AbstractContextManager[bool]], trusted: bool, on_send: OnSend | None
    ) -> None:
        """Have it there. ``alone`` is for one process of the workspace at a time; ``trusted`` as of
        :meth:`hpcrun.places.base.Place.give`. Raises CommandError, UnreachableError."""
        if self._ask() == "here":
            return
        with alone() as waited:
            if waited and self._ask() == "here":
                return
            links: Links = "follow" if trusted else "drop"
            for left in reversed(range(_CONNECTIONS)):
                progress = on_send(self._files, self._size) if on_send is not None else None
                try:
                    there = f"{self._part}/files/{self._given.name}"
                    send(self._shell, self._path, there, links=links, progress=progress)
                    break
                except UnreachableError:
                    if not left:
                        raise
            self._ask("whole")

    def _ask(self, *more: str) -> str:
        words = [*self._words, *more]
        result = self._shell.script(source("folders", "give"), words, timeout=_ASK)
        if result.timed_out:
            raise UnreachableError(result.describe(f"giving files of {self._given.run} to {words[2]}"))
        if not result.ok:
            said = result.stderr.replace("hpcrun: ", "").strip()
            raise CommandError(f"{self._shell.host}: {said or f'exit code {result.rc}'}")
        return result.stdout.strip()


def _entries(path: Path) -> Iterator[tuple[str, int, int]]:
    """The files, by their names, with size and time of what they are or lead to."""
    if not path.is_dir():
        yield "", *_size_and_time(path)
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            each = Path(folder, name)
            yield str(each.relative_to(path)), *_size_and_time(each)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        seen = path.stat()
    except OSError:  # a link that leads nowhere
        return 0, 0
    return seen.st_size, seen.st_mtime_ns
