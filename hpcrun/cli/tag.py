"""``hpcrun tag RUN KEY=VALUE…``."""

from __future__ import annotations

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.document import run_document
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option, pairs
from hpcrun.cli.session import open_workspace
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import NotFoundError


@click.command("tag", cls=Command)
@run_argument
@click.argument("tags", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take this tag away; may be repeated.")
@json_option
def command(run: str, tags: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """Set tags of a run, or take them away; prints those it then has.

    All is done, or nothing: a tag to take away that is not there is an error.
    """
    changes = pairs(tags, "KEY=VALUE")
    if both := sorted(changes.keys() & set(remove)):
        raise click.UsageError(f"{both[0]} is both set and taken away", click.get_current_context())
    workspace = open_workspace()
    record = workspace.history.get(workspace.history.resolve(run))
    for key in remove:
        if key not in record.tags:
            there = ", ".join(sorted(record.tags)) or "none"
            raise NotFoundError(f"run {record.id} has no tag {key!r}", hint=f"Its tags: {printable(there)}")
    if changes or remove:
        record = workspace.history.set_tags(record.id, {**changes, **dict.fromkeys(remove)})
    if as_json:
        print_json(run_document(workspace, record))
        return
    for key, value in sorted(record.tags.items()):
        click.echo(f"{printable(key)}={printable(value)}")
