"""Getting files that were asked for by name: by rsync, or, where there is none, as a tar.

A file appears under its name only when it is whole; what was cut off is kept in ``.hpcrun-partial`` beside
it, and continued by rsync.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.names import PARTIAL
from hpcrun.shells.base import RemoteShell, Result
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.streams import Talk
from hpcrun.transfer.manifest import Entry, is_here, rescue
from hpcrun.transfer.tarred import fetch_tar

_FETCH = 24 * 3600.0
# rsync's own codes: some files vanished, or changed, or could not be read. The next look tells which.
_PARTLY, _VANISHED = 23, 24
# A stream that ended, was not understood, or was waited for in vain: the connection, or the other rsync.
BROKEN = (10, 12, 30, 35, 255)
CANNOT = (1, 2, 4, 12, 14, 127)
ABSENT = re.compile(
    r"rsync: (command )?not found|command not found: rsync|unknown command: '?rsync|unknown option|"
    r"unrecognized option|there is no program 'rsync'|exec of rsync failed|failed to exec.*rsync",
    re.IGNORECASE,
)
FULL = re.compile(r".*(No space left on device|Disk quota exceeded|File too large).*")

Progress = Callable[[int], None]
"""Told how many bytes more have come."""


@dataclass(frozen=True)
class Fetched:
    """``note``: what is to be said of the way it was done; ``complaint``: what rsync said of files that it
    did not get."""

    note: str = ""
    complaint: str = ""


def fetch(
    shell: RemoteShell, there: str, runs: Path, wanted: Sequence[tuple[str, Entry]],
    progress: Progress | None = None,
) -> Fetched:  # fmt: skip
    """Get the wanted files, each of a run, into ``runs/RUN_ID``. ``there`` is the folder of all runs there.

    Raises CommandError; what has come by then stays. A file that did not come is no error: look whether it
    is here.
    """
    for run_id in {run_id for run_id, _ in wanted}:
        rescue(runs / run_id, [entry for each, entry in wanted if each == run_id])
    names = b"".join(os.fsencode(f"{run_id}/{entry.path}") + b"\0" for run_id, entry in wanted)
    result = _rsync(shell, there, runs, names, progress)
    # Named a file and sent as a link: that was changed meanwhile, and may lead anywhere.
    _drop_links(runs, wanted)
    if result.rc in (0, _VANISHED):
        return Fetched()
    if result.rc in CANNOT and ABSENT.search(result.stderr):
        fetch_tar(shell, there, runs, wanted, names, progress)
        return Fetched(
            note=f"rsync is missing, or too old, here or on {shell.host}: files come by tar, and one that is "
            "cut off starts anew"
        )
    if full := FULL.search(result.stderr):
        raise CommandError(
            f"no room for the files from {shell.host} in {runs}: {full[0].strip()}",
            hint="What came is kept. Make room, and the next hpcrun sync goes on.",
        )
    if result.rc == _PARTLY:
        return Fetched(complaint=complaint_of(result.stderr))
    raise _failure(result, shell.host)


def _failure(result: Result, host: str) -> CommandError:
    said = complaint_of(result.stderr)
    if result.rc is None or result.rc in BROKEN:
        words = f"the connection to {host} broke while files came" + (f": {said}" if said else "")
        return UnreachableError(words, hint="What came is kept: the next hpcrun sync goes on.")
    how = f"was ended by signal {-result.rc}" if result.rc < 0 else f"ended with exit code {result.rc}"
    return CommandError(
        f"bringing files from {host}: rsync {how}" + (f": {said}" if said else ""),
        hint="What came is kept: the next hpcrun sync goes on.",
    )


def complaint_of(stderr: str) -> str:
    """The first line that says something of a file, and else the first at all."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    lines = [line for line in lines if "vanished" not in line]
    return next((line for line in lines if not line.startswith("rsync error:")), lines[0] if lines else "")


def _drop_links(runs: Path, wanted: Sequence[tuple[str, Entry]]) -> None:
    for run_id, entry in wanted:
        place = f"{runs}/{run_id}/{entry.path}"
        if os.path.islink(place) and not is_here(runs / run_id, entry):  # noqa: PTH114 (text, for thousands)
            os.unlink(place)  # noqa: PTH108


def _rsync(shell: RemoteShell, there: str, runs: Path, names: bytes, progress: Progress | None) -> Result:
    count = Counter(progress)
    with shell.rsh() as rsh:
        argv = [
            # Whatever is asked for is to come: that time and size differ, to the nanosecond, is known here.
            *(
                "rsync",
                "--files-from=-",
                "--from0",
                "--no-implied-dirs",
                "--links",
                "--times",
                "--ignore-times",
            ),
            *(
                "--safe-links",
                "--perms",
                "-s",
                "--chmod=Du=rwx,Dgo=,Fu=rwX,Fgo=,a-st",
                f"--partial-dir={PARTIAL}",
            ),
            *(("--info=progress2", "--no-human-readable", "--outbuf=L") if progress is not None else ()),
            *("-e", shlex.join(rsh.argv), f"{rsh.host}:{there}/", f"{runs}/"),
        ]
        try:
            talk = Talk(argv, {**clean_environment(), "LC_ALL": "C", **rsh.env})
        except CommandError as exc:
            return Result(("rsync",), 127, "", exc.message, 0.0)
        talk.listening.set()
        talk.run(names, None, count.feed, timeout=_FETCH)
    stderr = bytes(talk.stderr).decode("utf-8", "replace")
    return Result(("rsync",), talk.returncode, "", stderr, 0.0)


class Counter:
    """Reads the bytes that rsync says have come, of which it repeats the sum."""

    _LINE = re.compile(rb"(?:^|[\r\n])\s*([0-9]+)\s+[0-9]+%")

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._so_far = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        if self._progress is None:
            return
        data = self._rest + data
        for match in self._LINE.finditer(data):
            sum_ = int(match[1])
            if sum_ > self._so_far:
                self._progress(sum_ - self._so_far)
                self._so_far = sum_
        # A line may come in two pieces.
        self._rest = data[max(data.rfind(b"\r"), data.rfind(b"\n"), len(data) - 200, 0) :]
