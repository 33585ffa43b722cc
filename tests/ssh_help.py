"""What tests of SSH share: a configuration for the cluster, sockets of their own, and what sshd has noted."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.models.site import Connection
from tests.cluster.cluster import Cluster
from tests.cluster.relay import Relay

NOBODY_KNOWS = "/dev/null"
"""A known_hosts file in which no host stands."""


def ssh_config(cluster: Cluster, folder: Path, **changes: object) -> Path:
    """An ssh_config by which alice gets to the hosts ``login`` and ``ctl``; for ``connection.ssh_config``.

    ``changes`` are settings of the host ``login``, which win; those whose value is None are left out. Each
    call writes a file of its own.
    """
    everywhere = {
        "User": "alice",
        "IdentityFile": cluster.ssh_key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": cluster.known_hosts,
        "GlobalKnownHostsFile": NOBODY_KNOWS,
    }
    login = {key: value for key, value in changes.items() if value is not None}
    hosts: list[tuple[str, dict[str, object]]] = [
        ("login", {**login, "HostName": changes.get("HostName", cluster.ssh_address)}),
        ("ctl", {"HostName": cluster.address("ctl")}),
        ("*", {key: value for key, value in everywhere.items() if key not in changes or login.get(key)}),
    ]
    lines = []
    for name, settings in hosts:
        lines.append(f"Host {name}")
        lines += [f"    {key} {_value(value)}" for key, value in settings.items()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ssh_config-{len(list(folder.glob('ssh_config-*')))}"
    path.write_text("\n".join(lines) + "\n")
    return path


def through(relay: Relay, cluster: Cluster) -> dict[str, object]:
    """Changes for :func:`ssh_config` that lead to ``login`` by way of a relay."""
    return {"HostName": "127.0.0.1", "Port": relay.port, "HostKeyAlias": cluster.ssh_address}


def _value(value: object) -> str:
    return f'"{value}"' if isinstance(value, Path) else str(value)


def private_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For a fixture: XDG_RUNTIME_DIR is a short private folder; at the end what was kept open there ends."""
    folder = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))  # 0700; a socket's path is below 100 bytes
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    end_masters(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_masters(folder: Path) -> None:
    """End every ssh that listens on a socket somewhere in a folder."""
    for path in folder.rglob("*"):
        if path.is_socket():
            argv = ["ssh", "-F", "none", "-S", str(path), "-O", "exit", "any"]
            subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)


class SshdLog:
    """What the cluster's sshds have noted since this object was made, which makes them note more."""

    def __init__(self, cluster: Cluster, *settings: str) -> None:
        cluster.configure_sshd("LogLevel VERBOSE", *settings)
        self._path = cluster.logs / "sshd.log"
        self._from = self._path.stat().st_size

    def text(self) -> str:
        with self._path.open("rb") as file:
            file.seek(self._from)
            return file.read().decode("utf-8", "replace").replace("\r", "")

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.text(), re.MULTILINE))

    @property
    def connections(self) -> int:
        """How many clients said hello: whoever only tries whether the port is open says nothing."""
        came = {*re.findall(r"^Connection from (\S+ port \d+)", self.text(), re.MULTILINE)}
        return len(came - {*re.findall(r"^Connection closed by (\S+ port \d+)$", self.text(), re.MULTILINE)})

    @property
    def dropped(self) -> int:
        """How many were turned away at the door, there being too many."""
        return self.count(r"^drop connection ")

    @property
    def logins(self) -> int:
        return self.count(r"^Accepted \S+ for ")


def connection(config: Path, **more: Any) -> Connection:
    """A connection to host ``login`` by the ssh program."""
    return Connection(**{"type": "openssh", "host": "login", "ssh_config": str(config), **more})


def master_pid(socket: Path) -> int:
    """The process that listens on a socket."""
    argv = ["ssh", "-F", "none", "-S", str(socket), "-O", "check", "any"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    found = re.search(r"pid=(\d+)", said.stderr)
    assert found is not None, said
    return int(found[1])
