"""git as hpcrun calls it, and the private bare repository that holds the snapshots.

Two dangers are dealt with here and nowhere else. What surrounds the caller (``GIT_DIR`` from a hook,
``~/.gitconfig``, an attributes file that asks for line-ending conversion) must not change what is
stored; and names are bytes, which git prints quoted and :func:`unquote` reads back without loss.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcrun.errors import CommandError, SnapshotError
from hpcrun.shells.base import Result, Shell

DEADLINE = 1800.0
"""Seconds for one git command: a first snapshot on a slow shared filesystem takes minutes."""
LOCK_DEADLINE = 900.0

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

# Everything that could change bytes, names or modes on their way is off; nothing is ever pruned, because
# run records elsewhere hold the tree ids and no ref does.
STORE_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\tfilemode = true
\tsymlinks = true
\tignorecase = false
\tprecomposeunicode = false
\tautocrlf = false
\tsafecrlf = false
\tprotectNTFS = false
\tprotectHFS = false
\tquotePath = true
\thooksPath = /dev/null
\texcludesFile = /dev/null
\tattributesFile = /dev/null
\tlogAllRefUpdates = false
\tlooseCompression = 0
\tfsync = none
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
"""
STORE_ATTRIBUTES = "* -text -eol -crlf -filter -ident -export-ignore -export-subst -working-tree-encoding\n"

_ESCAPE = re.compile(rb'\\([abtnvfr"\\]|[0-7]{3})')
_LETTERS = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


def unquote(name: str) -> str:
    """A path as git prints it with ``core.quotePath`` on; the result is as ``os.fsdecode`` gives it."""
    if not name.startswith('"'):
        return name
    raw = _ESCAPE.sub(
        lambda m: bytes([int(m[1], 8)]) if len(m[1]) == 3 else _LETTERS.get(m[1], m[1]),
        name[1:-1].encode("ascii"),
    )
    return os.fsdecode(raw)


def lines(text: str) -> list[str]:
    """The lines of git's output; only a newline ends one (``splitlines`` knows others)."""
    return text.split("\n")[:-1] if text.endswith("\n") else [line for line in text.split("\n") if line]


def nul_joined(names: Sequence[str]) -> bytes:
    """What ``-z --stdin`` reads."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def run_git(
    shell: Shell,
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: bytes | None = None,
    timeout: float = DEADLINE,
    keep_fds: Sequence[int] = (),
    keep: str | None = None,
    to: Path | None = None,
) -> Result:
    """Run git without the caller's own ``GIT_*`` variables, save those that begin with ``keep``; what it
    writes goes into the file ``to``, if one is named.

    CommandError where there is no git.
    """
    leaked = sorted(
        n for n in os.environ if n.startswith("GIT_") and n not in env and not (keep and n.startswith(keep))
    )
    argv = ["git", *args] if to is None else ["sh", "-c", 'exec "$@" >"$0"', str(to), "git", *args]
    if leaked:  # env(1) is one more exec, paid only by callers that have such variables
        argv = ["env", *(part for name in leaked for part in ("-u", name)), *argv]
    result = shell.run(
        argv, timeout=timeout, stdin=stdin, cwd=cwd, env={**env, "LC_ALL": "C"}, keep_fds=keep_fds
    )
    if leaked and result.rc == 127:
        raise CommandError("there is no program 'git' on this machine")
    return result


class GitFailed(SnapshotError):
    """git ended in a way that was not foreseen; the index may be to blame."""


class Store:
    """The bare repository: its layout, its settings, and git run on it."""

    def __init__(self, folder: Path, shell: Shell) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links
        self.indexes = self.folder / "indexes"
        self.taken = self.folder / "taken"
        self._shell = shell

    @property
    def exists(self) -> bool:
        return (self.folder / "config").is_file()

    def prepare(self) -> None:
        """Make the repository, or repair its settings. Safe beside others that do the same.

        Written by hand (gitrepository-layout(5)): no template, no default branch name and no hash
        algorithm of the user's gets in, and no process is started.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            for name in ("objects", "refs/heads", "info", "indexes", "taken"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            for name, text in (
                ("HEAD", "ref: refs/heads/none\n"),
                ("info/attributes", STORE_ATTRIBUTES),
                ("info/exclude", ""),
                ("config", STORE_CONFIG),
            ):
                write_if_changed(self.folder / name, text)
        except OSError as exc:
            raise SnapshotError(f"cannot make the snapshot store {self.folder}: {exc.strerror}") from exc

    def run(
        self,
        *args: str,
        cwd: Path | None = None,
        index: Path | None = None,
        stdin: bytes | None = None,
        keep_fds: Sequence[int] = (),
        to: Path | None = None,
    ) -> Result:
        """git on the store; ``cwd`` is the work tree where there is one."""
        env = {
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            # git before 2.32 knows no GIT_CONFIG_GLOBAL and looks in these two.
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            # glibc gives every file's buffer back to the kernel and asks for it again at once; told not
            # to, git stores 10,000 small files in half the time.
            "MALLOC_TRIM_THRESHOLD_": "268435456",
            "MALLOC_TOP_PAD_": "33554432",
        }
        if cwd is not None:
            env["GIT_WORK_TREE"] = str(cwd)
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        try:
            result = run_git(
                self._shell, args, env=env, cwd=cwd or self.folder, stdin=stdin, keep_fds=keep_fds, to=to
            )
        except CommandError as exc:
            raise SnapshotError(
                f"snapshots need git: {exc.message}",
                hint="Install git 2.25 or newer, or load the site's module for it (module load git).",
            ) from exc
        if result.timed_out:
            raise SnapshotError(result.describe("the snapshot"), hint="Is the filesystem hanging?")
        return result

    def blob(self, name: str) -> bytes:
        """What is stored under ``TREE:PATH``. Raises FileNotFoundError."""
        with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
            place = Path(folder) / "blob"
            if not self.run("cat-file", "blob", name, to=place).ok:
                raise FileNotFoundError(errno.ENOENT, "there is no such file in the snapshot", name)
            return place.read_bytes()

    @contextmanager
    def lock(self, name: str) -> Iterator[int]:
        """One taker at a time for one index; gives the descriptor, for git to hold on to as well.

        Where this process is killed its git may live on for a moment: as it holds the descriptor, the
        lock lasts until that has ended too. So an ``index.lock`` found under the lock is always stale.
        """
        fd = os.open(self.indexes / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(fd, self.folder)
            (self.indexes / f"{name}.index.lock").unlink(missing_ok=True)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def in_use(self, *, alone: bool = False, seconds: float = LOCK_DEADLINE) -> Iterator[None]:
        """Nothing is deleted meanwhile; or, ``alone``, nobody else uses the store at all."""
        fd = os.open(self.folder / "use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(fd, self.folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, seconds)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def scratch_index(self) -> Iterator[Path]:
        """An index that is used once, for checking out."""
        folder = tempfile.mkdtemp(prefix="checkout-", dir=self.indexes)
        try:
            yield Path(folder) / "index"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _flock(fd: int, folder: Path, operation: int = fcntl.LOCK_EX, seconds: float | None = None) -> None:
    seconds = LOCK_DEADLINE if seconds is None else seconds
    end = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise SnapshotError(
                    f"another user of the snapshots has held its lock for {seconds:.0f} s",
                    hint=f"Look for a hanging hpcrun or git that uses {folder}.",
                ) from None
            time.sleep(0.02)
        except OSError as exc:
            if exc.errno == errno.EINTR:
                continue
            raise SnapshotError(
                f"the filesystem of {folder} knows no file locks: {exc.strerror}",
                hint="Put the workspace where flock works (HPCRUN_WORKSPACE names another folder).",
            ) from exc


def write_if_changed(path: Path, text: str) -> None:
    """Write ``text`` in one step, unless it is there already."""
    try:
        if path.read_text() == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    fd, name = tempfile.mkstemp(prefix="new-", dir=path.parent)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    Path(name).replace(path)
