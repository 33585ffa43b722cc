"""What a snapshot leaves out, and what it does not let in: ignore rules, repositories, settings."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from tests.snapshot_help import checked_out, contents, git, names, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my project's\ncode"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "ws" / ".hpcrun" / "snapshots.git", LocalShell())


# What is left out


def test_gitignore_as_git_has_it(store: SnapshotStore, source: Path) -> None:
    write(
        source,
        {".gitignore": "*.log\n/data/\n!keep.log\nsub/gone\n", "a.log": "", "keep.log": "", "data/x": ""},
    )
    write(
        source, {"sub/.gitignore": "local\n", "sub/local": "", "sub/gone": "", "sub/data/x": "", "local": ""}
    )
    assert names(store, source) == [
        ".gitignore", "keep.log", "local", "sub/.gitignore", "sub/data/x",
    ]  # fmt: skip


@pytest.mark.parametrize("ignore_file", [".amlignore", ".hpcrunignore"])
def test_an_ignore_file_of_ours_counts_alone(store: SnapshotStore, source: Path, ignore_file: str) -> None:
    write(source, {".gitignore": "a\n", "sub/.gitignore": "b\n", "a": "", "sub/b": "", "c": "", "sub/c": ""})
    write(source, {ignore_file: "/c\nd/*\n!d/keep\n", "d/x": "", "d/keep": ""})
    assert names(store, source) == sorted(
        [".gitignore", ignore_file, "a", "d/keep", "sub/.gitignore", "sub/b", "sub/c"]
    )


def test_hpcrunignore_comes_before_amlignore(store: SnapshotStore, source: Path) -> None:
    write(
        source,
        {
            ".hpcrunignore": "a\n",
            ".amlignore": "b\n",
            "a": "",
            "b": "",
            "sub/.hpcrunignore": "b\n",
            "sub/b": "",
        },
    )
    assert names(store, source) == [".amlignore", ".hpcrunignore", "b", "sub/.hpcrunignore", "sub/b"]


def test_new_rules_apply_to_what_was_stored_before(store: SnapshotStore, source: Path) -> None:
    write(source, {"a": "1", "b/c": "2"})
    first = store.take(source)
    write(source, {".hpcrunignore": "b\n.hpcrunignore\n"})
    second = store.take(source)
    assert (store.file_names(second.id), second.files, second.size) == (["a"], 1, 1)
    (source / ".hpcrunignore").unlink()
    assert store.take(source) == first


def test_new_rules_that_are_themselves_ignored_apply_too(store: SnapshotStore, source: Path) -> None:
    write(source, {"a": "1", "b": "2", "c/d": "3"})
    store.take(source)
    write(source, {"c/.gitignore": "*\n"})
    assert names(store, source) == ["a", "b"]


@pytest.mark.parametrize(
    "rules", [{}, {".hpcrunignore": "!*\n"}, {".gitignore": "!outputs\n!/logs/\n!.venv\n"}]
)
def test_what_is_always_left_out(store: SnapshotStore, source: Path, rules: dict[str, str]) -> None:
    out = ["__pycache__/m.pyc", ".venv/bin/python", ".ipynb_checkpoints/n", ".hpcrun/history.db"]
    write(source, {**rules, **dict.fromkeys(out, ""), **{f"sub/{name}": "" for name in out}})
    write(
        source, {"outputs/model": "", "logs/log": "", "sub/outputs/x": "", "sub/logs/y": "", "outputs.py": ""}
    )
    snapshot = store.take(source)
    expected = sorted([*rules, "outputs.py", "sub/logs/y", "sub/outputs/x"])
    assert store.file_names(snapshot.id) == expected
    notes = tuple(f"{name}/ at the top of the source is left out" for name in ("outputs", "logs"))
    assert (snapshot.notes, store.take(source).notes) == (notes, notes)


def test_outputs_that_is_a_link_is_left_out(store: SnapshotStore, source: Path) -> None:
    (source / "outputs").symlink_to("/scratch/big")
    assert (store.take(source).files, len(store.take(source).notes)) == (0, 1)


def test_the_workspace_is_left_out_wherever_it_is(source: Path) -> None:
    write(source, {"w/[s] #1/run/run.json": "", "w/other": "", "w/s #1": ""})
    store = SnapshotStore(source / "w" / "[s] #1" / "snapshots.git", LocalShell())
    assert names(store, source) == ["w/other", "w/s #1"]
    assert names(store, source) == ["w/other", "w/s #1"]


def test_a_store_at_the_top_of_the_source_leaves_only_itself_out(source: Path) -> None:
    write(source, {"a": ""})
    store = SnapshotStore(source / "snapshots", LocalShell())
    assert names(store, source) == ["a"]
    assert names(store, source) == ["a"]


def test_pipes_and_sockets_are_left_out_with_a_note(
    store: SnapshotStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, {"a": "", "sub/b": "", "sub/was a file": ""})
    assert store.take(source).notes == ()
    (source / "sub/was a file").unlink()
    os.mkfifo(source / "sub/was a file")
    monkeypatch.chdir(source)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
    snapshot = store.take(source)
    notes = tuple(f"{n} is left out: it is a pipe, a socket or a device" for n in ("sock", "sub/was a file"))
    assert (store.file_names(snapshot.id), snapshot.notes) == (["a", "sub/b"], notes)
    assert store.take(source) == snapshot
    for number in range(20):
        os.mkfifo(source / f"pipe{number}")
    snapshot = store.take(source)
    assert len(snapshot.notes) == 11
    assert snapshot.notes[-1].startswith("12 more pipes")


# Repositories


def test_nested_repositories_and_submodules(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, {"lib.py": "", "build/x": "", "odd\nname": ""})
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "commit", "-qm", "1")
    write(source, {"main.py": "", ".gitignore": "/vendor/module/build/\nignored repo\n"})
    git(source, "init", "-q")
    git(source, "submodule", "--quiet", "add", str(library), "vendor/module")
    shutil.copytree(library, source / "copy")
    shutil.copytree(library, source / "copy" / "inner\tcopy")  # a repository in a repository
    shutil.copytree(library, source / "ignored repo")
    write(source, {"no commit yet/f": ""})
    git(source / "no commit yet", "init", "-q")
    (source / "nothing in it").mkdir()
    git(source / "nothing in it", "init", "-q")
    expected = [
        ".gitignore", ".gitmodules", "copy/build/x", "copy/inner\tcopy/build/x", "copy/inner\tcopy/lib.py",
        "copy/inner\tcopy/odd\nname", "copy/lib.py", "copy/odd\nname", "main.py", "no commit yet/f",
        "vendor/module/lib.py", "vendor/module/odd\nname",
    ]  # fmt: skip
    snapshot = store.take(source)
    assert store.file_names(snapshot.id) == expected
    assert snapshot.files == len(expected)
    assert store.take(source) == snapshot
    write(source, {"vendor/module/new.py": "", "copy/inner\tcopy/lib.py": "edited"})
    (source / "copy/lib.py").unlink()
    expected.remove("copy/lib.py")
    second = store.take(source)
    assert store.file_names(second.id) == sorted([*expected, "vendor/module/new.py"])
    assert "+edited" in store.diff(snapshot.id, second.id)


def test_the_users_repository_is_neither_used_nor_touched(
    store: SnapshotStore, source: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    write(source, {"tracked.log": "", "f": "1", "staged": "", ".gitattributes": "f filter=evil diff=evil\n"})
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "1")
    write(source, {".gitignore": "*.log\n", "f": "2"})
    git(source, "rm", "-q", "--cached", "staged")
    for hook in (source / ".git" / "hooks").iterdir():
        hook.unlink()
    for name in ("post-index-change", "pre-commit", "reference-transaction"):
        write(source, {f".git/hooks/{name}": f"#!/bin/sh\ntouch '{canary}'\n"})
        (source / f".git/hooks/{name}").chmod(0o755)
    for key in ("filter.evil.clean", "filter.evil.smudge", "core.fsmonitor", "diff.evil.textconv"):
        git(source, "config", key, f"touch '{canary}'; cat")
    before = contents(source / ".git")
    canary.unlink(missing_ok=True)
    snapshot = store.take(source)
    assert store.file_names(snapshot.id) == [".gitattributes", ".gitignore", "f", "staged"]
    store.diff(snapshot.id, store.take(source).id)
    assert contents(source / ".git") == before
    assert not canary.exists()


def test_a_broken_dot_git_does_not_matter(store: SnapshotStore, source: Path) -> None:
    write(
        source,
        {".git": "gitdir: /nowhere\n", "sub/.git": "gitdir: /nowhere\n", "sub/a": "", "b/.git/config": "]"},
    )
    write(source, {"b/c": ""})
    assert names(store, source) == ["b/c", "sub/a"]


def test_the_callers_git_settings_do_not_count(
    store: SnapshotStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, {"a": "x\r\n", "b": "", ".git_is_not_here": ""})
    plain = store.take(source).id
    home = tmp_path / "home"
    write(
        home,
        {
            "ignore": "a\n",
            "attributes": "* text ident\n",
            ".config/git/ignore": "b\n",
            "xdg/git/ignore": "b\n",
        },
    )
    bad = f"[core]\nexcludesFile={home}/ignore\nattributesFile={home}/attributes\nautocrlf=input\n"
    write(home, {".gitconfig": bad, "global": bad})
    for name, value in {
        "GIT_DIR": str(home), "GIT_INDEX_FILE": str(home / "i"), "GIT_WORK_TREE": str(home),
        "GIT_OBJECT_DIRECTORY": str(home / "o"), "GIT_COMMON_DIR": str(home), "GIT_NAMESPACE": "n",
        "GIT_CONFIG_GLOBAL": str(home / "global"), "GIT_CONFIG_SYSTEM": str(home / "global"),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.autocrlf", "GIT_CONFIG_VALUE_0": "input",
        "GIT_CONFIG_PARAMETERS": "'core.autocrlf'='input'", "GIT_GLOB_PATHSPECS": "1",
        "XDG_CONFIG_HOME": str(home / "xdg"), "GIT_EXTERNAL_DIFF": "false", "GIT_TRACE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = contents(home)
    write(source, {"a": "x\r\n"})
    other = SnapshotStore(tmp_path / "other", LocalShell())
    assert other.take(source).id == store.take(source).id == plain
    assert checked_out(other, plain, tmp_path) == contents(source)
    write(source, {"a": "y\r\n"})
    changed = store.take(source).id
    assert "+y" in store.diff(plain, changed)
    assert contents(home) == before


def test_a_source_of_somebody_else(store: SnapshotStore, source: Path) -> None:
    write(source, {"a": ""})
    git(source, "init", "-q")
    if os.geteuid() == 0:  # elsewhere nobody can give files away; the take is then an ordinary one
        for path in (source, source / "a", source / ".git"):
            os.chown(path, 65534, 65534)
    assert names(store, source) == ["a"]
