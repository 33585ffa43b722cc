"""``hpcrun sweep status``: how a sweep stands, and the best so far."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, tell_trouble
from hpcrun.cli.sweeptext import over, status_lines, sweep_document, sweep_of
from hpcrun.cli.text import print_json
from hpcrun.engine.sweep_state import progress
from hpcrun.errors import UsageError
from hpcrun.metrics.picture import check_picture


class Status(Command):
    """Takes ``--plot RUN`` for ``--plot`` and RUN, where there is no other."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [at for at, word in enumerate(args) if not word.startswith("-")]
        if len(words) == 1 and args[words[0] - 1] == "--plot" and not Path(args[words[0]]).suffix:
            args[words[0] - 1] = "--plot="
        return super().parse_args(ctx, args)


@click.command("status", cls=Status, short_help="How a sweep stands, and the best so far.")
@run_argument
@click.option("--watch", is_flag=True, help="Keep it up to date until the sweep has ended, or q is typed.")
@click.option(
    "--plot",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Draw the curve of the best, parallel coordinates, and the metric against each hyperparameter.",
)
@click.option("--no-refresh", is_flag=True, help="As last seen: nobody is asked, and nothing is submitted.")
@json_option
def status(run: str, watch: bool, plot: str | None, no_refresh: bool, as_json: bool) -> None:
    """How a sweep stands: its trials, the best so far, and those that run.

    The sweep is moved one step, as by hpcrun tick: what lags behind is stopped, what may run is submitted.
    """
    workspace = open_workspace()
    sweep = sweep_of(workspace, run)
    picture = None if plot is None else Path(plot or f"{sweep.id}.png")
    if picture is not None:
        if watch:
            raise UsageError("--watch does not go with --plot")
        check_picture(picture, example="sweep.png")
    if watch:
        from hpcrun.cli.sweepwatch import watch_sweep

        watch_sweep(workspace, sweep.id, as_json=as_json)
        return
    if not no_refresh and not over(sweep, progress(workspace.history, sweep)):
        from hpcrun.engine.sweep_wait import move

        found = move(workspace.history, workspace.targets, sweep.id)
        tell_trouble({name: str(getattr(each, "message", each)) for name, each in found.items()})
    record = workspace.history.get(sweep.id)
    if picture is not None:
        from hpcrun.engine.sweep_picture import draw_sweep

        draw_sweep(workspace.history, record, picture)
        if not as_json:
            click.echo(picture)
            return
    document = sweep_document(workspace, record)
    if as_json:
        print_json(document)
        return
    click.echo("\n".join(status_lines(workspace.history, record, document)))
