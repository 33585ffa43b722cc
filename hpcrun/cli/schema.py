"""``hpcrun schema``."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.group import Command


@click.command("schema", cls=Command)
@click.argument("kind", required=False, type=click.Choice(["run", "pipeline", "sweep", "site"]))
@click.option(
    "--write",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write all schemas there, as run.schema.json and so on.",
)
@click.option("--json", "_json", is_flag=True, hidden=True, expose_value=False)
def command(kind: str | None, folder: Path | None) -> None:
    """Print the JSON Schema of run.yaml (run), of a file with steps (pipeline) or a sweep (sweep), or of a
    site's file (site).

    Editors and other tools know what to do with it.
    """
    if (kind is None) == (folder is None):
        raise click.UsageError(
            "say which: run, pipeline, sweep or site; or --write DIR", click.get_current_context()
        )
    from hpcrun.config import schema

    if folder is not None:
        schema.main(str(folder))
        click.echo(f"{' and '.join(f'{name}.schema.json' for name in schema.SCHEMAS)} are in {folder}")
        return
    click.echo(schema.text_of(schema.SCHEMAS[str(kind)]()), nl=False)
