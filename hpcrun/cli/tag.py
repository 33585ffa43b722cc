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
from hpcrun.history.record import RunRecord
from hpcrun.run import checked_description, checked_name


@click.command("tag", cls=Command)
@run_argument
@click.argument("tags", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take this tag away; may be repeated.")
@click.option("--name", metavar="TEXT", help='Set the name to display; "" takes it away.')
@click.option("--description", metavar="TEXT", help='Set what the run is for; "" takes it away.')
@json_option
def command(
    run: str, tags: tuple[str, ...], remove: tuple[str, ...], name: str | None, description: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Set tags of a run, or take them away; prints those it then has. Also its name and description.

    All is done, or nothing: a tag to take away that is not there is an error.
    """
    changes = pairs(tags, "KEY=VALUE")
    if both := sorted(changes.keys() & set(remove)):
        raise click.UsageError(f"{both[0]} is both set and taken away", click.get_current_context())
    if name is not None:
        checked_name(name)
    checked_description(description)
    workspace = open_workspace()
    record = workspace.history.get(workspace.history.resolve(run))
    for key in remove:
        if key not in record.tags:
            there = ", ".join(sorted(record.tags)) or "none"
            raise NotFoundError(f"run {record.id} has no tag {key!r}", hint=f"Its tags: {printable(there)}")

    def change(record: RunRecord) -> None:
        record.change_tags({**changes, **dict.fromkeys(remove)})
        if name is not None:
            record.display_name = name or None
        if description is not None:
            record.description = description or None

    if changes or remove or name is not None or description is not None:
        record = workspace.history.update(record.id, change)
    if as_json:
        print_json(run_document(workspace, record))
        return
    for key, value in sorted(record.tags.items()):
        click.echo(f"{printable(key)}={printable(value)}")
