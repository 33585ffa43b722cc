"""How a site is reached from here, and whether the way is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hpcrun.models.site import Connection
    from hpcrun.shells.master import Master

Reached = Literal["here", "open", "closed", "fabric"]
"""On this machine; over a connection that is kept open, or is not; over one of each command's own."""


def master_of(connection: Connection) -> Master | None:
    """What keeps the connection open; None where the site is here, or nothing can keep it open."""
    from hpcrun.shells import is_login_node
    from hpcrun.shells.openssh import uses_ssh

    if is_login_node(connection) or not uses_ssh(connection):
        return None
    from hpcrun.shells.master import Master

    return Master(connection)


def is_here(connection: Connection) -> bool:
    from hpcrun.shells import is_login_node

    return connection.type == "here" or is_login_node(connection)


def reached(connection: Connection) -> Reached:
    """Asked of this machine alone."""
    from hpcrun.errors import CommandError

    if is_here(connection):
        return "here"
    try:
        master = master_of(connection)
        if master is None:
            return "fabric"
        return "open" if master.is_open() else "closed"
    except CommandError:
        return "closed"
