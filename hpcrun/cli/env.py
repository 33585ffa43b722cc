"""``hpcrun env``: ls and show; the others have files of their own."""

from __future__ import annotations

import click

from hpcrun.cli import env_build, env_lock, env_rm
from hpcrun.cli.env_look import document, looked, target_option
from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import json_option
from hpcrun.cli.text import local_time, plain_table, print_json, printable, short_id
from hpcrun.units import human_bytes, human_seconds

HEADS = ("NAME", "STATE", "SIZE", "LAST USE", "RUNS", "WHAT")
SHOWN = 20


@click.group("env", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """The environments that hpcrun made on a site, each once for all runs that want the same."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("ls", short_help="List the environments of a site.")
@target_option
@json_option
def ls(target: str, as_json: bool) -> None:
    """List the environments of a site: the last used first.

    RUNS are those of this workspace; others may use them too. STATE is ready, building, failed (its log is
    kept), or left: whoever was making it is gone.
    """
    from hpcrun.engine.kept import users_of

    with looked(target) as look:
        if as_json:
            shown = [document(look, each) for each in look.found]
            print_json({"target": target, "root": look.root, "environments": shown})
            return
        rows = [
            (
                each.name,
                each.state,
                human_bytes(each.size),
                f"{human_seconds(each.idle).split(' ')[0]} ago",
                str(len(users_of(each, look.runs))),
                printable(each.title),
            )
            for each in look.found
        ]
        click.echo(plain_table(HEADS, rows) if rows else f"no environments in {look.root}")


@command.command("show", short_help="All about one environment.")
@click.argument("name")
@target_option
@json_option
def show(name: str, target: str, as_json: bool) -> None:
    """All about the environment NAME (its name, how that begins, or its key): what is in it, who uses it."""
    from hpcrun.engine.kept import meant, packages, users_of

    with looked(target) as look:
        each = meant(look.found, name)
        listed = packages(look.target, look.root, each).splitlines()
        found = document(look, each)
        if as_json:
            print_json({**found, "packages": listed})
            return
        runs = [short_id(record.id) for record in users_of(each, look.runs)]
        lines = {
            "name": each.name,
            "what": printable(each.title),
            "state": each.state,
            "folder": found["folder"],
            "size": human_bytes(each.size),
            "made": f"{local_time(found['made'])} on {found['host']} by {found['user']}, {found['tool']}",
            "last use": local_time(each.used),
            "runs": f"{len(runs)} of this workspace: {', '.join(runs[:SHOWN])}" if runs else "none",
            "packages": str(len(listed)) if listed else "none",
        }
        if found["made"] is None:
            lines["made"] = f"no; its log: {found['folder']}/log.txt"
        for head, text in lines.items():
            click.echo(f"{head:<10}{printable(str(text))}")
        for line in listed:
            click.echo(f"  {printable(line)}")


command.add_command(env_build.build)
command.add_command(env_lock.lock)
command.add_command(env_rm.rm)
command.add_command(env_rm.gc)
