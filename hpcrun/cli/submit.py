"""``hpcrun submit CONFIG``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.options import is_scheduled, schedule_options
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.submission import Wanted, carry_out, read_config, submission_options


@click.command("submit", cls=CommandWithRest)
@click.argument("config", type=click.Path(path_type=Path))
@submission_options
@schedule_options
@click.pass_context
def command(ctx: click.Context, /, config: Path, **options: Any) -> None:
    """Submit the run that the file CONFIG (a run.yaml) describes, or the pipeline, if it has steps,
    or the sweep, if it has one.

    ARGS after -- replace the file's `arguments`. What an option says goes before what the file says.

    Ends at once with the run's id; with --wait or --follow when the run has ended: 0 Completed, 20 Failed,
    21 Canceled, 22 not ended within --timeout.
    """
    if is_scheduled(options):
        from hpcrun.cli.scheduling import schedule_file

        schedule_file(config, options, ctx.meta[REST])
        return
    from hpcrun.config.pipeline import STEPS, SWEEP
    from hpcrun.config.yamltree import read_file

    keys = read_file(config)[0].entries if config.exists() else {}
    if SWEEP in keys:
        from hpcrun.cli.sweepfile import start_file

        start_file(config, options, ctx.meta[REST])
        return
    if STEPS in keys:
        from hpcrun.cli.pipeline import submit_file

        submit_file(config, options, ctx.meta[REST])
        return
    wanted = Wanted.of(options)
    carry_out(read_config(config, options, ctx.meta[REST], workspace_folder()), wanted)
