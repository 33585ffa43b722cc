"""``hpcrun cancel RUN…``."""

from __future__ import annotations

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.document import run_document
from hpcrun.cli.errors import describe
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, resolve
from hpcrun.cli.text import print_json, state_text
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord


@click.command("cancel", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@json_option
def command(runs: tuple[str, ...], as_json: bool) -> None:
    """Ask for the end of runs; one that has ended already is left as it is."""
    workspace = open_workspace()
    records: list[RunRecord] = []
    failed: dict[str, HpcrunError] = {}
    for run_id in resolve(workspace, runs):
        before = workspace.history.get(run_id)
        record = before
        if not before.state.final:
            from hpcrun.engine.cancel import cancel

            try:
                record = cancel(workspace.history, workspace.targets, run_id)
            except HpcrunError as error:  # the others are still to be ended
                failed[run_id] = error
                click.echo(f"hpcrun: error: {run_id}: {error.message}", err=True)
                continue
        records.append(record)
        if not as_json:
            already = "had ended: " if before.state.final else ""
            click.echo(f"{run_id}: {already}{state_text(record.state, record.reason)}")
    if as_json:
        errors = [{"id": run_id, **describe(error)} for run_id, error in failed.items()]
        print_json({"runs": [run_document(workspace, record) for record in records], "errors": errors})
    click.get_current_context().exit(max((error.exit_code for error in failed.values()), default=0))
