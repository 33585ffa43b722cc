"""Snapshots when something is wrong, moves, or happens twice: an error or the truth, never a half."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcrun import snapshot_git, snapshot_scan
from hpcrun.errors import SnapshotError
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import MB, SnapshotStore
from hpcrun.snapshot_scan import scan
from tests.snapshot_help import WatchedShell, checked_out, contents, names, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my project's\ncode"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "ws" / ".hpcrun" / "snapshots.git", LocalShell())


# What goes wrong


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whom file modes bind; root is bound by none."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    if os.geteuid() != 0:
        yield folder
    else:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("unreadable", ["sub/secret", "sub"])
@pytest.mark.parametrize("known", [False, True])
def test_what_cannot_be_read_is_an_error(unprivileged: Path, unreadable: str, known: bool) -> None:
    source = unprivileged / "source"
    store = SnapshotStore(unprivileged / "store", LocalShell())
    write(source, {"a": "1", "sub/secret": "2"})
    if known:
        store.take(source)
        (source / "sub/secret").write_text("3")
    (source / unreadable).chmod(0)
    with pytest.raises(SnapshotError, match=unreadable) as caught:
        store.take(source)
    assert "cannot be read" in caught.value.message
    assert ".hpcrunignore" in str(caught.value.hint)
    write(source, {".hpcrunignore": unreadable})
    assert names(store, source) == [".hpcrunignore", "a"]


def test_an_ignore_file_that_cannot_be_read_is_an_error(unprivileged: Path) -> None:
    source = unprivileged / "source"
    for name in (".gitignore", ".hpcrunignore"):
        write(source, {"a": "1", name: "x"})
        (source / name).chmod(0)
        with pytest.raises(SnapshotError, match=name):
            SnapshotStore(unprivileged / "store", LocalShell()).take(source)


def objects(store_folder: Path) -> int:
    return sum(1 for path in (store_folder / "objects").rglob("*") if path.is_file())


def test_too_big(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    for number in range(12):
        write(source, {f"data/part {number:02}": "x" * (1024 * (number + 1))})
    write(source, {"data/\n": "x" * 50_000})
    with pytest.raises(SnapshotError) as caught:
        store.take(source, max_bytes=50 * 1024)
    said = caught.value.message.splitlines()
    assert "would be 126.8 KiB in 13 files; the limit is 50.0 KiB" in caught.value.message
    assert said[-10].split(maxsplit=2) == ["48.8", "KiB", "'data/\\n'"]
    assert said[-9].split(maxsplit=2) == ["12.0", "KiB", "data/part 11"]
    assert said[-1].split(maxsplit=2) == ["4.0", "KiB", "data/part 03"]
    assert str(source / ".hpcrunignore") in str(caught.value.hint)
    assert objects(tmp_path / "ws/.hpcrun/snapshots.git") == 0
    write(source, {".gitignore": "data\n"})
    assert store.take(source, max_bytes=50 * 1024).files == 1


def test_too_many(store: SnapshotStore, source: Path) -> None:
    write(source, {f"images/{number}": "xx" for number in range(30)})
    write(source, {"a": "", ".gitignore": "b"})
    with pytest.raises(SnapshotError) as caught:
        store.take(source, max_files=31)
    assert "in 32 files; the limit is 31 files" in caught.value.message
    assert caught.value.message.splitlines()[-2].split(maxsplit=4) == ["30", "files,", "60", "B", "images/"]
    assert str(source / ".gitignore") in str(caught.value.hint)
    assert store.take(source, max_files=32).files == 32


def test_the_limits_hold_for_an_unchanged_source_too(store: SnapshotStore, source: Path) -> None:
    write(source, {"a": "12345", "b": ""})
    store.take(source)
    with pytest.raises(SnapshotError, match="the limit is 4 B"):
        store.take(source, max_bytes=4)
    with pytest.raises(SnapshotError, match="the limit is 1 files"):
        store.take(source, max_files=1)


def test_the_default_limits() -> None:
    defaults = SnapshotStore.take.__kwdefaults__
    assert defaults == {"max_bytes": 300 * MB, "max_files": 20_000}


def test_no_such_source(store: SnapshotStore, source: Path) -> None:
    with pytest.raises(SnapshotError, match="does not exist"):
        store.take(source / "nowhere")
    write(source, {"file": ""})
    with pytest.raises(SnapshotError, match="is not a directory"):
        store.take(source / "file")


@pytest.mark.parametrize("surroundings", [{}, {"GIT_TRACE": "0"}])
def test_no_git(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str]
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "env").symlink_to(str(shutil.which("env")))
    monkeypatch.setenv("PATH", str(tools))
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SnapshotError, match="there is no program 'git'") as caught:
        SnapshotStore(tmp_path / "store", LocalShell()).take(source)
    assert "Install git" in str(caught.value.hint)


def test_a_git_that_hangs(source: Path, tmp_path: Path) -> None:
    class Hanging(LocalShell):
        def run(self, argv: Sequence[str], **rest: object) -> Result:
            return Result(tuple(argv), None, "", "", 1800.0)

    with pytest.raises(SnapshotError, match="did not end within 1800 s"):
        SnapshotStore(tmp_path / "store", Hanging()).take(source)


def test_a_store_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    write(tmp_path, {"file": ""})
    with pytest.raises(SnapshotError, match="cannot make the snapshot store"):
        SnapshotStore(tmp_path / "file" / "store", LocalShell()).take(source)


def test_a_name_that_git_cannot_store_is_an_error(store: SnapshotStore, source: Path) -> None:
    write(source, {"a": "", "sub/.GIT/x": ""})
    with pytest.raises(SnapshotError, match=r"cannot store a file of this name: sub/\.GIT/x"):
        store.take(source)


# A source that moves


class Meddler:
    """Changes a file each time git has read it, ``times`` times, without a trace in size or mtime."""

    def __init__(self, path: Path, store: Path, times: int) -> None:
        self.path, self.store, self.times, self.count = path, store, times, 0

    def __call__(self, argv: Sequence[str]) -> None:
        if "--add" in argv and self.count < self.times:
            self.count += 1
            times = self.path.stat()
            with self.path.open("r+") as file:
                file.write(f"{self.count:04}")
            os.utime(self.path, ns=(times.st_atime_ns, times.st_mtime_ns))
            for index in self.store.glob("indexes/*.index"):
                # As if git had needed five seconds more: it then takes the file for long unchanged.
                os.utime(index, (index.stat().st_atime + 5, index.stat().st_mtime + 5))


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    source: Path, tmp_path: Path, known: bool
) -> None:
    write(source, {"f\n1": "0000", "g": "g"})
    folder = tmp_path / "store"
    if known:
        SnapshotStore(folder, LocalShell()).take(source)
        write(source, {"f\n1": "-000"})
    meddler = Meddler(source / "f\n1", folder, times=3)
    store = SnapshotStore(folder, WatchedShell(meddler))
    snapshot = store.take(source)
    assert meddler.count == 3
    assert checked_out(store, snapshot.id, tmp_path)[b"f\n1"] == ("file", b"0003")
    assert store.take(source) == snapshot


@pytest.mark.slow
def test_a_file_that_never_rests_is_an_error_that_names_it(source: Path, tmp_path: Path) -> None:
    write(source, {"train.log": "0000", "g": "g"})
    folder = tmp_path / "store"
    store = SnapshotStore(folder, WatchedShell(Meddler(source / "train.log", folder, times=99)))
    with pytest.raises(SnapshotError, match=r"(?s)^train\.log in .* is being written to") as caught:
        store.take(source)
    assert ".hpcrunignore" in str(caught.value.hint)
    assert names(SnapshotStore(tmp_path / "store", LocalShell()), source) == ["g", "train.log"]


def test_a_file_too_young_to_tell_is_looked_at_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(source, {"f": "1", "g": "2"})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        write(source, {"f": "12"})

    monkeypatch.setattr(time, "sleep", sleep)
    now = (source / "f").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: now + 50_000_000)
    assert scan(source, ["f", "g"], {"f"}).size == 2
    monkeypatch.setattr(time, "time_ns", lambda: now + 5_000_000)
    assert scan(source, ["f", "g"], set()).size == 2
    assert not slept
    assert scan(source, ["f", "g"], {"f"}).size == 3
    assert slept == [0.02]


def test_a_file_that_vanishes_between_looking_and_reading(source: Path, tmp_path: Path) -> None:
    write(source, {"f": "1", "sub/tmp": "2", "g": "3"})

    def vanish(argv: Sequence[str]) -> None:
        if "ls-files" in argv:
            shutil.rmtree(source / "sub", ignore_errors=True)

    store = SnapshotStore(tmp_path / "store", WatchedShell(vanish))
    snapshot = store.take(source)
    assert (store.file_names(snapshot.id), snapshot.files, snapshot.size) == (["f", "g"], 2, 2)


@pytest.mark.slow
def test_a_file_is_never_half_stored(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    whole = [letter * 200_000 for letter in (b"a", b"b")]
    (source / "f").write_bytes(whole[0])
    stop = threading.Event()

    def mutate() -> None:
        with (source / "f").open("r+b", buffering=0) as file:
            while not stop.is_set():
                for content in whole:
                    os.pwrite(file.fileno(), content, 0)

    thread = threading.Thread(target=mutate)
    thread.start()
    try:
        stored = checked_out(store, store.take(source).id, tmp_path)[b"f"][1]
        assert stored in whole  # it may happen to find the file at rest
    except SnapshotError as error:
        assert re.match(r"(?s)f in .* is being written to", error.message)
    finally:
        stop.set()
        thread.join()
    assert checked_out(store, store.take(source).id, tmp_path) == contents(source)


def test_a_writer_put_off_in_its_middle_is_noticed(
    store: SnapshotStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It noted the time before it was put off, and goes on just after the file was read."""
    (source / "f").write_bytes(b"half")
    took = snapshot_scan.touched

    def touched(*args: Any) -> list[str]:
        with monkeypatch.context() as moment:
            moment.setattr("hpcrun.snapshot_scan.time.sleep", lambda _: (source / "f").write_bytes(b"whole"))
            found = took(*args)
        monkeypatch.undo()
        return found

    monkeypatch.setattr("hpcrun.snapshot.touched", touched)
    assert checked_out(store, store.take(source).id, tmp_path)[b"f"][1] == b"whole"


# More than one at a time, and what was left behind


def test_many_takes_at_once(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other"
    write(source, {f"d{n % 7}/f{n}": str(n) for n in range(200)})
    write(other, {f"d{n % 5}/f{n}": str(n) for n in range(200)})
    folder = tmp_path / "store"
    code = (
        "import sys; from pathlib import Path; from hpcrun.snapshot import SnapshotStore; "
        "from hpcrun.shells.local import LocalShell; "
        "print(SnapshotStore(Path(sys.argv[1]), LocalShell()).take(Path(sys.argv[2])).id)"
    )

    def take(number: int) -> str:
        place = (source, other)[number % 2]
        if number >= 6:
            argv = [sys.executable, "-c", code, str(folder), str(place)]
            return LocalShell().run(argv, timeout=60).check().stdout.strip()
        return SnapshotStore(folder, LocalShell()).take(place).id

    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(take, range(10)))
    assert len(set(ids[0::2])) == len(set(ids[1::2])) == 1
    store = SnapshotStore(folder, LocalShell())
    assert checked_out(store, ids[0], tmp_path) == contents(source)
    assert checked_out(store, ids[1], tmp_path) == contents(other)


def test_a_held_lock_is_waited_for(
    store: SnapshotStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.take(source)
    (lock,) = (tmp_path / "ws/.hpcrun/snapshots.git/indexes").glob("*.lock")
    monkeypatch.setattr(snapshot_git, "LOCK_DEADLINE", 0.05)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SnapshotError, match="has held its lock"):
            store.take(source)
        with ThreadPoolExecutor(1) as pool:
            monkeypatch.setattr(snapshot_git, "LOCK_DEADLINE", 60.0)
            waiting = pool.submit(store.take, source)
            fcntl.flock(file, fcntl.LOCK_UN)
            assert waiting.result(60).files == 0


def test_git_holds_the_lock_as_well(source: Path, tmp_path: Path) -> None:
    shell = WatchedShell()
    SnapshotStore(tmp_path / "store", shell).take(source)
    assert all(len(kept) == 1 for kept in shell.kept)


def test_a_filesystem_without_locks(
    store: SnapshotStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SnapshotError, match="knows no file locks"):
        store.take(source)


def damage_lock(folder: Path) -> None:
    index = next((folder / "indexes").glob("*.index"))
    index.with_name(index.name + ".lock").write_text("")


def damage_index(folder: Path) -> None:
    (index,) = (folder / "indexes").glob("*.index")
    index.write_bytes(index.read_bytes()[:40])


def damage_state(folder: Path) -> None:
    (state,) = (folder / "indexes").glob("*.json")
    state.write_text("{")


def lose_objects(folder: Path) -> None:
    shutil.rmtree(folder / "objects")
    (folder / "objects").mkdir()


def lose_settings(folder: Path) -> None:
    (folder / "config").write_text("[core]\nbare = true\nautocrlf = true\n")
    (folder / "info/attributes").write_text("* text eol=lf\n")


@pytest.mark.parametrize("damage", [damage_lock, damage_index, damage_state, lose_objects, lose_settings])
@pytest.mark.parametrize("edited", [False, True])
def test_damage_is_repaired(
    store: SnapshotStore, source: Path, tmp_path: Path, damage: Callable[[Path], None], edited: bool
) -> None:
    write(source, {"a": "1\r\n", "sub/b": "2\r\n"})
    store.take(source)
    damage(tmp_path / "ws/.hpcrun/snapshots.git")
    if edited:
        write(source, {"sub/b": "3\r\n"})
    assert checked_out(store, store.take(source).id, tmp_path) == contents(source)


def test_the_store_is_private(store: SnapshotStore, source: Path, tmp_path: Path) -> None:
    store.take(source)
    assert stat.S_IMODE((tmp_path / "ws/.hpcrun/snapshots.git").stat().st_mode) == 0o700


def test_few_processes(source: Path, tmp_path: Path) -> None:
    write(source, {f"d{n % 7}/f{n}": str(n) for n in range(100)})
    shell = WatchedShell()
    store = SnapshotStore(tmp_path / "store", shell)
    store.take(source)
    assert len(shell.seen) == 3
    shell.seen.clear()
    store.take(source)
    assert [argv[1] for argv in shell.seen] == ["update-index", "ls-files", "ls-files", "write-tree"]
    assert not any("--add" in argv for argv in shell.seen)
