"""The way to a host by fabric: over which others, through what, and past whom nobody gets unknown."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcrun.errors import UnreachableError
from hpcrun.shells.known_hosts import HostKey, KnownHosts
from hpcrun.shells.processes import clean_environment, end_group, start
from hpcrun.shells.ssh_config import paths, whole_text

if TYPE_CHECKING:
    import fabric
    from paramiko import PKey, SSHClient, SSHConfig, Transport

    from hpcrun.models.site import Connection

_MOST_HOPS = 8


class Tunnel:
    """A ProxyCommand, as the socket that paramiko talks to. Its own does not end what it started."""

    def __init__(self, command: str) -> None:
        self._near, far = socket.socketpair()
        # As ssh starts it, but for its complaints: they would get among our own output.
        argv = ["/bin/sh", "-c", f"exec 2>/dev/null\nexec {command}"]
        with far:
            self._process = start(argv, clean_environment(), stdin=far.fileno(), output=far.fileno())
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._near, name)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._near.close()
            end_group(self._process)


class Gate:
    """Lets nobody through whom known_hosts does not know. To paramiko it is the policy for hosts that are
    missing: it is told of no others, so every key comes here."""

    def __init__(self, hop: fabric.Connection) -> None:
        settings: Mapping[str, object] = hop.ssh_config
        alias = settings.get("hostkeyalias")
        self._name = str(alias) if alias else hop.host if hop.port == 22 else f"[{hop.host}]:{hop.port}"
        files = paths(settings, "userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
        files += paths(settings, "globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
        self._known = KnownHosts(files)

    def transport(self, sock: Any, **options: Any) -> Transport:
        """A connection that asks first for the kinds of keys that are known: a server has several."""
        import paramiko

        made = paramiko.Transport(sock, **options)
        made.daemon = True
        known = set(self._known.types(self._name))
        if "ssh-rsa" in known:
            known |= {"rsa-sha2-512", "rsa-sha2-256"}
        security = made.get_security_options()
        security.key_types = sorted(security.key_types, key=lambda kind: kind not in known)
        return made

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        self._known.check(self._name, HostKey(key.get_name(), key.asbytes()))


def route(connection: Connection) -> list[fabric.Connection]:
    """The hosts on the way, the last being the site's: fabric's own connections, not yet open.

    fabric would follow ProxyJump by itself, but takes a jump host by another name for a further one.
    """
    import fabric
    import paramiko

    try:
        text = _first(connection) + whole_text(connection.ssh_config)
        config = paramiko.SSHConfig.from_text(text)
    except paramiko.SSHException as error:
        raise UnreachableError(
            f"fabric cannot read the ssh_config: {error}", hint="See docs/fabric.md for what it knows."
        ) from error
    settings = fabric.Config(ssh_config=config, lazy=True)
    host = str(connection.host)
    jumps = _jumps(host, connection.jump, config)
    way: list[fabric.Connection] = []
    for each in [*jumps, host]:
        hop = fabric.Connection(
            each,
            config=settings,
            gateway=way[-1] if way else _proxy_command(config, each),
            forward_agent=False,
            connect_kwargs={},
        )
        way.append(hop)
    return way


def _first(connection: Connection) -> str:
    """What the site's description says, so that it comes before what ssh_config says."""
    lines = [f"Match originalhost {connection.host}"]
    if connection.user is not None:
        lines.append(f"User {connection.user}")
    if connection.port is not None:
        lines.append(f"Port {connection.port}")
    return "\n".join([*lines, "Host *", ""])


def _jumps(host: str, given: str | None, config: SSHConfig) -> list[str]:
    """The jump hosts before ``host``, and those before the first of them."""
    jumps: list[str] = []
    first, more = host, given
    for _ in range(_MOST_HOPS):
        settings = config.lookup(_bare(first))
        more = more or settings.get("proxyjump")
        if not more or more.lower() == "none":
            return jumps
        words = [word.strip().removeprefix("ssh://") for word in more.split(",")]
        if any(_bare(word) in {host, _bare(first), *map(_bare, jumps)} for word in words):
            return jumps  # a jump host needs no jump to itself: "Host *" matches it too
        jumps = words + jumps
        first, more = words[0], None
    raise UnreachableError(f"the way to {host} has more than {_MOST_HOPS} jump hosts")


def _bare(word: str) -> str:
    """A host's name from ``user@host:port``."""
    from fabric.connection import derive_shorthand

    return str(derive_shorthand(word)["host"])


def _proxy_command(config: SSHConfig, host: str) -> Any:
    settings = config.lookup(_bare(host))
    return False if settings.get("proxyjump") else settings.get("proxycommand") or False
