"""``hpcrun rerun RUN``."""

from __future__ import annotations

from typing import Any

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.session import open_workspace
from hpcrun.cli.submission import Wanted, carry_out, flags_of, submission_options
from hpcrun.history.record import PIPELINE, SWEEP


@click.command("rerun", cls=CommandWithRest)
@run_argument
@click.option("--fresh", is_flag=True, help="With the source directory as it is now.")
@submission_options
@click.pass_context
def command(ctx: click.Context, /, run: str, fresh: bool, **options: Any) -> None:
    """Submit a run once more: the same configuration, the same code, the same target.

    The code comes from the run's snapshot, wherever the source directory has gone since. What an option
    says goes before what the run had, and ARGS after -- replace its arguments. Of a pipeline all steps are
    submitted once more; --set steps.NAME.KEY=VALUE is for one. A sweep is started once more.
    """
    wanted = Wanted.of(options)
    workspace = open_workspace()
    record = workspace.history.get(workspace.history.resolve(run))
    if record.type == PIPELINE:
        from hpcrun.cli.pipeline import submit_again

        submit_again(workspace, record, options, ctx.meta[REST], fresh=fresh)
        return
    if record.type == SWEEP:
        from hpcrun.cli.sweepfile import start_again

        start_again(workspace, record, options, ctx.meta[REST], fresh=fresh)
        return
    from hpcrun.engine.code import code_of
    from hpcrun.engine.rerun import PROPERTY, config_again

    flags = {**flags_of(options), "arguments": ctx.meta[REST]}
    home = workspace.history.paths.run(record.id)
    config = config_again(record, home, overrides=options["overrides"], flags=flags)
    code = None if fresh else code_of(workspace.history.paths, record)
    carry_out(config, wanted, code=code, properties={PROPERTY: record.id})
