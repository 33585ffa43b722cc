"""``hpcrun explain RUN``."""

from __future__ import annotations

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, refreshed, tell_trouble
from hpcrun.cli.text import COLOURS, print_json, printable, state_text, styled
from hpcrun.engine.explain import explain


@click.command("explain", cls=Command)
@run_argument
@json_option
def command(run: str, as_json: bool) -> None:
    """Why a run failed, or why it waits, in words, and what would help."""
    workspace = open_workspace()
    run_id = workspace.history.resolve(run)
    record = refreshed(workspace, run_id)
    if record.host is not None and (record.sync or {}).get("state") != "final":
        from hpcrun.engine.sync import bring_logs

        tell_trouble(
            {
                site: error.message
                for site, error in bring_logs(workspace.history, workspace.targets, run_id).items()
            }
        )
    found = explain(record, workspace.history.paths.run(run_id), workspace.targets)
    if as_json:
        head = {"id": record.id, "state": record.state.value, "reason": record.reason}
        print_json({**head, **found.as_dict()})
        return
    state = styled(state_text(record.state, record.reason), COLOURS.get(record.state))
    click.echo(f"{record.id}: {state}")
    click.echo(f"{found.cause}: {printable(found.words)}")
    for line in found.evidence:
        click.echo(f"  | {printable(line)}")
    if found.used:
        click.echo(f"used  {found.used}")
    for index, line in enumerate(found.next):
        click.echo(f"{'next' if index == 0 else '    '}  {printable(line)}")
