"""``hpcrun wait RUN…``."""

from __future__ import annotations

import time

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.document import run_document
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option, timeout_option
from hpcrun.cli.session import open_workspace, resolve
from hpcrun.cli.text import print_json
from hpcrun.cli.watch import exit_code, interruptible, summary, wait_for_end
from hpcrun.units import Duration

# Which code to end with, of several runs: what is certain and bad goes before what is not known yet.
WORST = (20, 22, 21, 0)


@click.command("wait", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@timeout_option
@json_option
def command(runs: tuple[str, ...], timeout: Duration | None, as_json: bool) -> None:
    """Wait for runs to end, in silence.

    Ends with 0 if all Completed, else with 20 if one Failed, 22 if one had not ended within --timeout,
    21 if one was Canceled.
    """
    workspace = open_workspace()
    run_ids = resolve(workspace, runs)
    deadline = None if timeout is None else time.monotonic() + timeout
    records = []
    with interruptible(run_ids, "wait"):
        for index, run_id in enumerate(run_ids):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            record = wait_for_end(
                workspace,
                run_id,
                timeout=left,
                note=f"run {index + 1} of {len(run_ids)}" if len(run_ids) > 1 else "",
            )
            records.append(record)
            if not as_json:
                click.echo(summary(workspace, record))
    if as_json:
        print_json({"runs": [run_document(workspace, record) for record in records]})
    codes = {exit_code(record.state) for record in records}
    click.get_current_context().exit(next(code for code in WORST if code in codes))
