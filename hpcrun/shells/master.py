"""ssh's master connection to one host: opened once, by one process at a time, kept for hours.

The socket lies in a private folder with a short path (sockets allow about 100 bytes), beside a
configuration file that puts what hpcrun insists on before the user's own: ssh hands the file on to the ssh
that goes to a jump host, which no option on the command line reaches.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import CommandError, LoginRequired, UnreachableError
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

# First in the file, so they win. ssh would otherwise ask on a terminal, forward what it was not asked to, or
# take a host for known that nobody has seen.
_INSISTS = """\
Match all
    StrictHostKeyChecking {strict}
    BatchMode {batch}
    ConnectTimeout {timeout}
    ConnectionAttempts 1
    ServerAliveInterval 15
    ServerAliveCountMax 4
    ForwardAgent no
    ForwardX11 no
    PermitLocalCommand no
    RequestTTY no
    LogLevel ERROR
"""


def private_folder() -> Path:
    """Where sockets and generated configuration lie: short, ours, closed to others.

    Raises CommandError where somebody else made it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime, "hpcrun") if runtime and len(runtime) < 50 else Path(f"/tmp/hpcrun-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise CommandError(
            f"{folder} is not a private folder of yours", hint="Take it away, or set XDG_RUNTIME_DIR."
        )
    return folder


class Master:
    """The connection that all commands to a host share."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        folder = private_folder()
        c = connection
        shape = repr((c.host, c.user, c.port, c.ssh_config, c.jump))
        name = hashlib.sha256(shape.encode()).hexdigest()[:12]
        self.socket = folder / name
        self._lock = folder / f"{name}.lock"
        self._shell = LocalShell()

    def client(self) -> list[str]:
        """ssh by way of the master, and no other way; to be followed by the host."""
        return [*self._ssh(batch=True), "-o", "ProxyCommand=exit 255", "-o", "ControlMaster=no"]

    def _ssh(self, *, batch: bool) -> list[str]:
        options = ["-F", str(self._config(batch)), "-S", str(self.socket)]
        if self._connection.user is not None:
            options += ["-l", self._connection.user]
        if self._connection.port is not None:
            options += ["-p", str(self._connection.port)]
        return ["ssh", *options]

    def _config(self, batch: bool) -> Path:
        """The generated configuration file, for nobody at the keyboard or for somebody."""
        own = self._connection.ssh_config
        includes = [own] if own is not None else ["~/.ssh/config", "/etc/ssh/ssh_config"]
        text = _INSISTS.format(
            strict="yes" if batch else "ask",
            batch="yes" if batch else "no",
            timeout=int(self._connection.connect_timeout),
        )
        text += "".join(f'Include "{path}"\n' for path in includes)
        kind = "batch" if batch else "login"
        path = self.socket.with_name(f"{self.socket.name}.{kind}")
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

    def is_open(self) -> bool:
        """Whether the master is there and answers."""
        if not self.socket.exists():
            return False
        argv = [*self._ssh(batch=True), "-O", "check", str(self._connection.host)]
        return self._shell.run(argv, timeout=10).ok

    def open(self) -> None:
        """Have a master; opened by whoever comes first, while the others wait. Never asks anybody anything.

        Raises LoginRequired, UnreachableError: nothing has been started then.
        """
        if self.socket.exists():
            return  # an ssh that finds it dead says so, and starts nothing
        with self._alone():
            if self.is_open():
                return
            self._start()

    def _start(self) -> None:
        argv = [*self._ssh(batch=True), "-M", "-N", "-f", "-o", "ClearAllForwardings=yes"]
        if self._connection.jump is not None:
            argv += ["-J", self._connection.jump]
        argv += ["-o", f"ControlPersist={int(self._connection.persist)}", str(self._connection.host)]
        result = self._shell.run(argv, timeout=self._connection.connect_timeout + 15)
        if not result.ok:
            raise self._trouble(result)

    def _trouble(self, result: Result) -> UnreachableError:
        host = self._connection.host
        words = result.stderr.strip().splitlines()
        said = words[-1] if words else "ssh said nothing"
        if "Permission denied" in said:
            return LoginRequired(f"{host}: {said}", hint="Log in once: hpcrun login SITE")
        return UnreachableError(f"{host} cannot be reached: {said}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._connection.connect_timeout + 30
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UnreachableError(
                            f"another process has been connecting to {self._connection.host} for too long"
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(fd)

    def end(self) -> bool:
        """Close the connection; whether there was one."""
        if not self.socket.exists():
            return False
        argv = [*self._ssh(batch=True), "-O", "exit", str(self._connection.host)]
        return self._shell.run(argv, timeout=10).ok
