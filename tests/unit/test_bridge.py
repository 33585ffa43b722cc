"""The program that rsync and git take for ssh, with a program that plays ssh: its host is this machine."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcrun.errors import UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells import bridge, fabric_login
from hpcrun.shells.bridging import quiet_rsh, served
from hpcrun.shells.fabric_link import Link
from hpcrun.shells.patience import OutOfPatience, Patience

PLAYED = """\
#!/bin/sh
while [ "$1" != host ]; do options="$options $1"; shift; done
shift
echo 'Welcome!'; printf 'no end of line'
OPTIONS=$options exec sh -c "$*"
"""


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    program = tmp_path / "played-ssh"
    program.write_text(PLAYED)
    program.chmod(0o755)
    return [str(program), "-a", "two words"]


def ride(argv: list[str], *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    whole = [*quiet_rsh(argv), *words]
    return subprocess.run(whole, input=stdin, capture_output=True, timeout=30, check=False)


def test_only_the_commands_own_words_come(ssh: list[str]) -> None:
    data = bytes(range(256)) * 4096
    done = ride(ssh, "host", "cat;", "echo err >&2;", "exit 7", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"err\n")
    done = ride(ssh, "host", "true")
    assert (done.returncode, done.stdout) == (0, b"")


def test_options_of_rsync_and_git_go_on_to_ssh(ssh: list[str]) -> None:
    done = ride(ssh, "-l", "bob", "-o", "A=b", "-4", "host", 'echo "$OPTIONS"')
    assert done.stdout == b" -a two words -l bob -o A=b -4\n"
    assert bridge.split(["-p", "22", "-x", "host", "a", "b c"]) == (["-p", "22", "-x"], "host", "a b c")


def test_output_to_files_and_sockets(ssh: list[str], tmp_path: Path) -> None:
    """Where the kernel does not pass it on by itself, too."""
    for mode in ("wb", "ab"):
        with (tmp_path / "file").open(mode) as file:
            subprocess.run([*quiet_rsh(ssh), "host", "seq 100000"], stdout=file, timeout=30, check=True)
    expected = "".join(f"{n}\n" for n in range(1, 100001)).encode()
    assert (tmp_path / "file").read_bytes() == expected * 2
    near, far = socket.socketpair()
    far.setblocking(False)
    with near:
        process = subprocess.Popen([*quiet_rsh(ssh), "host", "seq 100000"], stdout=far.fileno())
        far.close()
        got = b""
        while piece := near.recv(1 << 20):
            got += piece
        assert process.wait(20) == 0
    assert got == expected


def test_an_ssh_that_fails(ssh: list[str], tmp_path: Path) -> None:
    assert ride(["sh", "-c", "echo noise; exit 255"], "host", "true").stdout == b""
    assert ride(["sh", "-c", "echo no >&2; exit 255"], "host", "true").returncode == 255
    assert ride(["sh", "-c", "kill -9 $$"], "host", "true").returncode == 128 + 9
    for words in ([], ["host"], ["-l", "bob"]):
        assert ride(ssh, *words).returncode == 255


def test_nobody_reads_any_more(ssh: list[str]) -> None:
    with subprocess.Popen([*quiet_rsh(ssh), "host", "yes"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(20) != 0


def test_who_is_asked_to_end_ends_ssh_too(ssh: list[str], tmp_path: Path) -> None:
    command = f"echo $$ > {tmp_path}/pid; echo begun; exec sleep 60"
    with subprocess.Popen([*quiet_rsh(ssh), "host", command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = f"import runpy, sys; sys.argv = ['x']; runpy.run_path({bridge.__file__!r}); print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    assert {name.partition(".")[0] for name in loaded} <= set(sys.stdlib_module_names) | {"__main__"}


# -- hpcrun's side --------------------------------------------------------------


@pytest.fixture
def link() -> Iterator[Link]:
    yield Link(Connection(type="fabric", host="host", two_factor=True))


def test_the_socket_is_private_and_goes(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/tmp/hr-{os.getpid()}")
    Path(f"/tmp/hr-{os.getpid()}").mkdir(mode=0o700)
    os.umask(0)
    with served(link) as argv:
        path = Path(argv[-1])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout
        left = path.with_name(f"bridge-{gone.strip()}-0")
        left.touch()
        for words, told in (
            (["elsewhere", "true"], "this connection leads to host, not to elsewhere"),
            (["-l", "bob", "host", "true"], "no place for -l bob"),
            (["host", "true"], "host lets nobody in who does not type something"),
        ):
            done = subprocess.run([*argv, *words], capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 255 and told in done.stderr, done
        with served(link):
            assert not left.exists() and path.exists()
    assert not path.exists()
    path.parent.rmdir()
    path.parent.parent.rmdir()


class GoodEnd:
    """Plays a channel whose command takes the end of its input for a good end, as cat does, and is quicker to
    say so than the connection is to close."""

    def __init__(self) -> None:
        self.exit_status = -1
        self.status_event = threading.Event()
        self.given_back = threading.Event()
        self._begun = False

    def exec_command(self, command: bytes) -> None:
        self._mark = command.split(b";")[0].split()[-1]

    def recv(self, size: int) -> bytes:
        if not self._begun:
            self._begun = True
            return b"\n%s\nbegun\n" % self._mark
        assert self.status_event.wait(20)
        return b""

    def recv_stderr(self, size: int) -> bytes:
        assert self.status_event.wait(20)
        return b""

    def close(self) -> None:
        if not self.status_event.is_set():
            self.exit_status = 0
            self.status_event.set()
            assert self.given_back.wait(20)  # after the bridge was told how it ended


def test_what_is_cut_off_is_no_good_end(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command at the site makes of it: rsync would take 0 for all of it having come."""
    monkeypatch.setattr(link, "channel", lambda deadline: GoodEnd())
    monkeypatch.setattr(link, "give_back", lambda channel: channel.given_back.set())
    with served(link) as argv:
        process = subprocess.Popen([*argv, "host", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    assert process.wait(20) == 255
    process.communicate()


# -- somebody at a terminal -------------------------------------------------------


def test_prompts_are_shown_without_what_terminals_obey(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def getpass(prompt: str, stream: object) -> str:
        shown.append(prompt)
        return "secret"

    monkeypatch.setattr(fabric_login, "getpass", getpass)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: PTH123, SIM115
    asked = [("\x1b]0;title\x07Pass\x9bword é:\r ", False), ("Seen\x1b[2J: ", True)]
    assert fabric_login.ask_at_terminal(asked) == ["secret", ""]
    assert shown == ["]0;titlePassword é: "] and capsys.readouterr().err == "Seen[2J: "
    assert not fabric_login.somebody_is_there()
    sys.stdin.close()


def test_patience() -> None:
    def work(ask: Callable[[str], str]) -> str:
        return ask("a question") + "!"

    assert Patience(work, str.upper).wait(10) == "A QUESTION!"

    def fail(ask: Callable[[str], str]) -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        Patience(fail, str.upper).wait(10)


def test_whoever_works_for_too_long_is_answered_no_more() -> None:
    over = threading.Event()

    def work(ask: Callable[[str], str]) -> None:
        time.sleep(0.3)
        try:
            ask("is anybody there?")
        except OutOfPatience:
            over.set()

    with pytest.raises(OutOfPatience):
        Patience(work, str.upper).wait(0.05)
    assert over.wait(20)


def test_a_host_that_asks_is_not_knocked_at(link: Link) -> None:
    with pytest.raises(UnreachableError, match="type something"):
        link.open()
