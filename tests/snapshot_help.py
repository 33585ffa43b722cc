"""What the tests of snapshots share."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore

Contents = dict[bytes, tuple[str, bytes]]


class WatchedShell(LocalShell):
    """The real shell; keeps what was run and calls ``after`` when a command has ended."""

    def __init__(self, after: Callable[[Sequence[str]], None] = lambda argv: None) -> None:
        self.after = after
        self.seen: list[tuple[str, ...]] = []
        self.kept: list[tuple[int, ...]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | bytes | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Result:
        self.seen.append(tuple(argv))
        self.kept.append(tuple(keep_fds))
        result = super().run(argv, timeout=timeout, stdin=stdin, cwd=cwd, env=env, keep_fds=keep_fds)
        self.after(argv)
        return result


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")


def git(folder: Path, *args: str) -> str:
    options = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always")
    return LocalShell().run(["git", *options, *args], timeout=60, cwd=folder).check().stdout


def contents(folder: Path) -> Contents:
    """Every file and link below ``folder``: kind and content."""
    found: Contents = {}
    top = os.fsencode(folder)
    for parent, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)  # noqa: PTH118 - bytes
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[os.path.relpath(path, top)] = ("link", os.readlink(path))  # noqa: PTH115
            elif stat.S_ISREG(mode):
                kind = "program" if mode & 0o100 else "file"
                with open(path, "rb") as file:  # noqa: PTH123
                    found[os.path.relpath(path, top)] = (kind, file.read())
    return found


def checked_out(store: SnapshotStore, tree: str, tmp_path: Path) -> Contents:
    folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "out"
    store.check_out(tree, folder)
    assert not (folder / ".git").exists()
    return contents(folder)


def names(store: SnapshotStore, source: Path) -> list[str]:
    return store.file_names(store.take(source).id)
