"""Snapshots of a source directory: git trees in a private store.

What is in a snapshot is said by the ignore rules and by nothing else; where the source is a git
repository of the user's, its index, config, hooks and refs are neither read nor touched.

- The rules are ``.hpcrunignore`` at the top of the source if there is one, else ``.amlignore``; either is
  in gitignore's syntax and counts alone. Else the ``.gitignore`` files in the source, as git reads them
  (not those of folders above the source, and not ``.git/info/exclude``).
- Never in it: ``.git``, ``.hpcrun``, ``__pycache__``, ``.venv``, ``.ipynb_checkpoints``; ``outputs`` and
  ``logs`` at the top of the source (a run writes its own there); the workspace's own folder.
- Nested repositories and submodules are in it with their files.
- Symbolic links are stored as links, wherever they lead. Of the mode, the executable bit is kept. Empty
  folders are not kept, as git keeps none. Pipes, sockets and devices are left out, with a note.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hpcrun.errors import SnapshotError
from hpcrun.shells.base import Result, Shell
from hpcrun.snapshot_gc import Unused, find_unused
from hpcrun.snapshot_git import (
    EMPTY_BLOB,
    GitFailed,
    Store,
    lines,
    nul_joined,
    unquote,
    write_if_changed,
)
from hpcrun.snapshot_scan import Scan, check_limits, scan, shown, special_files, touched

MB = 1024 * 1024
MAX_BYTES = 300 * MB
MAX_FILES = 20_000

_ALWAYS_OUT = (".hpcrun", "__pycache__", ".venv", ".ipynb_checkpoints")  # .git: git itself never looks in
_RUN_WRITES = ("outputs", "logs")
_IGNORE_FILES = (".hpcrunignore", ".amlignore")
_ATTEMPTS = 5
_PAUSE = 0.1
_TREE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Snapshot:
    """A source directory as it was: ``id`` is a git tree id, ``size`` is in bytes.

    ``notes`` says what was left out and is worth knowing, one sentence each.
    """

    id: str
    files: int
    size: int
    notes: tuple[str, ...]


class SnapshotStore:
    """All snapshots of a workspace. ``folder`` is a bare git repository, made (0700) on first use."""

    def __init__(self, folder: Path, shell: Shell) -> None:
        self._store = Store(folder, shell)

    def take(self, source: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> Snapshot:
        """Store ``source`` as it is now. Only what changed since the last time is read.

        The limits are on the whole snapshot, and are checked before anything is stored. SnapshotError for
        a source that is missing, too big, unreadable in part, or written to all the while.
        """
        source = Path(os.path.realpath(source))
        if not source.is_dir():
            what = "is not a directory" if source.exists() else "does not exist"
            raise SnapshotError(f"the source directory {source} {what}", hint="Check source_directory.")
        self._store.prepare()
        key = sha256(os.fsencode(source)).hexdigest()[:16]
        with self._store.lock(key) as fd:
            capture = _Capture(self._store, source, key, fd, (max_bytes, max_files))
            try:
                snapshot = capture.unchanged() or capture.changed()
            except GitFailed:
                if not capture.forget():
                    raise
                # A damaged index, or objects that somebody deleted: everything is read anew, once.
                snapshot = capture.changed()
        (self._store.taken / snapshot.id).touch(0o600)
        return snapshot

    def check_out(self, tree: str, folder: Path) -> None:
        """Write the snapshot ``tree`` into ``folder``, which is new or empty; no ``.git`` is made."""
        _check_id(tree)
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link to the scratch disk stays one
        if folder.is_dir() and any(folder.iterdir()):
            raise SnapshotError(f"{folder} is not empty", hint="A snapshot goes into a new or empty folder.")
        self._known(tree)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SnapshotError(f"cannot make the folder {folder}: {exc.strerror}") from exc
        with self._store.scratch_index() as index:
            result = self._store.run("read-tree", "-m", "-u", tree, cwd=folder, index=index)
        if not result.ok:
            raise SnapshotError(result.describe(f"cannot write the snapshot into {folder}"))

    def pack(self, tree: str, have: Collection[str], folder: Path) -> Path:
        """A file in ``folder`` with all objects of the snapshot that are in none of the snapshots ``have``,
        as ``git index-pack --stdin --fix-thin`` takes them; ids this store does not know are passed over.
        Nothing in it is compressed: as a whole it can be, and much better than object by object."""
        self._known(_check_id(tree))
        asked = "".join(f"{other}^{{tree}}\n" for other in have if _TREE.fullmatch(other)).encode()
        said = self._store.run("cat-file", "--batch-check=%(objectname)", stdin=asked).stdout
        known = [line for line in lines(said) if _TREE.fullmatch(line)]
        objects = self._store.run("rev-list", "--objects", tree, *(f"^{other}" for other in known))
        if not objects.ok:
            raise SnapshotError(objects.describe("cannot list the snapshot"))
        # What a changed file is a change of may be left out as well: git wants to be told where it is.
        wanted = "".join(f"-{other}\n" for other in known) + objects.stdout
        place = folder / "snapshot.pack"
        options = ("--compression=0", "--delta-base-offset", "--stdout", "--quiet")
        result = self._store.run("pack-objects", *options, stdin=os.fsencode(wanted), to=place)
        if not result.ok:
            raise SnapshotError(result.describe("cannot pack the snapshot"))
        return place

    def diff(self, old: str, new: str) -> str:
        """What changed from one snapshot to another, as a unified diff; empty if nothing did."""
        for tree in (old, new):
            self._known(_check_id(tree))
        result = self._store.run("diff-tree", "-r", "-p", "-M", "--no-color", old, new)
        if not result.ok:
            raise SnapshotError(result.describe("cannot compare the snapshots"))
        return result.stdout

    def read(self, tree: str, name: str) -> bytes:
        """What a file of the snapshot holds. Raises FileNotFoundError."""
        self._known(_check_id(tree))
        return self._store.blob(f"{tree}:{name}")

    def file_names(self, tree: str) -> list[str]:
        """The names of all files, relative to the source, sorted; odd bytes as from ``os.fsdecode``."""
        self._known(_check_id(tree))
        result = self._store.run("ls-tree", "-r", "--name-only", "--full-tree", tree)
        if not result.ok:
            raise SnapshotError(result.describe(f"cannot list the snapshot {tree}"))
        return sorted(unquote(line) for line in lines(result.stdout))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts no snapshot is deleted: from when one is taken until a run is known to have it."""
        self._store.prepare()
        with self._store.in_use():
            yield

    @contextmanager
    def unused(self, used: Callable[[], Collection[str]], *, seconds: float = 30.0) -> Iterator[Unused]:
        """The snapshots that are none of those ``used`` gives; nobody else uses the store while this lasts.

        SnapshotError if somebody does for so many seconds, or if a snapshot that is used is damaged.
        """
        self._store.prepare()
        with self._store.in_use(alone=True, seconds=seconds):
            yield find_unused(self._store, {tree for tree in used() if self.contains(tree)})

    def contains(self, tree: str) -> bool:
        """Whether the snapshot is in this store."""
        if not _TREE.fullmatch(tree) or not self._store.exists:
            return False
        return self._store.run("cat-file", "-e", f"{tree}^{{tree}}").ok

    @staticmethod
    def foresee(
        source: Path, shell: Shell, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
    ) -> tuple[str, ...]:
        """The notes that a snapshot of ``source``, which is a folder, would have; no file in it is read.

        It is held against the limits, and nothing is stored. SnapshotError as from :meth:`take`.
        """
        with tempfile.TemporaryDirectory(prefix="hpcrun-", ignore_cleanup_errors=True) as folder:
            store = Store(Path(folder) / "store", shell)
            store.prepare()
            with store.lock("once") as fd:
                real = Path(os.path.realpath(source))
                return _Capture(store, real, "once", fd, (max_bytes, max_files)).foreseen()

    def _known(self, tree: str) -> None:
        if not self.contains(tree):
            raise SnapshotError(f"there is no snapshot {tree} in {self._store.folder}")


def _check_id(tree: str) -> str:
    if not _TREE.fullmatch(tree):
        raise SnapshotError(f"not the id of a snapshot: {tree!r}")
    return tree


@dataclass(frozen=True)
class _Listing:
    """The source as git sees it beside the index: what goes into the snapshot, and what changed."""

    keep: list[str]
    changed: set[str]
    indexed: set[str]
    drop: set[str]


class _Capture:
    """One take of one source, under its lock."""

    def __init__(self, store: Store, source: Path, key: str, fd: int, limits: tuple[int, int]) -> None:
        self._store = store
        self._source = source
        self._fd = fd
        self._limits = limits
        self._index = store.indexes / f"{key}.index"
        self._state = store.indexes / f"{key}.json"
        self._rules_file = next((name for name in _IGNORE_FILES if (source / name).is_file()), None)
        self._rules = self._exclude_options()

    def unchanged(self) -> Snapshot | None:
        """The last snapshot if the source is still as it was, seen without reading any file."""
        try:
            state = json.loads(self._state.read_text())
            tree, files, size = str(state["tree"]), int(state["files"]), int(state["size"])
            folders = [str(folder) for folder in state["folders"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not self._index.exists() or size > self._limits[0] or files > self._limits[1]:
            return None
        # Each of these three sees what the others do not: edits and deletions, new files, new rules.
        if not self._git("update-index", "--refresh").ok:
            return None
        if self._names("--others") or self._names("--cached", "--ignored"):
            return None
        if self._git("write-tree").stdout.strip() != tree:
            return None
        return Snapshot(tree, files, size, self._notes(folders))

    def changed(self) -> Snapshot:
        """Bring the index up to date and write the tree; what moves under the reading is read again."""
        unstable: list[str] = []
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE * attempt)  # a writer that is nearly done gets the time
            listing = self._list()
            found = scan(self._source, listing.keep, listing.changed | set(unstable))
            check_limits(self._source, found, self._limits, self._ignore_file())
            failure = self._update(listing, found, unstable)
            unstable = touched(self._source, found, listing.changed | set(unstable))
            if not unstable:
                if failure is not None:
                    raise failure
                return self._finish(found)
        raise SnapshotError(
            f"{shown(unstable[0])} in {self._source} is being written to: it changed each of the "
            f"{_ATTEMPTS} times it was read, so no snapshot was taken",
            hint=f"Wait for its writer, or name the file in {self._source / self._ignore_file()}.",
        )

    def foreseen(self) -> tuple[str, ...]:
        """The notes on what is there to capture. Raises SnapshotError where it cannot be, or is too much."""
        found = scan(self._source, self._list().keep, ())
        check_limits(self._source, found, self._limits, self._ignore_file())
        for name, seen in found.files.items():
            if stat.S_ISREG(seen[0]) and not os.access(self._source / name, os.R_OK):
                raise SnapshotError(
                    f"a file in {self._source} cannot be read: {shown(name)}",
                    hint=f"Make it readable, or name it in {self._source / self._ignore_file()}.",
                )
        return self._notes(found.folders)

    def forget(self) -> bool:
        """Throw the index away; False if there was none to blame."""
        there = self._index.exists()
        self._index.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        return there

    def _exclude_options(self) -> list[str]:
        # Patterns given with -x come before all files, so no "!outputs" can bring these back.
        patterns = [*_ALWAYS_OUT, *(f"/{name}" for name in _RUN_WRITES)]
        for folder in (self._store.folder, self._store.folder.parent):
            inside = os.path.relpath(os.path.realpath(folder), self._source)
            if inside != "." and inside != ".." and not inside.startswith("../"):
                patterns.append("/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", inside))
        if self._rules_file is not None:
            rules = f"--exclude-from={self._source / self._rules_file}"
        else:  # not --exclude-standard: that would add the user's own ~/.config/git/ignore
            rules = "--exclude-per-directory=.gitignore"
        return [*(part for pattern in patterns for part in ("-x", pattern)), rules]

    def _ignore_file(self) -> str:
        """The file in which a person should name what to leave out."""
        if self._rules_file is not None:
            return self._rules_file
        return ".gitignore" if (self._source / ".gitignore").is_file() else ".hpcrunignore"

    def _git(self, *args: str, stdin: bytes | None = None) -> Result:
        return self._store.run(*args, cwd=self._source, index=self._index, stdin=stdin, keep_fds=(self._fd,))

    def _names(self, *what: str) -> list[str]:
        result = self._git("ls-files", *what, *self._rules)
        for line in lines(result.stderr):
            # A folder that git cannot open is a warning to git; here it would be a silent hole.
            said = re.search(r"could not open directory|unable to access|cannot use .* as exclude", line)
            if said and "No such file" not in line:
                raise SnapshotError(
                    f"part of {self._source} cannot be read: {line}",
                    hint=f"Make it readable, or name it in {self._source / self._ignore_file()}.",
                )
        if not result.ok:
            raise GitFailed(result.describe(f"cannot list {self._source}"))
        return lines(result.stdout)

    def _list(self) -> _Listing:
        opened: set[str] = set()
        while True:
            keep: dict[str, None] = {}
            changed: set[str] = set()
            indexed: set[str] = set()
            nested: set[str] = set()
            for line in self._names("-t", "--cached", "--others", "--modified"):
                tag, name = line[0], unquote(line[2:])
                if name.endswith("/"):
                    nested.add(name)
                    continue
                keep[name] = None
                if tag != "H":
                    changed.add(name)
                if tag != "?":
                    indexed.add(name)
            if nested <= opened:
                break
            self._open_nested(nested - opened)
            opened |= nested
        drop = {unquote(line) for line in self._names("--cached", "--ignored")} if indexed else set()
        return _Listing([name for name in keep if name not in drop], changed - drop, indexed, drop)

    def _open_nested(self, folders: set[str]) -> None:
        # git does not look into another repository, unless its own index already holds a file from in
        # there. So it is given one, of a name that no snapshot has; the update takes it away again.
        entries = [f"100644 {EMPTY_BLOB}\t{folder}.hpcrun/nested" for folder in sorted(folders)]
        result = self._git("update-index", "-z", "--index-info", stdin=nul_joined(entries))
        if not result.ok:
            raise GitFailed(result.describe("cannot look into nested repositories"))

    def _update(self, listing: _Listing, found: Scan, unstable: Sequence[str]) -> SnapshotError | None:
        """Bring the index up to what was found; the error if git could not."""
        # git trusts times to the second and would not read an unstable file again: out and in anew.
        gone = (listing.drop | found.gone | set(unstable)) & listing.indexed
        if gone:
            result = self._git(
                "update-index", "-z", "--force-remove", "--stdin", stdin=nul_joined(sorted(gone))
            )
            if not result.ok:
                return GitFailed(result.describe("cannot update the snapshot"))
        fresh = [name for name in found.files if name in listing.changed or name in gone]
        if not fresh:
            return None
        options = ("--add", "--remove", "--replace", "-z", "--stdin")
        result = self._git("update-index", *options, stdin=nul_joined(fresh))
        for line in lines(result.stderr):
            if "Ignoring path" in line:
                raise SnapshotError(
                    f"git cannot store a file of this name: {line.partition('Ignoring path ')[2]}",
                    hint=f"Rename it, or name it in {self._source / self._ignore_file()}.",
                )
            if "Permission denied" in line and str(self._store.folder) not in line:
                raise SnapshotError(
                    f"a file in {self._source} cannot be read: {line.removeprefix('error: ')}",
                    hint=f"Make it readable, or name it in {self._source / self._ignore_file()}.",
                )
        return None if result.ok else GitFailed(result.describe(f"cannot store {self._source}"))

    def _finish(self, found: Scan) -> Snapshot:
        result = self._git("write-tree")
        if not result.ok:
            raise GitFailed(result.describe(f"cannot write the snapshot of {self._source}"))
        tree = result.stdout.strip()
        state = {"tree": tree, "files": len(found.files), "size": found.size, "folders": found.folders}
        write_if_changed(self._state, json.dumps(state))
        return Snapshot(tree, len(found.files), found.size, self._notes(found.folders))

    def _notes(self, folders: Sequence[str]) -> tuple[str, ...]:
        left_out = [name for name in _RUN_WRITES if os.path.lexists(self._source / name)]
        notes = [f"{name}/ at the top of the source is left out" for name in left_out]
        special = special_files(self._source, folders)
        notes += [f"{name} is left out: it is a pipe, a socket or a device" for name in special[:10]]
        if len(special) > 10:
            notes.append(f"{len(special) - 10} more pipes, sockets and devices are left out")
        return tuple(notes)
