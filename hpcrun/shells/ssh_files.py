"""The files that ssh finds: a private folder for sockets, and a configuration before the user's own."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpcrun.errors import CommandError, UnreachableError

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

Kind = Literal["batch", "login"]
"""Whom ssh may ask: nobody, or somebody at a terminal."""

# First in the file, so they win, and in a file, since ssh hands it on to the ssh that goes to a jump host,
# which no option on the command line reaches. Without them ssh would ask on a terminal, forward what it was
# not asked to, run something else than it was told, or take a host for known that nobody has seen.
_INSISTS = """\
Match all
    StrictHostKeyChecking {strict}
    BatchMode {batch}
    LogLevel {level}
    ConnectTimeout {timeout}
    ConnectionAttempts 1
    ServerAliveInterval 15
    ServerAliveCountMax 3
    ClearAllForwardings yes
    ForwardAgent no
    ForwardX11 no
    PermitLocalCommand no
    RemoteCommand none
    RequestTTY no
"""
_LONGEST = 50
"""A socket's whole path has to stay below a hundred bytes, of which ssh itself adds 17 for a while."""


def private_folder() -> Path:
    """Where sockets and generated configuration lie: short, ours, closed to others.

    The same for a terminal and for cron, which is not told of XDG_RUNTIME_DIR. Raises CommandError where
    somebody else made it.
    """
    folder = _place(os.environ.get("XDG_RUNTIME_DIR"), os.getuid())
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise CommandError(
            f"{folder} is not a private folder of yours", hint="Take it away, or set XDG_RUNTIME_DIR."
        )
    return folder


def _place(runtime: str | None, uid: int, usual: Path = Path("/run/user")) -> Path:
    for folder in (Path(runtime) if runtime else None, usual / str(uid)):
        short = folder is not None and len(os.fsencode(folder)) < _LONGEST
        if folder is not None and short and folder.is_dir() and folder.stat().st_uid == uid:
            return folder / "hpcrun"
    return Path(f"/tmp/hpcrun-{uid}")


def write_config(connection: Connection, kind: Kind, beside: Path) -> Path:
    """The configuration for ssh, beside a socket; written where it is not there as it should be."""
    asks = kind == "login"
    text = _INSISTS.format(
        strict="ask" if asks else "yes",
        batch="no" if asks else "yes",
        level="INFO" if asks else "ERROR",
        timeout=int(connection.connect_timeout),
    )
    text += "".join(f"Include {_quoted(path)}\n" for path in _users_own(connection))
    path = beside.with_name(f"{beside.name}.{kind}")
    try:
        if path.read_text() == text:
            return path
    except OSError:
        pass
    fd, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    Path(name).replace(path)
    return path


def _users_own(connection: Connection) -> list[str]:
    if connection.ssh_config is None:
        return [os.path.expanduser("~/.ssh/config"), "/etc/ssh/ssh_config"]  # noqa: PTH111 (no home: as it is)
    # A relative path means what it means to ssh's Include.
    path = Path.home() / ".ssh" / Path(connection.ssh_config).expanduser()
    if not path.is_file():
        raise UnreachableError(
            f"{connection.site}: connection.ssh_config names {path}, and there is no such file",
            hint="ssh would go on without it, and perhaps to another host.",
        )
    return [str(path)]


def _quoted(path: str) -> str:
    """A path for Include, which takes a pattern, and one level of quotes."""
    pattern = re.sub(r"([*?\[\\])", r"\\\1", path)
    return '"' + pattern.replace("\\", "\\\\").replace('"', '\\"') + '"'
