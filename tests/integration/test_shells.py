"""What every shell keeps to: the same questions to this machine, and to a real sshd by each way there is.

A new shell is added to the suite by one line in ``WAYS``: its name in ``connection.type``.
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells import PosixShell, RemoteShell, fabric_link, framing, remote_shell, shell_for
from tests import ssh_help
from tests.cluster.cluster import Cluster

WAYS = ("here", "openssh", "fabric")
REMOTE = tuple(way for way in WAYS if way != "here")

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(cluster_session: Cluster) -> Cluster:
    """The cluster, clean at first; what a test changes there, it mends itself."""
    cluster_session.reset()
    return cluster_session


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from ssh_help.private_runtime(monkeypatch)
    fabric_link.close_all()


@pytest.fixture(params=WAYS)
def shell(request: pytest.FixtureRequest, site: Cluster, tmp_path: Path) -> PosixShell:
    return shell_for(to_login(site, tmp_path, request.param))


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, site: Cluster, tmp_path: Path) -> RemoteShell:
    return there(site, tmp_path, request.param)


def to_login(site: Cluster, folder: Path, way: str, **changes: object) -> Connection:
    config = ssh_help.ssh_config(site, folder / "ssh", **changes)
    return Connection.model_validate({"type": way, "host": "login", "ssh_config": str(config)})


def there(site: Cluster, folder: Path, way: str, **changes: object) -> RemoteShell:
    shell = remote_shell(to_login(site, folder, way, **changes))
    assert shell is not None
    return shell


@pytest.fixture
def folder(shell: PosixShell) -> Iterator[str]:
    """An empty folder where the shell's programs run."""
    made = shell.run(["mktemp", "-d"], timeout=30).check().stdout.strip()
    yield made
    shell.run(["rm", "-rf", made], timeout=30)


def output(shell: PosixShell, source: str, *words: str, stdin: bytes | BinaryIO | None = None) -> bytes:
    """All that a script writes, byte for byte."""
    got = bytearray()
    shell.script(source, words, timeout=60, stdin=stdin, sink=got.extend).check()
    return bytes(got)


# -- what comes back -------------------------------------------------------------


def test_output_and_errors_are_apart(shell: PosixShell) -> None:
    result = shell.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=30)
    assert (result.rc, result.stdout, result.stderr, result.lost) == (3, "out\n", "err\n", "")
    assert result.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    result = shell.script("echo out; echo err >&2; exit 3", timeout=30)
    assert (result.rc, result.stdout, result.stderr, result.lost) == (3, "out\n", "err\n", "")


def test_output_is_exact(shell: PosixShell) -> None:
    assert shell.run(["printf", "no end of line"], timeout=30).stdout == "no end of line"
    assert shell.run(["printf", "\\n\\n"], timeout=30).stdout == "\n\n"
    assert shell.run(["true"], timeout=30).stdout == ""
    assert output(shell, r"printf '\377\0\200\n'") == b"\xff\0\x80\n"
    assert shell.run(["printf", r"caf\351"], timeout=30).stdout == "caf\ufffd"


def test_every_exit_code(shell: PosixShell) -> None:
    with ThreadPoolExecutor(4) as pool:
        codes = pool.map(lambda n: shell.run(["sh", "-c", f"exit {n}"], timeout=60).rc, range(256))
    assert list(codes) == list(range(256))


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("HUP", 1)])
def test_ended_by_a_signal(shell: PosixShell, name: str, number: int) -> None:
    # As Python says it, or as shells do.
    assert shell.run(["sh", "-c", f"kill -{name} $$"], timeout=30).rc in (-number, 128 + number)


def test_a_missing_program_is_told(shell: PosixShell) -> None:
    told = trouble(lambda: shell.run(["no-such-program", "-x"], timeout=30).check())
    assert "no-such-program" in told


def test_a_missing_folder_is_told(shell: PosixShell) -> None:
    told = trouble(lambda: shell.run(["touch", "/tmp/started"], timeout=30, cwd="/no/such/folder").check())
    assert "/no/such/folder" in told
    assert not shell.run(["test", "-e", "/tmp/started"], timeout=30).ok


def trouble(work: Callable[[], object]) -> str:
    with pytest.raises(CommandError) as caught:
        work()
    return str(caught.value)


# -- what goes there -------------------------------------------------------------


def test_input_is_exact(shell: PosixShell) -> None:
    every = bytes(range(256)) + b"\r\n\0\n"
    assert output(shell, "cat", stdin=every) == every
    shown = shell.run(["od", "-An", "-v", "-tx1"], timeout=30, stdin=every).stdout
    assert bytes.fromhex("".join(shown.split())) == every
    assert shell.run(["cat"], timeout=30, stdin="é\n").stdout == "é\n"


def test_without_input_there_is_none(shell: PosixShell) -> None:
    assert shell.run(["cat"], timeout=30).stdout == ""
    assert shell.script("cat; read -r line || echo none", timeout=30).stdout == "none\n"


def test_input_that_is_not_read_is_no_error(shell: PosixShell) -> None:
    assert shell.run(["true"], timeout=30, stdin=b"x" * 5_000_000).ok
    assert shell.script("exec <&-; echo on", timeout=30, stdin=b"x" * 5_000_000).stdout == "on\n"


class Lazy(io.RawIOBase):
    """Fifty megabytes that are nowhere at once."""

    def __init__(self, pieces: int) -> None:
        self.left, self.most, self.hash = pieces, 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        self.most = max(self.most, size if size >= 0 else 1 << 62)
        if not self.left:
            return b""
        self.left -= 1
        piece = hashlib.sha256(b"%d" % self.left).digest() * 1024
        self.hash.update(piece)
        return piece


def test_much_in_and_out(shell: PosixShell) -> None:
    source, got = Lazy(1600), hashlib.sha256()
    sent: list[int] = []
    result = shell.script(
        "cat", timeout=120, stdin=cast(BinaryIO, source), sink=got.update, progress=sent.append
    ).check()
    assert got.digest() == source.hash.digest() and sum(sent) == 1600 * 32768
    assert source.most <= 1 << 20  # never read as a whole
    assert result.stdout == ""


def test_everybody_talks_at_once(shell: PosixShell) -> None:
    data = os.urandom(4_000_000)
    got = bytearray()
    result = shell.script(
        "tee /dev/fd/3 3>&2 | cat; head -c 3000000 /dev/zero | tr '\\0' x >&2",
        timeout=60,
        stdin=data,
        sink=got.extend,
    ).check()
    assert bytes(got) == data and result.stderr.endswith("x" * 3_000_000)


any_word = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_word, max_size=4))
@example(["", " ", "\n", "-n", "--", "$(id)", "`id`", "'", '"', "\\", "!x", "*", "~", "a=b", "%s", "é雪"])
@example(["\r", "a\r\nb", "\t", "\x7f\x1b[31m", "\udcff"])
@example(["x" * 100_000])
def test_words_of_any_characters(shell: PosixShell, words: list[str]) -> None:
    expected = b"".join(os.fsencode(word) + b"\0" for word in words)
    if words:
        assert output(shell, "printf '%s\\0' \"$@\"", *words) == expected
    assert output(shell, "printf '%s' $#", *words) == b"%d" % len(words)
    shown = shell.run(["sh", "-c", "printf '%s\\0' \"$@\" | od -An -v -tx1", "sh", "x", *words], timeout=30)
    assert bytes.fromhex("".join(shown.check().stdout.split())) == b"x\0" + expected


def test_folder_and_environment(shell: PosixShell, folder: str) -> None:
    weird = f'{folder}/it\'s a "weird" $HOME `dir`; \\n & päth — 雪'
    shell.run(["mkdir", weird], timeout=30).check()
    assert shell.run(["pwd"], timeout=30, cwd=weird).stdout == f"{weird}\n"
    assert shell.run(["pwd"], timeout=30, cwd=Path(folder)).stdout == f"{folder}\n"
    value = "two\nlines, 'quotes', $HOME `id` \\ é"
    assert shell.run(["sh", "-c", 'printf %s "$VALUE"'], timeout=30, env={"VALUE": value}).stdout == value


def test_no_command_line_shows_the_environment(shell: PosixShell) -> None:
    look = "awk 'index($0, ENVIRON[\"CANARY\"]) {print FILENAME}' /proc/[0-9]*/cmdline 2>/dev/null"
    found = shell.run(["sh", "-c", look + "; echo done"], timeout=30, env={"CANARY": "tweet-" + "7" * 20})
    assert found.stdout == "done\n"


def test_there_is_no_terminal(shell: PosixShell) -> None:
    assert shell.run(["sh", "-c", "exec 2>/dev/null </dev/tty"], timeout=30).rc != 0
    assert shell.run(["sh", "-c", "test -t 0 || test -t 1 || test -t 2"], timeout=30).rc == 1


# -- scripts ----------------------------------------------------------------------


def test_a_script_reads_the_rest_of_the_input(shell: PosixShell) -> None:
    source = 'IFS= read -r first; printf "%s|%s|" "$1" "$first"; cat'
    assert output(shell, source, "word", stdin=b"one\ntwo\nthree") == b"word|one|two\nthree"


def test_output_comes_as_it_is_written(shell: PosixShell, folder: str) -> None:
    pieces: list[bytes] = []

    def answer(piece: bytes) -> None:
        pieces.append(piece)
        if b"one" in piece:  # and while one question waits, others go on
            shell.run(["touch", f"{folder}/heard"], timeout=30).check()

    source = 'echo one; until [ -e "$1/heard" ]; do sleep 0.05; done; seq 2 5000'
    shell.script(source, [folder], timeout=60, sink=answer).check()
    assert b"".join(pieces).split() == [b"one", *(b"%d" % n for n in range(2, 5001))]


def test_what_a_sink_raises_is_raised(shell: PosixShell) -> None:
    def full(piece: bytes) -> None:
        if piece:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        shell.script("yes", timeout=60, sink=full)
    assert shell.run(["echo", "on"], timeout=30).stdout == "on\n"


def test_no_part_of_a_script_that_was_cut_off_is_carried_out(site: Cluster, tmp_path: Path) -> None:
    source = f"touch {tmp_path}/first\ntouch {tmp_path}/second\n"
    whole = framing.request(source, ["a word"], framing.new_mark())
    busybox = site.lower / "bin/busybox"
    for program in (["/bin/sh"], ["bash"], [str(busybox), "sh"]):
        for cut in range(0, len(whole) - 1, 7):
            subprocess.run(
                [*program, "-c", framing.READ],
                input=whole[:cut],
                capture_output=True,
                timeout=20,
                check=False,
            )
        assert list(tmp_path.iterdir()) == []
        subprocess.run(
            [*program, "-c", framing.READ], input=whole, capture_output=True, timeout=20, check=True
        )
        for made in sorted(tmp_path.iterdir(), reverse=True):
            made.unlink()


# -- the deadline ------------------------------------------------------------------


@pytest.mark.parametrize("obedience", ["", "trap '' TERM HUP INT;"])
def test_at_the_deadline_all_is_ended(shell: PosixShell, folder: str, obedience: str) -> None:
    program = f'{obedience} echo $$ >"$1/pid"; echo begun; while :; do sleep 1; done'
    result = shell.run(["sh", "-c", program, "sh", folder], timeout=2)
    assert result.rc is None and result.timed_out and not result.lost
    assert result.stdout == "begun\n" and result.seconds < 8
    pid = shell.run(["cat", f"{folder}/pid"], timeout=30).stdout.strip()
    alive = ["sh", "-c", 'kill -0 "$1" 2>/dev/null', "sh", pid]
    Cluster.wait_for(lambda: not shell.run(alive, timeout=30).ok, 15, "the program to be gone")


def test_a_script_has_a_deadline(shell: PosixShell) -> None:
    result = shell.script("echo begun; exec sleep 60", timeout=1.5)
    assert (result.rc, result.stdout.strip(), result.lost) == (None, "begun", "") and result.seconds < 8
    assert shell.run(["echo", "on"], timeout=30).stdout == "on\n"


# -- many at once -------------------------------------------------------------------


def test_many_questions_at_once(shell: PosixShell) -> None:
    """More than sshd allows sessions in a connection, which are ten."""
    together = threading.Barrier(25)

    def ask(number: int) -> str:
        together.wait()
        return shell.run(["sh", "-c", f"sleep 0.2; cat; echo {number}"], timeout=60, stdin="in ").stdout

    with ThreadPoolExecutor(25) as pool:
        assert list(pool.map(ask, range(25))) == [f"in {number}\n" for number in range(25)]


# -- other machines ------------------------------------------------------------------

NOISE = """\
echo 'Welcome to the cluster!'
echo 'Maintenance on Tuesday' >&2
head -c 100000 /dev/zero | tr '\\0' '\\n'
head -c 100000 /dev/zero | tr '\\0' x
printf 'no end of line'
"""


def test_a_noisy_login_shell_harms_nothing(remote: RemoteShell, site: Cluster) -> None:
    with noise(site):
        result = remote.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=30)
        assert (result.rc, result.stdout, result.stderr) == (3, "out\n", "err\n")
        assert output(remote, "cat", stdin=b"\0\xff") == b"\0\xff"


@contextmanager
def noise(site: Cluster) -> Iterator[None]:
    rc = site.home() / ".bashrc"
    usual = rc.read_text()
    rc.write_text(NOISE)
    try:
        yield
    finally:
        rc.write_text(usual)


# Does what all shells agree on: words, and single quotes around them. In csh or fish nothing else is sure.
PLAIN_SHELL = """\
#!/usr/bin/python3 -I
import os, shlex, sys
assert sys.argv[1] == "-c"
words = shlex.split(sys.argv[2])
assert words.pop(0) == "exec" and not set("$`;&|<>") & set(sys.argv[2].split("'")[0])
os.execvp(words[0], words)
"""


@pytest.mark.parametrize("login_shell", ["/bin/dash", "/opt/busybox/sh", "/opt/plain-shell"])
def test_any_login_shell(remote: RemoteShell, site: Cluster, login_shell: str) -> None:
    site.run("login", ["mkdir", "-p", "/opt/busybox"], user="root")
    site.run("login", ["ln", "-sf", "/bin/busybox", "/opt/busybox/sh"], user="root")
    site.write("/opt/plain-shell", PLAIN_SHELL, mode=0o755)
    site.run("login", ["usermod", "-s", login_shell, "alice"], user="root")
    try:
        words = ["it's", "$HOME", "a\nb", "\\", "!x", "\r"]
        assert output(remote, "printf '%s\\0' \"$@\"", *words) == "".join(f"{w}\0" for w in words).encode()
        result = remote.run(["sh", "-c", "cat; exit 3"], timeout=30, stdin=b"in", env={"A": "b"})
        assert (result.rc, result.stdout) == (3, "in")
    finally:
        site.run("login", ["usermod", "-s", "/bin/bash", "alice"], user="root")


@pytest.mark.parametrize("way", REMOTE)
def test_what_is_not_there_is_unreachable(way: str, site: Cluster, tmp_path: Path) -> None:
    for changes in ({"Port": 9}, {"HostName": "no-such-host.invalid"}):
        shell = there(site, tmp_path, way, **changes)
        with pytest.raises(UnreachableError, match=r"^login"):
            shell.run(["true"], timeout=30)
        with pytest.raises(UnreachableError), shell.rsh():
            pass


@pytest.mark.parametrize("way", REMOTE)
def test_a_connection_that_breaks_is_told_and_made_anew(way: str, site: Cluster, tmp_path: Path) -> None:
    with site.relay() as relay:
        shell = there(site, tmp_path, way, **ssh_help.through(relay, site))
        assert shell.run(["true"], timeout=30).ok
        relay.cut_down = 200_000
        result = shell.script("yes", timeout=60, sink=lambda piece: None)
        assert result.rc is None and result.lost
        relay.cut_down = None
        assert shell.run(["echo", "on"], timeout=30).stdout == "on\n"
        assert relay.connections == 2


# -- what rides on the connection ----------------------------------------------------

NAMES = [
    "plain",
    "a b",
    "it's",
    '"',
    "$HOME",
    "`id`",
    "*",
    "-rf",
    "new\nline",
    "back\\slash",
    "é雪",
    ";id",
    "x:y",
]


@pytest.mark.parametrize("noisy", [False, True])
def test_rsync_rides_on_it_both_ways(remote: RemoteShell, site: Cluster, tmp_path: Path, noisy: bool) -> None:
    for name in NAMES:
        file = tmp_path / "up" / f"in {name}" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(os.urandom(200_000) + name.encode())
    with noise(site) if noisy else quiet():
        assert remote.run(["true"], timeout=30).ok
        with remote.rsh() as rsh:
            for source, target in (
                (f"{tmp_path}/up/", f"{rsh.host}:up/"),
                (f"{rsh.host}:up/", f"{tmp_path}/down/"),
            ):
                argv = ["rsync", "-a", "--rsh", shlex.join(rsh.argv), source, target]
                done = subprocess.run(
                    argv, env={**os.environ, **rsh.env}, capture_output=True, timeout=60, check=False
                )
                assert done.returncode == 0, done
    assert tree(tmp_path / "down") == tree(tmp_path / "up") == tree(site.home() / "up")
    remote.run(["rm", "-rf", "up"], timeout=30).check()


@contextmanager
def quiet() -> Iterator[None]:
    yield


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("noisy", [False, True])
def test_exit_codes_and_errors_of_what_rides(remote: RemoteShell, site: Cluster, noisy: bool) -> None:
    with noise(site) if noisy else quiet():
        remote.run(["true"], timeout=30)
        with remote.rsh() as rsh:
            argv = [*rsh.argv, rsh.host, "cat;", "echo err >&2;", "exit 7"]
            done = subprocess.run(argv, input=b"\0in\xff", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr[-4:]) == (7, b"\0in\xff", b"err\n")


def test_git_rides_on_it(remote: RemoteShell, tmp_path: Path) -> None:
    remote.script("git init -q --bare 'a repository'", timeout=30).check()
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", "init", "-q", "-b", "main", "."], check=True, timeout=30)
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True, timeout=30)
    with remote.rsh() as rsh:
        env = {**os.environ, **rsh.env, "GIT_SSH_COMMAND": shlex.join(rsh.argv)}
        argv = ["git", "push", "-q", f"{rsh.host}:a repository", "main"]
        subprocess.run(argv, env=env, check=True, timeout=60)
    told = remote.run(["git", "-C", "a repository", "log", "--format=%s", "main"], timeout=30)
    assert told.stdout == "first\n"
    remote.run(["rm", "-rf", "a repository"], timeout=30).check()
