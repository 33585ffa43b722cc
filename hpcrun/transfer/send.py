"""Sending a file or folder of this machine to another one: by rsync, or, where there is none, as a tar.

It goes below a name that nobody uses yet. What was cut off stays there, and rsync goes on with it; whoever
calls gives it its name once all of it is there.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.shells.base import RemoteShell, Result
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.scripts import source as script_of
from hpcrun.shells.streams import Talk
from hpcrun.transfer.fetch import ABSENT, BROKEN, CANNOT, FULL, Counter, Progress, complaint_of

_SEND = 24 * 3600.0
_KEPT = "What came is kept there, and gone on with."

Links = Literal["follow", "drop", "keep"]
_LINKS = {"follow": ["--copy-unsafe-links"], "drop": ["--safe-links"], "keep": list[str]()}


def send(
    shell: RemoteShell, path: Path, there: str, *, links: Links, progress: Progress | None = None
) -> None:
    """Have the file or folder ``path`` as ``there``, whose parent is there; in that folder nothing else.

    ``links`` says what becomes of those that lead out of it: what they lead to is sent ("follow"), they are
    left out ("drop"), or sent as they are ("keep"). Raises UnreachableError where the connection broke,
    CommandError.
    """
    result = _rsync(shell, path, there, links, progress)
    if result.ok:
        return
    if result.rc in CANNOT and ABSENT.search(result.stderr):
        _send_tar(shell, path, there, links, progress)
        return
    if full := FULL.search(result.stderr):
        words = f"no room on {shell.host} for {path.name} in {os.path.dirname(there)}: {full[0].strip()}"  # noqa: PTH120
        raise CommandError(words, hint=f"{_KEPT} Make room there, and submit again.")
    said = complaint_of(result.stderr)
    said = f": {said}" if said else ""
    if result.rc is None or result.rc in BROKEN:
        raise UnreachableError(f"the connection to {shell.host} broke while files went{said}", hint=_KEPT)
    how = f"was ended by signal {-result.rc}" if result.rc < 0 else f"ended with exit code {result.rc}"
    raise CommandError(f"sending {path} to {shell.host}: rsync {how}{said}", hint=_KEPT)


def _rsync(shell: RemoteShell, path: Path, there: str, links: Links, progress: Progress | None) -> Result:
    count = Counter(progress)
    with shell.rsh() as rsh:
        argv = [
            # In place, so that what was cut off is gone on with, and nothing needs twice its room; what is
            # there by then is compared by what it holds, whatever its size and time.
            *("rsync", "--recursive", "--links", "--times", "--omit-dir-times", "--perms", "-s"),
            *("--inplace", "--ignore-times"),
            *_LINKS[links],
            "--chmod=Du=rwx,Dgo=,Fu=rwX,Fgo=,a-st",
            *(("--info=progress2", "--no-human-readable", "--outbuf=L") if progress is not None else ()),
            *("-e", shlex.join(rsh.argv)),
            *(("--delete", f"{path}/") if path.is_dir() else (str(path.resolve()),)),
            f"{rsh.host}:{there}",
        ]
        try:
            talk = Talk(argv, {**clean_environment(), "LC_ALL": "C", **rsh.env})
        except CommandError as exc:
            return Result(("rsync",), 127, "", f"{exc.message}: rsync: not found", 0.0)
        talk.listening.set()
        talk.run(b"", None, count.feed, timeout=_SEND)
    stderr = bytes(talk.stderr).decode("utf-8", "replace")
    return Result(("rsync",), talk.returncode, "", stderr, 0.0)


def _send_tar(shell: RemoteShell, path: Path, there: str, links: Links, progress: Progress | None) -> None:
    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def write() -> None:
        import tarfile

        try:
            with os.fdopen(write_end, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
                for name, each in _members(path, links):
                    archive.add(each, name, recursive=False)
        except BrokenPipeError:
            pass  # whoever reads has stopped, and says why
        except (OSError, tarfile.TarError) as exc:
            failure.append(exc)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as stream:
            words = [there, "folder" if path.is_dir() else "file"]
            text = script_of("untar")
            result = shell.script(text, words, timeout=_SEND, stdin=stream, progress=progress)
    finally:
        thread.join()
    if failure:
        raise CommandError(f"cannot read {path}: {failure[0]}")
    if result.timed_out:
        raise UnreachableError(f"the connection to {shell.host} broke while files went")
    result.check(f"sending {path} to {shell.host}, by tar")


def _members(path: Path, links: Links) -> Iterator[tuple[str, Path]]:
    """Names in the tar, and what they are: files, folders, and links that stay in the folder. What others
    lead to takes their place, or not, by ``links``."""
    if not path.is_dir():
        yield "file", path.resolve()
        return
    for folder, folders, files in os.walk(path):
        for name in sorted([*folders, *files]):
            each = Path(folder, name)
            member = str(each.relative_to(path))
            if not each.is_symlink():
                yield member, each
                continue
            target = each.resolve()
            inside = target.is_relative_to(path.resolve()) and not each.readlink().is_absolute()
            if inside or links == "keep":
                yield member, each
            elif links == "follow" and target.is_file():
                yield member, target
