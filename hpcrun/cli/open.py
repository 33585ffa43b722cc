"""``hpcrun open RUN``."""

from __future__ import annotations

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import Command
from hpcrun.cli.session import open_workspace


@click.command("open", cls=Command)
@run_argument
def command(run: str) -> None:
    """Print the folder of a run, to go there: cd "$(hpcrun open @-1)"."""
    workspace = open_workspace()
    record = workspace.history.get(workspace.history.resolve(run))
    # As bytes, and so as it is, whatever the terminal's encoding; no newline in it is the last one.
    folder = workspace.history.paths.run(record.id).folder
    click.echo(str(folder).encode("utf-8", "surrogateescape"))
