"""Files as one tar: for where rsync is missing. Nothing in it is believed but what was asked for."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.names import PARTIAL
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.scripts import source
from hpcrun.transfer.manifest import Entry, at

_FETCH = 24 * 3600.0
_PIECE = 1 << 18
_AGAIN = "Files that came are kept: the next hpcrun sync gets the others."


def fetch_tar(
    shell: RemoteShell, there: str, runs: Path, wanted: Sequence[tuple[str, Entry]], names: bytes,
    progress: Callable[[int], None] | None,
) -> None:  # fmt: skip
    """As :func:`hpcrun.transfer.fetch.fetch`, by a tar that the target makes."""
    known = {f"{run_id}/{entry.path}": entry for run_id, entry in wanted}
    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def read() -> None:
        try:
            with os.fdopen(read_end, "rb") as stream:
                unpack(stream, runs, known, progress)
                while stream.read(_PIECE):
                    pass
        except (OSError, tarfile.TarError) as exc:
            failure.append(exc)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    result = None
    try:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            text = at(there) + source("tarred")
            result = shell.script(text, timeout=_FETCH, stdin=names, sink=_into(pipe))
    except BrokenPipeError:
        pass  # whoever unpacks has stopped, and says why
    finally:
        thread.join()
    if failure and isinstance(failure[0], OSError):
        raise CommandError(f"cannot write what comes from {shell.host}: {failure[0]}", hint=_AGAIN)
    if result is not None and result.rc is None:
        raise UnreachableError(f"the connection to {shell.host} broke while files came", hint=_AGAIN)
    if failure or result is None or (result.rc != 0 and not result.stderr.strip()):
        said = f": {failure[0]}" if failure else ""
        raise CommandError(f"bringing files from {shell.host}: tar failed there{said}", hint=_AGAIN)


def _into(pipe: IO[bytes]) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[pipe.write(rest) :]

    return take


def unpack(
    stream: IO[bytes], runs: Path, known: dict[str, Entry], progress: Callable[[int], None] | None = None
) -> None:
    """Regular files and links that were asked for, each written aside and then named. Raises OSError,
    tarfile.TarError."""
    with tarfile.open(fileobj=stream, mode="r|", ignore_zeros=True) as archive:
        done: set[str] = set()
        for member in archive:
            name = member.name.removeprefix("./")
            entry = known.get(name)
            if entry is None:
                continue
            place = runs / name
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry.link is not None:
                if member.issym() and member.linkname == entry.link:
                    place.unlink(missing_ok=True)
                    place.symlink_to(entry.link)
                continue
            aside = place.parent / PARTIAL / place.name
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            if member.islnk() and member.linkname.removeprefix("./") in done:  # two names of one file
                shutil.copy2(runs / member.linkname.removeprefix("./"), aside)
            elif member.isreg():
                _write(archive, member, aside, progress)
                os.utime(aside, ns=_times(member, entry))
            else:
                _tidy(aside.parent)
                continue
            aside.replace(place)
            done.add(name)
            _tidy(aside.parent)


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, aside: Path, progress: Callable[[int], None] | None
) -> None:
    content = archive.extractfile(member)
    assert content is not None
    aside.unlink(missing_ok=True)
    mode = 0o700 if member.mode & 0o100 else 0o600
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):  # raises ReadError at an end that comes too soon
            file.write(piece)
            if progress is not None:
                progress(len(piece))


def _times(member: tarfile.TarInfo, entry: Entry) -> tuple[int, int]:
    """A tar knows whole seconds; the listing knows the rest, where the file is still that old."""
    seconds = int(member.mtime)
    if entry.mtime is not None and entry.mtime // 1_000_000_000 == seconds and entry.size == member.size:
        return entry.mtime, entry.mtime
    return seconds * 1_000_000_000, seconds * 1_000_000_000


def _tidy(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # another file waits in there
