"""``hpcrun site``: ls and show; add and check have files of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli import site_add, site_check
from hpcrun.cli.connection import reached
from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import json_option
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.text import plain_table, print_json

if TYPE_CHECKING:
    from hpcrun.config.sites import SiteListing

HEADS = ("NAME", "REACHED", "SCHEDULER", "PARTITIONS", "FROM", "DESCRIPTION")
SHOWN = 3
"""Partitions named in a line of ``ls``; of the others it says how many there are."""


@click.group("site", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """The clusters hpcrun knows, each described in one YAML file."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("ls", short_help="List the sites.")
@json_option
def ls(as_json: bool) -> None:
    """List the sites: those that come with hpcrun, yours, and the workspace's.

    REACHED says which are here, and of the others which are open (see hpcrun login).
    """
    from hpcrun.config.sites import list_sites

    listings = list_sites(workspace_folder())
    if as_json:
        print_json({"sites": [_document(listing) for listing in listings]})
        return
    click.echo(plain_table(HEADS, [_cells(listing) for listing in listings]))


@command.command("show", short_help="How hpcrun understands a site.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """How hpcrun understands the site NAME, and the file that says so."""
    from hpcrun.config.dump import dump_site
    from hpcrun.config.sites import find_site, read_site, split_target

    source = find_site(split_target(name)[0], workspace_folder())
    site = read_site(source.path)
    if as_json:
        print_json({"path": str(source.path), "layer": source.layer, "site": site.model_dump(mode="json")})
        return
    click.echo(f"# {source.path} ({source.layer})")
    click.echo(dump_site(site), nl=False)


def _cells(listing: SiteListing) -> tuple[str, ...]:
    source, site = listing.source, listing.site
    if site is None:
        return (source.name, "", "(broken)", "", source.layer, str(listing.problem).splitlines()[0])
    names = list(site.partitions)
    more = [f"+{len(names) - SHOWN}"] if len(names) > SHOWN else []
    partitions = ",".join(names[:SHOWN] + more)
    way = reached(site.connection)
    return (source.name, way, site.scheduler.type, partitions or "-", source.layer, site.description)


def _document(listing: SiteListing) -> dict[str, Any]:
    site, problem = listing.site, listing.problem
    return {
        "name": listing.source.name,
        "path": str(listing.source.path),
        "layer": listing.source.layer,
        "reached": None if site is None else reached(site.connection),
        "scheduler": None if site is None else site.scheduler.type,
        "partitions": None if site is None else list(site.partitions),
        "description": None if site is None else site.description,
        "problem": None if problem is None else str(problem),
    }


command.add_command(site_add.add)
command.add_command(site_check.check)
