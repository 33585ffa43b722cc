"""How hpcrun starts other programs: one small file a kind of connection, behind one protocol.

To add a kind: its name in :class:`hpcrun.models.site.Connection`, a file here, a line in ``_KINDS``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from hpcrun.shells.base import PosixShell, RemoteShell, Shell
from hpcrun.shells.local import LocalShell

if TYPE_CHECKING:
    from hpcrun.models.site import Connection


def _openssh(connection: Connection) -> RemoteShell:
    from hpcrun.shells.openssh import OpenSshShell

    return OpenSshShell(connection)


def _fabric(connection: Connection) -> RemoteShell:
    from hpcrun.shells.fabric import FabricShell

    return FabricShell(connection)


def _ssh(connection: Connection) -> RemoteShell:
    from hpcrun.shells.openssh import has_ssh

    return (_openssh if has_ssh() else _fabric)(connection)


_KINDS: dict[str, Callable[[Connection], RemoteShell]] = {
    "ssh": _ssh,
    "openssh": _openssh,
    "fabric": _fabric,
}


def remote_shell(connection: Connection) -> RemoteShell | None:
    """What reaches a site on another machine; None where the site is here."""
    if connection.type == "here" or is_login_node(connection):
        return None
    return _KINDS[connection.type](connection)


def shell_for(connection: Connection) -> PosixShell:
    """What runs programs at a site, wherever that is."""
    return remote_shell(connection) or LocalShell()


def is_login_node(connection: Connection) -> bool:
    """Whether this machine is one of the site's own."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    return any(fnmatch(name, pattern) for name in names for pattern in connection.login_nodes)


__all__ = ["PosixShell", "RemoteShell", "Shell", "is_login_node", "remote_shell", "shell_for"]
