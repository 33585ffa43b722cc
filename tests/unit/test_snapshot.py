"""Snapshots: everything comes back as it was, and every change makes another."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.errors import SnapshotError
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import Snapshot, SnapshotStore
from tests.snapshot_help import Contents, checked_out, contents, git, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my project's\ncode"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "ws" / ".hpcrun" / "snapshots.git", LocalShell())


# What comes back


def test_all_comes_back_as_it_was(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    write(source, {"a.py": "x = 1\n", "dos.txt": "one\r\ntwo\r\n", "empty": "", "sub/deep/b": "b"})
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "raw").write_bytes(bytes(range(256)))
    (source / "to_file").symlink_to("a.py")
    (source / "to_folder").symlink_to("sub")
    (source / "broken").symlink_to("/nowhere/at all")
    (source / "loop").symlink_to("loop")
    snapshot = store.take(source)
    assert checked_out(store, snapshot.id, tmp_path) == contents(source)
    assert snapshot.files == len(contents(source)) == 10
    assert snapshot.size == sum(
        os.lstat(os.fsencode(source) + b"/" + name).st_size for name in contents(source)
    )
    assert snapshot.notes == ()


def test_attributes_in_the_source_change_nothing(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    write(
        source,
        {
            ".gitattributes": "* text eol=crlf ident filter=lfs working-tree-encoding=UTF-16 export-ignore\n",
            "unix": "$Id$\nline\n",
            "dos": "$Id: 1 $\r\nline\r\n",
            "sub/.gitattributes": "* export-subst -diff\n",
            "sub/f": "$Format:%H$\n",
        },
    )
    snapshot = store.take(source)
    assert checked_out(store, snapshot.id, tmp_path) == contents(source)


NAMES = [
    " ", "two words", "-n", "--help", "a'b\"c", "new\nline", "tab\tcr\r", "back\\slash", "*?[a]", "!bang",
    "#hash", ":(glob)**", ":!x", ":/", "é", "\u2028", "~", "$HOME", "git~1", ".gitmodules", "a:b", "x" * 255,
    os.fsdecode(b"\xff\xfe"), "trailing ", ".lock", "index.lock", "@{0}", "\a\b\v\f\x01\x7f",
]  # fmt: skip


def test_hostile_names(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    for name in NAMES:
        write(
            source, {name: name if name.isprintable() else "text", f"in {len(name)}{name[:200]}/{name}": "2"}
        )
    snapshot = store.take(source)
    assert checked_out(store, snapshot.id, tmp_path) == contents(source)
    assert store.file_names(snapshot.id) == sorted(os.fsdecode(name) for name in contents(source))
    assert snapshot.files == 2 * len(NAMES)
    for name in NAMES[::2]:
        (source / name).unlink()
    for name in NAMES[1::2]:
        (source / name).write_text("changed")
    assert checked_out(store, store.take(source).id, tmp_path) == contents(source)


part = st.binary(min_size=1, max_size=12).filter(
    lambda name: (
        b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..", b"outputs", b"logs", b".venv", b".hpcrun", b".gitignore", b".amlignore")
        and name.lower() != b".git"
    )
)
thing = st.one_of(
    st.tuples(st.sampled_from(["file", "program"]), st.binary(max_size=200)),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=50).filter(lambda target: b"\0" not in target)),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.lists(part, min_size=1, max_size=3).map(b"/".join), thing, max_size=6), st.booleans()
)
def test_any_tree_comes_back(files: Contents, again: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        source = Path(base) / "source"
        source.mkdir()
        for name, (kind, content) in files.items():
            path = source / os.fsdecode(name)
            if path.is_symlink() or path.exists() or any(p.is_symlink() or p.is_file() for p in path.parents):
                continue  # one name is a folder of the other
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(os.fsdecode(content))
            else:
                path.write_bytes(content)
                path.chmod(0o755 if kind == "program" else 0o644)
        store = SnapshotStore(Path(base) / "store", LocalShell())
        tree = store.take(source).id
        assert checked_out(store, tree, Path(base)) == contents(source)
        if again:
            assert store.take(source).id == tree


def test_an_empty_source(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    (source / "empty folder").mkdir()
    snapshot = store.take(source)
    assert (snapshot.files, snapshot.size) == (0, 0)
    assert checked_out(store, snapshot.id, tmp_path) == {}


# What makes another snapshot


def test_the_same_content_is_the_same_snapshot(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    write(source, {"a": "1", "sub/b": "2"})
    other = tmp_path / "elsewhere"
    shutil.copytree(source, other)
    first = store.take(source)
    (source / "a").touch()
    assert store.take(source) == first
    assert store.take(other) == first


def to_a_link(source: Path, name: str, target: str) -> None:
    (source / name).unlink()
    (source / name).symlink_to(target)


def to_a_link_to_itself(source: Path) -> None:
    (source / "dir").rename(source / "real")
    (source / "dir").symlink_to("real")


def remove(source: Path, *names: str) -> None:
    for name in names:
        if (source / name).is_dir():
            shutil.rmtree(source / name)
        else:
            (source / name).unlink()


def replace(source: Path, old: str, files: dict[str, str]) -> None:
    remove(source, old)
    write(source, files)


def move_behind_an_ignored_link(source: Path) -> None:
    write(source, {".gitignore": "/dir\n"})
    to_a_link_to_itself(source)


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda s: write(s, {"a": "2"}),
    "added": lambda s: write(s, {"new": ""}),
    "added deep": lambda s: write(s, {"dir/x/y/z": ""}),
    "deleted": lambda s: remove(s, "a"),
    "folder deleted": lambda s: remove(s, "dir"),
    "all deleted": lambda s: remove(s, "dir", "a", "link"),
    "renamed": lambda s: (s / "a").rename(s / "c"),
    "folder renamed": lambda s: (s / "dir").rename(s / "dir2"),
    "made a program": lambda s: (s / "a").chmod(0o755),
    "file to folder": lambda s: replace(s, "a", {"a/a": "1"}),
    "folder to file": lambda s: replace(s, "dir", {"dir": "1"}),
    "file to link": lambda s: to_a_link(s, "a", "dir/b"),
    "link to file": lambda s: replace(s, "link", {"link": "a"}),
    "link elsewhere": lambda s: to_a_link(s, "link", "b"),
    "folder to a link to it": to_a_link_to_itself,
    "folder to an ignored link to it": move_behind_an_ignored_link,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_seen(
    store: SnapshotStore, source: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    write(source, {"a": "1", "dir/b": "2", "dir/sub/c": "3"})
    (source / "link").symlink_to("a")
    first = store.take(source)
    before = contents(source)
    change(source)
    second = store.take(source)
    expected = contents(source)
    if (source / ".gitignore").exists():
        del expected[b"dir"]
    assert second.id != first.id
    assert checked_out(store, second.id, tmp_path) == expected
    assert (second.files, store.take(source)) == (len(expected), second)
    assert checked_out(store, first.id, tmp_path) == before  # what was taken stays as it was


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(store: SnapshotStore, source: Path) -> None:
    seen = set()
    for text in "abcdef":
        write(source, {"f": text, "g": "g"})
        seen.add(store.take(source).id)
    assert len(seen) == 6


# The rest of the store


def test_contains(store: SnapshotStore, source: Path) -> None:
    assert not store.contains("0" * 40)
    write(source, {"a": "1"})
    tree = store.take(source).id
    blob = git(source, "hash-object", "a").strip()
    assert store.contains(tree)
    assert not any(store.contains(other) for other in ("0" * 40, blob, tree[:10], "", "HEAD", "--help"))


def test_an_unknown_snapshot(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    tree = store.take(source).id
    for bad, said in (("0" * 40, "there is no snapshot"), ("--help", "not the id of a snapshot")):
        uses: list[Callable[[], object]] = [
            lambda bad=bad: store.check_out(bad, tmp_path / "out"),  # type: ignore[misc]
            lambda bad=bad: store.diff(bad, tree),  # type: ignore[misc]
            lambda bad=bad: store.diff(tree, bad),  # type: ignore[misc]
            lambda bad=bad: store.file_names(bad),  # type: ignore[misc]
        ]
        for use in uses:
            with pytest.raises(SnapshotError, match=said):
                use()
    assert not (tmp_path / "out").exists()


def test_check_out_overwrites_nothing(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    write(source, {"a": "1"})
    tree = store.take(source).id
    write(tmp_path, {"full/b": ""})
    with pytest.raises(SnapshotError, match="is not empty"):
        store.check_out(tree, tmp_path / "full")
    write(tmp_path, {"file": ""})
    with pytest.raises(SnapshotError, match="cannot make the folder"):
        store.check_out(tree, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    store.check_out(tree, tmp_path / "empty")
    assert contents(tmp_path / "empty") == {b"a": ("file", b"1")}


def test_diff(store: SnapshotStore, source: Path) -> None:
    write(
        source, {"a.py": "one\ntwo\n", ".gitattributes": "*.py -diff\n", "run": "x\n", "old": "1\n2\n3\n4\n"}
    )
    first = store.take(source).id
    write(source, {"a.py": "one\n2\n"})
    (source / "run").chmod(0o755)
    (source / "old").rename(source / "new")
    text = store.diff(first, store.take(source).id)
    assert "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n" in text
    assert "old mode 100644\nnew mode 100755\n" in text
    assert "rename from old\nrename to new\n" in text
    assert store.diff(first, first) == ""


def test_a_snapshot_is_a_value() -> None:
    assert Snapshot("a", 1, 2, ()) == Snapshot("a", 1, 2, ())
    assert json.dumps(Snapshot("a", 1, 2, ("n",)).notes) == '["n"]'
