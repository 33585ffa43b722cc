"""Getting in by fabric: jump hosts, agents, certificates, passphrases, and codes that somebody types."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcrun.errors import LoginRequired, UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells import fabric_link
from hpcrun.shells.fabric import FabricShell
from tests import ssh_help
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from ssh_help.private_runtime(monkeypatch)
    fabric_link.close_all()


def connection(config: Path, **more: object) -> Connection:
    return Connection.model_validate({"type": "fabric", "host": "login", "ssh_config": str(config), **more})


# -- jump hosts -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["jump", "ProxyJump", "everywhere"])
def test_a_jump_host(cluster: Cluster, tmp_path: Path, how: str) -> None:
    cluster.daemon("sshd", "ctl").start()
    log = ssh_help.SshdLog(cluster)
    if how == "jump":
        shell = FabricShell(connection(ssh_help.ssh_config(cluster, tmp_path), jump="alice@ctl:22"))
    else:
        config = ssh_help.ssh_config(
            cluster, tmp_path, **({"ProxyJump": "ctl"} if how == "ProxyJump" else {})
        )
        if how == "everywhere":  # "Host *" means the jump host as well
            config.write_text(f"{config.read_text()}Host *\n    ProxyJump ctl\n")
        shell = FabricShell(connection(config))
    result = shell.run(["sh", "-c", "echo ${SSH_CONNECTION%% *}; hostname"], timeout=30).check()
    assert result.stdout.split() == [cluster.address("ctl"), "login"]
    assert log.logins == 2
    with shell.rsh() as rsh:
        done = subprocess.run([*rsh.argv, rsh.host, "hostname"], capture_output=True, timeout=30, check=True)
    assert done.stdout == b"login\n" and log.logins == 2


TUNNEL = """\
import os, socket, sys, threading
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while piece := os.read(0, 65536):
        far.sendall(piece)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while piece := far.recv(65536):
    os.write(1, piece)
"""


def test_a_proxy_command(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "tunnel.py").write_text(TUNNEL)
    command = f"{sys.executable} {tmp_path}/tunnel.py %h %p"
    config = ssh_help.ssh_config(cluster, tmp_path, ProxyCommand=command)
    shell = FabricShell(connection(config, connect_timeout=5))
    assert shell.run(["hostname"], timeout=30).stdout == "login\n"
    data = os.urandom(3_000_000)
    got = bytearray()
    shell.script("cat", stdin=data, sink=got.extend, timeout=60).check()
    assert bytes(got) == data


# -- keys -----------------------------------------------------------------------


@contextmanager
def agent(monkeypatch: pytest.MonkeyPatch, folder: Path, *keys: Path) -> Iterator[None]:
    socket = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        Cluster.wait_for(socket.exists, 10, "the agent")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, timeout=20)
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_a_key_of_the_agent(
    cluster: Cluster, tmp_path: Path, _runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key is in the agent alone; the configuration says which by its public half."""
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(f"{cluster.ssh_key}.pub", keys / "alice.pub")
    bob = cluster.ssh_key.with_name("bob")
    log = ssh_help.SshdLog(cluster)
    for only in ("yes", "no"):
        changes = {"IdentityAgent": "SSH_AUTH_SOCK", "IdentitiesOnly": only, "IdentityFile": keys / "alice"}
        config = ssh_help.ssh_config(cluster, tmp_path, **changes)
        text = config.read_text().replace(f'IdentityFile "{cluster.ssh_key}"\n', "")
        config.write_text(text)
        with agent(monkeypatch, _runtime, bob, cluster.ssh_key):
            assert FabricShell(connection(config)).run(["true"], timeout=30).ok
        (_runtime / "agent").unlink(missing_ok=True)
    assert log.count("Failed publickey") == 0


def test_a_certificate_beside_its_key(cluster: Cluster, tmp_path: Path) -> None:
    def keygen(*words: object) -> None:
        subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, timeout=20)

    keygen("-t", "ed25519", "-N", "", "-f", tmp_path / "ca")
    keygen("-t", "ed25519", "-N", "", "-f", tmp_path / "id")
    shutil.copy(tmp_path / "ca.pub", cluster.folder / "etc/ssh/ca.pub")
    cluster.configure_sshd("TrustedUserCAKeys /etc/ssh/ca.pub")
    config = ssh_help.ssh_config(cluster, tmp_path / "ssh", IdentityFile=None)
    config.write_text(config.read_text() + f'    IdentityFile "{tmp_path}/id"\n')
    with pytest.raises(UnreachableError, match="no key here was right"):
        FabricShell(connection(config)).run(["true"], timeout=30)
    fabric_link.close_all()
    keygen("-s", tmp_path / "ca", "-I", "alice", "-n", "alice", tmp_path / "id.pub")
    assert FabricShell(connection(config)).run(["true"], timeout=30).ok
    (cluster.folder / "etc/ssh/ca.pub").unlink()


def test_a_key_with_a_passphrase_needs_somebody(cluster: Cluster, tmp_path: Path) -> None:
    key, config = locked_key(cluster, tmp_path)
    with pytest.raises(LoginRequired, match="needs a passphrase") as caught:
        FabricShell(connection(config)).run(["true"], timeout=30)
    assert str(key) in caught.value.message and "ssh-add" in str(caught.value.hint)
    with at_terminal(tmp_path, connection(config)) as person:
        person.answer("Passphrase of", "open sesame")
        assert person.output().startswith("0\n1\n2\n")
    assert person.shown.count("Passphrase") == 1 and "sesame" not in person.shown


def locked_key(cluster: Cluster, folder: Path) -> tuple[Path, Path]:
    key = folder / "locked"
    shutil.copy(cluster.ssh_key, key)
    argv = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)]
    subprocess.run(argv, check=True, timeout=20)
    config = ssh_help.ssh_config(cluster, folder / "ssh", IdentityFile=None)
    config.write_text(config.read_text() + f'    IdentityFile "{key}"\n')
    return key, config


# -- codes ----------------------------------------------------------------------


def test_without_a_terminal_nobody_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("123456")
    log = ssh_help.SshdLog(cluster, *one_time_code())
    shell = FabricShell(connection(ssh_help.ssh_config(cluster, tmp_path)))
    for _ in range(3):  # and once is enough
        with pytest.raises(LoginRequired, match="login asks alice for a password or a code"):
            shell.run(["true"], timeout=30)
    assert log.connections == 1 and log.count("keyboard-interactive") == 0
    shell = FabricShell(connection(ssh_help.ssh_config(cluster, tmp_path), two_factor=True))
    with pytest.raises(LoginRequired) as caught, shell.rsh():
        pass
    assert "fabric" in str(caught.value.hint)
    assert log.connections == 1


def one_time_code() -> tuple[str, ...]:
    from tests.cluster.conf import ONE_TIME_CODE_SSHD

    return ONE_TIME_CODE_SSHD


@pytest.mark.parametrize("two_factor", [True, False])
def test_a_code_is_asked_once_for_commands_and_rsync(
    cluster: Cluster, tmp_path: Path, two_factor: bool
) -> None:
    cluster.ask_one_time_code("123456", "234567")
    log = ssh_help.SshdLog(cluster, *one_time_code())
    with cluster.relay() as relay:
        config = ssh_help.ssh_config(cluster, tmp_path, **ssh_help.through(relay, cluster))
        with at_terminal(tmp_path, connection(config, two_factor=two_factor)) as person:
            person.answer("(alice@login) Password: ", "123456")
            assert person.output() == "0\n1\n2\nrsync 0\nLoginRequired\n"
        assert person.shown.count("alice@login") == 1 and "123456" not in person.shown
        # Where it is known that a code is wanted, and nobody may be asked again, nobody knocks.
        assert log.logins == 1 and relay.connections == (1 if two_factor else 2)
    assert (cluster.home() / "up/a file").read_text() == "brought"


def test_a_wrong_code_is_one_attempt(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("123456")
    log = ssh_help.SshdLog(cluster, *one_time_code())
    with at_terminal(tmp_path, connection(ssh_help.ssh_config(cluster, tmp_path))) as person:
        person.answer("Password: ", "000000")
        assert person.output() == "LoginRequired: login did not take the answer\n"
    assert person.shown.count("alice@login") == 1
    assert log.connections == 1 and log.logins == 0


def test_somebody_may_take_longer_than_a_machine(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("123456")
    site = connection(ssh_help.ssh_config(cluster, tmp_path), connect_timeout=1)
    with at_terminal(tmp_path, site, "import hpcrun.shells.fabric_link as f; f._PATIENCE = 1") as person:
        person.answer("Password: ", "123456", after=4)
        assert person.output().startswith("0\n1\n2\n")


def test_ctrl_c_while_a_code_is_awaited(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("123456")
    with at_terminal(tmp_path, connection(ssh_help.ssh_config(cluster, tmp_path))) as person:
        person.answer("Password: ", "\x03", end="")
        assert person.output() == ""
    assert person.process.returncode in (-signal.SIGINT, 130, 1)


PROGRAM = """\
import json, os, shlex, subprocess, sys
from hpcrun.errors import UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells import fabric_link
from hpcrun.shells.fabric import FabricShell
shell = FabricShell(Connection.model_validate(json.loads(sys.argv[1])))
exec(sys.argv[3])
try:
    for number in range(3):
        print(shell.run(["echo", str(number)], timeout=60).stdout, end="")
except UnreachableError as error:
    raise SystemExit(print(f"{type(error).__name__}: {error.message}"))
with shell.rsh() as rsh:
    argv = ["rsync", "-a", "--rsh", shlex.join(rsh.argv), sys.argv[2] + "/", rsh.host + ":up/"]
    print("rsync", subprocess.run(argv, env={**os.environ, **rsh.env}, timeout=60).returncode)
for link in fabric_link._links.values():
    link.close()  # it broke
try:
    print(shell.run(["echo", "again"], timeout=60).stdout, end="")
except UnreachableError as error:
    print(type(error).__name__)
"""


class Person:
    """Somebody at a terminal: sees what is shown there, and types."""

    def __init__(self, argv: list[str]) -> None:
        self._end, other = os.openpty()
        self.shown = ""
        try:
            # setsid makes the terminal the program's own, for getpass.
            self.process = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *argv],
                stdin=other,
                stdout=subprocess.PIPE,
                stderr=other,
                text=True,
            )
        finally:
            os.close(other)

    def answer(self, prompt: str, text: str, *, after: float = 0, end: str = "\n") -> None:
        deadline = time.monotonic() + 60
        while prompt not in self.shown:
            assert time.monotonic() < deadline and self.look(1), self.shown
        time.sleep(after)
        os.write(self._end, (text + end).encode())

    def look(self, patience: float) -> bool:
        """See what is new; whether more may come."""
        if select.select([self._end], [], [], patience)[0]:
            try:
                self.shown += os.read(self._end, 4096).decode()
            except OSError:  # nobody has the terminal open any more
                return False
        return True

    def output(self) -> str:
        said, _ = self.process.communicate(timeout=60)
        while self.look(0.2) and select.select([self._end], [], [], 0)[0]:
            pass
        return str(said)

    def leave(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._end)


@contextmanager
def at_terminal(folder: Path, site: Connection, first: str = "") -> Iterator[Person]:
    (folder / "source").mkdir()
    (folder / "source/a file").write_text("brought")
    given = json.dumps(site.model_dump(mode="json", exclude={"persist"}))
    person = Person([sys.executable, "-c", PROGRAM, given, str(folder / "source"), first])
    try:
        yield person
    finally:
        person.leave()
