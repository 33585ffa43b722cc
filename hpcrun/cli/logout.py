"""``hpcrun logout SITE`` or ``--all``."""

from __future__ import annotations

import click

from hpcrun.cli.completing import complete_sites
from hpcrun.cli.connection import master_of
from hpcrun.cli.group import Command
from hpcrun.cli.session import workspace_folder
from hpcrun.errors import UsageError


@click.command("logout", cls=Command)
@click.argument("site", required=False, shell_complete=complete_sites)
@click.option("--all", "everywhere", is_flag=True, help="Close every connection that hpcrun keeps open.")
def command(site: str | None, everywhere: bool) -> None:
    """Close the connection to SITE, with whatever runs over it. Runs on the cluster go on."""
    if (site is None) != everywhere:
        raise UsageError("name one SITE, or say --all", hint="hpcrun site ls shows which of them are open")
    if site is None:
        _close_all()
        return
    from hpcrun.config.sites import load_site, split_target

    connection = load_site(split_target(site)[0], workspace_folder()).connection
    master = master_of(connection)
    if master is None or not master.is_open():
        click.echo(f"{connection.site} is not open")
    elif master.is_the_users_own:
        click.echo(
            f"{connection.site} is open by an ssh of your own, and stays so: ssh -O exit {master.host}"
        )
    else:
        master.end()
        click.echo(f"{connection.site} is closed")


def _close_all() -> None:
    from hpcrun.config.sites import list_sites
    from hpcrun.shells.master import close_socket, sockets

    left, closed = set(sockets()), []
    for listing in list_sites(workspace_folder()) if left else []:
        master = None if listing.site is None else master_of(listing.site.connection)
        if master is not None and master.kept in left:
            left.discard(master.kept)
            if master.end():
                closed.append(listing.source.name)
    others = sum([close_socket(path) for path in left])
    if others:
        closed.append(f"{others} more, of sites that are not known here")
    click.echo(f"closed: {', '.join(closed)}" if closed else "nothing is open")
