"""Programs that are fed and heard: until their deadline, and not a moment for what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from io import BytesIO, RawIOBase
from pathlib import Path

import pytest

from hpcrun.shells import framing
from hpcrun.shells.processes import attended
from hpcrun.shells.streams import Asked, Heard, Talk, leave_behind

ENV = dict(os.environ)
SHELL = ["/bin/sh", "-c", framing.READ]


def asked(source: str, **how: object) -> Heard:
    settings: dict[str, object] = {"timeout": 20.0, **how}
    return Asked(source, (), ("sh",), **settings).put(SHELL, ENV)  # type: ignore[arg-type]


def test_what_is_left_in_the_background_keeps_nobody_waiting() -> None:
    began = time.monotonic()
    result = leave_behind(["sh", "-c", "echo said; echo loudly >&2; sleep 30 & exit 3"], ENV, timeout=20)
    assert time.monotonic() - began < 5
    assert (result.rc, result.stderr) == (3, "said\nloudly\n")


def test_what_never_leaves_anything_behind_is_ended() -> None:
    result = leave_behind(["sh", "-c", "echo before; sleep 60"], ENV, timeout=0.5)
    assert (result.rc, result.stderr) == (None, "before\n")
    assert result.seconds < 5


def test_what_others_hold_open_is_let_go_at_the_deadline(tmp_path: Path) -> None:
    """As a master of ssh does: it has the streams of those who talk through it, and outlives them."""
    threads = set(threading.enumerate())
    began = time.monotonic()
    holder = f"import os, time; os.setsid(); open({str(tmp_path / 'held')!r}, 'w'); time.sleep(30)"
    source = f'{sys.executable} -c "{holder}" & echo $! > {tmp_path}/pid; echo heard; sleep 30'
    heard = asked(source, timeout=2.0)
    assert (tmp_path / "held").exists()
    assert time.monotonic() - began < 2 + 3
    assert (heard.result.rc, heard.result.lost) == (None, "")
    assert heard.result.stdout == "heard\n"
    assert set(threading.enumerate()) == threads
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_nothing_is_taken_from_a_file_before_the_shell_has_begun() -> None:
    stream = BytesIO(b"all of it")
    asking = Asked("cat", (), ("sh",), 20.0, stream)
    assert not asking.put(["sh", "-c", "exit 255"], ENV).begun
    assert stream.tell() == 0
    assert asking.put(SHELL, ENV).result.stdout == "all of it"


def test_progress_counts_what_has_gone() -> None:
    told: list[int] = []
    heard = asked("wc -c", stdin=BytesIO(bytes(1_000_000)), progress=told.append)
    assert heard.result.stdout.split() == ["1000000"]
    assert sum(told) == 1_000_000


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_a_program_that_does_not_read_hinders_nobody(size: int) -> None:
    assert asked("echo done", stdin=bytes(size)).result.stdout == "done\n"


def test_one_that_reads_nothing_is_given_up_in_time() -> None:
    began = time.monotonic()
    heard = asked("sleep 60", stdin=bytes(3_000_000), timeout=1.0)
    assert heard.result.rc is None
    assert time.monotonic() - began < 6


def test_a_source_that_fails_ends_what_was_asked() -> None:
    class Broken(RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        asked("cat; sleep 60", stdin=Broken())


def test_a_program_that_ends_leaves_no_open_file() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        Talk(["true"], ENV).run(b"", None, lambda data: None, timeout=9)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_whoever_types_has_the_terminal_and_hears_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    aside = tmp_path / "aside"
    aside.touch()
    argv = ["sh", "-c", 'echo straight; echo aside >> "$0"; sleep 0.3; exit 4', str(aside)]
    assert attended(argv, ENV, timeout=20, aside=aside) == 4
    out, err = capfd.readouterr()
    assert (out, err) == ("straight\n", "aside\n")


def test_nobody_types_for_ever(tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    aside.touch()
    with pytest.raises(Exception, match="nobody answered it"):
        attended(["sleep", "60"], ENV, timeout=0.2, aside=aside)
    assert subprocess.run(["pgrep", "-P", str(os.getpid()), "sleep"], capture_output=True).returncode == 1
