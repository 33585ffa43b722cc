"""``hpcrun init``."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import named_workspace
from hpcrun.cli.text import print_json
from hpcrun.workspace import FOLDER, Workspace, find_workspace


@click.command("init", cls=Command)
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path))
@json_option
def command(folder: Path | None, as_json: bool) -> None:
    """Make DIR (by default this folder) a workspace: it gets a .hpcrun folder for its run history.

    Submitting a run does so by itself where there is no workspace yet.
    """
    place = (folder or named_workspace() or Path()).absolute()
    new = not (place / FOLDER).is_dir()
    above = find_workspace(place.parent) if new else None
    place.mkdir(parents=True, exist_ok=True)
    with Workspace(place) as workspace:
        made = workspace.folder
    if as_json:
        print_json({"workspace": str(made), "new": new})
        return
    click.echo(f"{made} is {'now ' if new else 'already '}a workspace; its history is in {made / FOLDER}")
    if above is not None:
        click.echo(f"hpcrun: note: commands typed here used the workspace {above} so far", err=True)
