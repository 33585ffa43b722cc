"""A timer of the user's systemd: its two units, and how it is told of them."""

from __future__ import annotations

import os
from pathlib import Path

from hpcrun.errors import CommandError, UsageError
from hpcrun.history.files import write_atomically
from hpcrun.shells.local import LocalShell

_PATIENCE = 30.0

_SERVICE = """\
[Unit]
Description=hpcrun tick in {workspace}

[Service]
Type=oneshot
ExecStart=/bin/sh {program}
Nice=10
"""

_TIMER = """\
[Unit]
Description=hpcrun tick in {workspace}

[Timer]
OnStartupSec=60
OnUnitActiveSec={every}
AccuracySec=5
RandomizedDelaySec={spread}

[Install]
WantedBy=timers.target
"""


def units_folder() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config").absolute() / "systemd" / "user"


def units(program: Path, workspace: Path, every: int) -> tuple[str, str]:
    """The text of the service, and of the timer. Raises UsageError for a path that a unit cannot have."""
    if not str(program).isprintable():
        raise UsageError(f"systemd cannot be told this path: {str(program)!r}")
    name = "".join(c if c.isprintable() else "?" for c in str(workspace)).replace("%", "%%").rstrip("\\")
    service = _SERVICE.format(workspace=name, program=quoted(str(program)))
    return service, _TIMER.format(workspace=name, every=every, spread=min(30, every // 10))


def quoted(word: str) -> str:
    """A word of ExecStart: in double quotes, with % and $ doubled."""
    word = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + word.replace("%", "%%").replace("$", "$$") + '"'


def there(mark: str) -> bool:
    return (units_folder() / f"{mark}.timer").exists()


def install(mark: str, program: Path, workspace: Path, every: int) -> None:
    """Write the units and start the timer; where that fails, none is left. Raises CommandError."""
    folder = units_folder()
    service, timer = units(program, workspace, every)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(folder / f"{mark}.service", service.encode("utf-8", "surrogateescape"))
    write_atomically(folder / f"{mark}.timer", timer.encode("utf-8", "surrogateescape"))
    try:
        _tell("daemon-reload")
        _tell("enable", f"{mark}.timer")
        _tell("restart", f"{mark}.timer")
    except CommandError as error:
        _unlink(mark)
        raise CommandError(error.message, hint="Without systemd: hpcrun cron install, by crontab.") from None


def remove(mark: str) -> None:
    """Stop the timer and take its units away, if they are there."""
    if not there(mark) and not (units_folder() / f"{mark}.service").exists():
        return
    try:
        _tell("disable", "--now", f"{mark}.timer")
    except CommandError:
        pass  # no systemd by now: without its files it is gone all the same
    _unlink(mark)
    try:
        _tell("daemon-reload")
    except CommandError:
        pass


def _unlink(mark: str) -> None:
    for suffix in ("timer", "service"):
        (units_folder() / f"{mark}.{suffix}").unlink(missing_ok=True)
    (units_folder() / "timers.target.wants" / f"{mark}.timer").unlink(missing_ok=True)


def _tell(*words: str) -> None:
    LocalShell().run(["systemctl", "--user", *words], timeout=_PATIENCE, cwd="/").check("systemd")
