"""What calls ``hpcrun tick`` with nobody looking: an entry in the crontab, or a timer of systemd's.

Both run one small script of the workspace's own, which has what cron lacks; a crontab's lines are short, and
do not take every path. It lies in the user's configuration folder under the workspace's mark.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from hpcrun.config.sites import user_folder
from hpcrun.engine import crontab, systemd
from hpcrun.errors import CommandError, HpcrunError, UsageError
from hpcrun.history.files import locked, write_atomically
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import utc_now
from hpcrun.quoting import PosixWord, ShellText, export
from hpcrun.shells.local import LocalShell
from hpcrun.shells.ssh_files import private_folder
from hpcrun.units import Duration, human_seconds

# Of the terminal's environment, what cron does not give and ssh, Slurm, git and rsync may need.
_KEPT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"),
    *("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HPCRUN_CONFIG_HOME", "SLURM_CONF", "PYTHONPATH"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_PATIENCE = 30.0
_DAEMONS = {"cron", "crond", "fcron", "bcron-sched", "anacron"}


@dataclass(frozen=True)
class Installed:
    """``by`` is ``crontab`` or ``systemd``, on the machine ``host``, ``every`` so many seconds; a tick has
    ``limit`` seconds. ``fields`` are the crontab's."""

    by: str
    every: int
    limit: int
    host: str
    at: str
    fields: str = ""


@dataclass(frozen=True)
class Found:
    """``installed`` is what is there on this machine; ``elsewhere`` is the other one that has it, so far as
    is known. ``daemon``: whether a cron daemon runs here; None where that cannot be seen. ``next``: when the
    next tick is due."""

    installed: Installed | None
    elsewhere: str | None = None
    daemon: bool | None = None
    next: datetime | None = None


@dataclass
class Cron:
    """What calls tick for one workspace."""

    paths: WorkspacePaths

    @property
    def workspace(self) -> Path:
        return self.paths.folder.parent

    @property
    def mark(self) -> str:
        return crontab.mark_of(self.workspace)

    @property
    def program(self) -> Path:
        """The script that cron runs."""
        return user_folder().absolute() / "cron" / f"{self.mark}.sh"

    def install(self, every: Duration, *, by: str = "crontab", limit: Duration) -> Installed:
        """Have tick called; in place of what called it before. Where it fails, all is as it was.

        Raises UsageError for an interval that cannot be had, CommandError, HistoryError.
        """
        if every < 60:
            raise UsageError(f"every {human_seconds(every)} is too often", hint="A minute is the least.")
        fields = crontab.timetable(every, self.mark) if by == "crontab" else ""
        lines = crontab.entry(fields, self.program, self.workspace, self.mark)
        wanted = Installed(by, int(every), int(limit), socket.gethostname(), utc_now(), fields)
        with self._alone():
            self.program.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            before = self.program.read_bytes() if self.program.exists() else None
            write_atomically(self.program, self._script(limit).encode("utf-8", "surrogateescape"))
            try:
                if by == "crontab":
                    self._edit(lambda text: crontab.with_entry(text, self.mark, lines))
                    systemd.remove(self.mark)
                else:
                    systemd.install(self.mark, self.program, self.workspace, int(every))
                    self._edit(lambda text: crontab.without(text, self.mark), needed=False)
            except BaseException:
                if before is None:
                    self.program.unlink(missing_ok=True)
                else:
                    write_atomically(self.program, before)
                raise
            write_atomically(self.paths.cron, json.dumps(asdict(wanted)).encode("ascii"))
        return wanted

    def remove(self) -> Installed | None:
        """Have tick called no more; what called it. Raises CommandError, HistoryError; UsageError where it is
        in the crontab of another machine."""
        found = self.look()
        if found.elsewhere:
            raise UsageError(
                f"it was installed on {found.elsewhere}, and this is {socket.gethostname()}",
                hint=f"A crontab belongs to one machine: hpcrun cron remove, on {found.elsewhere}.",
            )
        with self._alone():
            self._edit(lambda text: crontab.without(text, self.mark), needed=False)
            systemd.remove(self.mark)
            self.program.unlink(missing_ok=True)
            self.paths.cron.unlink(missing_ok=True)
            with suppress(OSError):  # of other workspaces, there may be more in it
                self.program.parent.rmdir()
        return found.installed

    def look(self) -> Found:
        """Whether tick is called. Raises CommandError where the crontab cannot be read."""
        known = self._known()
        fields = crontab.fields_in(self._read(needed=False), self.mark)
        if fields is not None:
            here = known if known and known.by == "crontab" else Installed("crontab", 0, 0, "", "", fields)
            following = next_time(fields)
            return Found(Installed(**{**asdict(here), "fields": fields}), None, daemon_runs(), following)
        if systemd.there(self.mark):
            here = known if known and known.by == "systemd" else Installed("systemd", 0, 0, "", "")
            return Found(here, None, None, None)
        if known is not None and known.host != socket.gethostname():
            return Found(None, known.host)
        return Found(None)

    def _known(self) -> Installed | None:
        try:
            return Installed(**json.loads(self.paths.cron.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _alone(self) -> AbstractContextManager[None]:
        """Of all that change this user's crontab by hpcrun: it is read, changed, and written as a whole."""
        return locked(private_folder() / "crontab.lock")

    def _script(self, limit: int) -> str:
        kept = [export(name, os.environ[name]) for name in _KEPT if os.environ.get(name)]
        lines = [
            ShellText("#!/bin/sh"),
            ShellText(
                "# Made by hpcrun cron install, which makes it anew; hpcrun cron remove takes it away."
            ),
            ShellText("cd / || exit 0"),
            ShellText("[ -d {} ] || exit 0  # not there now: nothing to do", PosixWord(self.paths.folder)),
            *kept,
            ShellText(
                "exec {} -m hpcrun --workspace {} tick --log --limit {}",
                *(PosixWord(sys.executable), PosixWord(self.workspace), PosixWord(f"{int(limit)}s")),
            ),
        ]
        return "".join(f"{line}\n" for line in lines)

    def _edit(self, change: Callable[[bytes], bytes], *, needed: bool = True) -> None:
        old = self._read(needed=needed)
        new = change(old)
        if new == old:
            return
        argv = ["crontab", "-"] if new else ["crontab", "-r"]
        LocalShell().run(argv, timeout=_PATIENCE, stdin=new, cwd="/").check("the crontab was not changed")
        if self._read() != new:
            raise HpcrunError(
                "the crontab is not as it was written", hint="See it: crontab -l; perhaps another changed it."
            )

    def _read(self, *, needed: bool = True) -> bytes:
        """The crontab, to the byte; empty where there is none, nor, if it is not ``needed``, the program."""
        text = bytearray()
        done = LocalShell().script(
            "LC_ALL=C crontab -l", timeout=_PATIENCE, sink=lambda data: text.extend(data)
        )
        if done.rc == 127:
            if not needed:
                return b""
            raise CommandError(
                "there is no crontab on this machine",
                hint="--systemd makes a timer of systemd's; or have something else call: hpcrun tick --log",
            )
        if done.ok:
            return bytes(text)
        if "no crontab" in done.stderr.lower() or "can't open" in done.stderr.lower():
            return b""
        if not needed:
            return b""
        raise CommandError(done.describe("the crontab cannot be read"))


def next_time(fields: str) -> datetime | None:
    """When these five fields come next, in this machine's own time."""
    from cronsim import CronSim, CronSimError

    try:
        return next(CronSim(fields, datetime.now().astimezone().replace(tzinfo=None))).astimezone()
    except (CronSimError, StopIteration):
        return None


def daemon_runs(proc: Path = Path("/proc")) -> bool | None:
    """Whether a cron daemon runs on this machine; None where other users' processes are not to be seen."""
    try:
        if (proc / "1").stat().st_uid != 0:
            return None
        (proc / "1" / "comm").read_text()
    except OSError:
        return None
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "comm").read_text().strip()
                if words in _DAEMONS:
                    return True
    return False
