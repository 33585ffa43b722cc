"""Where the code came from: the git repository that the source lies in, looked at and never touched.

Looking is not harmless by itself: git would run the programs that a repository's own configuration
names (fsmonitor, filters, external diffs, text conversions) and would write its index. None of that
happens here. Filters of the user's own configuration, such as Git LFS, do run: without them every file
of theirs whose times changed would look edited.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import CommandError
from hpcrun.shells.base import Result, Shell
from hpcrun.snapshot_git import lines, run_git, unquote
from hpcrun.units import human_bytes

DIFF_LIMIT = 5 * 1024 * 1024
"""Bytes of diff that are kept, and the size of a file above which it is not compared at all."""

_TIMEOUT = 60.0
_MAX_LEFT_OUT = 100
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_ENV = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would fetch what it lacks, by a program it names
}
_QUIET = {
    "core.fsmonitor": "",
    "core.hooksPath": "/dev/null",
    "core.quotePath": "true",
    "status.relativePaths": "false",
    "diff.autoRefreshIndex": "false",
    "diff.external": "",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "diff.relative": "false",
}


@dataclass(frozen=True)
class GitProvenance:
    """The state of the work tree that a source lies in.

    ``repository_uri`` has no credentials in it, and is None without a remote; ``branch`` is None on a
    detached HEAD; ``commit`` is None before the first one. ``dirty`` is about the whole work tree, not the
    source alone; untracked files and edits in submodules count. ``diff`` is what ``git diff HEAD --binary``
    says of the tracked files, cut at ``DIFF_LIMIT``; None if it would be empty.
    """

    repository_uri: str | None
    branch: str | None
    commit: str | None
    dirty: bool
    diff: str | None

    def properties(self) -> dict[str, str]:
        """As a run records them; what is not known is not there."""
        known = {
            "git.repository_uri": self.repository_uri,
            "git.branch": self.branch,
            "git.commit": self.commit,
            "git.dirty": "true" if self.dirty else "false",
        }
        return {name: value for name, value in known.items() if value is not None}


def git_provenance(source: Path, shell: Shell) -> GitProvenance | None:
    """Ask git about ``source``. Never raises for what git says or is.

    None outside a work tree, without git, or where git refuses (a repository of somebody else's).
    """
    try:
        look = _Look(Path(os.path.realpath(source)), shell)
        status = look.status()
        if status is None:
            return None
        top = look.top() if status.tracked or not status.dirty else None
        dirty = status.dirty or (top is not None and any(_dirty_submodules(top, shell)))
        diff = look.diff(status, top) if top is not None and status.tracked else None
        return GitProvenance(look.remote(), status.branch, status.commit, dirty, diff)
    except CommandError:
        return None


@dataclass(frozen=True)
class _Status:
    branch: str | None
    commit: str | None
    dirty: bool
    tracked: tuple[str, ...]
    """Tracked files that are not as committed, relative to the top."""


class _Look:
    """git on one work tree, with everything that would run or write something switched off."""

    def __init__(self, folder: Path, shell: Shell) -> None:
        self._folder = folder
        self._shell = shell
        self._settings = dict(_QUIET)
        filters = self._local_filters()
        # A name with "=" cannot be overridden by -c. Nobody has one, but for mischief: then do not look.
        self._refused = any("=" in name or "\n" in name for name in filters)
        for name in filters:
            for key, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")):
                self._settings[f"filter.{name}.{key}"] = value

    def _git(self, *args: str) -> Result:
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        argv = [*options, *args]
        # GIT_CONFIG_* stays: those are the user's own settings, safe.directory among them.
        return run_git(self._shell, argv, env=_ENV, cwd=self._folder, timeout=_TIMEOUT, keep="GIT_CONFIG_")

    def _local_filters(self) -> set[str]:
        """The filters that the repository's own configuration speaks of (all, with git before 2.26)."""
        pattern = r"^filter\..*\.(clean|smudge|process)$"
        result = self._git("config", "--show-scope", "-z", "--get-regexp", pattern)
        if result.ok:
            parts = result.stdout.split("\0")
            pairs = zip(parts[0::2], parts[1::2], strict=False)
            keys = [pair.partition("\n")[0] for scope, pair in pairs if scope in ("local", "worktree")]
        else:
            keys = self._git("config", "--name-only", "-z", "--get-regexp", pattern).stdout.split("\0")
        return {key[len("filter.") :].rpartition(".")[0] for key in keys if key}

    def status(self) -> _Status | None:
        """None where git has nothing to say."""
        if self._refused:
            return None
        options = (
            "--untracked-files=normal",
            "--ignore-submodules=dirty",
            "--no-renames",
            "--no-ahead-behind",
        )
        result = self._git("status", "--porcelain=v2", "--branch", *options)
        if not result.ok:
            return None
        head: dict[str, str] = {}
        tracked: list[str] = []
        dirty = False
        for line in lines(result.stdout):
            if line.startswith("# "):
                key, _, value = line[2:].partition(" ")
                head[key] = value
                continue
            dirty = True
            if line[0] in "1u":  # eight fields and then the path; ten where a merge is unresolved
                tracked.append(unquote(line.split(" ", 8 if line[0] == "1" else 10)[-1]))
        branch, commit = head.get("branch.head"), head.get("branch.oid")
        return _Status(
            branch=None if branch == "(detached)" else branch,
            commit=None if commit == "(initial)" else commit,
            dirty=dirty,
            tracked=tuple(tracked),
        )

    def top(self) -> Path | None:
        # As "../..", not as a path: a path may hold bytes that do not come through as text.
        result = self._git("rev-parse", "--show-cdup")
        return Path(os.path.normpath(self._folder / result.stdout.strip())) if result.ok else None

    def remote(self) -> str | None:
        result = self._git("ls-remote", "--get-url")
        url = result.stdout.strip()
        # Without a remote, older gits give back the name of the one they looked for.
        return without_credentials(url) if result.ok and url and url != "origin" else None

    def diff(self, status: _Status, top: Path) -> str | None:
        big = [name for name in status.tracked if _size(top / name) > DIFF_LIMIT]
        rest = sum(_size(top / name) for name in status.tracked) - sum(_size(top / name) for name in big)
        if len(big) > _MAX_LEFT_OUT or rest > 20 * DIFF_LIMIT:
            return "# hpcrun: too much has changed for a diff\n"
        result = self._git(
            *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
            *("--ignore-submodules=dirty", "--submodule=short", "-O/dev/null", status.commit or _EMPTY_TREE),
            *("--", ":/", *(f":(top,exclude,literal){name}" for name in big)),
        )
        if not result.ok:
            return None
        notes = "".join(f"# hpcrun: {n!a} is left out, at {human_bytes(_size(top / n))}\n" for n in big)
        return _cut(result.stdout) + notes or None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _cut(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= DIFF_LIMIT:
        return text
    kept = raw[: raw.rfind(b"\n", 0, DIFF_LIMIT) + 1].decode("utf-8", "replace")
    return f"{kept}# hpcrun: cut here; the whole diff has {human_bytes(len(raw))}\n"


def _dirty_submodules(top: Path, shell: Shell) -> Iterator[bool]:
    """Whether each submodule is dirty. Asked one by one, as each has filters of its own to switch off."""
    modules = top / ".gitmodules"
    if not modules.is_file():
        return
    args = ("config", "--no-includes", "-z", "-f", str(modules), "--get-regexp", r"^submodule\..*\.path$")
    listed = run_git(shell, args, env=_ENV, cwd=top, timeout=_TIMEOUT, keep="GIT_CONFIG_")
    for entry in listed.stdout.split("\0"):
        path = entry.partition("\n")[2]
        folder = Path(os.path.normpath(top / path))
        if not path or top not in folder.parents or not (folder / ".git").exists():
            continue
        status = _Look(folder, shell).status()
        if status is not None:
            yield status.dirty
            yield from _dirty_submodules(folder, shell)


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def without_credentials(url: str) -> str:
    """A remote's address as it may be shown: no password, no token, no query.

    The user name stays only where it is part of the way there (``git@host``, for ssh).
    """
    if re.match(r"[A-Za-z0-9]+::", url):  # a helper's own language (ext::, fd::): anything can be in it
        return url.partition("::")[0] + "::"
    match = _URL.match(url)
    if match is None:
        user, at, rest = url.partition("@")  # user@host:path, or a path
        return f"{user.partition(':')[0]}@{rest}" if at and "/" not in user else url
    scheme, rest = match.groups()
    if scheme == "file":
        return url
    authority, tail = _split_authority(rest)
    if ":" in authority and "@" in tail:
        # Rather a wrong address than a shown password: that may have a slash in it.
        authority, tail = _split_authority(rest.rpartition("@")[2])
    user, at, host = authority.rpartition("@")
    keep = f"{user.partition(':')[0]}@" if at and scheme in ("ssh", "git+ssh", "ssh+git") else ""
    return f"{scheme}://{keep}{host}{re.split('[?#]', tail, maxsplit=1)[0]}"


def _split_authority(rest: str) -> tuple[str, str]:
    end = re.search(r"[/?#]", rest)
    return (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
