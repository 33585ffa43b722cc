"""``hpcrun submit CONFIG``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.submission import Wanted, carry_out, read_config, submission_options


@click.command("submit", cls=CommandWithRest)
@click.argument("config", type=click.Path(path_type=Path))
@submission_options
@click.pass_context
def command(ctx: click.Context, /, config: Path, **options: Any) -> None:
    """Submit the run that the file CONFIG (a run.yaml) describes, or the pipeline, if it has steps.

    ARGS after -- replace the file's `arguments`. What an option says goes before what the file says.

    Ends at once with the run's id; with --wait or --follow when the run has ended: 0 Completed, 20 Failed,
    21 Canceled, 22 not ended within --timeout.
    """
    from hpcrun.cli.pipeline import submit_file
    from hpcrun.config.pipeline import is_pipeline

    if config.exists() and is_pipeline(config):
        submit_file(config, options, ctx.meta[REST])
        return
    wanted = Wanted.of(options)
    carry_out(read_config(config, options, ctx.meta[REST], workspace_folder()), wanted)
