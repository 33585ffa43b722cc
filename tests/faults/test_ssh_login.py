"""Somebody types a one-time code, once; for hours all else asks nothing, with no terminal and no agent."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli_help import document, refused, typed
from tests.cluster import layout
from tests.cluster.cluster import Cluster
from tests.cluster.conf import ONE_TIME_CODE_SSHD
from tests.ssh_help import SshdLog, private_runtime, ssh_config

pytestmark = pytest.mark.cluster

HPCRUN = [sys.executable, "-m", "hpcrun"]
CTRL_C, END = "\x03", "\r"


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from private_runtime(monkeypatch)


class Terminal:
    """A command on a terminal of its own, and somebody who reads and types."""

    def __init__(self, *args: str, env: Mapping[str, str] | None = None) -> None:
        self._ours, theirs = os.openpty()
        argv = ["setsid", "--ctty", *HPCRUN, *args]
        settings = {**os.environ, "TERM": "xterm", **(env or {})}
        self.process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=settings)
        os.close(theirs)
        self.shown = ""
        self._seen = 0

    def until(self, text: str) -> None:
        """Read until the screen shows something that it has not shown before."""
        while text not in self.shown[self._seen :]:
            assert self._read(), f"{text!r} never came, but {self.shown!r}"
        self._seen = self.shown.index(text, self._seen) + len(text)

    def type(self, text: str, end: str = END) -> None:
        os.write(self._ours, f"{text}{end}".encode())

    def end(self) -> int:
        """The command's exit code."""
        try:
            while self._read():
                pass
        finally:
            os.close(self._ours)
            code = self.process.wait(20)
        return code

    def _read(self) -> bool:
        assert select.select([self._ours], [], [], 30)[0], f"nothing more came after {self.shown!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how Linux says that nobody has the other end open
            return False
        self.shown += data.decode().replace("\r\n", "\n")
        return bool(data)


def describe(name: str, config: Path, **more: object) -> None:
    """A site of the working directory, at host ``login``."""
    Path("site_configs").mkdir(exist_ok=True)
    words = {"type": "ssh", "host": "login", "ssh_config": f"'{config}'", "two_factor": "true", **more}
    lines = "".join(f"  {key}: {value}\n" for key, value in words.items())
    Path(f"site_configs/{name}.yaml").write_text(
        f"connection:\n{lines}default_partition: main\nroot: ~/hpcrun\n"
    )


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> str:
    """A site that asks for a code, described in the working directory."""
    cluster.ask_one_time_code("111111", "222222")
    describe("virtual", ssh_config(cluster, tmp_path))
    return "virtual"


def reached(site: str) -> str:
    sites = {each["name"]: each["reached"] for each in document("site", "ls")["sites"]}
    return str(sites[site])


def asked(cluster: Cluster) -> int:
    """How many codes have been taken."""
    return 2 - len((cluster.hosts["login"].root / "run/one-time-codes").read_text().split())


def from_cron(*args: str) -> subprocess.CompletedProcess[str]:
    """A command as cron starts it: no terminal, no agent, hardly a variable."""
    kept = {name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR")}
    return unattended([*HPCRUN, *args], {**kept, "PATH": "/usr/bin:/bin"})


def unattended(argv: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )


OVER_IT = """
import sys
from pathlib import Path
from hpcrun.config.sites import load_site
from hpcrun.shells import remote_shell
shell = remote_shell(load_site(sys.argv[1], Path.cwd()).connection)
print(shell.run(["hostname"], timeout=30).check().stdout, end="")
"""


def over_it(site: str) -> subprocess.CompletedProcess[str]:
    """A program that asks the site something, with nobody there."""
    return unattended([sys.executable, "-c", OVER_IT, site])


def test_a_code_is_typed_once_and_everything_after_it_asks_nothing(cluster: Cluster, site: str) -> None:
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    assert "hpcrun login virtual" in over_it(site).stderr
    assert log.connections == 0
    terminal = Terminal("login", site)
    terminal.until("Password:")
    terminal.type("000000")
    terminal.until("Password:")
    terminal.type("111111")
    terminal.until("virtual is open, until nothing has used it for 8h; hpcrun logout virtual closes it\n")
    assert terminal.end() == 0
    assert "111111" not in terminal.shown
    for _ in range(3):
        assert over_it(site).stdout == "hostname: login\n".removeprefix("hostname: ")
    for command in (("run", "-t", site, "--", "hostname"), ("ls",), ("logs", "@-1"), ("site", "ls")):
        done = from_cron(*command)
        assert (done.returncode, done.stderr) == (0, done.stderr), done
    assert asked(cluster) == 1
    assert (log.connections, log.logins) == (1, 1)


def test_login_says_what_is_open_already_and_logout_closes_it(cluster: Cluster, site: str) -> None:
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    assert reached(site) == "closed"
    terminal = Terminal("login", f"{site}:main")
    terminal.until("Password:")
    terminal.type("111111")
    assert terminal.end() == 0
    assert typed("login", site).startswith("virtual is open already, until nothing has used it for 8h")
    line = next(line for line in typed("site", "ls").splitlines() if line.startswith(site))
    assert line.split()[1] == "open"
    assert reached(site) == "open"
    assert typed("logout", site) == "virtual is closed\n"
    assert typed("logout", site) == "virtual is not open\n"
    assert typed("logout", "--all") == "nothing is open\n"
    assert "hpcrun login virtual" in over_it(site).stderr
    assert log.connections == 1


def test_all_are_closed_at_once(cluster: Cluster, tmp_path: Path) -> None:
    describe("one", ssh_config(cluster, tmp_path), two_factor="false")
    describe("two", ssh_config(cluster, tmp_path), two_factor="false")
    describe("forgotten", ssh_config(cluster, tmp_path), two_factor="false")
    assert over_it("one").stdout == over_it("two").stdout == over_it("forgotten").stdout == "login\n"
    Path("site_configs/forgotten.yaml").unlink()
    assert typed("logout", "--all") == "closed: one, two, 1 more, of sites that are not known here\n"
    assert reached("one") == reached("two") == "closed"
    assert refused("logout", code=2)
    assert refused("logout", "one", "--all", code=2)


def test_ctrl_c_at_the_prompt_leaves_terminal_and_site_as_they_were(cluster: Cluster, site: str) -> None:
    terminal = Terminal("login", site)
    terminal.until("Password:")
    terminal.type("", end=CTRL_C)
    assert terminal.end() == 130
    assert "virtual was not opened" in terminal.shown
    assert typed("logout", site) == "virtual is not open\n"
    terminal = Terminal("login", site)  # nor does the gate stay shut
    terminal.until("Password:")
    terminal.type("111111")
    assert terminal.end() == 0


def test_who_is_not_let_in_is_told_so(cluster: Cluster, site: str) -> None:
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    terminal = Terminal("login", site)
    for _ in range(3):
        terminal.until("Password:")
        terminal.type("000000")
    terminal.until("Permission denied")
    terminal.until("virtual is not open")
    assert terminal.end() == 11
    assert (log.connections, asked(cluster)) == (1, 0)


def test_two_who_log_in_at_once_type_one_code(cluster: Cluster, site: str) -> None:
    first, second = Terminal("login", site), Terminal("login", site)
    ready = select.select([first._ours, second._ours], [], [], 30)[0]
    asking, waiting = (first, second) if first._ours in ready else (second, first)
    asking.until("Password:")
    asking.type("111111")
    assert asking.end() == 0
    assert waiting.end() == 0
    assert "virtual is open already" in waiting.shown
    assert asked(cluster) == 1


def test_without_a_terminal_there_is_nobody_to_ask(cluster: Cluster, site: str) -> None:
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    done = from_cron("login", site)
    assert done.returncode == 12
    assert "no terminal here" in done.stderr
    assert log.connections == 0


def test_where_a_key_is_enough_no_terminal_is_needed(cluster: Cluster, tmp_path: Path) -> None:
    describe("plain", ssh_config(cluster, tmp_path), two_factor="false")
    assert from_cron("login", "plain").stdout.startswith("plain is open, until")


def test_a_jump_host_that_asks_for_a_code_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("111111", "222222")
    layout.write_one_time_codes(cluster.hosts["ctl"].root, ["333333"])
    cluster.daemon("sshd", "ctl").start()
    describe("far", ssh_config(cluster, tmp_path), jump="ctl")
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    terminal = Terminal("login", "far")
    terminal.until(f"{cluster.address('ctl')}) Password:")
    terminal.type("333333")
    terminal.until(f"{cluster.ssh_address}) Password:")
    terminal.type("111111")
    terminal.until("far is open")
    assert terminal.end() == 0
    for _ in range(3):
        done = over_it("far")
        assert done.stdout == "login\n", done.stderr
    assert (asked(cluster), log.logins) == (1, 2)


@pytest.mark.parametrize("way", ["jump", "ProxyJump", "ProxyCommand"])
def test_the_way_through_a_jump_host_outlives_the_terminal(
    cluster: Cluster, tmp_path: Path, way: str
) -> None:
    cluster.daemon("sshd", "ctl").start()
    cluster.ask_one_time_code("111111", "222222")
    nested = f"ssh -F {ssh_config(cluster, tmp_path)} -W %h:%p ctl"
    changes = {"jump": {}, "ProxyJump": {way: "ctl"}, "ProxyCommand": {way: nested}}[way]
    describe("far", ssh_config(cluster, tmp_path, **changes), **({"jump": "ctl"} if way == "jump" else {}))
    terminal = Terminal("login", "far")
    terminal.until("Password:")
    terminal.type("111111")
    assert terminal.end() == 0
    assert over_it("far").stdout == "login\n"
    assert asked(cluster) == 1


def test_an_unknown_host_key_is_shown_and_asked_for_and_then_known(cluster: Cluster, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    describe("new", ssh_config(cluster, tmp_path, UserKnownHostsFile=known), two_factor="false")
    key = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(cluster.folder / "etc/ssh/ssh_host_ed25519_key.pub")],
        capture_output=True, text=True, check=True,
    ).stdout.split()[1]  # fmt: skip
    assert key in over_it("new").stderr
    terminal = Terminal("login", "new")
    terminal.until(key)
    terminal.until("Are you sure you want to continue connecting")
    terminal.type("no")
    assert terminal.end() == 11
    terminal = Terminal("login", "new")
    terminal.until("Are you sure you want to continue connecting")
    terminal.type("yes")
    assert terminal.end() == 0
    assert cluster.ssh_address in known.read_text()
    typed("logout", "new")
    assert over_it("new").stdout == "login\n"


def test_a_password_is_asked_for_too(cluster: Cluster, tmp_path: Path) -> None:
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "correct horse"], capture_output=True, text=True, check=True
    )
    cluster.run("login", ["usermod", "-p", hashed.stdout.strip(), "alice"], user="root")
    try:
        log = SshdLog(cluster, "PasswordAuthentication yes", "PubkeyAuthentication no")
        describe("typed", ssh_config(cluster, tmp_path), two_factor="false")
        assert "asks for something to be typed (password)" in over_it("typed").stderr
        assert log.connections == 1
        terminal = Terminal("login", "typed")
        terminal.until("password:")
        terminal.type("correct horse")
        assert terminal.end() == 0
        assert over_it("typed").stdout == "login\n"
        assert "correct horse" not in terminal.shown
    finally:
        cluster.run("login", ["usermod", "-p", "*", "alice"], user="root")


def test_the_master_outlives_the_terminal_and_ends_when_it_is_not_used(
    cluster: Cluster, tmp_path: Path, runtime: Path
) -> None:
    describe("short", ssh_config(cluster, tmp_path), two_factor="false", persist="3s")
    terminal = Terminal("login", "short")
    terminal.until("until nothing has used it for 3s")
    assert terminal.end() == 0  # its end of the terminal is closed, and nothing else holds it open
    assert reached("short") == "open"
    cluster.wait_for(lambda: not list((runtime / "hpcrun").glob("*[0-9a-f]")), 15, "it to be closed")


def test_what_needs_no_login_says_so(cluster: Cluster, tmp_path: Path) -> None:
    describe("kept", ssh_config(cluster, tmp_path), type="fabric")
    describe("mine", ssh_config(cluster, tmp_path), login_nodes=f"['{os.uname().nodename}']")
    assert (
        typed("login", "local")
        == "local is reached from this machine itself: there is nothing to log in to\n"
    )
    assert typed("login", "mine").startswith("mine is reached from this machine itself")
    said = refused("login", "kept", code=1)
    assert "kept cannot be kept open" in said
    assert "OpenSSH" in said
    assert "did you mean kept?" in refused("login", "ketp", code=4)
    assert (reached("kept"), reached("mine"), reached("local")) == ("fabric", "here", "here")
