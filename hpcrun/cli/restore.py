"""``hpcrun restore RUN…``."""

from __future__ import annotations

import click

from hpcrun.cli.archive import named, set_archived
from hpcrun.cli.group import Command


@click.command("restore", cls=Command)
@named
def command(runs: tuple[str, ...], experiments: tuple[str, ...], as_json: bool) -> None:
    """Show archived runs and their children, or whole experiments, in lists again."""
    set_archived(runs, experiments, False, as_json)
