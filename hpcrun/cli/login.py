"""``hpcrun login SITE``."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from hpcrun.cli.completing import complete_sites
from hpcrun.cli.connection import is_here, master_of
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.group import Command
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.watch import on_signals
from hpcrun.errors import HpcrunError, LoginRequired

if TYPE_CHECKING:
    from hpcrun.shells.master import Master


@click.command("login", cls=Command)
@click.argument("site", shell_complete=complete_sites)
def command(site: str) -> None:
    """Open the connection to SITE, and keep it open for what follows.

    A password, a one-time code, an unknown host key: ssh asks here and now, once. All commands after this
    one, cron's too, use the connection and ask nothing.
    """
    from hpcrun.config.sites import load_site, split_target

    connection = load_site(split_target(site)[0], workspace_folder()).connection
    name = connection.site
    if is_here(connection):
        click.echo(f"{name} is reached from this machine itself: there is nothing to log in to")
        return
    master = master_of(connection)
    if master is None:
        raise HpcrunError(
            f"{name} cannot be kept open: Fabric makes a connection for each command, and each asks anew",
            hint="With the ssh program it can: install OpenSSH's client, and let connection.type be ssh.",
        )
    opened = _opened(master, two_factor=connection.two_factor)
    click.echo(f"{name} is open{'' if opened else ' already'}{_until_when(master, int(connection.persist))}")


def _opened(master: Master, *, two_factor: bool) -> bool:
    if master.is_open():
        return False
    if _has_terminal():
        try:
            with on_signals(signal.default_int_handler, signal.SIGINT):
                return master.login()
        except KeyboardInterrupt:
            raise Interrupted(f"{master.site} was not opened") from None
    if two_factor:
        raise LoginRequired(
            f"there is no terminal here to log in to {master.site} on",
            hint=f"Type it in one: hpcrun login {master.site}",
        )
    master.ensure()
    return True


def _has_terminal() -> bool:
    """Whether ssh has somebody to ask: it does not ask standard input."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _until_when(master: Master, persist: int) -> str:
    from hpcrun.units import human_seconds

    if master.is_the_users_own:
        return f", by an ssh of your own ({master.socket})"
    return f", until nothing has used it for {human_seconds(persist)}; hpcrun logout {master.site} closes it"
