"""The script that follows a run, by real shells, in a folder that a writer fills."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from hpcrun.engine.follow import Following, fetch
from hpcrun.errors import CommandError
from hpcrun.history.paths import RunPaths
from hpcrun.places.far import make_home
from hpcrun.shells.base import Result
from hpcrun.shells.framing import READ
from hpcrun.shells.local import LocalShell
from hpcrun.shells.processes import clean_environment
from hpcrun.shells.streams import Asked

BUSYBOX = shutil.which("busybox") or os.environ.get("HPCRUN_TEST_BUSYBOX", "")
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": [BUSYBOX, "sh"]}
PATIENCE = 30.0


class Shell(LocalShell):
    """LocalShell's scripts by another shell; the processes that it started can be counted."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)

    def script(
        self,
        source: str,
        words: Sequence[str] = (),
        *,
        timeout: float,
        stdin: str | bytes | BinaryIO | None = None,
        sink: Callable[[bytes], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        asked = Asked(source, words, ("sh",), timeout, stdin, sink, progress)
        return asked.put([*self._argv, "-c", READ], clean_environment()).result


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    argv = SHELLS[request.param]
    if not argv[0] or shutil.which(argv[0]) is None:
        pytest.skip(f"there is no {request.param} on this machine")
    if request.param == "busybox":  # its own programs, and no others
        for name in ("ls", "tail", "head", "sleep", "sh", "dd", "cat"):
            (tmp_path / "busybox").mkdir(exist_ok=True)
            (tmp_path / "busybox" / name).symlink_to(argv[0])
        monkeypatch.setenv("PATH", str(tmp_path / "busybox"))
    return Shell(argv)


class Job:
    """What a job leaves in its folder, by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "user_logs").mkdir(parents=True)
        (folder / "system_logs").mkdir()

    def log(self, rank: int | None = None) -> Path:
        name = "std_log.txt" if rank is None else f"std_log_process_{rank:03d}.txt"
        return self.folder / "user_logs" / name

    def prints(self, data: bytes, rank: int | None = None) -> None:
        with self.log(rank).open("ab") as file:
            file.write(data)

    def says(self, status: str) -> None:
        (self.folder / "new").write_text(f"{status}\n")
        (self.folder / "new").replace(self.folder / "status.json")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "it's there, $HOME `x`")


@pytest.fixture
def home(tmp_path: Path) -> RunPaths:
    home = RunPaths(tmp_path / "home")
    make_home(home)
    return home


@pytest.fixture
def follow(shell: Shell, job: Job, home: RunPaths) -> Iterator[Following]:
    with Following(shell, "login", str(job.folder), home, logs=True) as following:
        yield following


def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "it never came"
        time.sleep(0.02)


def here(home: RunPaths, job: Job, rank: int | None = None) -> bytes:
    path = home.user_logs / job.log(rank).name
    return path.read_bytes() if path.exists() else b""


def test_bytes_of_all_ranks_come_as_they_are_printed(follow: Following, job: Job, home: RunPaths) -> None:
    every = bytes(range(256)) * 5
    job.prints(every, 0)
    until(lambda: here(home, job, 0) == every)
    job.prints(b"no end of line", 0)
    job.prints(b"\0\n;F log 0 5;\n\n", 11)
    until(lambda: here(home, job, 0) == every + b"no end of line")
    until(lambda: here(home, job, 11) == b"\0\n;F log 0 5;\n\n")
    (job.folder / "system_logs" / "job.txt").write_text("attempt 1\n")
    until(
        lambda: (
            (home.system_logs / "job.txt").exists() and (home.system_logs / "job.txt").stat().st_size == 10
        )
    )
    job.says('{"state":"running"}')
    until(lambda: home.status.exists() and home.status.read_text() == '{"state":"running"}\n')
    job.says('{"state":"completed"}')
    until(lambda: home.status.read_text() == '{"state":"completed"}\n')
    job.prints(b"the last", 11)
    assert follow.finish(lambda: None)
    assert here(home, job, 11).endswith(b"\nthe last")
    assert follow.error is None and follow.trouble() == ""


def test_megabytes_come_whole(follow: Following, job: Job, home: RunPaths) -> None:
    data = os.urandom(3_500_000)
    job.prints(data)
    assert follow.finish(lambda: None)
    assert here(home, job) == data


def test_what_is_here_is_not_sent_again(shell: Shell, job: Job, home: RunPaths) -> None:
    job.prints(b"known, and new")
    (home.user_logs / "std_log.txt").write_bytes(b"KNOWN")
    fetch(shell, "login", str(job.folder), home)
    assert here(home, job) == b"KNOWN, and new"
    fetch(shell, "login", str(job.folder), home)
    assert here(home, job) == b"KNOWN, and new"


@pytest.mark.parametrize("how", ["cut", "replaced"])
def test_a_log_that_is_made_anew(follow: Following, job: Job, home: RunPaths, how: str) -> None:
    """Whoever reads the log here sees that it is empty, before it is longer again than it was."""
    seen: list[int] = []
    follow.look(lambda: None)
    job.prints(b"before")
    until(lambda: here(home, job) == b"before")
    if how == "cut":
        os.truncate(job.log(), 0)
        job.prints(b"now")
    else:
        other = job.folder / "other"
        other.write_bytes(b"now, and longer")
        other.replace(job.log())

    def emptied() -> bool:
        follow.look(lambda: seen.append(len(here(home, job))))
        return here(home, job) == job.log().read_bytes()

    until(emptied)
    assert 0 in seen


def test_nothing_is_opened_that_is_no_log(
    follow: Following, job: Job, home: RunPaths, tmp_path: Path
) -> None:
    """A pipe would be waited for, and a link leads elsewhere."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.mkfifo(job.log(1))
    job.log(2).symlink_to(secret)
    os.mkfifo(job.folder / "status.json")
    (job.folder / "system_logs" / "job.txt").symlink_to(secret)
    for name in (
        "std_log_process_x.txt",
        "std_log_process_1 2.txt",
        "std_log_process_1\n9 -rw 1 2 3 4 5 a.txt",
    ):
        (job.folder / "user_logs" / name).write_text("hostile")
    for name in ("std_log_process_99999999999999.txt", "std_log_process_$(touch x).txt", "std_log_more.txt"):
        (job.folder / "user_logs" / name).write_text("hostile")
    job.prints(b"well", 3)
    assert follow.finish(lambda: None)
    assert [path.name for path in home.user_logs.iterdir()] == ["std_log_process_003.txt"]
    assert not home.status.exists() and not (home.system_logs / "job.txt").exists()


def test_a_folder_that_is_gone(shell: Shell, home: RunPaths, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="the run's folder on login is gone"):
        fetch(shell, "login", str(tmp_path / "gone"), home)


def test_logs_are_left_alone_where_the_status_is_wanted(shell: Shell, job: Job, home: RunPaths) -> None:
    job.prints(b"much")
    job.says("{}")
    with Following(shell, "login", str(job.folder), home, logs=False) as follow:
        until(home.status.exists)
        assert follow.finish(lambda: None)
    assert not list(home.user_logs.iterdir())


def test_it_ends_when_nobody_listens_any_more(shell: Shell, job: Job, home: RunPaths) -> None:
    with Following(shell, "login", str(job.folder), home, logs=True):
        job.prints(b"x")
        until(lambda: here(home, job) == b"x")
        assert in_folder(job.folder)
        began = time.monotonic()
    assert time.monotonic() - began < 1.0
    until(lambda: not in_folder(job.folder), "the script goes on")


def test_it_ends_when_the_connection_is_gone(shell: Shell, job: Job) -> None:
    """Standard input that has ended is all that a script sees of it."""
    asked = Asked(script_of_follow(), [str(job.folder), "on", "logs", "m" * 64, ""], ("sh",), PATIENCE)
    heard = asked.put([*shell._argv, "-c", READ], clean_environment())
    assert heard.result.rc == 0
    assert not in_folder(job.folder)


def test_an_idle_look_costs_one_process_and_a_rest(
    shell: Shell, job: Job, home: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any number of logs; at most four looks a second."""
    calls = tmp_path / "calls"
    for name in ("ls", "sleep", "tail", "head", "wc", "cat"):
        real, fake = shutil.which(name), tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f"#!/bin/sh\necho {name} >>'{calls}'\nexec {real} \"$@\"\n")
        fake.chmod(0o755)
    if BUSYBOX in shell._argv:
        pytest.skip("its own programs cannot be counted so")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for rank in range(200):
        job.prints(b"x", rank)
    with Following(shell, "login", str(job.folder), home, logs=True):
        until(lambda: len(list(home.user_logs.iterdir())) == 200)
        until(lambda: calls.read_text().endswith("sleep\n"))
        calls.write_text("")
        began = time.monotonic()
        until(lambda: calls.read_text().count("sleep") >= 8)
        seconds = time.monotonic() - began
        counted = calls.read_text().split()
    assert set(counted) == {"ls", "sleep"}
    assert abs(counted.count("ls") - counted.count("sleep")) <= 1
    assert counted.count("ls") / seconds <= 4.6


def test_signs_of_life_are_answered_in_both_directions(
    shell: Shell, job: Job, home: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcrun.engine.follow.BEAT", 0.2)
    with Following(shell, "login", str(job.folder), home, logs=True) as follow:
        first = follow._heard
        until(lambda: follow._heard > first)
        heard = follow._heard
        until(lambda: follow._heard > heard, "the script says nothing where there is nothing new")
        assert follow.trouble() == ""


def script_of_follow() -> str:
    from hpcrun.shells.scripts import source

    return source("follow")


def in_folder(folder: Path) -> list[str]:
    """The programs whose working directory is a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and process.joinpath("cwd").readlink() == folder:
                found.append(process.joinpath("comm").read_text().strip())
        except OSError:
            continue
    return found


# -- a connection that breaks ----------------------------------------------------------------------


class Breaking(Shell):
    """Cuts each of its first channels after so many bytes, or breaks before them."""

    def __init__(self, argv: Sequence[str], cuts: list[int]) -> None:
        super().__init__(argv)
        self.cuts = cuts
        self.opened = 0

    def script(
        self,
        source: str,
        words: Sequence[str] = (),
        *,
        timeout: float,
        stdin: str | bytes | BinaryIO | None = None,
        sink: Callable[[bytes], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        self.opened += 1
        left = [self.cuts.pop(0)] if self.cuts else None
        assert sink is not None

        def cut(data: bytes) -> None:
            if left is None:
                sink(data)
                return
            sink(data[: left[0]])
            left[0] -= len(data)
            if left[0] <= 0:
                raise _Cut

        try:
            return super().script(source, words, timeout=timeout, stdin=stdin, sink=cut, progress=progress)
        except _Cut:
            return Result(("sh",), None, "", "", 1.0, "the connection broke")


class _Cut(Exception):
    pass


def test_after_a_cut_it_goes_on_where_the_logs_end(
    job: Job, home: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcrun.engine.follow._PAUSE", 0.01)
    lines = [b"line %d\n" % number for number in range(2000)]
    shell = Breaking(["sh"], [50, 900, 10, 3000, 1])
    told = []

    def writer() -> None:
        for line in lines:
            job.prints(line)
            time.sleep(0.0005)

    with Following(shell, "login", str(job.folder), home, logs=True) as follow:
        thread = threading.Thread(target=writer)
        thread.start()
        while thread.is_alive() or shell.cuts:
            follow.wait(0.05)
            told.append(follow.trouble())
        thread.join()
        assert follow.finish(lambda: None)
    assert here(home, job) == b"".join(lines)
    assert shell.opened >= 6
    words = [each for each in told if each]
    assert words and set(words) == {"the connection is lost, and asked for again: the connection broke"}
    assert len(words) <= 5, "once each time"


def test_what_is_missing_here_is_asked_for_again(
    job: Job, home: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else wrote the log here anew, shorter, while it was followed."""
    monkeypatch.setattr("hpcrun.engine.follow._PAUSE", 0.01)
    with Following(Shell(["sh"]), "login", str(job.folder), home, logs=True) as follow:
        job.prints(b"first\n")
        until(lambda: here(home, job) == b"first\n")
        os.truncate(home.user_logs / "std_log.txt", 2)
        job.prints(b"second\n")
        until(lambda: here(home, job) == b"first\nsecond\n")
        assert follow.trouble() == ""


def test_a_disk_that_is_full_ends_it_with_its_words(job: Job, home: RunPaths) -> None:
    (home.user_logs / "std_log.txt").symlink_to("/dev/full")
    job.prints(b"x")
    with Following(Shell(["sh"]), "login", str(job.folder), home, logs=True) as follow:
        until(lambda: follow.error is not None)
        assert isinstance(follow.error, OSError)
        assert not follow.finish(lambda: None)


def test_what_followed_to_the_end_leaves_nothing_behind(shell: Shell, job: Job, home: RunPaths) -> None:
    for _ in range(3):
        with Following(shell, "login", str(job.folder), home, logs=True) as follow:
            job.prints(b"x")
            assert follow.finish(lambda: None)
    assert here(home, job) == b"xxx"
    until(lambda: not in_folder(job.folder))
