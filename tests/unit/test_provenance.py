"""Provenance: what git says of the source, with no secret in it and nothing run or written for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcrun import provenance
from hpcrun.errors import CommandError
from hpcrun.provenance import GitProvenance, git_provenance
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell
from tests.snapshot_help import contents, git, write


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit on main, and no remote."""
    folder = tmp_path / "a repo"
    write(folder, {"a.py": "one\n", "src/b.py": "b\n"})
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "1")
    return folder


def look(source: Path) -> GitProvenance:
    seen = git_provenance(source, LocalShell())
    assert seen is not None
    return seen


def commit_of(repo: Path) -> str:
    return git(repo, "rev-parse", "HEAD").strip()


def test_a_clean_repository(repo: Path) -> None:
    git(repo, "remote", "add", "origin", "https://me:secret@example.org/team/code.git")
    expected = GitProvenance("https://example.org/team/code.git", "main", commit_of(repo), False, None)
    assert look(repo) == expected
    assert look(repo / "src") == expected
    assert expected.properties() == {
        "git.repository_uri": "https://example.org/team/code.git",
        "git.branch": "main",
        "git.commit": commit_of(repo),
        "git.dirty": "false",
    }


def test_what_is_not_known_is_not_a_property() -> None:
    assert GitProvenance(None, None, None, True, None).properties() == {"git.dirty": "true"}


def test_no_remote(repo: Path) -> None:
    assert look(repo).repository_uri is None


def test_the_remote_of_the_branch(repo: Path) -> None:
    git(repo, "remote", "add", "origin", "git@example.org:one.git")
    git(repo, "remote", "add", "fork", "short:two.git")
    git(repo, "config", "branch.main.remote", "fork")
    git(repo, "config", "url.https://token@example.org/.insteadOf", "short:")
    assert look(repo).repository_uri == "https://example.org/two.git"


def test_a_detached_head(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    seen = look(repo)
    assert (seen.branch, seen.commit, seen.dirty) == (None, commit_of(repo), False)


def test_no_commit_yet(tmp_path: Path) -> None:
    repo = tmp_path / "new"
    write(repo, {"a": "staged\n"})
    git(repo, "init", "-q", "-b", "trunk")
    assert look(repo) == GitProvenance(None, "trunk", None, True, None)
    git(repo, "add", "a")
    seen = look(repo)
    assert (seen.branch, seen.commit) == ("trunk", None)
    assert seen.diff is not None
    assert "+staged" in seen.diff


def test_dirt_elsewhere_in_the_work_tree_counts(repo: Path) -> None:
    write(repo, {"a.py": "two\n"})
    git(repo, "config", "diff.relative", "true")
    seen = look(repo / "src")
    assert seen.dirty
    assert seen.diff is not None
    assert "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-one\n+two\n" in seen.diff


def test_untracked_files_count(repo: Path) -> None:
    write(repo, {"new.py": ""})
    git(repo, "config", "status.showUntrackedFiles", "no")
    seen = look(repo / "src")
    assert (seen.dirty, seen.diff) == (True, None)
    write(repo, {".git/info/exclude": "new.py\n"})
    assert not look(repo).dirty


def test_the_diff_can_be_applied(repo: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    shutil.copytree(repo, clean)
    (repo / "raw").write_bytes(bytes(range(256)) * 9)
    (repo / "é name\n").write_text("x\n")
    git(repo, "add", ".")
    git(repo, "mv", "src/b.py", "src/c.py")
    (repo / "a.py").chmod(0o755)
    for key, value in (
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("diff.renames", "copies"),
        ("diff.mnemonicPrefix", "true"),
    ):
        git(repo, "config", key, value)
    diff = look(repo).diff
    assert diff is not None
    assert "diff --git a/a.py b/a.py\n" in diff
    assert "rename from" not in diff
    assert LocalShell().run(["git", "apply"], timeout=60, stdin=diff, cwd=clean).check()
    shutil.rmtree(clean / ".git")
    shutil.rmtree(repo / ".git")
    assert contents(clean) == contents(repo)


def test_a_long_diff_is_cut(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DIFF_LIMIT", 2000)
    write(repo, {"a.py": "x" * 90 + "\n", "src/b.py": "é line\n" * 249})
    write(repo, {"src/b.py": "".join(f"é {n:5}\n" for n in range(190))})
    diff = look(repo).diff
    assert diff is not None
    body, note, end = diff.rpartition("# hpcrun: cut here; the whole diff has 2")
    assert (bool(note), end.endswith("KiB\n"), body[-1]) == (True, True, "\n")
    assert 1900 < len(body.encode()) <= 2000


TOO_MUCH = "# hpcrun: too much has changed for a diff\n"


def test_a_big_file_is_not_compared(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DIFF_LIMIT", 2000)
    name = "src/*bíg*\n"
    git(repo, "config", "core.quotePath", "false")
    write(repo, {name: "1\n", "src/big": "1\n"})
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "2")
    write(repo, {name: "2" * 3000, "src/big": "2\n"})
    moved = repo.rename(tmp_path / os.fsdecode(b"\xff"))
    diff = look(moved / "src").diff
    assert diff is not None
    assert "# hpcrun: 'src/*b\\xedg*\\n' is left out, at 2.9 KiB\n" in diff
    assert "222" not in diff
    assert "a/src/big\n" in diff
    monkeypatch.setattr(provenance, "_MAX_LEFT_OUT", 0)
    assert look(moved).diff == TOO_MUCH


def test_many_big_changes_are_not_compared(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DIFF_LIMIT", 2000)
    write(repo, {f"{n}": "x" * 1990 for n in range(21)})
    git(repo, "add", ".")
    assert look(repo).diff == TOO_MUCH


def test_new_times_alone_are_no_change(repo: Path) -> None:
    os.utime(repo / "a.py", (1, 1))
    assert look(repo) == GitProvenance(None, "main", commit_of(repo), False, None)
    os.utime(repo / "src/b.py", (1, 1))
    write(repo, {"m.py": "2\n"})
    git(repo, "add", "m.py")
    os.utime(repo / "a.py", (2, 2))
    diff = look(repo).diff
    assert diff is not None
    assert [line for line in diff.splitlines() if line.startswith("diff")] == ["diff --git a/m.py b/m.py"]


def test_a_worktree(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    write(repo, {"a.py": "dirty there, not here\n"})
    assert look(tmp_path / "side" / "src") == GitProvenance(None, "side", commit_of(repo), False, None)


def test_submodules(repo: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    write(outer, {"main.py": ""})
    git(outer, "init", "-q", "-b", "main")
    git(outer, "submodule", "--quiet", "add", str(repo), "vendor/module one")
    git(outer, "add", ".")
    git(outer, "commit", "-qm", "1")
    inner = outer / "vendor/module one"
    assert look(inner).repository_uri == str(repo)
    assert not look(outer).dirty
    write(inner, {"a.py": "edited\n"})
    assert (look(inner).dirty, look(outer).dirty, look(outer / "vendor").dirty) == (True, True, True)
    assert look(outer).diff is None
    git(inner, "commit", "-qam", "2")
    seen = look(outer)
    assert (look(inner).dirty, seen.dirty) == (False, True)
    assert seen.diff is not None
    assert f"+Subproject commit {commit_of(inner)}\n" in seen.diff


def test_submodules_of_submodules(repo: Path, tmp_path: Path) -> None:
    outer = [tmp_path / "outer", tmp_path / "outermost"]
    for folder, inner in zip(outer, [repo, outer[0]], strict=True):
        write(folder, {"main.py": ""})
        git(folder, "init", "-q")
        git(folder, "submodule", "--quiet", "add", str(inner), "inner")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "1")
    git(outer[1], "submodule", "--quiet", "update", "--init", "--recursive")
    assert not look(outer[1]).dirty
    write(outer[1], {"inner/inner/new.py": ""})
    assert look(outer[1]).dirty


def test_modules_that_lead_elsewhere_are_not_looked_at(repo: Path, tmp_path: Path) -> None:
    shutil.copytree(repo, tmp_path / "other")
    write(tmp_path, {"other/a.py": "dirty\n"})
    paths = ["../other", "/", "", ".", "nowhere"]
    entries = "".join(f'[submodule "{n}"]\npath = {p}\n' for n, p in enumerate(paths))
    write(repo, {".gitmodules": entries})
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "2")
    assert not look(repo).dirty


def arm(repo: Path, canary: Path) -> None:
    """Let every program that a repository's configuration can name leave a trace."""
    trap = f"touch '{canary}'; cat"
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        write(repo, {f".git/hooks/{hook}": f"#!/bin/sh\n{trap}\n"})
        (repo / f".git/hooks/{hook}").chmod(0o755)
    for key in (
        "core.fsmonitor", "diff.external", "diff.evil.command", "diff.evil.textconv", "filter.evil.clean",
        "filter.evil.smudge", "filter.evil.process", "core.pager", "pager.status", "pager.diff",
        "core.sshCommand", "filter.ev.il.clean",
    ):  # fmt: skip
        git(repo, "config", key, trap)
    git(repo, "config", "filter.evil.required", "true")
    write(repo, {".git/info/attributes": "* diff=evil filter=evil\nb.py filter=ev.il\n"})
    canary.unlink(missing_ok=True)


def test_nothing_is_run_and_nothing_is_written(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    git(repo, "remote", "add", "origin", "ssh://example.org/code.git")
    shutil.copytree(repo, tmp_path / "library")
    git(repo, "submodule", "--quiet", "add", str(tmp_path / "library"), "module")
    git(repo, "commit", "-qm", "2")
    os.utime(repo / "src/b.py", (1, 1))  # only its content can tell that it is unchanged
    os.utime(repo / "module/a.py", (1, 1))
    arm(repo, canary)
    git(repo / "module", "config", "filter.inner.clean", f"touch '{canary}'; cat")
    write(repo, {".git/modules/module/info/attributes": "* filter=inner\n"})
    canary.unlink(missing_ok=True)
    before = contents(repo)
    assert not look(repo).dirty
    assert contents(repo) == before
    write(repo, {"a.py": "two\n", "new.py": ""})
    before = contents(repo)
    seen = look(repo)
    assert (seen.dirty, "+two" in str(seen.diff)) == (True, True)
    assert contents(repo) == before
    assert not canary.exists()


def test_a_filter_that_cannot_be_switched_off(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    git(repo, "config", "--add", "filter.e.clean", "cat")
    write(repo, {".git/info/attributes": "* filter=e=vil\n"})
    config = (repo / ".git/config").read_text()
    write(repo, {".git/config": f'{config}[filter "e=vil"]\nclean = touch {canary}\n', "a.py": "two\n"})
    assert git_provenance(repo, LocalShell()) is None
    assert not canary.exists()


def test_a_partial_clone_fetches_nothing(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    blob = git(repo, "rev-parse", "HEAD:a.py").strip()
    (repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(repo),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": f"touch '{canary}'; git-upload-pack",
        "protocol.file.allow": "always",
    }.items():
        git(repo, "config", key, value)
    write(repo, {"a.py": "two\n"})
    seen = look(repo)
    assert (seen.dirty, seen.diff) == (True, None)
    assert not canary.exists()


def test_the_users_own_filters_do_count(repo: Path) -> None:
    git(repo, "config", "--global", "filter.upper.clean", "tr a-z A-Z")
    write(repo, {".gitattributes": "*.txt filter=upper\n", "f.txt": "abc\n"})
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "2")
    os.utime(repo / "f.txt", (1, 1))
    assert not look(repo).dirty


def test_what_surrounds_the_caller_does_not_count(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = look(repo)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert look(repo) == expected


def test_the_callers_safe_directories_do_count(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # elsewhere nobody can give files away; this is then an ordinary repository
        for path in (repo, repo / ".git"):
            os.chown(path, 65534, 65534)
        assert git_provenance(repo, LocalShell()) is None
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    assert look(repo).branch == "main"


def test_no_repository(tmp_path: Path, repo: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert git_provenance(tmp_path / "plain", LocalShell()) is None
    assert git_provenance(repo / ".git", LocalShell()) is None
    assert git_provenance(tmp_path / "nowhere", LocalShell()) is None
    write(repo, {".git/HEAD": "nonsense"})
    assert git_provenance(repo, LocalShell()) is None


def test_no_git(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_provenance(repo, LocalShell()) is None


def test_an_older_git_names_the_remote_that_is_not_there(repo: Path) -> None:
    class Older(LocalShell):
        def run(self, argv: Sequence[str], **rest: object) -> Result:
            if "ls-remote" in argv:
                return Result(tuple(argv), 0, "origin\n", "", 0.0)
            return super().run(argv, **rest)  # type: ignore[arg-type]

    seen = git_provenance(repo, Older())
    assert seen is not None
    assert seen.repository_uri is None


class Limping(LocalShell):
    """git of which some commands hang, fail or cannot be started."""

    def __init__(self, word: str, rc: int | None) -> None:
        self.word, self.rc = word, rc

    def run(self, argv: Sequence[str], **rest: object) -> Result:
        if self.word in argv:
            if self.rc == 127:
                raise CommandError("no such program")
            return Result(tuple(argv), self.rc, "", "", 60.0)
        return super().run(argv, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("rc", [None, 1, 127])
@pytest.mark.parametrize("word", ["config", "status", "rev-parse", "ls-remote", "diff", "--show-scope"])
def test_a_git_that_limps_is_never_an_exception(repo: Path, word: str, rc: int | None) -> None:
    git(repo, "config", "filter.evil.clean", "cat")
    write(repo, {"a.py": "two\n"})
    seen = git_provenance(repo, Limping(word, rc))
    if seen is None:
        assert word == "status" or rc == 127
    else:
        assert (seen.dirty, seen.commit) == (True, commit_of(repo))


def test_a_filter_is_found_without_show_scope_too(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    arm(repo, canary)
    os.utime(repo / "a.py", (1, 1))
    assert git_provenance(repo, Limping("--show-scope", 129)) is not None
    assert not canary.exists()
