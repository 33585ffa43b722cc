"""``hpcrun history verify`` and ``hpcrun history rebuild``."""

from __future__ import annotations

from dataclasses import asdict

import click

from hpcrun.cli.group import Command, unknown_command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import history_paths
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import HistoryError


class HistoryGroup(click.Group):
    """Says which of its commands was probably meant."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_command(args[0], list(self.commands), ctx)
        return super().resolve_command(ctx, args)


@click.group("history", cls=HistoryGroup, invoke_without_command=True)
def command() -> None:
    """Look after the run history of the workspace."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("verify", short_help="See whether all is well.")
@json_option
def verify(as_json: bool) -> None:
    """See whether all is well with the history, and say what to do where it is not. Changes nothing.

    Ends with 9 if anything was found.
    """
    from hpcrun.engine.verify import verify as look
    from hpcrun.shells.local import LocalShell

    report = look(history_paths(), LocalShell())
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        print_json({"sound": not findings, "runs": report.runs, "findings": findings})
    else:
        for finding in report.findings:
            click.echo(f"{printable(finding.where)}: {printable(finding.message)}")
            click.echo(f"  {printable(finding.action)}")
        if not report.findings:
            click.echo(
                f"all is well: {_count(report.runs, 'run')}, {_count(len(report.snapshots), 'snapshot')}"
            )
    click.get_current_context().exit(HistoryError.exit_code if report.findings else 0)


@command.command("rebuild", short_help="Make history.db anew.")
@json_option
def rebuild(as_json: bool) -> None:
    """Make history.db anew from the runs' own folders, where it is gone or damaged.

    The old one is kept as history.db.bak-TIME. A run whose run.json is damaged is named, and its files are
    left as they are.
    """
    from hpcrun.history.rebuild import rebuild as make

    done = make(history_paths())
    backup = None if done.backup is None else str(done.backup)
    if as_json:
        print_json({"runs": done.runs, "backup": backup, "left": done.left})
        return
    kept = f"; the old history.db is now {done.backup.name}" if done.backup else ""
    click.echo(f"history.db was made anew: {_count(done.runs, 'run')}{kept}")
    for run_id, words in done.left.items():
        click.echo(f"hpcrun: {run_id}: {printable(words)}", err=True)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
