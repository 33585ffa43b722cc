"""Who a host says it is: unknown and changed keys are refused alike for commands, jump hosts and rsync."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcrun.errors import CommandError, LoginRequired, UnreachableError
from hpcrun.shells import ssh_words
from hpcrun.shells.openssh import OpenSshShell
from tests.cluster.cluster import Cluster
from tests.ssh_help import NOBODY_KNOWS, SshdLog, connection, private_runtime, ssh_config

cluster_test = pytest.mark.cluster


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from private_runtime(monkeypatch)


def run(shell: OpenSshShell) -> None:
    shell.run(["touch", "was-here"], timeout=20)


def fetch(shell: OpenSshShell) -> None:
    with shell.rsh() as rsh:
        pytest.fail(f"a way for rsync: {rsh}")


each_way = pytest.mark.parametrize("way", [run, fetch])
Way = Callable[[OpenSshShell], None]


def refused(way: Way, shell: OpenSshShell) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        way(shell)
    assert type(caught.value) is UnreachableError
    assert caught.value.exit_code == 11
    return caught.value


def shown_by(cluster: Cluster) -> str:
    """The fingerprint of the key that the cluster's hosts have now."""
    argv = ["ssh-keygen", "-l", "-f", str(cluster.folder / "etc/ssh/ssh_host_ed25519_key.pub")]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]


# Nothing of this may make it known.
CARELESS = {"StrictHostKeyChecking": "no", "CheckHostIP": "no", "UpdateHostKeys": "yes"}


@cluster_test
@each_way
def test_an_unknown_host_is_refused(cluster: Cluster, tmp_path: Path, way: Way) -> None:
    log, known = SshdLog(cluster), tmp_path / "known_hosts"
    config = ssh_config(cluster, tmp_path, UserKnownHostsFile=known, **CARELESS)
    error = refused(way, OpenSshShell(connection(config)))
    assert error.message.startswith(f"the host key of {cluster.ssh_address} is not known here; it shows ")
    assert shown_by(cluster) in error.message
    assert error.hint is not None
    assert "hpcrun login login shows it, asks you" in error.hint
    assert not known.exists()
    assert (log.logins, log.count("publickey")) == (0, 0)
    assert not (cluster.home() / "was-here").exists()


@cluster_test
@each_way
def test_a_changed_host_key_is_refused(cluster: Cluster, tmp_path: Path, way: Way) -> None:
    before = shown_by(cluster)
    cluster.change_host_key()
    log = SshdLog(cluster)
    config = ssh_config(cluster, tmp_path, **CARELESS)
    error = refused(way, OpenSshShell(connection(config)))
    said, now = str(error), shown_by(cluster)
    assert before != now
    assert f"the host key of {cluster.ssh_address} has changed: it now shows ED25519 {now}" in said
    assert f"{cluster.known_hosts}, line " in said
    assert "support" in said
    assert f"ssh-keygen -f {cluster.known_hosts} -R {cluster.ssh_address} && hpcrun login login" in said
    assert (log.connections, log.logins, log.count("publickey")) == (1, 0, 0)


@cluster_test
@each_way
@pytest.mark.parametrize("jump", ["ctl", None])
@pytest.mark.parametrize("changed", [True, False])
def test_so_it_is_with_a_jump_host(
    cluster: Cluster, tmp_path: Path, way: Way, jump: str | None, changed: bool
) -> None:
    if changed:
        cluster.change_host_key()
    cluster.daemon("sshd", "ctl").start()
    log = SshdLog(cluster)
    config = ssh_config(cluster, tmp_path, **({} if jump else {"ProxyJump": "ctl"}))
    text = config.read_text()
    if not changed:
        text = text.replace(str(cluster.known_hosts), NOBODY_KNOWS)
    config.write_text(text.replace("Host ctl\n", "Host ctl\n    StrictHostKeyChecking no\n"))
    error = refused(way, OpenSshShell(connection(config, jump=jump)))
    kind = "has changed" if changed else "is not known here"
    assert error.message.startswith(f"the host key of {cluster.address('ctl')} {kind}")
    assert shown_by(cluster) in error.message
    assert log.count("Accepted|publickey") == 0


@cluster_test
def test_behind_a_known_jump_host_the_host_itself_is_looked_at(cluster: Cluster, tmp_path: Path) -> None:
    cluster.daemon("sshd", "ctl").start()
    config = ssh_config(cluster, tmp_path, UserKnownHostsFile=NOBODY_KNOWS)
    error = refused(run, OpenSshShell(connection(config, jump="ctl")))
    assert error.message.startswith(f"the host key of {cluster.ssh_address} is not known here")
    assert shown_by(cluster) in error.message


@cluster_test
def test_a_known_key_is_enough_once_somebody_has_looked(cluster: Cluster, tmp_path: Path) -> None:
    cluster.change_host_key()
    known = tmp_path / "known_hosts"
    known.write_text(cluster.known_hosts.read_text())
    shell = OpenSshShell(connection(ssh_config(cluster, tmp_path, UserKnownHostsFile=known)))
    hint = str(refused(run, shell).hint)
    remedy = hint.partition("ssh-keygen ")[2].partition(" && ")[0].split()
    subprocess.run(["ssh-keygen", *remedy], check=True, capture_output=True)
    assert "is not known here" in str(refused(run, shell))
    key = (cluster.folder / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    known.write_text(" ".join([cluster.ssh_address, *key]) + "\n")
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"


# -- words ---------------------------------------------------------------------


def trouble(words: str) -> UnreachableError:
    return ssh_words.trouble(words, "snellius", "login1")


def test_what_can_be_typed_is_told_from_what_cannot() -> None:
    for methods in ("password", "publickey,keyboard-interactive", "publickey,gssapi-with-mic,password"):
        error: CommandError = trouble(f"me@login1: Permission denied ({methods}).")
        assert type(error) is LoginRequired
        assert error.hint == "Log in once, in a terminal: hpcrun login snellius"
    error = trouble(
        'Load key "/x/id": Permission denied\nme@login1: Permission denied (publickey,hostbased).'
    )
    assert type(error) is UnreachableError
    assert "publickey,hostbased" in error.message
    error = trouble("Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures\n")
    assert "IdentitiesOnly" in str(error)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("ssh: Could not resolve hostname login1: Name or service not known", "spelled"),
        ("ssh: connect to host login1 port 22: Connection refused", "VPN"),
        ("ssh: connect to host login1 port 22: Connection timed out", "VPN"),
        ("ssh: connect to host login1 port 22: No route to host", "VPN"),
        ("Connection closed by UNKNOWN port 65535", "ssh -v login1"),
    ],
)
def test_what_to_do_where_there_is_no_way(words: str, hint: str) -> None:
    error = trouble(f"something else before\n{words}\n")
    assert error.message == f"login1 cannot be reached: {words}"
    assert error.hint is not None
    assert hint in error.hint


def test_without_a_word_it_still_says_something() -> None:
    assert trouble("\n").message == "login1 cannot be reached: ssh said nothing"


def test_who_is_turned_away_at_the_door_may_knock_again() -> None:
    closed = "kex_exchange_identification: Connection closed by remote host\nConnection closed by "
    assert ssh_words.turned_away(f"{closed}10.0.0.1 port 22")
    assert ssh_words.turned_away("kex_exchange_identification: read: Connection reset by peer")
    assert ssh_words.turned_away("ssh_exchange_identification: Connection closed by remote host")
    assert not ssh_words.turned_away(f"{closed}UNKNOWN port 65535")
    assert not ssh_words.turned_away("me@login1: Permission denied (publickey).")
