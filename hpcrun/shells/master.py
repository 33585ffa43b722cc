"""ssh's master connection to one host: opened once, by one process at a time, kept for hours.

A master of the user's own, as their ControlPath names it, is as good, and used where it is open.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import LoginRequired, UnreachableError
from hpcrun.shells import ssh_words
from hpcrun.shells.base import Result
from hpcrun.shells.framing import new_mark
from hpcrun.shells.local import LocalShell
from hpcrun.shells.processes import attended, clean_environment
from hpcrun.shells.ssh_files import Kind, private_folder, write_config
from hpcrun.shells.streams import leave_behind

if TYPE_CHECKING:
    from hpcrun.models.site import Connection

_ANSWER = 10.0
"""Seconds that an ssh on this machine has to say something about its master."""
_ADMISSION = 15.0
"""Seconds on top of connection.connect_timeout for keys to be exchanged and a user to be let in."""
_TYPING = 600.0
"""Seconds for somebody to find their phone."""
_DOOR = 3
"""Times to knock where the host has too many guests."""


class Master:
    """The connection that all commands to a host share."""

    def __init__(self, connection: Connection) -> None:
        assert connection.host is not None
        self.host: str = connection.host
        self.site = connection.site
        self._connection = c = connection
        shape = repr((c.host, c.user, c.port, c.ssh_config, c.jump))
        self.kept = private_folder() / hashlib.sha256(shape.encode()).hexdigest()[:12]
        """Where a master of ours listens, or would."""
        self._theirs: Path | None = None
        self._nobody = f"/{new_mark()}"
        self._said: dict[str, str] | None = None
        self._shell = LocalShell()

    @property
    def socket(self) -> Path:
        """Where the master in use listens, or would."""
        return self._theirs or self.kept

    @property
    def is_the_users_own(self) -> bool:
        return self._theirs is not None

    # -- using it -------------------------------------------------------------

    def client(self) -> list[str]:
        """ssh by way of the master, and no other way; to be followed by the host.

        Where no master listens, or it gets no channel, ssh would connect by itself. Then it finds that it
        is to do so by a program that is not there, and the shell that looks for it says its name.
        """
        options = {"ProxyCommand": self._nobody, "ControlMaster": "no", "ControlPersist": "no"}
        more = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", str(self._config("batch")), "-S", str(self.socket), *more]

    def was_not_heard(self, stderr: str) -> bool:
        """Whether, by what :meth:`client` said, nothing has certainly been started."""
        return self._nobody in stderr

    def is_open(self) -> bool:
        """Whether a master, the user's own or ours, is there and answers."""
        self._theirs = None
        if self._answers(self.kept):
            return True
        theirs = self._settings().get("controlpath", "none")
        if theirs != "none" and self._answers(Path(theirs)):
            self._theirs = Path(theirs)
            return True
        return False

    def _answers(self, socket: Path) -> bool:
        return socket.exists() and self._order(socket, "check").ok

    def _order(self, socket: Path, order: str) -> Result:
        argv = ["ssh", "-F", "none", "-S", str(socket), "-O", order, "any"]
        return self._shell.run(argv, timeout=_ANSWER)

    # -- opening it -----------------------------------------------------------

    def open(self) -> None:
        """Have a master, perhaps a dead one: whoever then finds it dead calls :meth:`ensure`."""
        if not self.socket.exists():
            self.ensure()

    def ensure(self) -> None:
        """Have a master that answers; opened by whoever comes first, while the others wait for what comes of
        it. Never asks anybody anything.

        Raises LoginRequired, UnreachableError: nothing has been started then.
        """
        if self.is_open():
            return
        if self._connection.two_factor:
            raise LoginRequired(
                f"{self.site} is not open, and lets nobody in who types nothing",
                hint=f"Log in once, in a terminal: hpcrun login {self.site}",
            )
        came = time.monotonic()
        with self._alone():
            if self.is_open():
                return
            self._raise_what_another_was_told(since=came)
            try:
                self._connect()
            except UnreachableError as error:
                self._note(error)
                raise

    def login(self) -> bool:
        """Open the master, with whoever sits at the terminal; whether it was not open yet.

        Raises UnreachableError where they were not let in: ssh has said why.
        """
        with self._alone():
            if self.is_open():
                return False
            with self._beside() as between:
                argv = self._start("login", between)
                rc = attended(argv, clean_environment(), timeout=_TYPING, aside=between)
            if rc != 0 or not self._answers(self.kept):
                raise UnreachableError(
                    f"{self.site} is not open: ssh to {self.host} ended with exit code {rc}",
                    hint="What it said stands above.",
                )
            return True

    def _connect(self) -> None:
        patience = self._connection.connect_timeout * (1 + len(self._jumps())) + _ADMISSION
        for attempt in range(_DOOR):
            with self._beside() as between:
                result = leave_behind(self._start("batch", between), _never_asking(), timeout=patience)
                words = between.read_text(errors="replace") + result.stderr
            if result.ok and self._answers(self.kept):
                return
            if result.timed_out:
                words += f"\nno answer within {patience:.0f} s: the connection timed out"
            if not ssh_words.turned_away(words) or attempt == _DOOR - 1:
                break
            time.sleep((1 + random.random()) * 2**attempt)
        shown = self._fingerprint() if ssh_words.key_is_unknown(words) else ""
        raise ssh_words.trouble(words, self.site, self.host, shown)

    @contextmanager
    def _beside(self) -> Iterator[Path]:
        """A file for what a jump host's ssh says. It goes on with the master, so no terminal will do; and
        ssh itself would throw it away for the sake of ControlPersist."""
        fd, name = tempfile.mkstemp(dir=self.kept.parent)
        os.close(fd)
        try:
            yield Path(name)
        finally:
            Path(name).unlink()

    def _start(self, kind: Kind, between: Path) -> list[str]:
        """The ssh that becomes the master; ``between`` is where the one to a jump host may complain."""
        self.kept.unlink(missing_ok=True)  # of a dead master: beside it no other would listen
        argv = ["ssh", "-F", str(self._config(kind)), "-S", str(self.kept), "-M", "-N", "-f"]
        argv += ["-o", f"ControlPersist={int(self._connection.persist)}"]
        return [*argv, *self._proxy(kind, between), *self._destination()]

    def _destination(self) -> list[str]:
        words = []
        if self._connection.user is not None:
            words += ["-l", self._connection.user]
        if self._connection.port is not None:
            words += ["-p", str(self._connection.port)]
        return [*words, self.host]

    def _jumps(self) -> list[str]:
        jump = self._connection.jump or self._settings().get("proxyjump", "none")
        return [] if jump == "none" else jump.split(",")

    def _proxy(self, kind: Kind, between: Path) -> list[str]:
        """What ProxyJump does, but for the jump host's ssh being heard; and the terminal's end, which the
        master itself outlives, does not end what it hangs on."""
        jumps = self._jumps()
        if not jumps:
            command = self._settings().get("proxycommand", "none")
            return [] if command == "none" or kind == "batch" else ["-o", f"ProxyCommand=nohup {command}"]
        last = jumps[-1] if jumps[-1].startswith("ssh://") else f"ssh://{jumps[-1]}"
        first = ["-J", ",".join(jumps[:-1])] if jumps[:-1] else []
        words = [str(between), "-F", str(self._config(kind)), *first]
        quoted = [shlex.quote(word).replace("%", "%%") for word in words]
        hop = '\'trap "" HUP; to=$1; shift; exec ssh "$@" 2>>"$to"\''
        return [
            "-o",
            f"ProxyCommand=/bin/sh -c {hop} hop {' '.join(quoted)} -W '[%h]:%p' {shlex.quote(last)}",
        ]

    def _fingerprint(self) -> str:
        """What key an unknown host shows; asked without any attempt to log in to it."""
        argv = ["ssh", "-v", "-F", str(self._config("batch")), "-S", "none", "-o", "ControlMaster=no"]
        argv += ["-o", "PreferredAuthentications=none"]
        if self._connection.jump is not None:
            argv += ["-J", self._connection.jump]
        result = leave_behind(
            [*argv, *self._destination(), "true"], _never_asking(), timeout=self._connection.connect_timeout
        )
        return ssh_words.fingerprint(result.stderr)

    def _config(self, kind: Kind) -> Path:
        return write_config(self._connection, kind, self.kept)

    def _settings(self) -> dict[str, str]:
        """What ssh makes of its configuration for this host."""
        if self._said is None:
            jump = [] if self._connection.jump is None else ["-J", self._connection.jump]
            argv = ["ssh", "-G", "-F", str(self._config("batch")), *jump, *self._destination()]
            result = self._shell.run(argv, timeout=_ANSWER)
            if not result.ok:
                raise UnreachableError(
                    f"ssh does not take its configuration for {self.host}:\n{result.stderr}"
                )
            pairs = (line.partition(" ") for line in result.stdout.splitlines())
            self._said = {key: value for key, _, value in pairs}
        return self._said

    # -- one at a time --------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(self.kept.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._connection.connect_timeout * 3 + _ADMISSION
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UnreachableError(
                            f"another hpcrun has been connecting to {self.host} for too long",
                            hint="Does one wait for a code to be typed, in another terminal?",
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(fd)

    def _note(self, error: UnreachableError) -> None:
        """Tell those who are waiting: a host that refuses us is not to be asked by each of them."""
        told = {"at": time.monotonic(), "login": isinstance(error, LoginRequired)}
        path = self.kept.with_suffix(".failed")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump({**told, "message": error.message, "hint": error.hint}, file)

    def _raise_what_another_was_told(self, since: float) -> None:
        try:
            told = json.loads(self.kept.with_suffix(".failed").read_text())
            at, kind = float(told["at"]), LoginRequired if told["login"] else UnreachableError
            error = kind(str(told["message"]), hint=told["hint"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if since < at <= time.monotonic():
            raise error

    # -- closing it -----------------------------------------------------------

    def end(self) -> bool:
        """Close our connection, and what runs over it; whether there was one. The user's own stays."""
        return close_socket(self.kept)


def close_socket(socket: Path) -> bool:
    """End the master that listens there, and whatever is left of one; whether there was one."""
    if not socket.is_socket():
        return False
    argv = ["ssh", "-F", "none", "-S", str(socket), "-O", "exit", "any"]
    ended = LocalShell().run(argv, timeout=_ANSWER).ok
    socket.unlink(missing_ok=True)
    return ended


def sockets() -> Sequence[Path]:
    """Where masters of ours listen, or did."""
    return [path for path in sorted(private_folder().iterdir()) if path.is_socket()]


def _never_asking() -> dict[str, str]:
    """An environment in which not even an ssh that the user's configuration starts puts up a window."""
    return {**clean_environment(), "SSH_ASKPASS_REQUIRE": "never"}
