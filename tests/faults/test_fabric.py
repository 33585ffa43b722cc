"""Faults 29 to 33 by fabric, which is no ssh program: what ssh refuses, it must refuse by itself."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcrun.errors import LoginRequired, UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells import fabric_link
from hpcrun.shells.fabric import FabricShell
from hpcrun.shells.known_hosts import HostKey
from tests import ssh_help
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from ssh_help.private_runtime(monkeypatch)
    fabric_link.close_all()


def fabric(
    cluster: Cluster, folder: Path, *, changes: dict[str, object] | None = None, **more: object
) -> FabricShell:
    config = ssh_help.ssh_config(cluster, folder, **(changes or {}))
    given = {"type": "fabric", "host": "login", "ssh_config": str(config), **more}
    return FabricShell(Connection.model_validate(given))


def refusal(shell: FabricShell, timeout: float = 30) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        shell.run(["true"], timeout=timeout)
    return caught.value


# -- 29: a storm of connections ----------------------------------------------------


def test_all_questions_of_a_process_share_one_connection(cluster: Cluster, tmp_path: Path) -> None:
    log = ssh_help.SshdLog(cluster)
    config = ssh_help.ssh_config(cluster, tmp_path)
    site = Connection.model_validate({"type": "fabric", "host": "login", "ssh_config": str(config)})

    def ask(number: int) -> bool:
        return FabricShell(site).run(["true"], timeout=60).ok

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(30)))
    assert log.connections == log.logins == 1


def test_who_is_turned_away_at_the_door_comes_again(cluster: Cluster, tmp_path: Path) -> None:
    log = ssh_help.SshdLog(cluster, "MaxStartups 1:100:1")
    # Somebody stands in the door, and leaves when the first has been turned away.
    others: list[socket.socket] = []

    def stand() -> bool:
        others.append(socket.create_connection((cluster.ssh_address, 22)))
        return others[-1].recv(4) == b"SSH-"

    cluster.wait_for(stand, 20, "a place in the door")
    dropped = log.dropped
    shell = fabric(cluster, tmp_path)

    def leave() -> None:
        try:
            cluster.wait_for(lambda: log.dropped > dropped, 20, "sshd to turn somebody away")
        finally:
            for other in others:
                other.close()

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        assert shell.run(["true"], timeout=30).ok
    finally:
        thread.join()
    assert log.dropped > dropped and log.logins == 1


# -- 30: a black hole ---------------------------------------------------------------


def test_nobody_answers(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.relay(black_hole=True) as relay:
        shell = fabric(cluster, tmp_path, changes=ssh_help.through(relay, cluster), connect_timeout=2)
        began = time.monotonic()
        assert "login cannot be reached" in str(refusal(shell))
        assert time.monotonic() - began < 5
        assert relay.connections == 1


def test_packets_vanish_before_there_is_a_connection(cluster: Cluster, tmp_path: Path) -> None:
    cluster.link_down("login")
    shell = fabric(cluster, tmp_path, connect_timeout=2)
    began = time.monotonic()
    assert "login cannot be reached" in str(refusal(shell))
    assert time.monotonic() - began < 5


def test_all_of_connecting_has_one_deadline(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fabric_link, "_PATIENCE", -4)  # so that it comes before the limit of any step
    with cluster.relay(black_hole=True) as relay:
        shell = fabric(cluster, tmp_path, changes=ssh_help.through(relay, cluster), connect_timeout=6)
        began = time.monotonic()
        assert "login cannot be reached: no answer in 2 s" in str(refusal(shell))
        assert time.monotonic() - began < 4


def test_a_connection_that_went_deaf_is_left(cluster: Cluster, tmp_path: Path) -> None:
    shell = fabric(cluster, tmp_path, connect_timeout=2)

    def cut(piece: bytes) -> None:
        cluster.link_down("login")

    began = time.monotonic()
    result = shell.script("echo begun; cat", stdin=b"x" * 10_000_000, timeout=3, sink=cut)
    assert result.rc is None and time.monotonic() - began < 9
    began = time.monotonic()
    assert "login cannot be reached: no answer in time" in str(refusal(shell))
    assert time.monotonic() - began < 8
    cluster.link_up("login")
    assert shell.run(["echo", "on"], timeout=30).stdout == "on\n"


def test_a_dead_connection_is_noticed_before_the_deadline(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fabric_link, "_KEEPALIVE", 1)
    monkeypatch.setattr(fabric_link, "_DEAF", 2)
    shell = fabric(cluster, tmp_path, connect_timeout=2)

    def cut(piece: bytes) -> None:
        cluster.link_down("login")

    result = shell.script("echo begun; sleep 60", timeout=40, sink=cut)
    assert (result.rc, result.lost) == (None, "the connection to login broke")
    assert result.seconds < 20


# -- 31: authentication refused ----------------------------------------------------


def test_who_is_refused_does_not_knock_again(cluster: Cluster, tmp_path: Path) -> None:
    log = ssh_help.SshdLog(cluster)
    shell = fabric(cluster, tmp_path, changes={"User": "bob"})

    def ask(number: int) -> str:
        return str(refusal(shell))

    with ThreadPoolExecutor(4) as pool:
        told = set(pool.map(ask, range(8)))
    assert len(told) == 1 and "login refuses bob: it takes publickey" in told.pop()
    assert log.connections == 1 and log.logins == 0
    with pytest.raises(UnreachableError), shell.rsh():
        pass
    assert log.connections == 1


# -- 32: an unknown or changed host key ----------------------------------------------


def fingerprint(cluster: Cluster) -> str:
    kind, blob = (cluster.folder / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    return HostKey(kind, base64.b64decode(blob)).fingerprint


def test_an_unknown_host_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    log = ssh_help.SshdLog(cluster)
    known = tmp_path / "known_hosts"
    shell = fabric(cluster, tmp_path, changes={"UserKnownHostsFile": known})
    error = refusal(shell)
    assert not isinstance(error, LoginRequired)
    assert "is refused: no known_hosts file names it" in error.message
    assert f"the ssh-ed25519 key {fingerprint(cluster)}" in error.message
    assert log.count("Failed|Accepted|userauth") == 0 and not known.exists()
    # What it says to do is right.
    assert error.hint is not None and str(known) in error.hint
    known.write_text(error.hint.splitlines()[-1].strip() + "\n")
    assert shell.run(["true"], timeout=30).ok


def test_a_changed_key_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    old = fingerprint(cluster)
    shell = fabric(cluster, tmp_path)
    assert shell.run(["true"], timeout=30).ok
    fabric_link.close_all()
    cluster.change_host_key()
    shell = fabric(cluster, tmp_path)
    for error in (refusal(shell), refusal(shell)):
        assert "is refused: it is known by another key" in error.message
        assert old in error.message and fingerprint(cluster) in error.message
        assert f"{cluster.known_hosts}:2" in error.message


def test_a_server_is_asked_for_the_key_that_is_known(cluster: Cluster, tmp_path: Path) -> None:
    """It has two, and known_hosts the one that would not have been shown."""
    key = cluster.folder / "etc/ssh/other_key"
    argv = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(key)]
    subprocess.run(argv, check=True, timeout=60)
    cluster.configure_sshd("HostKey /etc/ssh/other_key", "HostKey /etc/ssh/ssh_host_ed25519_key")
    known = tmp_path / "known_hosts"
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    known.write_text(f"{cluster.ssh_address} {public}\n")
    shell = fabric(cluster, tmp_path, changes={"UserKnownHostsFile": known})
    assert shell.run(["true"], timeout=30).ok
    for file in (key, key.with_suffix(".pub")):
        file.unlink()


def test_a_revoked_key_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    lines = cluster.known_hosts.read_text()
    known.write_text(
        lines + "".join(f"@revoked * {' '.join(line.split()[1:])}\n" for line in lines.splitlines())
    )
    shell = fabric(cluster, tmp_path, changes={"UserKnownHostsFile": known})
    assert "calls revoked" in refusal(shell).message


def test_a_jump_host_must_be_known_as_well(cluster: Cluster, tmp_path: Path) -> None:
    cluster.daemon("sshd", "ctl").start()
    log = ssh_help.SshdLog(cluster)
    known = tmp_path / "known_hosts"
    address = cluster.address("ctl")
    lines = [line for line in cluster.known_hosts.read_text().splitlines() if address not in line]
    known.write_text("\n".join(lines) + "\n")
    config = ssh_help.ssh_config(cluster, tmp_path)
    config.write_text(config.read_text().replace(str(cluster.known_hosts), str(known)))
    site = {"type": "fabric", "host": "login", "jump": "ctl", "ssh_config": str(config)}
    error = refusal(FabricShell(Connection.model_validate(site)))
    assert f"{address} is refused: no known_hosts file names it" in error.message
    assert log.logins == 0
