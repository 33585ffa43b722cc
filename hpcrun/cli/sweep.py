"""``hpcrun sweep``: start, status, best, stop and retry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import is_scheduled, json_option, schedule_options
from hpcrun.cli.session import open_workspace, tell_trouble
from hpcrun.cli.submission import submission_options
from hpcrun.cli.sweepstatus import status as status_command
from hpcrun.cli.sweeptext import best_lines, sweep_document, sweep_of
from hpcrun.cli.text import print_json, printable, short_id, state_text
from hpcrun.cli.watch import interruptible
from hpcrun.engine.sweep_trials import silence


@click.group("sweep", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """Many runs over a search space, towards the best of one metric."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("start", short_help="Start the sweep that a file describes.")
@click.argument("config", type=click.Path(path_type=Path))
@submission_options
@schedule_options
def start(config: Path, **options: Any) -> None:
    """Start the sweep that the file CONFIG describes: a run.yaml with a `sweep:` in it.

    Ends at once with the sweep's id; with --wait or --follow when all of its trials have ended: 0 Completed,
    20 Failed, 21 Canceled, 22 not ended within --timeout. It goes on by whoever waits for it, looks at its
    status, or by hpcrun tick.
    """
    if is_scheduled(options):
        from hpcrun.cli.scheduling import schedule_file

        schedule_file(config, options, None, sweep=True)
        return
    from hpcrun.cli.sweepfile import start_file

    start_file(config, options, None)


command.add_command(status_command)


@command.command("best", short_help="The best trials of a sweep.")
@run_argument
@click.option("-n", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many.")
@json_option
def best(run: str, count: int, as_json: bool) -> None:
    """The best trials of a sweep so far, with what they were given."""
    workspace = open_workspace()
    sweep = sweep_of(workspace, run)
    document = sweep_document(workspace, sweep)
    found = [trial for trial in document["trials"] if trial["best"] is not None][:count]
    if as_json:
        shown = {key: document[key] for key in ("id", "metric", "goal")}
        print_json({**shown, "trials": found})
        return
    click.echo(best_lines(document, found) if found else printable(silence(workspace.history, sweep)))


@command.command("stop", short_help="End a sweep and its trials.")
@run_argument
@json_option
def stop(run: str, as_json: bool) -> None:
    """Submit nothing more of a sweep, and cancel those of its trials that have not ended."""
    from hpcrun.engine.cancel import cancel

    workspace = open_workspace()
    sweep = sweep_of(workspace, run)
    record = cancel(workspace.history, workspace.targets, sweep.id)
    if as_json:
        print_json(sweep_document(workspace, record))
        return
    already = "had ended: " if sweep.state.final else ""
    click.echo(f"{record.id}: {already}{state_text(record.state, record.reason)}")


@command.command("retry", short_help="Try the failed trials of a sweep again.")
@run_argument
@json_option
def retry(run: str, as_json: bool) -> None:
    """Try the failed trials of a sweep again, with the same hyperparameters and the same code.

    Each is a new run, and counts for its trial from then on; the failed one stays in the history.
    """
    from hpcrun.engine.refresh import refresh
    from hpcrun.engine.sweep_again import retry as again

    workspace = open_workspace()
    sweep = sweep_of(workspace, run)
    tell_trouble(refresh(workspace.history, workspace.targets, [sweep.id]).trouble)
    with interruptible([sweep.id], "sweep status"):
        numbers = again(workspace.history, workspace.targets, sweep.id)
    if as_json:
        record = workspace.history.get(sweep.id)
        print_json({**sweep_document(workspace, record), "again": numbers})
        return
    if not numbers:
        click.echo(f"{sweep.id}: no trial has failed")
        return
    words = f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials"
    click.echo(f"{sweep.id}: {words} again")
    click.echo(f"  next    hpcrun sweep status {short_id(sweep.id)}")
