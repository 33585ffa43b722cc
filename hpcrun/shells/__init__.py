"""How hpcrun starts other programs: one small file a kind of connection, behind one protocol.

To add a kind: its name in :class:`hpcrun.models.site.Connection`, a file here, a line in ``_KINDS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcrun.shells.base import Shell
from hpcrun.shells.local import LocalShell

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

_KINDS: dict[str, type[Shell]] = {
    "here": LocalShell,
}


def shell_for(connection: Connection) -> Shell:
    """What reaches a site."""
    return _KINDS[connection.type]()


__all__ = ["Shell", "shell_for"]
