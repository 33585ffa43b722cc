"""Atomic files, locks that die with their holder, and the layout of the folders."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from hpcrun.errors import HistoryError
from hpcrun.history.files import locked, make_folder, touch, write_atomically
from hpcrun.history.paths import RunPaths, WorkspacePaths

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    os.umask(0)
    make_folder(tmp_path / "folder")
    touch(tmp_path / "empty")
    write_atomically(tmp_path / "file", b"x")
    (tmp_path / ".wide.tmp").touch(0o666)
    write_atomically(tmp_path / "wide", b"x")
    with locked(tmp_path / "lock"):
        pass
    assert mode(tmp_path / "folder") == 0o700
    assert {mode(tmp_path / name) for name in ("empty", "file", "wide", "lock")} == {0o600}


@pytest.mark.parametrize("call", ["fsync", "fdopen", "open"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_atomically(tmp_path / "file", b"old")

    def fail(*args: object) -> None:
        raise FULL

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(HistoryError, match=r"cannot write .*file: No space left"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_and_its_folder_reach_the_disk_before_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_atomically(tmp_path / "file", b"new")
    assert done == [".file.tmp", "rename", tmp_path.name]


def test_a_folder_that_cannot_be_synced_is_no_error_where_that_is_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    number = errno.EINVAL

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    write_atomically(tmp_path / "file", b"new")
    number = errno.EIO
    with pytest.raises(HistoryError, match="Input/output error"):
        write_atomically(tmp_path / "file", b"newer")


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / ".file.tmp").symlink_to("target")
    (tmp_path / "lock").symlink_to("target")
    write_atomically(tmp_path / "file", b"new")
    with pytest.raises(HistoryError, match="cannot open the lock"), locked(tmp_path / "lock"):
        pass
    with pytest.raises(HistoryError, match="cannot make"):
        touch(tmp_path / "lock")
    assert (tmp_path / "target").read_text() == "mine" and (tmp_path / "file").read_text() == "new"


def test_a_folder_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(HistoryError, match="not a folder"):
        make_folder(tmp_path / "x")
    with pytest.raises(HistoryError, match="cannot make the folder"):
        make_folder(tmp_path / "x" / "y")
    make_folder(tmp_path)  # there already


def test_a_lock_is_not_had_twice(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(HistoryError, match="held by another process") as caught,
        locked(tmp_path / "lock", seconds=0.02),
    ):
        pass
    assert "fuser" in str(caught.value.hint)
    with locked(tmp_path / "lock", seconds=0):
        pass


def test_a_file_system_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(HistoryError, match="cannot lock"), locked(tmp_path / "lock"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()

    def hold() -> None:
        with locked(tmp_path / "lock"):
            theirs.send("held")
            signal.pause()

    process = context.Process(target=hold)
    process.start()
    assert mine.recv() == "held"
    with pytest.raises(HistoryError), locked(tmp_path / "lock", seconds=0):
        pass
    process.kill()
    process.join()
    with locked(tmp_path / "lock", seconds=0):
        pass
    mine.close()
    theirs.close()


def test_the_layout_of_a_run_folder() -> None:
    run = WorkspacePaths(Path("/w/.hpcrun")).run("a_1")
    assert run == RunPaths(Path("/w/.hpcrun/runs/a_1"))
    names = (
        ("record", "run.json"), ("config", "config.yaml"), ("script", "job.sh"), ("status", "status.json"),
        ("claim", "claim"), ("lock", "run.lock"), ("submit_lock", "submit.lock"), ("code", "code"),
        ("outputs", "code/outputs"), ("logs", "code/logs"), ("user_logs", "user_logs"),
        ("system_logs", "system_logs"), ("metrics", "metrics"), ("diff", "git.diff"),
    )  # fmt: skip
    for attribute, name in names:
        assert getattr(run, attribute) == run.folder / name


def test_the_layout_of_a_workspace() -> None:
    workspace = WorkspacePaths(Path("/w/.hpcrun"))
    names = (
        ("database", "history.db"), ("snapshots", "snapshots.git"), ("runs", "runs"),
        ("ignore", ".gitignore"),        ("templates", "templates"), ("site_configs", "site_configs"),
    )  # fmt: skip
    for attribute, name in names:
        assert getattr(workspace, attribute) == workspace.folder / name
