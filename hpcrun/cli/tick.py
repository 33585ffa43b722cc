"""``hpcrun tick``: what cron calls."""

from __future__ import annotations

import click

from hpcrun.cli.document import run_document
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace
from hpcrun.cli.sync import sync_text
from hpcrun.cli.text import print_json, printable, state_text


@click.command("tick", cls=Command)
@click.option("--verbose", "-v", is_flag=True, help="Also say which runs moved, and trouble that goes on.")
@json_option
def command(verbose: bool, as_json: bool) -> None:
    """Look at every run that has not ended, and bring home what it has; one step, for cron.

    Silent unless something is wrong; trouble is told when it begins, when it changes and when it is over, and
    shows in the exit code for as long as it lasts. Two at a time do no harm.
    """
    workspace = open_workspace()
    from hpcrun.engine.tick import tick

    found = tick(workspace.history, workspace.targets)
    if as_json:
        runs = [run_document(workspace, workspace.history.get(run_id)) for run_id in found.moved]
        document = {"busy": found.busy, "moved": runs, "trouble": found.trouble, "news": found.news}
        print_json({**document, "over": found.over})
        click.get_current_context().exit(found.exit_code)
    if verbose and found.busy:
        click.echo("another tick is at it")
    for run_id in found.moved if verbose else ():
        record = workspace.history.get(run_id)
        words = f", {sync_text(record)}" if record.host is not None else ""
        click.echo(f"{run_id}: {state_text(record.state, record.reason)}{words}")
    for name, said in (found.trouble if verbose else found.news).items():
        lines = [line for line in said.strip().splitlines() if line.strip()] or ["no answer"]
        click.echo(f"hpcrun: {name}: {printable(lines[-1].strip())}", err=True)
    for name in found.over:
        click.echo(f"hpcrun: {name}: all is well again", err=True)
    click.get_current_context().exit(found.exit_code)
